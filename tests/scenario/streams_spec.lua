-- What a process pushes to those who follow it: log records, its state, messages.
local cjson = require "cjson"
local control = require "support.control"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local BASE = [[
local moondog = require "moondog"
local c = moondog.connect { name = "gateway", servers = { $URL } }
c:subscribe("echo", function(msg) msg:respond(msg.data) end)
c:subscribe("say", function(msg) moondog.log[msg.data]("said " .. msg.data, { n = 1, at = 0.5 }) msg:respond("") end)
c:subscribe("flood", function(msg)
  for i = 1, 5000 do
    moondog.log.info("flood " .. i)
    if i % 100 == 0 then moondog.sleep(0) end -- within its budget, also under a sanitizer
  end
  msg:respond("")
end)
c:subscribe("fail", function(msg) error("fail " .. msg.data) end)
]]

local function start(options)
  local server = nats_server.start()
  options = options or {}
  options.args = options.args or { "--name", "gateway" }
  local dog = moondog.run(BASE, { URL = server.url }, options)
  dog:wait_log("^connected$")
  return dog, server
end

local function connect()
  return control.connect(control.path "gateway")
end

describe("moondog log", function()
  local function log(...)
    local p = moondog.start { "log", ... }
    p:wait_exit(0, 15)
    return p:text("stdout")
  end

  it("shows the last records, of a level, as text or JSON", run.case(function()
    local _, server = start()
    local witness = server:connect()
    for _, level in ipairs { "info", "warn", "error" } do witness:wait_answer("say", level, 5) end
    assert.matches("INFO +connected +connection=gateway", (log()))
    assert.matches("^%d%d:%d%d:%d%d%.%d%d%d WARN +said warn +at=0.5 n=1\n[^\n]*ERROR +said error +at=0.5 n=1$",
      (log("gateway", "--level", "warn")))
    local record = cjson.decode((log("--lines", "1", "--json")))
    assert.equals("said error", record.msg)
    assert.equals(0.5, record.at)
    assert.equals("", (log("-n", "0")))
  end))

  it("goes on with --follow until the process ends", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run(BASE, { URL = server.url }, { args = { "--name", "gateway", "--level", "warn" } })
    server:connect():wait_answer("echo", "", 5)
    local p = moondog.start { "log", "--follow", "--level", "debug", "--json" }
    local witness = server:connect()
    run.wait_until(function()
      witness:wait_answer("say", "debug", 5)
      return p:text("stdout"):find("said debug", 1, true)
    end, 5, "a record that the process itself does not write")
    assert.equals(0, #dog:find_logs("said debug"))
    dog:signal("sigterm")
    p:wait_exit(0, 10)
    assert.matches("stopping", p:text("stdout"))
  end))

  it("goes on when the process cannot write its own", run.case(function()
    local _, server = start()
    local one = connect()
    local id = one:begin("log", { follow = true, level = "error" })
    server:connect():wait_answer("say", "error", 5)
    assert.equals("said error", one:wait_event(id, "log").msg)
  end))
end)

