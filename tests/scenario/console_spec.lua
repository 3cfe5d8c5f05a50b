-- The console as an operator uses it: in a real terminal, in a gateway at work.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"
local terminal = require "support.terminal"
local uv = require "luv"

local BASE = [[
local moondog = require "moondog"
local c = moondog.connect { name = "gateway", servers = { $URL } }
c:subscribe("echo", function(msg) msg:respond(msg.data) end)
c:subscribe("say", function(msg) moondog.log.info("said " .. msg.data) msg:respond("") end)
c:subscribe("fail", function(msg) error("it failed") end)
counter = 5
]]

local PROMPT = "gateway [up]>"

-- A gateway with a console. options: columns, rows, args of the console.
local function start(options)
  options = options or {}
  local server = nats_server.start()
  local dog = moondog.run(BASE, { URL = server.url }, { args = { "--name", "gateway", "--drain", "0.2" } })
  dog:wait_log("^connected$")
  local t = terminal.start { file = moondog.program(), columns = options.columns, rows = options.rows,
    args = { "attach", "gateway", unpack(options.args or {}) } }
  t:wait_screen("gateway %[up%]>")
  return t, dog, server
end

local function enter(t, line)
  t:type(line)
  t:key("Enter")
end

describe("moondog attach", function()
  it("evaluates what is typed and edited, and prints values", run.case(function()
    local t = start()
    enter(t, "1 + 1")
    t:wait_rows { PROMPT .. " 1 + 1", "2", PROMPT }
    t:type("conter")
    t:key("Left", "Left", "Left", "Left")
    t:type("u")
    t:key("Enter")
    t:wait_rows { PROMPT .. " counter", "5", PROMPT }
    enter(t, "_ * 2")
    t:wait_rows { PROMPT .. " _ * 2", "10", PROMPT }
    enter(t, "{ 1, name = 'x' }, nil")
    t:wait_rows { '{ 1, name = "x" }', "nil", PROMPT }
    enter(t, 'gateway:request("echo", "pong").data')
    t:wait_rows { '"pong"', PROMPT }
    enter(t, 'print("a", 1)')
    t:wait_rows { "a       1", PROMPT }
    enter(t, "local function f() error('deep') end f()")
    t:wait_screen("console:1: deep\nstack traceback:")
    t:key("Up", "Up", "Enter")
    t:wait_rows { PROMPT .. ' print("a", 1)', "a       1", PROMPT }
  end))

  it("takes a statement of several lines, and forgets one at Ctrl-C", run.case(function()
    local t, dog = start()
    enter(t, "for i = 1, 2 do")
    t:wait_rows { PROMPT .. " for i = 1, 2 do", "           .." }
    enter(t, "  print('number ' .. i)")
    enter(t, "end")
    t:wait_rows { "number 1", "number 2", PROMPT }
    enter(t, "x = {")
    t:type("half a li")
    t:key("C-c")
    t:wait_rows { "           .. half a li^C", PROMPT }
    enter(t, "x")
    t:wait_rows { PROMPT .. " x", "nil", PROMPT }
    assert.is_true(dog:running())
  end))

  it("completes globals, fields, methods and its own commands", run.case(function()
    local t = start()
    t:type("coun")
    t:key("Tab")
    t:wait_screen("> counter$")
    t:key("C-u")
    t:type("gateway:st")
    t:key("Tab")
    t:wait_screen("> gateway:stat")
    t:key("Tab")
    t:wait_screen("stats +status\n")
    t:type("us().st")
    t:key("C-u")
    t:type("string.rever")
    t:key("Tab")
    t:wait_screen("> string%.reverse$")
    t:key("C-u")
    t:type(".log ")
    t:key("Tab")
    t:wait_screen("debug +error +info +off +warn\n")
    t:key("C-u")
    enter(t, 'm = gateway:request("echo", "x")')
    t:wait_rows { PROMPT .. ' m = gateway:request("echo", "x")', PROMPT }
    t:type("m:re")
    t:key("Tab", "Tab")
    t:wait_screen("respond +retain\n")
    t:key("C-u")
    t:type(".err")
    t:key("Tab")
    t:wait_screen("> %.errors$")
    t:key("Enter")
    t:wait_screen("0 failures in all")
  end))

  it("ends a command at Ctrl-C, and not the gateway", run.case(function()
    local t, dog, server = start()
    local witness = server:connect()
    for _, code in ipairs { "while true do end", "moondog.sleep(1000)" } do
      enter(t, code)
      dog:wait_log(function(entry) return entry.msg == "console command" and entry.code == code end)
      for i = 1, 20 do assert.equals(tostring(i), witness:wait_answer("echo", tostring(i), 5).data) end
      t:key("C-c")
      t:wait_rows { "cancelled", PROMPT }
    end
    enter(t, "'still here'")
    t:wait_rows { '"still here"', PROMPT }
    t:key("C-c") -- nothing runs
    enter(t, "7")
    t:wait_rows { "7", PROMPT }
    assert.is_true(dog:running())
  end))

  it("shows log records and messages above what is being typed", run.case(function()
    local t, _, server = start { columns = 60, rows = 20 }
    local witness = server:connect()
    t:type("half a line")
    witness:wait_answer("say", "something", 5)
    t:wait_screen("INFO +said something\n" .. "gateway %[up%]> half a line$")
    t:key("C-u")
    enter(t, ".tap echo")
    t:wait_screen("ends it")
    t:type(("long "):rep(30)) -- three rows
    t:key("C-a")
    t:type("1 -- ")
    witness:wait_answer("echo", "tapped", 5)
    t:wait_screen('<%- gateway echo %(reply [^\n]+%): "tapped"\n[^>]*gateway %[up%]> 1 %-%- long')
    t:key("Enter")
    t:wait_rows { "1", PROMPT }
    enter(t, ".tap off")
    t:wait_screen("1 taps? ended")
    enter(t, ".log off")
    witness:wait_answer("say", "in silence", 5)
    enter(t, ".log loud")
    t:wait_screen("there are the levels")
    assert.not_matches("in silence", table.concat(t:screen(), "\n"))
  end))

  it("redraws a long line when the window changes", run.case(function()
    local t = start { columns = 80, rows = 20 }
    t:type("return '" .. ("0123456789"):rep(8))
    t:resize(40, 20)
    t:type("' .. 'end'")
    t:key("Enter")
    t:wait_screen(("0123456789"):rep(2))
    enter(t, "#_")
    t:wait_rows { "83", PROMPT }
  end))

  it("takes bytes that are no UTF-8, and shows them", run.case(function()
    local t = start()
    t:type("('")
    t:bytes("61 ff c3 28 e2 82 ac")
    enter(t, "'):byte(1, -1)")
    t:wait_rows { "97", "255", "195", "40", "226", "130", "172", PROMPT }
    enter(t, "'\\255\\0€'")
    t:wait_rows { '"\\255\\0€"', PROMPT }
  end))

  for what, bracketed in pairs { ["as a paste"] = true, ["as if typed"] = false } do
    it("takes a text of 10,000 lines " .. what, run.case(function()
      local t = start()
      local lines = { "t = {" }
      for i = 2, 9999 do lines[i] = "\t" .. i .. "," end
      lines[10000] = "}"
      t:paste(table.concat(lines, "\n") .. "\n", { bracketed = bracketed })
      enter(t, "#t, t[1], t[9998]")
      t:wait_screen("\n9998\n2\n9999\ngateway %[up%]>$", 60)
      lines = {}
      for i = 1, 1000 do lines[i] = "n = (n or 0) + " .. i end
      t:paste(table.concat(lines, "\n") .. "\n", { bracketed = bracketed })
      enter(t, "n")
      t:wait_screen("\n500500\ngateway %[up%]>$", 60)
    end, { deadline = 120 }))
  end

  it("goes on in the new generation, and says so", run.case(function()
    local t, dog, server = start()
    enter(t, "mine = 1")
    t:type("half")
    dog:reload((BASE:gsub("counter = 5", "counter = 6")), { URL = server.url })
    t:wait_screen("%-%- generation 2 is at work; what was defined here went with the one before\n")
    t:wait_screen("gateway %[up%]> half$")
    t:key("C-u")
    enter(t, "counter, mine")
    t:wait_rows { "6", "nil", PROMPT }
    enter(t, ".reload previous")
    t:wait_screen("%-%- generation 3 is at work")
    enter(t, "counter")
    t:wait_rows { "5", PROMPT }
    dog:rewrite("x = = 1")
    enter(t, ".reload")
    t:wait_screen("unexpected symbol")
    enter(t, ".gen")
    t:wait_screen("last reload that failed")
  end))

  it("shows the state of the connections in its prompt", run.case(function()
    local t, _, server = start()
    server:kill()
    t:wait_screen("gateway %[[%l ]+%]>$")
    t:wait_screen(function(rows) return not rows[#rows]:find("[up]", 1, true) end)
    server:restart()
    t:wait_screen("gateway %[up%]>$")
  end))

  it("has commands that show what there is", run.case(function()
    local t, _, server = start { rows = 40, columns = 160 }
    server:connect():publish("fail", "")
    enter(t, ".conns")
    t:wait_screen("connection gateway: up\n")
    enter(t, ".subs")
    t:wait_screen("\necho +%d+ handled")
    enter(t, ".errors")
    t:wait_screen("handler fail, generation 1: [^\n]*it failed")
    enter(t, ".gen")
    t:wait_screen("generation 1: ")
    enter(t, ".help")
    t:wait_screen("%.tap SUBJECT")
    enter(t, ".nosuch")
    t:wait_screen("there is no %.nosuch")
    enter(t, ".tap a..b")
    t:wait_screen("empty token")
  end))

  it("leaves at Ctrl-D, and keeps the history", run.case(function()
    local t, dog = start()
    enter(t, "'remember me'")
    t:wait_rows { '"remember me"', PROMPT }
    t:key("C-d")
    assert.equals(0, (t:wait_exit(5)))
    assert.is_true(dog:running())
    assert.equals(tonumber("600", 8), uv.fs_stat(run.folder() .. "/state/moondog/history").mode % 512)
    local second = terminal.start { file = moondog.program(), args = { "attach" } }
    second:wait_screen("gateway %[up%]>")
    second:key("Up")
    second:wait_screen("'remember me'")
    second:key("C-u")
    enter(second, ".quit")
    assert.equals(0, (second:wait_exit(5)))
  end))

  it("ends when the process does, and says so", run.case(function()
    local t, dog = start()
    t:type("half")
    dog:signal("sigterm")
    t:wait_screen("the process has ended")
    assert.equals(1, (t:wait_exit(5)))
    local p = moondog.start { "attach", "gateway" }
    p:wait_exit(1, 5)
    assert.matches("no moondog of yours runs", p:text("stderr"))
  end))

  it("gives up on a process that does not answer", run.case(function()
    local _, dog = start()
    dog:signal("sigstop")
    local second = terminal.start { file = moondog.program(), args = { "attach" } }
    second:wait_screen("no answer in time: is its loop stuck%?")
    assert.equals(1, (second:wait_exit(5)))
    dog:signal("sigcont")
  end))

  it("does not wait for ever for a process that hangs, when Ctrl-C is pressed twice", run.case(function()
    local t, dog = start()
    dog:signal("sigstop")
    enter(t, "1")
    t:wait_cursor(0, 2)
    t:key("C-c")
    t:wait_screen("%^C")
    t:key("C-c")
    t:wait_screen("it does not answer: its loop may be stuck")
    dog:signal("sigcont")
    enter(t, "2")
    t:wait_rows { "2", PROMPT }
  end))

  it("takes lines from a pipe, without prompts", run.case(function()
    start()
    local p = moondog.start({ "attach" }, { input = "x = 20\nfor i = 1, 2 do\nx = x + i\nend\nx\n.nosuch\nx + 1\n" })
    p:wait_exit(0, 10)
    assert.equals("23\n24", p:text("stdout"))
    assert.matches("there is no %.nosuch", p:text("stderr"))
    p = moondog.start({ "attach" }, { input = "x = {" })
    p:wait_exit(1, 10)
    assert.matches("not complete", p:text("stderr"))
    p = moondog.start({ "attach" }, { input = "error('no')\n" })
    p:wait_exit(1, 10)
  end))
end)

describe("moondog repl", function()
  it("talks to a server", run.case(function()
    local server = nats_server.start()
    server:connect():subscribe("hello", function(msg, respond) respond("hello " .. msg.data) end)
    local t = terminal.start { file = moondog.program(), args = { "repl", server.url } }
    t:wait_screen("repl %[up%]>")
    enter(t, 'gw:subscribe("a.*", function(msg) msg:respond("got " .. msg.data) end)')
    t:wait_screen("subscription a%.%*")
    enter(t, 'gw:request("a.b", "it").data')
    t:wait_screen('"got it"')
    enter(t, "while true do end")
    t:key("C-c")
    t:wait_screen("cancelled")
    t:key("C-d")
    assert.equals(0, (t:wait_exit(10)))
    for name in uv.fs_scandir_next, assert(uv.fs_scandir(run.folder())) do
      assert.not_matches("^moondog%-repl", name)
    end
  end))

  it("starts a server of its own when none answers", run.case(function()
    local url = ("nats://127.0.0.1:%d"):format(require("support.network").free_port())
    local t = terminal.start { file = moondog.program(), args = { "repl" }, env = { NATS_URL = url } }
    t:wait_screen("repl %[up%]>")
    enter(t, "gw:flush()")
    t:wait_rows { "true", "repl [up]>" }
    t:key("C-c") -- with which the terminal drops what was typed and not read
    t:wait_rows { "repl [up]> ^C", "repl [up]>" }
    enter(t, "gw:status().state")
    t:wait_rows { '"up"', "repl [up]>" }
    t:key("C-d")
    assert.equals(0, (t:wait_exit(10)))
  end))
end)
