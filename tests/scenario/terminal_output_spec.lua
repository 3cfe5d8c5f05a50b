-- The terminal of the console: what else is on the screen while a line is edited.
local run = require "support.run"
local probe = require "support.terminal_probe"

describe("what arrives while somebody types", function()
  it("is shown above a short line", run.case(function()
    local t = probe.start()
    t:type("hello")
    t:key("Left", "Left")
    t:wait_cursor(10, 0)
    probe.arrive("news\n")
    t:wait_rows { "news", "probe> hello" }
    t:wait_cursor(10, 1)
    t:type("X\n")
    t:wait_rows { "probe> helXlo", 'line "helXlo"', "probe>" }
  end))

  it("is shown above a line of three rows, with the cursor in the middle", run.case(function()
    local t = probe.start { columns = 30, rows = 10 }
    t:type("a123456789b123456789c123456789d123456789e123456789f12345")
    t:key("C-a", unpack({ "Right", "Right" }))
    for _ = 1, 30 do
      t:key("Right")
    end
    t:wait_cursor(9, 1)
    for i = 1, 12 do -- more than the screen has rows
      probe.arrive(("news %d\n"):format(i))
      t:wait_rows { ("news %d"):format(i), "probe> a123456789b123456789c12", "3456789d123456789e123456789f12",
        "345" }
      t:wait_cursor(9)
    end
    t:type("X\n")
    probe.wait_lines("a123456789b123456789c123456789d1X23456789e123456789f12345\n")
    local seen = table.concat(t:history(), "\n")
    for i = 1, 11 do
      assert.is_truthy(seen:find(("news %d\nnews %d\n"):format(i, i + 1), 1, true), seen)
    end
  end))

  it("is shown above a line that fills its row, and one that ends in a paste", run.case(function()
    local t = probe.start { columns = 30 }
    t:type("0123456789012345678901") -- 23 columns and the prompt: one is left
    t:wait_cursor(29, 0)
    t:type("2")
    t:wait_cursor(0, 1)
    probe.arrive("news\n")
    t:wait_screen(function(rows)
      return rows[1] == "news" and rows[2] == "probe> 01234567890123456789012" and not rows[4]
    end)
    t:wait_cursor(0, 2)
  end))

  it("does not keep keys waiting, however much it is", run.case(function()
    local t = probe.start { columns = 60, rows = 12 }
    t:type("hel")
    for i = 1, 2000 do
      probe.arrive(("news %d\n"):format(i))
      if i % 400 == 0 then
        t:type("x")
      end
    end
    t:wait_rows { "news 2000", "probe> helxxxxx" }
  end))

  it("may be another prompt", run.case(function()
    local t = probe.start()
    t:type("hello")
    t:wait_cursor(12)
    probe.arrive("prompt longer prompt\27[31m>\n")
    t:wait_rows { "longer prompt?[31m>hello" }
    assert.are.equal(1, #t:screen())
  end))

  it("cannot do anything to the terminal", run.case(function()
    local t = probe.start()
    probe.arrive("a\27[2J\27]0;title\7b\27[31mred\27[0m\tc\r\155\194\155d\226\128\174e\0f")
    t:wait_rows { "a\\x1b[2J\\x1b]0;title\\x07bred    c\\x0d\\x9b\\xc2\\x9bd\\u{202e}e\\x00f", "probe>" }
    t:type("x\n")
    t:wait_rows { 'line "x"', "probe>" }
  end))

  it("may end the reading", run.case(function()
    local t = probe.start()
    t:type("half")
    t:wait_cursor(11)
    probe.arrive("leave\n")
    assert.are.equal(0, (t:wait_exit()))
    t:wait_screen("^probe> half\nleft$")
  end))

  it("ends a wait", run.case(function()
    local t = probe.start()
    t:type("wait\n")
    t:wait_rows { "waiting" }
    probe.arrive("news\n")
    t:wait_rows { "waiting", "ready", "news", "probe>" }
  end))
end)

describe("a window of another size", function()
  local LINE = "a123456789b123456789c123456789d123456789"

  -- tmux lets rows scroll away when a narrower window needs more of them.
  local function wait_all(t, wanted)
    local text
    run.wait_until(function()
      text = table.concat(t:history(), "\n")
      return text == table.concat(wanted, "\n")
    end, 10, function()
      return ("the rows\n%s\nthere are\n%s"):format(table.concat(wanted, "\n"), text)
    end)
  end

  it("shows a line of several rows as it should", run.case(function()
    local t = probe.start { columns = 60, rows = 10 }
    -- The terminal wraps rows by itself; a key is seen when the program has drawn them.
    local function go_left(column)
      t:key("Left")
      t:wait_cursor(column)
    end
    t:type("before\n" .. LINE)
    go_left(46)
    t:resize(20, 10)
    go_left(5)
    wait_all(t, { "probe> before", 'line "before"', "probe> a123456789b12", "3456789c123456789d12",
      "3456789" })
    t:resize(30, 10)
    go_left(14)
    wait_all(t, { "probe> before", 'line "before"', "probe> a123456789b123456789c12",
      "3456789d123456789" })
    t:resize(60, 10)
    go_left(43)
    wait_all(t, { "probe> before", 'line "before"', "probe> " .. LINE })
    t:type("X\n")
    probe.wait_lines("before\na123456789b123456789c123456789d12345X6789\n")
  end))

  -- A row of the old prompt may stay in between: terminals do not agree on where the cursor is
  -- when a row has become exactly full.
  it("leaves what is above alone, at any width", run.case(function()
    local t = probe.start { columns = 60, rows = 12 }
    local text = "probe> " .. LINE
    t:type("before\n" .. LINE)
    for columns = 59, 16, -1 do
      t:resize(columns, 12)
      t:type("!") -- the resize is over when it is seen
      text = text .. "!"
      run.wait_until(function()
        local rows = t:history()
        local all = table.concat(rows, "", 3)
        return rows[1] == "probe> before" and rows[2] == 'line "before"'
          and all:sub(-#text) == text
      end, 10, function()
        return ("%d columns: %s; there is\n%s"):format(columns, text,
          table.concat(t:history(), "\n"))
      end)
    end
  end))
end)
