-- Code that an operator runs inside a gateway at work.
local cjson = require "cjson"
local control = require "support.control"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local BASE = [[
local moondog = require "moondog"
local c = moondog.connect { name = "gateway", servers = { $URL } }
c:subscribe("echo", function(msg) msg:respond(msg.data) end)
counter = 5
]]

local function start(text, options)
  local server = nats_server.start()
  options = options or {}
  options.args = options.args or { "--name", "gateway" }
  local dog = moondog.run(text or BASE, { URL = server.url }, options)
  dog:wait_log("^connected$")
  return dog, server
end

local function connect()
  return control.connect(control.path "gateway")
end

-- Runs `moondog eval` and returns its output and its errors.
local function eval(code, ...)
  local p = moondog.start({ "eval", ... })
  p:wait_exit(code, 15)
  return p:text("stdout"), p:text("stderr")
end

describe("moondog eval", function()
  it("prints what the code prints and returns", run.case(function()
    start()
    assert.equals("3", (eval(0, "1 + 2")))
    assert.equals("hi\t5\n1\nnil\ntext", (eval(0, 'print("hi", counter) return 1, nil, "text"', "gateway")))
    assert.equals("", (eval(0, "x = 1")))
    assert.equals("a\0b\nc\0d", (eval(0, 'print("a\\0b") return "c\\0d"')))
    assert.equals("1", (eval(0, "1;")))
    assert.matches('"values":%[%]', (eval(0, "x = 1", "--json")))
    local result = cjson.decode((eval(0, 'print("a") return { 1, { k = true } }, print', "--json")))
    assert.same({ "a" }, result.printed)
    assert.same({ 1, { k = true } }, result.values[1].value)
    assert.equals("function", result.values[2].type)
    assert.is_nil(result.values[2].value)
    local code = "local sum = 0\nfor i = 1, 4 do sum = sum + i end\nreturn sum\n"
    local p = moondog.start({ "eval", "-" }, { input = code })
    p:wait_exit(0, 15)
    assert.equals("10", p:text("stdout"))
  end))

  it("says what is wrong, with its place, and fails", run.case(function()
    start()
    local _, err = eval(1, 'error("no good")')
    assert.matches("^moondog: eval:1: no good\n", err)
    _, err = eval(1, 'local function deep() error("deep down") end\ndeep()')
    assert.matches("eval:1: deep down", err)
    assert.matches("eval:2: in main chunk", err)
    assert.not_matches("lua/moondog", err)
    _, err = eval(1, "x = = 1")
    assert.matches("eval:1: unexpected symbol near '='", err)
    _, err = eval(1, "moondog.sleep(60)", "--timeout", "0.2")
    assert.matches("not done after 0.2 s: cancelled", err)
    _, err = eval(1, "1", "nobody")
    assert.matches('no moondog runs as "nobody"; there is gateway', err)
  end))

  it("is in the log of the process, and no error of the script", run.case(function()
    local dog = start()
    eval(1, 'error("mine")')
    assert.equals('error("mine")', dog:wait_log("^console command$").code)
    assert.equals(0, connect():ask("status").result.generation.errors)
    assert.equals(0, #dog:find_logs("failed"))
  end))
end)

describe("a console's code", function()
  it("may wait, and sees connections by their names", run.case(function()
    start()
    local one = connect()
    assert.matches("pong", (one:eval 'gateway:request("echo", "pong").data'))
    assert.equals("true", (one:eval "moondog.sleep(0.01)"))
    assert.equals("5", (one:eval "counter"))
    one:eval 'moondog.connect { name = "side-car" }'
    assert.equals("side-car", (one:eval [[conns["side-car"]:status().name]]):match("[%w-]+"))
    assert.same({ "conns" }, one:ask("complete", { text = "con" }).result.items)
    local _, err = one:eval 'gateway:request("nobody", "")'
    assert.equals(2, err.count) -- nil, err
  end))

  it("defines things of its own, over the script's globals", run.case(function()
    start(BASE .. [[
      c:subscribe("see", function(msg) msg:respond(tostring(mine) .. " " .. tostring(shared)) end)
    ]])
    local one, other = connect(), connect()
    one:eval "mine = 1"
    one:eval "_G.shared = 2"
    assert.equals("1", (one:eval "mine"))
    assert.equals("nil, 2", (other:eval "mine, shared"))
    assert.matches("nil 2", (one:eval 'gateway:request("see", "").data'))
    assert.equals("6", (one:eval "counter + 1"))
    assert.equals("12", (one:eval "_ * 2"))
    assert.equals("1", (one:eval "1 -- a remark"))
    local _, err = one:eval "nosuch.field"
    assert.matches("^console:1: ", err.message)
    assert.matches("^subscription a.*, timer console:1$",
      (one:eval 'gateway:subscribe("a", function() end), moondog.after(60, function() end)'))
  end))

  it("does not depend on what a script has broken", run.case(function()
    start(BASE .. [[
      string.format, string.find, table.concat, type, tostring, select, load = nil
      setmetatable(_G, { __index = function(_, name) error("undeclared " .. name) end })
    ]])
    local one = connect()
    assert.equals("5", (one:eval "counter"))
    assert.matches("gateway", (one:eval "gateway:status().name"))
    local _, err = one:eval "nosuch"
    assert.matches("undeclared nosuch", err.message)
  end))

  it("goes on in the new generation after a reload", run.case(function()
    local dog, server = start()
    local one = connect()
    one:eval "mine = 1"
    local waiting = one:begin("eval", { code = 'moondog.sleep(0.3) return "finished", mine' })
    dog:reload((BASE:gsub("counter = 5", "counter = 6")), { URL = server.url })
    assert.equals("6, nil", (one:eval "counter, mine"))
    local answer = one:answer(waiting)
    assert.equals('finished', answer.result.values[1].value)
    assert.equals(1, answer.result.values[2].value)
  end))

  it("that is still at work when its generation's time is over is given up", run.case(function()
    local dog = start(nil, { args = { "--name", "gateway", "--retire", "0.2" } })
    local one = connect()
    local busy = one:begin("eval", { code = "while true do end" })
    local waiting = one:begin("eval", { code = "return moondog.sleep(60)" })
    dog:reload()
    assert.equals("replaced", one:answer(busy).error.code)
    assert.equals("replaced", one:answer(waiting).result.values[2].value.code)
    run.wait_until(function() return one:ask("status").result.reloads.retiring == 0 end, 5, "its end")
  end))

  it("is told from code that has no end yet", run.case(function()
    start()
    local one = connect()
    for _, code in ipairs { "for i = 1, 3 do", "x = {", "f(", "[[ text", "function f()", "return 1 +" } do
      local _, err = one:eval(code)
      assert.equals("incomplete", err.code, code)
    end
    local _, err = one:eval "x = ]"
    assert.equals("syntax", err.code)
    _, err = one:eval(("x = 1 "):rep(100000))
    assert.equals("too_large", err.code)
  end))

  it("may be large: it is compiled beside the loop", run.case(function()
    local dog = start()
    local one = connect()
    local lines = { "local t = {" }
    for i = 2, 9999 do lines[i] = "  { name = 'line " .. i .. "' }," end
    lines[10000] = "}\nlarge = #t error('at the end')"
    local _, err = one:eval(table.concat(lines, "\n"))
    assert.matches("^console:10001: at the end", err.message)
    assert.equals("9998", (one:eval "large"))
    lines[10000] = "} return #t,"
    _, err = one:eval(table.concat(lines, "\n"))
    assert.equals("incomplete", err.code)
    lines[10000] = "}}"
    _, err = one:eval(table.concat(lines, "\n"))
    assert.equals("syntax", err.code)
    lines[1], lines[10000] = "{", "}"
    local value, result = one:eval("= #" .. table.concat(lines, "\n"))
    assert.equals("9998", value)
    assert.equals("number", result.values[1].type)
    local id = one:begin("eval", { code = table.concat(lines, "\n") })
    one:ask("cancel", { id = id })
    one:begin("eval", { code = table.concat(lines, "\n") })
    one.socket:close()
    assert.equals("1", (connect():eval "1"))
    assert.is_true(dog:running())
  end))

  it("that needs too much memory fails, and the gateway goes on", run.case(function()
    local _, server = start(nil, { args = { "--name", "gateway", "--memory", "16" } })
    local one = connect()
    local _, err = one:eval('local t = {} while true do t[#t + 1] = ("x"):rep(100000 + #t) end', 20)
    assert.equals("script", err.code)
    assert.matches("not enough memory", err.message)
    assert.equals("1", server:connect():wait_answer("echo", "1", 5).data)
    assert.equals("2", (one:eval "1 + 1"))
  end))
end)

describe("a process that ends", function()
  it("does not wait for commands and streams", run.case(function()
    local dog = start(nil, { args = { "--name", "gateway", "--drain", "0.5" } })
    local one = connect()
    for _, code in ipairs { "while true do end", "moondog.sleep(60)", 'gateway:request("nobody", "", { timeout = 60 })',
      "while true do gateway:publish('x', '') moondog.sleep(0) end" } do
      one:begin("eval", { code = code })
    end
    one:begin("log", { follow = true, level = "debug" })
    one:begin("tap", { subject = ">" })
    one:begin("watch")
    one:begin("eval", { code = "return {" .. ("1,"):rep(100000) .. "}" })
    one:ask("status")
    dog:signal("sigterm")
    dog:wait_exit(0, 10)
  end))
end)

describe("a command that runs long", function()
  local LOOPS = {
    ["a plain loop"] = "while true do end",
    ["a loop that catches errors"] = "while true do pcall(function() while true do end end) end",
    ["a coroutine"] = "coroutine.wrap(function() while true do end end)()",
    ["coroutines inside coroutines"] = [[
      local function deep(n)
        if n == 0 then while true do end end
        return coroutine.wrap(deep)(n - 1)
      end
      deep(20)]],
    ["a metamethod"] = "local t = setmetatable({}, { __index = function() while true do end end }) return t.x",
  }
  for what, code in pairs(LOOPS) do
    it("leaves the loop to the messages: " .. what, run.case(function()
      local dog, server = start()
      local one = connect()
      local id = one:begin("eval", { code = code })
      local witness = server:connect()
      for i = 1, 100 do assert.equals(tostring(i), witness:wait_answer("echo", tostring(i), 5).data) end
      assert.equals("7", (connect():eval "7")) -- others have their turn, too
      assert.is_nil(one.frames[1])
      assert.is_true(one:ask("cancel", { id = id }).result.cancelled)
      assert.equals("cancelled", one:answer(id).error.code)
      assert.equals(0, #dog:find_logs("budget"))
      local cpu = dog:cpu()
      witness:wait_answer("echo", "", 5)
      assert.is_true(dog:cpu() - cpu < 0.5)
    end))
  end

  it("computes the same in slices as in one go", run.case(function()
    start()
    local one = connect()
    assert.equals("4500001500000", (one:eval "local s = 0 for i = 1, 3e6 do s = s + i end return s"))
    assert.equals("200000", (one:eval [[
      local co = coroutine.wrap(function() for i = 1, 200000 do coroutine.yield(i) end end)
      local last for i in co do last = i end return last]]))
    assert.equals("false", (one:eval [[
      local ok = pcall(function() local n = 0 for i = 1, 2e6 do n = n + i end error(n) end) return ok]]))
    assert.equals("100000", (one:eval [[
      local co = coroutine.create(function() for _ = 1, 100000 do coroutine.yield() end end)
      local n = 0
      while true do
        coroutine.resume(co)
        if coroutine.status(co) == "dead" then return n end
        n = n + 1
      end]]))
  end))

  it("may have begun a wait that came to nothing", run.case(function()
    start()
    local one = connect()
    assert.equals("false, 12500002500000", (one:eval([[
      local ok = pcall(table.sort, { 3, 2, 1 }, function(a, b)
        coroutine.wrap(function() moondog.sleep(0.001) end)()
        return a < b
      end)
      local sum = 0
      for i = 1, 5e6 do sum = sum + i end
      return ok, sum]], 30)))
    assert.equals("true", (one:eval "moondog.sleep(0.01)"))
  end))

  it("may be inside coroutines inside a callback of a C function", run.case(function()
    start()
    local one = connect()
    assert.matches("^true, ", (one:eval([[
      local sum = 0
      local ok = pcall(table.sort, { 2, 1 }, function(a, b)
        coroutine.wrap(function()
          coroutine.wrap(function() for i = 1, 3e4 do sum = sum + i end end)()
        end)()
        return a < b
      end)
      moondog.sleep(0.001)
      return ok, sum]], 30)))
    assert.equals("true", (one:eval "moondog.sleep(0.001)"))
  end))

  it("inside a callback of a C function ends with the budget", run.case(function()
    start()
    local one = connect()
    local _, err = one:eval "table.sort({ 1, 2, 3 }, function() while true do end end)"
    assert.equals("budget", err.code)
    assert.equals("1", (one:eval "1"))
  end))

  it("is not stopped for what the machine does to it", run.case(function()
    local dog = start(nil, { args = { "--name", "gateway", "--budget", "20" } })
    local one = connect()
    local id = one:begin("eval", { code = "while true do end" })
    for _ = 1, 10 do -- a slice that lasts for longer than the budget
      dog:signal("sigstop")
      run.pause(0.05)
      dog:signal("sigcont")
      one:ask("status")
    end
    assert.is_true(one:ask("cancel", { id = id }).result.cancelled)
    assert.equals("cancelled", one:answer(id).error.code)
  end))

  it("ends with its client", run.case(function()
    start()
    local one, other = connect(), connect()
    one:begin("eval", { code = "_G.count = 0 while true do _G.count = _G.count + 1 end" })
    run.wait_until(function() return tonumber((other:eval "_G.count")) end, 5, "the first slice")
    one.socket:close()
    run.wait_until(function()
      local before = other:eval "_G.count"
      for _ = 1, 20 do other:eval "1" end
      return before == other:eval "_G.count"
    end, 5, "the end of the loop")
  end))
end)
