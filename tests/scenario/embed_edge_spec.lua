-- examples/embed/edge: what the sensors have read is in the stream once, whatever happens to the server and the policy.
local cjson = require "cjson"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local outbox = require "support.outbox"
local process = require "support.process"
local run = require "support.run"

local PROGRAM = moondog.build .. "/examples/embed/edge/edge"
local POLICY = moondog.root .. "/examples/embed/edge/edge.lua"

-- The policy in the test's folder, with a window that a test can wait for.
local function write_policy(window)
  local file = assert(io.open(POLICY))
  local text, count = file:read("*a"):gsub("\nlocal WINDOW = 5 ", ("\nlocal WINDOW = %g "):format(window))
  file:close()
  assert.equals(1, count)
  return run.file("edge.lua", text)
end

-- args: more of them.
local function start_edge(url, args)
  return process.start { name = "edge", file = PROGRAM, cwd = run.folder(), env = { JOURNAL_STREAM = false },
    args = { "--url", url, "--policy", write_policy(0.1), "--outbox", "test.outbox", unpack(args or {}) } }
end

local function start(args)
  local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
  local edge = start_edge(server.url, args)
  edge:wait_line('msg="connected"', 20)
  return server, edge
end

-- Its end after SIGTERM: how many readings there were.
local function stop(edge)
  edge:signal("sigterm")
  assert.equals(0, (edge:wait_exit(30)))
  local readings, unheard = edge:text("stdout"):match("(%d+) readings, of which the policy did not get (%d+)")
  assert.equals("0", unheard)
  return tonumber(readings)
end

local function stored(witness)
  local answer = witness:request("$JS.API.STREAM.INFO.EDGE", "", 10)
  local info = answer and cjson.decode(answer.data)
  return info and info.state and info.state.messages or 0
end

local function wait_stored(witness, count)
  run.wait_until(function() return stored(witness) >= count end, 20, function()
    return ("%d messages in the stream; there are %d"):format(count, stored(witness))
  end)
end