describe("the log stream", function()
  it("keeps a bounded number of records, and says what is missing", run.case(function()
    local _, server = start()
    local one = connect()
    local slow = connect()
    local id = slow:begin("log", { follow = true })
    one:ask("status")
    slow.socket:read_stop()
    local witness = server:connect()
    for _ = 1, 4 do witness:wait_answer("flood", "", 30) end
    local recent = one:begin("log", { recent = 100000 })
    local kept = one:answer(recent).result.count
    assert.is_true(kept > 500 and kept <= 1024, tostring(kept))
    local records = one:events(recent, "log")
    assert.equals("flood 5000", records[#records].msg)
    slow:read()
    local dropped = slow:wait_event(id, "dropped").count
    slow:wait_event(id, "log", function(record) return record.msg == "flood 5000" end)
    run.wait_until(function()
      local total = 0
      for _, event in ipairs(slow:events(id, "dropped")) do total = total + event.count end
      dropped = total
      return #slow:events(id, "log") + total >= 20000
    end, 5, "every record, sent or counted")
    assert.is_true(dropped > 0)
  end))

  it("ends with a cancel, and refuses what is no level", run.case(function()
    local _, server = start()
    local one = connect()
    local id = one:begin("log", { follow = true })
    assert.is_true(one:ask("cancel", { id = id }).result.cancelled)
    assert.equals("cancelled", one:answer(id).error.code)
    local before = #one:events(id, "log")
    server:connect():wait_answer("say", "error", 5)
    one:ask("status")
    assert.equals(before, #one:events(id, "log"))
    assert.is_false(one:ask("cancel", { id = id }).result.cancelled)
    assert.equals("bad_args", one:ask("log", { level = "loud" }).error.code)
  end))
end)

describe("watching a process", function()
  it("tells its state, and each change of it", run.case(function()
    local dog, server = start { args = { "--name", "gateway", "--drain", "0.2" } }
    local one = connect()
    local id = one:begin("watch")
    assert.same({ generation = 1, stopping = false, connections = 1, up = 1, worst = "up" },
      one:wait_event(id, "state"))
    server:kill()
    one:wait_event(id, "state", function(state) return state.up == 0 and state.worst ~= "up" end)
    dog:reload()
    one:wait_event(id, "state", function(state) return state.generation == 2 end)
    dog:signal("sigterm")
    run.wait_until(function() return one.closed end, 10, "the end")
  end))
end)

describe("a tap", function()
  it("shows what passes, in both directions, for a subject", run.case(function()
    local _, server = start()
    local one = connect()
    local all, some = one:begin("tap", { subject = ">" }), one:begin("tap", { subject = "*.b" })
    one:wait_event(some, "begun")
    local witness = server:connect()
    assert.equals("x\255\0y", witness:wait_answer("echo", "x\255\0y", 5).data)
    local asked = one:wait_event(all, "message", function(m) return m.dir == "in" and m.subject == "echo" end)
    assert.equals("gateway", asked.connection)
    assert.equals("x?\0y", asked.data)
    assert.equals(4, asked.bytes)
    local answered = one:wait_event(all, "message", function(m) return m.dir == "out" end)
    assert.equals(asked.reply, answered.subject)
    one:eval 'gateway:publish("a.b", ("d"):rep(10000))'
    local cut = one:wait_event(some, "message")
    assert.equals(10000, cut.bytes)
    assert.equals(4096, #cut.data)
    assert.equals(1, #one:events(some, "message"))
    one:ask("cancel", { id = all })
    local before = #one:events(all, "message")
    witness:wait_answer("echo", "", 5)
    one:ask("status")
    assert.equals(before, #one:events(all, "message"))
    assert.equals("invalid_subject", one:ask("tap", { subject = "a..b" }).error.code)
    assert.equals("bad_args", one:ask("tap").error.code)
  end))

  it("shows so many a second, and counts the others", run.case(function()
    start()
    local one = connect()
    local id = one:begin("tap", { subject = "many" })
    one:wait_event(id, "begun")
    one:eval 'for _ = 1, 20000 do gateway:publish("many", "") end'
    local function seen()
      local total = #one:events(id, "message")
      for _, event in ipairs(one:events(id, "dropped")) do total = total + event.count end
      return total
    end
    run.wait_until(function()
      one:eval 'gateway:publish("many", "")' -- what was dropped is told before the next
      return seen() >= 20000
    end, 10, "all of them, shown or counted")
    assert.is_true(#one:events(id, "message") < 15000)
  end))
end)

describe("what a command prints", function()
  it("is dropped when it is too much, and that is told before the answer", run.case(function()
    start()
    local one = connect()
    one:ask("status")
    local id = one:begin("eval", { code = "for i = 1, 30000 do print(i) end" })
    one.socket:read_stop()
    run.wait_until(function()
      return connect():ask("log", { recent = 1, level = "info" }).ok
    end, 5, "others to be served")
    one:read()
    assert.is_true(one:answer(id, 20).ok)
    local printed, dropped, last = #one:events(id, "print"), 0, nil
    for _, event in ipairs(one:events(id, "dropped")) do dropped = dropped + event.count end
    assert.equals(30000, printed + dropped)
    for _, frame in ipairs(one.frames) do
      if frame.id == id then last = frame end
    end
    assert.is_true(last.ok)
  end))
end)

describe("the last failures", function()
  it("are there with their tracebacks, the newest last", run.case(function()
    local _, server = start()
    local witness = server:connect()
    local one = connect()
    for i = 1, 40 do witness:publish("fail", tostring(i)) end
    local result = run.wait_until(function()
      local r = one:ask("errors").result
      return r.total == 40 and r
    end, 5, "40 failures")
    assert.equals(32, #result.errors)
    local last = result.errors[32]
    assert.equals("handler", last.kind)
    assert.equals("fail", last.name)
    assert.matches("script%d+%.lua:12: fail 40$", last.error)
    assert.matches("stack traceback", last.traceback)
    assert.equals(1, last.generation)
    assert.matches("fail 9$", result.errors[1].error)
  end))
end)
