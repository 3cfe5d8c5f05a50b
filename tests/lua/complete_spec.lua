local complete = require "moondog.complete"

local base = { inherited = 1, method = function() end }
local object = setmetatable({ own = 1, run = function() end, ["no name"] = 1, ["end"] = 1 }, { __index = base })
local proxy = newproxy(true)
local scopes = {
  { first = 1, object = object, proxy = proxy, list = { { deep = { deeper = 1 } } }, strict = setmetatable({}, {
    __index = function() error("called") end }) },
  { second = 1, first_too = 2, _private = 3, string = string },
}
local options = { scopes = scopes, methods_of = function(value)
  return value == proxy and { status = print, stats = print, data = 1 } or nil
end }

-- What can follow, in one text, behind what stays.
local function follow(text)
  local from, items = complete.complete(text, options)
  return text:sub(1, from) .. "|" .. table.concat(items, " ")
end

describe("completion", function()
  it("knows globals, keywords, fields and methods", function()
    assert.equals("|first first_too", follow "fir")
    assert.equals("x = |first first_too", follow "x = fir")
    assert.equals("|repeat return", follow "re")
    assert.equals("object.|inherited method own run", follow "object.")
    assert.equals("object.|own", follow "object.o")
    assert.equals("object:|method run", follow "object:")
    assert.equals("print(object . |own", follow "print(object . ow")
    assert.equals("proxy:|stats status", follow "proxy:st")
    assert.equals("list[1].deep.|deeper", follow "list[1].deep.d")
    assert.equals('list[1]["deep"].|deeper', follow 'list[1]["deep"].d')
    assert.equals("string.|reverse", follow "string.rev")
    assert.equals("('x'):|reverse", follow "('x'):rev")
    assert.equals("for i = 1, 3 do\n  |second", follow "for i = 1, 3 do\n  sec")
    assert.equals("a..|first first_too", follow "a..fir")
    local _, items = complete.complete("", options)
    assert.equals("_private", items[#items])
  end)

  it("offers nothing where nothing is known, and calls nothing", function()
    for _, text in ipairs { "nosuch.x", "object.own.x", "f().x", "object:run().", "'fir", '"a.b', "-- fir", "--[[ fir",
      "[[ fir", "1.", "12fir", "object.run:x", "strict.a.b", "end.x", "x::fir", "object.own:" } do
      assert.same({}, (select(2, complete.complete(text, options))), text)
    end
    assert.equals("strict.|", follow "strict.")
    assert.equals("-- 'quoted\n|second", follow "-- 'quoted\nsec")
    assert.equals("x = 'a\\'b' .. |second", follow "x = 'a\\'b' .. sec")
    assert.equals("[[ ' ]] |second", follow "[[ ' ]] sec")
  end)

  it("is bounded", function()
    local huge = {}
    for i = 1, 50000 do huge["k" .. i] = 1 end
    local _, items, more = complete.complete("k", { scopes = { huge } })
    assert.equals(200, #items)
    assert.is_true(more)
    assert.equals(0, #select(2, complete.complete(("x"):rep(100000), options)))
  end)

  it("takes any text", function()
    local state = 99
    local pieces = { "a", "object", ".", ":", "[", "]", "'", '"', "\\", "--", "[[", "]]", "=", "1", " ", "\n", "(", ")",
      "\255", "\0", "end" }
    for _ = 1, 20000 do
      local text = {}
      for i = 1, 12 do
        state = (state * 1103515245 + 12345) % 2 ^ 31
        text[i] = pieces[math.floor(state / 2 ^ 31 * #pieces) + 1]
      end
      text = table.concat(text)
      local from = complete.complete(text, options)
      assert.is_true(from >= 0 and from <= #text)
    end
  end)
end)