-- All that is in the stream, in order.
local function read_stream(witness)
  local sub = witness:subscribe("all.of.it")
  assert(witness:request("$JS.API.CONSUMER.CREATE.EDGE", cjson.encode { stream_name = "EDGE",
    config = { deliver_subject = "all.of.it", deliver_policy = "all", ack_policy = "none" } }, 10))
  local count = stored(witness)
  run.wait_until(function() return #sub.messages >= count end, 20, count .. " messages of the stream")
  return sub.messages
end

-- What the summaries have of the readings: each once and in order. Returns how many there were, and how many of them
-- were left out.
local function count_readings(messages)
  local last, total, rejected = {}, 0, 0
  for _, msg in ipairs(messages) do
    local sensor = msg.subject:match("^edge%.summary%.(.+)$")
    if sensor then
      local s = cjson.decode(msg.data)
      assert.equals((last[sensor] or 0) + 1, s.from)
      assert.equals(s.to - s.from + 1, s.count + s.rejected)
      assert.is_true(s.count == 0 or s.min <= s.mean and s.mean <= s.max and s.max < 80)
      last[sensor] = s.to
      total, rejected = total + s.count + s.rejected, rejected + s.rejected
    end
  end
  return total, rejected
end

local function waiting()
  return tonumber((outbox.run(0, run.folder() .. "/test.outbox"):match("waiting%s+(%d+) ")))
end

local function ask(witness, subject, data)
  return assert(witness:request(subject, data or "", 10)).data
end

describe("The sensor gateway", function()
  it("has each reading in the stream once, though the server is killed and the policy replaced", run.case(function()
    local server, edge = start { "--sensors", "3" }
    local witness = server:connect()
    for i = 1, 3 do assert.equals("done", ask(witness, ("edge.command.s%d.interval"):format(i), "0.005")) end
    wait_stored(witness, 5)
    server:kill()
    edge:wait_line('msg="disconnected"', 20)
    run.wait_until(function() return waiting() >= 10 end, 20, "10 summaries in the outbox")
    write_policy(0.15)
    edge:signal("sighup")
    edge:wait_line("policy 2 is at work", 20)
    local before = waiting()
    run.wait_until(function() return waiting() >= before + 6 end, 20, "summaries of the new policy")
    server:restart()
    witness = server:connect()
    wait_stored(witness, before + 10)
    write_policy(0.1)
    edge:signal("sighup")
    edge:wait_line("policy 3 is at work", 20)
    local taken = stop(edge)
    local total, rejected = count_readings(read_stream(witness))
    assert.equals(taken, total)
    assert.is_true(rejected > 0)
    assert.equals(0, waiting())
  end))

  it("keeps what it cannot send for its next start", run.case(function()
    local server, edge = start()
    local witness = server:connect()
    assert.equals("done", ask(witness, "edge.command.s1.interval", "0.01"))
    wait_stored(witness, 4)
    server:kill()
    edge:wait_line('msg="disconnected"', 20)
    run.wait_until(function() return waiting() > 0 end, 20, "a summary that waits")
    local taken = stop(edge)
    assert.is_true(waiting() > 0)
    server:restart()
    witness = server:connect()
    -- This one measures nothing worth a summary before its end.
    edge = start_edge(server.url, { "--sensors", "1" })
    run.wait_until(function() return waiting() == 0 end, 20, "an empty outbox")
    stop(edge)
    local first = {}
    for _, msg in ipairs(read_stream(witness)) do
      local again = msg.subject == "edge.summary.s1" and first[1] and cjson.decode(msg.data).from == 1
      if again then break end
      first[#first + 1] = msg
    end
    assert.equals(taken, (count_readings(first)))
  end))

  it("takes commands for its sensors, and raises alarms", run.case(function()
    local server, edge = start { "--sensors", "2" }
    local witness = server:connect()
    local alarms = witness:subscribe("edge.alarm.*")
    assert.equals("done", ask(witness, "edge.command.s2.interval", "0.01"))
    assert.equals("done", ask(witness, "edge.command.s2.target", "60"))
    local sensors = cjson.decode(ask(witness, "edge.sensors"))
    assert.equals(2, #sensors)
    assert.same({ "s2", 60, 0.01 }, { sensors[2].name, sensors[2].target, sensors[2].interval })
    run.wait_until(function() return alarms.messages[1] end, 20, "an alarm")
    assert.equals("done", ask(witness, "edge.command.s2.target", "20"))
    run.wait_until(function() return alarms.messages[2] end, 20, "its end")
    assert.equals(2, alarms.count)
    for i, on in ipairs { true, false } do
      assert.equals("edge.alarm.s2", alarms.messages[i].subject)
      assert.equals(on, cjson.decode(alarms.messages[i].data).on)
    end
    assert.matches("there is no sensor of this name", ask(witness, "edge.command.s9.interval", "1"))
    assert.matches("0 is not between 0.001 and 3600", ask(witness, "edge.command.s1.interval", "0"))
    assert.matches("^send a number$", ask(witness, "edge.command.s1.interval", "soon"))
    assert.matches("^there are interval and target$", ask(witness, "edge.command.s1.colour", "1"))
    stop(edge)
  end))

  it("goes on with its policy when the new one is wrong", run.case(function()
    local server, edge = start()
    local witness = server:connect()
    run.file("edge.lua", "local x = = 1")
    edge:signal("sighup")
    edge:wait_line("the policy stays as it is: .*edge.lua:1:", 20)
    wait_stored(witness, stored(witness) + 4)
    assert.equals(stop(edge), (count_readings(read_stream(witness))))
  end))

  it("begins and ends without a server", run.case(function()
    local port = require("support.network").free_port()
    local edge = start_edge(require("support.network").url(port), { "--seconds", "1" })
    assert.equals(0, (edge:wait_exit(30)))
    assert.matches("[1-9]%d* readings, of which the policy did not get 0", edge:text("stdout"))
    assert.is_true(waiting() > 0)
  end))

  it("says what is wrong with its arguments and its policy", run.case(function()
    local function try(args, code, text)
      local edge = process.start { name = "edge", file = PROGRAM, cwd = run.folder(), args = args }
      assert.equals(code, (edge:wait_exit(30)))
      assert.matches(text, edge:text("stderr"))
      assert.equals("", edge:text("stdout"))
    end
    try({ "--sensors", "many" }, 2, "%-%-sensors is \"many\": give a number up to 1000")
    try({ "--colour" }, 2, "\nusage: edge ")
    try({ "more" }, 2, "^usage: edge ")
    try({ "--policy", "not/there.lua" }, 1, "edge: .*not/there.lua")
  end))
end)
