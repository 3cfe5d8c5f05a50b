-- The terminal of the console (src/cli/terminal.h) in a real one: a line that is edited, completed,
-- interrupted.
local run = require "support.run"
local probe = require "support.terminal_probe"

describe("a line in the terminal", function()
  it("is edited with left, backspace and Ctrl-A", run.case(function()
    local t = probe.start()
    t:type("helo wurld")
    t:key("Left", "Left", "Left", "BSpace")
    t:type("o")
    t:wait_rows { "probe> helo world" }
    t:key("C-a")
    t:wait_cursor(7, 0)
    t:type(">")
    t:key("C-e", "Enter")
    t:wait_rows { "probe> >helo world", 'line ">helo world"', "probe>" }
  end))

  it("comes back from the history, also of an earlier session", run.case(function()
    local t = probe.start()
    t:type("first\nsecond\n")
    t:wait_rows { 'line "second"', "probe>" }
    t:key("Up", "Up")
    t:wait_rows { "probe> first" }
    t:key("Down", "Down", "C-d")
    t:wait_exit()

    local again = probe.start()
    again:key("Up")
    again:wait_rows { "probe> second" }
    again:key("C-r")
    again:type("fir")
    again:wait_screen("bck:fir")
    again:key("Enter")
    again:wait_rows { 'line "first"', "probe>" }
    assert.are.equal("first\nsecond\nfirst\n", probe.read_file(probe.history_path()))
  end))

  it("is found by a search, which any key ends that moves the cursor", run.case(function()
    local t = probe.start()
    t:type("first line\nsecond one\n")
    t:wait_rows { 'line "second one"', "probe>" }
    t:key("C-r")
    t:type("fir")
    t:wait_screen("first line")
    t:key("Right")
    t:key("C-e")
    t:type("!")
    t:wait_rows { "probe> first line!" }
    t:key("Enter")
    t:wait_rows { 'line "first line!"', "probe>" }
    t:key("C-r")
    t:type("sec")
    t:wait_screen("second one\nbck")
    t:key("Home")
    t:type("a ")
    t:wait_rows { "probe> a second one" }
  end))

  it("takes UTF-8, and characters two columns wide", run.case(function()
    local t = probe.start { columns = 20 }
    t:type("größe 日本語日本語x")
    t:wait_rows { "probe> größe 日本語", "日本語x" }
    t:key("C-a", "C-k")
    t:resize(80, 24)
    t:type("é")
    t:key("Left")
    t:type("ü")
    t:key("Enter")
    t:wait_rows { 'line "\\xc3\\xbc\\xc3\\xa9"', "probe>" }
  end))

  it("keeps bytes that are not UTF-8, and shows them", run.case(function()
    local t = probe.start()
    t:type("a")
    t:bytes("ff c3 28 e2 82 5a c2 9b")
    t:type("b")
    t:wait_rows { "probe> a\\U+DCFF\\U+DCC3(\\U+DCE2\\U+DC82Z\\U+DCC2\\U+DC9Bb" }
    t:key("Left", "BSpace", "Enter")
    t:wait_rows { 'line "a\\xff\\xc3(\\xe2\\x82Z\\xc2b"', "probe>" }
    assert.are.equal("a\255\195(\226\130Z\194b\n", probe.lines())
    t:key("Up", "Enter")
    probe.wait_lines(("a\255\195(\226\130Z\194b\n"):rep(2))
  end))

  it("longer than any buffer arrives whole", run.case(function()
    local text = ("0123456789"):rep(500)
    local t = probe.start()
    t:paste(text .. "\n", { bracketed = true })
    probe.wait_lines(text .. "\n")
  end))

  it("longer than any buffer is there again after a look at the history", run.case(function()
    local text = ("0123456789"):rep(150)
    local t = probe.start()
    t:type("first\n")
    t:wait_screen('line "first"')
    t:paste(text, { bracketed = true })
    t:wait_screen("789$")
    t:key("C-r", "Up")
    t:wait_rows { "probe> first" }
    t:key("Up", "Down", "Down", "Enter")
    probe.wait_lines("first\n" .. text .. "\n")
  end))

  it("has nothing of keys that mean nothing", run.case(function()
    local t = probe.start()
    t:type("a")
    t:key("PageUp", "F1", "F5", "IC", "C-x", "C-o", "C-q", "C-s", "C-Up", "S-F7")
    t:bytes("1b 5b 49 1b 5b 3c 30 3b 31 3b 31 4d 1b 78") -- focus, a mouse, M-x
    t:type("b\n")
    probe.wait_lines("ab\n")
  end))

  it("ends with Ctrl-D only when it is empty", run.case(function()
    local t = probe.start()
    t:type("ab")
    t:key("C-a", "C-d", "C-d")
    t:wait_rows { "probe>" }
    t:key("C-d")
    assert.are.equal(0, (t:wait_exit()))
    t:wait_screen("\nend$")
  end))
end)

describe("completion", function()
  it("inserts the only candidate", run.case(function()
    local t = probe.start()
    t:type("x be")
    t:key("Tab")
    t:wait_rows { "probe> x beta" }
    t:key("Enter")
    probe.wait_lines("x beta\n")
  end))

  it("inserts what candidates have in common, then lists them above the line", run.case(function()
    local t = probe.start()
    t:type("al")
    t:key("Tab")
    t:wait_rows { "probe> alpha" }
    t:key("Tab")
    t:wait_rows { "alphabet      alphanumeric", "probe> alpha" }
    t:type("n")
    t:key("Tab", "Enter")
    probe.wait_lines("alphanumeric\n")
  end))

  it("stops between characters, not inside one", run.case(function()
    local t = probe.start()
    t:type("gr")
    t:key("Tab")
    t:wait_rows { "probe> größ" }
    t:type("t")
    t:key("Tab")
    t:wait_rows { "probe> größter" }
  end))

  it("is not meant by a TAB in front of a line", run.case(function()
    local t = probe.start()
    t:key("Tab")
    t:wait_cursor(8)
    t:key("Tab")
    t:wait_cursor(16)
    t:type("x\n")
    probe.wait_lines("\t\tx\n")
  end))
end)

describe("Ctrl-C", function()
  it("discards a half-written line, wherever the cursor is in it", run.case(function()
    local t = probe.start { columns = 30 }
    t:type(("abcdefghi "):rep(7))
    t:key("C-a", "Right")
    t:wait_cursor(8)
    t:key("C-c")
    t:wait_rows { "defghi abcdefghi ^C", "interrupt", "probe>" }
    t:type("next\n")
    t:wait_rows { 'line "next"', "probe>" }
    assert.are.equal("next\n", probe.lines())
  end))

  it("ends a wait, and a search", run.case(function()
    local t = probe.start()
    t:type("wait\n")
    t:wait_rows { "waiting" }
    t:key("C-c")
    t:wait_rows { "^C", "interrupted", "probe>" }
    t:key("C-r")
    t:type("wa")
    t:wait_screen("bck:wa")
    t:key("C-c")
    t:wait_rows { "interrupt", "probe>" }
    t:type("ok\n")
    t:wait_rows { 'line "ok"', "probe>" }
  end))

  it("is never lost and never kills, however often it is pressed", run.case(function()
    local t = probe.start()
    for i = 1, 100 do
      t:key("C-c")
      t:wait_screen(function()
        local count = 0
        for _, row in ipairs(t:history()) do
          count = count + (row == "interrupt" and 1 or 0)
        end
        return count == i
      end)
    end
    t:key("C-d")
    assert.are.equal(0, (t:wait_exit()))
  end))
end)
