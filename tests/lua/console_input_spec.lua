local console_input = require "moondog.console_input"

-- What is said of each line of a text, in one word.
local function states(text)
  local input, out = console_input.new(), {}
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do
    local state = input:add(line)
    out[#out + 1] = state
    if state ~= "incomplete" then input:reset() end
  end
  return table.concat(out, " ")
end

describe("a statement", function()
  for text, wanted in pairs {
    ["1 + 1"] = "complete",
    ["= 1"] = "complete",
    ["x = 1"] = "complete",
    [""] = "complete",
    ["-- remark"] = "complete",
    ["f()"] = "complete",
    ["if x then y() end"] = "complete",
    ["for i = 1, 2 do\nprint(i)\nend"] = "incomplete incomplete complete",
    ["repeat\nx()\nuntil\ntrue"] = "incomplete incomplete incomplete complete",
    ["x = {\n1,\n}"] = "incomplete incomplete complete",
    ["f(function()\nend)"] = "incomplete complete",
    ["x = [==[\nend ]] '\n]==]"] = "incomplete incomplete complete",
    ["--[[\nx\n]] y()"] = "incomplete incomplete complete",
    ["x = 'a\\\nb'"] = "incomplete complete",
    ["x ="] = "incomplete",
    ["return"] = "complete",
    ["goto a\n::a::"] = "error complete",
    ["do goto a\n::a:: end"] = "incomplete complete",
    ["x = = 1"] = "error",
    ["end"] = "error",
    ["f())"] = "error",
    ["x = 'abc"] = "error",
    ["x = ]"] = "error",
    ["do\nx = = 1"] = "incomplete error",
    ["error('near <eof>') +"] = "incomplete",
    ["x = 'a\255\0b'"] = "complete",
    ["\27LJ\2"] = "error",
    ["for i = 1, 2 do\r\nend\r"] = "incomplete complete",
    [".help"] = "command",
    ["  .tap a.b"] = "command",
    ["x = {\n.help"] = "incomplete error",
    [".5"] = "complete",
  } do
    it(("%q"):format(text):gsub("\n", "n"), function()
      assert.equals(wanted, states(text))
    end)
  end

  it("of 10,000 lines is compiled a few times only", function()
    local compiled, real = 0, load
    _G.load = function(...)
      compiled = compiled + 1
      return real(...)
    end
    local input = console_input.new()
    local state = input:add("x = {")
    for i = 1, 10000 do state = input:add("  { name = 'line " .. i .. "', [[\"]], f(i) }, -- end") end
    local last = input:add("}")
    _G.load = real
    assert.equals("incomplete", state)
    assert.equals("complete", last)
    assert.is_true(compiled < 500, tostring(compiled))
    assert.equals(10002, select(2, input:text():gsub("\n", "\n")) + 1)
  end)

  it("has a cap", function()
    local input, state = console_input.new(), nil
    for _ = 1, 3000 do
      state = input:add("x = {" .. ("1,"):rep(100))
      if state == "error" then break end
    end
    assert.equals("error", state)
    assert.matches("at most", input.error)
    assert.equals("complete", input:reset():add("1"))
  end)
end)
