-- The terminal of the console: pastes, modes of the terminal, the history's file, and what happens
-- without a terminal.
local uv = require "luv"
local process = require "support.process"
local run = require "support.run"
local terminal = require "support.terminal"
local probe = require "support.terminal_probe"

describe("a paste", function()
  local COUNT = 10000

  local function big()
    local lines = {}
    for i = 1, COUNT do
      lines[i] = ("line %05d\tof %s"):format(i, ("x"):rep(i % 50))
    end
    return table.concat(lines, "\n") .. "\n"
  end

  for _, bracketed in ipairs { true, false } do
    it(("of 10,000 lines arrives whole, %s"):format(bracketed and "bracketed" or "as typed"),
      run.case(function()
        local text = big()
        local t = probe.start()
        local from = run.now()
        t:paste(text, { bracketed = bracketed })
        run.wait_until(function() return #probe.lines() >= #text end, 100, function()
          return ("%d bytes, there are %d"):format(#text, #probe.lines())
        end)
        run.figure("paste of 10,000 lines", run.now() - from, "s")
        assert.is_true(probe.lines() == text)
        t:type("more\n")
        t:wait_rows({ "no more input", "probe>" }, 30)
      end, { deadline = 150 }))
  end

  it("completes nothing, and keeps control bytes", run.case(function()
    local t = probe.start()
    t:paste("al\tbe\t\27[A\1\127x\n\tal\t\n", { bracketed = true })
    probe.wait_lines("al\tbe\t\27[A\1\127x\n\tal\t\n")
    t:paste("x\27y", { bracketed = true })
    t:wait_rows { "probe> x\\U+DC1By" }
  end))

  it("is told from input that is over", run.case(function()
    local t = probe.start()
    t:type("more\nmore\n")
    t:wait_screen("\nno more input\nprobe>$")
    t:key("C-d")
    assert.are.equal(0, (t:wait_exit()))
  end))
end)

describe("the terminal's modes", function()
  local function shell()
    local t = terminal.start { file = "/bin/bash", args = { "--norc", "--noprofile", "-i" },
      env = { PS1 = "shell$ ", HISTFILE = false, TERM = "tmux-256color" } }
    t:wait_screen("shell%$")
    return t
  end

  local function child_of(pid)
    return tonumber(probe.read_file(("/proc/%d/task/%d/children"):format(pid, pid)):match("%d+"))
  end

  local function modes(t)
    t:type("clear; stty -a; echo done\n")
    return table.concat(t:wait_screen("^speed.*\ndone\nshell%$$"), "\n")
  end

  it("survive Ctrl-Z, and are restored at every end", run.case(function()
    local t = shell()
    local before = modes(t)
    local function same()
      assert.are.equal(before, modes(t))
    end
    t:type(probe.file .. "\n")
    t:wait_rows { "probe>" }
    t:type("half")
    t:wait_rows { "probe> half" }
    t:key("C-z")
    t:wait_screen("Stopped")
    same()
    t:type("fg\n")
    t:wait_rows { "probe> half" }
    t:type("!\n")
    t:wait_rows { 'line "half!"', "probe>" }
    t:key("C-d")
    t:wait_screen("end\nshell%$")
    same()
    for _, signal in ipairs { "sigterm", "sighup", "sigquit" } do
      t:type(probe.file .. "\n")
      t:wait_rows { "probe>" }
      uv.kill(child_of(t.pid), signal)
      t:wait_screen("\nshell%$$")
      same()
    end
  end))
end)

describe("the history", function()
  it("is a file for nobody else, which two consoles may share", run.case(function()
    local one, two = probe.start(), probe.start()
    one:type("one\n")
    one:wait_screen('line "one"')
    two:type("two\n")
    two:wait_screen('line "two"')
    one:type("one\nthree\n")
    one:wait_screen('line "three"')
    local path = probe.history_path()
    assert.are.equal("one\ntwo\nthree\n", probe.read_file(path))
    assert.are.equal("600", ("%o"):format(bit.band(uv.fs_stat(path).mode, 511)))
    assert.are.equal("700", ("%o"):format(bit.band(uv.fs_stat(path:match(".*/")).mode, 511)))
  end))

  it("keeps the last 10,000 lines", run.case(function()
    local lines = {}
    for i = 1, 10500 do
      lines[i] = ("line %d\n"):format(i)
    end
    local path = run.file("history", table.concat(lines))
    local t = probe.start { history = path }
    t:key("Up")
    t:wait_rows { "probe> line 10500" }
    assert.is_true(probe.read_file(path) == table.concat(lines, "", 501))
  end))

  it("takes a file that is not text for what it is worth", run.case(function()
    local path = run.file("history", "good\n\0\1\27[2J\255\200\n\n\n" .. ("z"):rep(3000))
    local t = probe.start { history = path }
    t:key("Up", "Up")
    t:wait_rows { "probe> \\U+DC00\\U+DC01\\U+DC1B[2J\\U+DCFF\\U+DCC8" }
    t:key("Up", "Enter")
    t:wait_rows { 'line "good"', "probe>" }
  end))

  it("works without a file", run.case(function()
    local t = probe.start { history = "/proc/nothing/of/this/kind" }
    t:wait_screen("no history")
    t:type("one\n")
    t:wait_rows { 'line "one"', "probe>" }
    t:key("Up", "Enter")
    t:wait_rows { 'line "one"', "probe> one", 'line "one"', "probe>" }
    local device = probe.start { history = "/dev/null" }
    device:wait_screen("no history")
  end))
end)

describe("without a terminal", function()
  local function piped(input, args)
    local p = process.start { file = probe.file, args = args or {}, input = input }
    assert.are.equal(0, (p:wait_exit()))
    return p:text("stdout")
  end

  it("lines are read as they come, without prompt or escape sequences", run.case(function()
    assert.are.equal('line "one"\nline "\\x09two"\nline ""\nline "last"\nend',
      piped("one\n\ttwo\n\nlast"))
    assert.are.equal("end", piped(""))
    assert.are.equal('line "a\\xef\\xbf\\xbdb\\xff"\nend', piped("a\0b\255\n"))
  end))

  it("very long lines and very many arrive", run.case(function()
    local long = ("y"):rep(1000000)
    assert.are.equal(('line "%s"\nend'):format(long), piped(long .. "\n"))
    local log = probe.log_path()
    local many = ("0123456789\n"):rep(20000)
    piped(many, { "--log", log })
    assert.is_true(probe.read_file(log) == many)
  end))

  it("nothing is edited when only the output is not one, or TERM says dumb", run.case(function()
    local out = run.folder() .. "/out"
    local t = terminal.start { file = "/bin/sh",
      args = { "-c", ("trap : INT; '%s' > '%s'; echo code $?"):format(probe.file, out) } }
    t:type("one\n")
    run.wait_until(function() return probe.read_file(out):find("one") end, 10, "the first line")
    t:key("C-c")
    run.wait_until(function() return probe.read_file(out):find("interrupt") end, 10, "the interrupt")
    t:type("two\n")
    run.wait_until(function() return probe.read_file(out):find("two") end, 10, "the line")
    t:key("C-d")
    t:wait_screen("code 0")
    assert.are.equal('line "one"\ninterrupt\nline "two"\nend\n', probe.read_file(out))

    local dumb = terminal.start { file = probe.file, env = { TERM = "dumb" } }
    dumb:type("one\n")
    dumb:wait_rows { "one", 'line "one"' }
  end))
end)
