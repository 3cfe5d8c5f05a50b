-- The work queue of examples/policies: jobs that work, that fail, that kill their worker; its end and its reload.
local cjson = require "cjson"
local health = require "support.health"
local nats_server = require "support.nats_server"
local policy = require "support.policy"
local run = require "support.run"

local function start_server()
  local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
  return server, server:connect()
end

local function start_worker(server, env)
  env = env or {}
  env.NATS_URL = server.url
  env.WORKER_RETRY_BASE = env.WORKER_RETRY_BASE or "0.05"
  local dog = policy.start("worker", { env = env })
  dog:wait_log("^takes jobs$", 20)
  return dog
end

-- A service for the jobs: what it was asked, in order, and how often each. answer(msg) returns data and headers, or
-- nil: then the test answers later, with service.reply().
local function serve(witness, answer)
  local service = { asked = {}, times = {} }
  function service.reply(msg, data, headers)
    witness:publish(msg.reply, data or "done", { headers = headers })
  end
  witness:subscribe("work.mail", function(msg)
    table.insert(service.asked, msg)
    service.times[msg.data] = (service.times[msg.data] or 0) + 1
    if answer then service.reply(msg, answer(msg)) end
  end)
  witness:flush()
  return service
end

local function wait_asked(service, count)
  run.wait_until(function() return #service.asked >= count end, 20, function()
    return ("%d jobs at work; there are %d"):format(count, #service.asked)
  end)
end

local function waiting(witness)
  local answer = assert(witness:request("$JS.API.STREAM.INFO.JOBS", "", 10))
  return cjson.decode(answer.data).state.messages
end

local function wait_waiting(witness, count)
  run.wait_until(function() return waiting(witness) == count end, 20, function()
    return ("%d jobs in the stream; there are %d"):format(count, waiting(witness))
  end)
end

-- It is in the stream when this returns: a server of 2.10 may answer a question about the stream first.
local function put(witness, data, headers)
  assert(witness:request("jobs.mail", data, 10, { headers = headers }))
end

local function publish(witness, from, to)
  for i = from, to do put(witness, tostring(i)) end
end

local function refusal(code)
  return { ["Nats-Service-Error"] = "broken", ["Nats-Service-Error-Code"] = code }
end

describe("the policy worker.lua", function()
  it("makes its streams, and does as many jobs at a time as it is told to", run.case(function()
    local server, witness = start_server()
    local service = serve(witness)
    local dog = start_worker(server, { WORKER_CONCURRENT = "4" })
    publish(witness, 1, 12)
    wait_asked(service, 4)
    run.holds(function() return #service.asked == 4 end, 0.3, "no more than 4 jobs at work")
    assert.equals(4, health.metric(dog, "jobs_running"))
    local answered = 0
    run.wait_until(function()
      if answered < #service.asked then
        answered = answered + 1
        service.reply(service.asked[answered])
        assert.is_true(#service.asked - answered <= 4)
      end
      return answered == 12
    end, 20, "12 jobs done")
    wait_waiting(witness, 0)
    for i = 1, 12 do assert.equals(1, service.times[tostring(i)]) end
    health.wait_metric(dog, "jobs_total", { result = "done" }, 12, 10)
    assert.equals(12, health.metric(dog, "job_seconds_count"))
  end))

  it("leaves a stream that is there as it is", run.case(function()
    local server, witness = start_server()
    assert(witness:request("$JS.API.STREAM.CREATE.JOBS", cjson.encode { name = "JOBS", subjects = { "jobs.>" },
      retention = "workqueue", max_msgs = 100, storage = "memory" }, 10))
    local service = serve(witness, function() return "done" end)
    start_worker(server)
    publish(witness, 1, 1)
    wait_asked(service, 1)
    local info = cjson.decode(witness:request("$JS.API.STREAM.INFO.JOBS", "", 10).data)
    assert.equals(100, info.config.max_msgs)
  end))

  it("tries again what fails, and puts aside what always fails", run.case(function()
    local server, witness = start_server()
    local dead = witness:subscribe("dead.>")
    local failures = { flaky = 2, poison = math.huge, wrong = math.huge }
    local service = serve(witness, function(msg)
      if failures[msg.data] == 0 then return "done" end
      failures[msg.data] = failures[msg.data] - 1
      return "", refusal(msg.data == "wrong" and "400" or "500")
    end)
    local dog = start_worker(server, { WORKER_DELIVERIES = "3" })
    for name in pairs(failures) do
      put(witness, name, { Trace = "t-" .. name })
    end
    wait_waiting(witness, 0)
    assert.same({ flaky = 3, poison = 3, wrong = 1 }, service.times)
    run.wait_until(function() return #dead.messages == 2 end, 10, "two that are put aside")
    for _, msg in ipairs(dead.messages) do
      assert.equals("dead.jobs.mail", msg.subject)
      assert.equals("broken", msg.headers["Dead-Reason"])
      assert.equals("JOBS", msg.headers["Dead-Stream"])
      assert.equals(msg.data == "wrong" and "1" or "3", msg.headers["Dead-Deliveries"])
      assert.equals("t-" .. msg.data, msg.headers.Trace)
    end
    local info = cjson.decode(witness:request("$JS.API.STREAM.INFO.JOBS_DEAD", "", 10).data)
    assert.equals(2, info.state.messages)
    assert.equals(2, health.metric(dog, "jobs_total", { result = "dead" }))
    assert.equals(4, health.metric(dog, "jobs_total", { result = "retried" }))
    assert.equals(2, #dog:find_logs("^job is dead$"))
  end))

  it("tries again when nobody does that kind of job yet", run.case(function()
    local server, witness = start_server()
    local dog = start_worker(server)
    publish(witness, 1, 1)
    assert.matches("nobody is subscribed", dog:wait_log("^job failed, comes again$", 20).error)
    local service = serve(witness, function() return "done" end)
    wait_waiting(witness, 0)
    assert.equals(1, service.times["1"])
  end))

  it("puts aside a job that its worker does not survive", run.case(function()
    local server, witness = start_server()
    local dead = witness:subscribe("dead.>")
    local service = serve(witness) -- no answer: the worker is killed while it waits
    local env = { WORKER_DELIVERIES = "1", WORKER_ACK_WAIT = "1" }
    local dog = start_worker(server, env)
    publish(witness, 1, 1)
    wait_asked(service, 1)
    dog:signal("sigkill")
    dog.process:wait_exit(5)
    start_worker(server, env)
    run.wait_until(function() return dead.messages[1] end, 20, "the job that was put aside")
    assert.matches("its worker was lost", dead.messages[1].headers["Dead-Reason"])
    wait_waiting(witness, 0)
    assert.equals(1, service.times["1"])
  end))

  it("keeps a job that takes longer than ack_wait", run.case(function()
    local server, witness = start_server()
    local service = serve(witness)
    start_worker(server, { WORKER_ACK_WAIT = "3" })
    publish(witness, 1, 1)
    wait_asked(service, 1)
    run.pause(5) -- the job takes so long
    service.reply(service.asked[1])
    wait_waiting(witness, 0)
    assert.equals(1, service.times["1"])
  end))

  it("finishes what it has begun when it is stopped, and leaves the rest to others", run.case(function()
    local server, witness = start_server()
    local service = serve(witness)
    local dog = start_worker(server, { WORKER_CONCURRENT = "2" })
    publish(witness, 1, 5)
    wait_asked(service, 2)
    dog:signal("sigterm")
    dog:wait_log("^stopping$")
    for i = 1, 2 do service.reply(service.asked[i]) end
    dog:wait_exit(0, 15)
    wait_waiting(witness, 3)
    start_worker(server)
    local answered = 2
    run.wait_until(function()
      if answered < #service.asked then
        answered = answered + 1
        service.reply(service.asked[answered])
      end
      return waiting(witness) == 0
    end, 20, "the rest")
    for i = 1, 5 do assert.equals(1, service.times[tostring(i)]) end
  end))

  it("handles no job twice when it is reloaded", run.case(function()
    local server, witness = start_server()
    local service = serve(witness)
    local dog = start_worker(server, { WORKER_CONCURRENT = "2" })
    publish(witness, 1, 6)
    for round = 1, 3 do
      wait_asked(service, 2 * round)
      assert.equals("script reloaded", dog:reload().msg)
      for i = 2 * round - 1, 2 * round do service.reply(service.asked[i]) end
    end
    wait_waiting(witness, 0)
    assert.equals(6, #service.asked)
    for i = 1, 6 do assert.equals(1, service.times[tostring(i)]) end
  end))
end)
