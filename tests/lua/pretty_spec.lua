local pretty = require "moondog.pretty"

local show = pretty.pretty

describe("a value", function()
  it("is shown as Lua source", function()
    for text, value in pairs { ["1"] = 1, ["-0"] = -0.0, ["0.1"] = 0.1, ["1e+300"] = 1e300,
      ["9007199254740991"] = 2 ^ 53 - 1,
      ["0.30000000000000004"] = 0.1 + 0.2, ["inf"] = math.huge, ["true"] = true, ['"a\\"b\\\\c"'] = 'a"b\\c',
      ['"\\0\\1\\0019\\r\\n\\t\\127"'] = "\0\1\0019\r\n\t\127", ['"€ü"'] = "€ü", ['"\\255\\195("'] = "\255\195(",
      ["{}"] = {}, ['{ 1, 2, a = "x" }'] = { 1, 2, a = "x" },
      ['{ [-1] = 1, [1.5] = 2, ["a b"] = 3, ["end"] = 4, [true] = 5 }'] = { [-1] = 1, [1.5] = 2,
        ["a b"] = 3, ["end"] = 4, [true] = 5 } } do
      assert.equals(text, show(value))
    end
    assert.equals("nil", show(nil))
    assert.equals("nan", show(0 / 0))
  end)

  it("that is no data is named", function()
    assert.matches("^function: .*pretty_spec%.lua:%d+$", show(function() end))
    assert.equals("function: builtin", show(print))
    assert.matches("^thread: ", show(coroutine.create(print)))
    assert.matches("^userdata: ", show(newproxy()))
  end)

  it("is what its __tostring says, whatever that is", function()
    local function with(f) return setmetatable({}, { __tostring = f }) end
    assert.equals("me", show(with(function() return "me" end)))
    assert.matches("its __tostring fails: .*no", show(with(function() error("no") end)))
    assert.equals("point { x = 1 }", show(setmetatable({ x = 1 }, { __name = "point" })))
  end)

  it("calls no other metamethods", function()
    local function never() error("called") end
    local t = setmetatable({ 1, k = 2 }, { __index = never, __len = never, __pairs = never, __eq = never,
      __lt = never })
    assert.equals("{ 1, k = 2 }", show(t))
    assert.same({ 1, 2 }, pretty.plain(setmetatable({ 1, 2 }, { __index = never })))
  end)
end)

describe("a table", function()
  it("has one line where it fits, and otherwise one for each entry", function()
    local t = { name = ("x"):rep(50), other = ("y"):rep(50), list = { 1, 2 } }
    assert.equals(('{\n  list = { 1, 2 },\n  name = "%s",\n  other = "%s"\n}'):format(t.name, t.other), show(t))
    assert.equals("{\n  1,\n  2\n}", show({ 1, 2 }, { width = 5 }))
  end)

  it("that has itself inside ends", function()
    local t = { 1 }
    t.me = t
    assert.equals("{ 1, me = <cycle> }", show(t))
    local shared = { 5 }
    assert.equals("{ { 5 }, { 5 } }", show { shared, shared })
  end)

  it("is shown to a depth, and to a number of entries", function()
    assert.equals("{ { { { { ... 1 entry } } } } }", show { { { { { 1 } } } } })
    assert.equals("{ { ... 2 entries } }", show({ { 1, 2 } }, { depth = 1 }))
    local many = {}
    for i = 1, 150 do many[i] = i end
    assert.matches("100,\n  %.%.%. 50 more\n}$", show(many))
    for i = 1, 1e6 do many["k" .. i] = i end
    assert.matches("more than %d+ more", show(many))
  end)

  it("and a string are cut where they are too large", function()
    local text = show(("x"):rep(100000))
    assert.matches("%.%.%. 100000 bytes$", text)
    assert.is_true(#text < 5000)
    local large = {}
    for i = 1, 100 do large[i] = ("x"):rep(3000) end
    text = show(large)
    assert.is_true(#text < 17000)
    assert.matches("cut", text)
  end)
end)

describe("plain data", function()
  it("is copied, and anything else is refused", function()
    local value = { 1, "a", { k = true, list = {} } }
    assert.same(value, pretty.plain(value))
    assert.equals("x", pretty.plain("x"))
    assert.is_nil(pretty.plain(nil))
    local cycle = {}
    cycle[1] = cycle
    for _, bad in ipairs { print, { print }, { 1, k = 2 }, { [1.5] = 1 }, { [true] = 1 }, 0 / 0, { math.huge }, cycle,
      ("x"):rep(70000) } do
      local plain, why = pretty.plain(bad)
      assert.is_nil(plain)
      assert.is_string(why)
    end
  end)
end)

describe("random values", function()
  local state = 12345
  local function random(n)
    state = (state * 1103515245 + 12345) % 2 ^ 31
    return math.floor(state / 2 ^ 31 * n) + 1
  end
  local function make(depth)
    local kind = random(depth > 0 and 6 or 4)
    if kind == 1 then return random(1000) / random(7) end
    if kind == 2 then return random(2) == 1 end
    if kind <= 4 then
      local bytes = {}
      for i = 1, random(12) - 1 do bytes[i] = string.char(random(256) - 1) end
      return table.concat(bytes)
    end
    local t = {}
    for i = 1, random(5) - 1 do
      if random(2) == 1 then t[i] = make(depth - 1) else t[make(0)] = make(depth - 1) end
    end
    return t
  end

  it("are read back as they were", function()
    for _ = 1, 3000 do
      local value = make(3)
      local text = show(value, { width = random(100), depth = 10 })
      local chunk = assert(loadstring("return " .. text), text)
      assert.same(value, chunk())
    end
  end)
end)
