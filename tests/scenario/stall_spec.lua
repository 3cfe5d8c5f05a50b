-- A function of the script that hangs inside one call into C, which no budget can stop: the process
-- says that it is not live, and what holds it, while it is held.
local health = require "support.health"
local http = require "support.http"
local nats_server = require "support.nats_server"
local run = require "support.run"

-- A page is answered by a thread that waits for nobody; the rest is a loaded machine.
local QUICK_SECONDS = 1

local SCRIPT = [[
local moondog = require "moondog"
]] .. health.STUCK .. [[
local c
c = moondog.connect {
  name = "gateway", servers = { $URL }, reconnect = moondog.backoff { base = 0.05, cap = 0.2 },
  on = { closed = function() if $WHERE == "hook" then stuck() end end },
}
c:subscribe("echo", function(msg) msg:respond(msg.data) end)
c:subscribe("stuck.*", function(msg) stuck(tonumber(msg.data)) end)
c:subscribe("timer", function()
  moondog.every(0.01, function() stuck() end)
end)
c:subscribe("task", function()
  moondog.spawn(function()
    moondog.sleep(0.01)
    stuck()
  end)
end)
c:subscribe("hook", function() c:reconnect() end)
]]

-- The line of a script's text in which a function is written, as "script1.lua:7".
local function place(dog, text)
  local line = 1
  for one in (dog.text_of_script .. "\n"):gmatch("([^\n]*)\n") do
    if one:find(text, 1, true) then
      return dog.script_path:match("[^/]+$") .. ":" .. line
    end
    line = line + 1
  end
  error("not in the script: " .. text)
end

local function start(options)
  local server = nats_server.start()
  options = options or {}
  -- How long a call hangs is measured while the script is loaded, on a machine that may be busy.
  local args = { "--load-budget", "30000", unpack(options.args or {}) }
  local dog = health.run(SCRIPT, { URL = server.url, WHERE = options.where or "" },
    { args = args, rude = options.rude ~= false })
  dog.text_of_script = SCRIPT
  dog:wait_log("^connected$")
  local witness = server:connect()
  witness:wait_answer("echo", "", 5)
  assert.equals(200, (health.get(dog, "/livez")))
  assert.equals(200, (health.get(dog, "/readyz")))
  return dog, witness, server
end

-- Every page, within a moment.
local function get_quickly(dog, page)
  local begun_at = run.now()
  local status, body = health.get(dog, page)
  local took = run.now() - begun_at
  assert.is_true(took < QUICK_SECONDS, ("%s took %.3f s"):format(page, took))
  return status, body, took
end

local function matches_end(text, wanted)
  return text:sub(-#wanted) == wanted
end

-- What all pages and the log say while it is held; what: kind, name (a pattern), at (the place).
local function check_stalled(dog, what)
  local live = health.wait_status(dog, "/livez", 503, 5)
  assert.is_false(live.live)
  assert.is_true(live.loop.stalled)
  assert.is_true(live.loop.seconds >= 1 and live.loop.seconds < 20, tostring(live.loop.seconds))
  assert.equals(what.kind, live.loop.kind)
  assert.matches(what.name, live.loop.name)
  assert.is_true(matches_end(live.loop.place, what.at), live.loop.place .. " is not " .. what.at)
  assert.is_truthy(live.loop.reason:find(live.loop.place, 1, true), live.loop.reason)

  local status, ready = get_quickly(dog, "/readyz")
  assert.equals(503, status)
  assert.is_false(ready.ready)
  assert.equals(live.loop.place, ready.reasons[1].place)

  local text, state
  status, text = get_quickly(dog, "/metrics")
  assert.equals(200, status)
  local samples = health.parse_metrics(text)
  assert.equals(1, health.sum(samples, "moondog_loop_stalled"))
  assert.equals(1, health.sum(samples, "moondog_loop_stalls_total"))
  assert.is_true(health.sum(samples, "moondog_loop_stalled_seconds_total") >= 1)
  status, state = get_quickly(dog, "/status")
  assert.equals(200, status)
  assert.is_true(state.loop.stalled)
  assert.equals(live.loop.place, state.loop.place)
  assert.equals("gateway", state.connections[1].name)

  -- It is told once, however long it lasts, and the time grows.
  local later
  run.wait_until(function()
    later = select(2, get_quickly(dog, "/livez"))
    return later.loop.seconds > live.loop.seconds + 0.5
  end, 5, "a stall that gets older")
  local told = dog:find_logs("^loop stalled$")
  assert.equals(1, #told)
  assert.equals("error", told[1].level)
  assert.equals(live.loop.place, told[1].place)
  assert.equals(what.kind, told[1].kind)
  assert.equals(live.loop.name, told[1].name)
  assert.equals(0, #dog:find_logs("^loop turns again$"))
  return health.metric(dog, "moondog_snapshot_age_seconds")
end

describe("a loop that is held for good", function()
  it("by a handler is not live, and the handler is named", run.case(function()
    local dog, witness = start()
    witness:publish("stuck.now", "")
    local age = check_stalled(dog, { kind = "handler", name = "^stuck%.%*$",
      at = place(dog, 'c:subscribe("stuck.*"') })
    assert.is_true(age > 1, "the numbers of the loop are as old as they say: " .. age)
    assert.is_true(dog:running())
    local took = select(3, get_quickly(dog, "/livez"))
    run.figure("an answer of /livez while the loop is stuck", took * 1000, "ms")
  end))

  it("by a timer is not live, and the timer is named", run.case(function()
    local dog, witness = start()
    witness:publish("timer", "")
    check_stalled(dog, { kind = "timer", name = ".", at = place(dog, "moondog.every(") })
  end))

  it("by a task that had waited is not live, and the task is named", run.case(function()
    local dog, witness = start()
    witness:publish("task", "")
    check_stalled(dog, { kind = "task", name = ".", at = place(dog, "moondog.spawn(") })
  end))

  it("by a hook is not live, and the hook is named", run.case(function()
    local dog, witness = start { where = "hook" }
    witness:publish("hook", "")
    check_stalled(dog, { kind = "hook", name = "^gateway%.closed$",
      at = place(dog, "closed = function()") })
  end))

  it("by what a reload starts is not live, and that is named", run.case(function()
    local dog, _, server = start()
    dog:rewrite(SCRIPT .. 'moondog.on_start(function() stuck() end)\n',
      { URL = server.url, WHERE = "" })
    dog.text_of_script = SCRIPT .. "moondog.on_start("
    dog:signal("sighup")
    check_stalled(dog, { kind = "on_start", name = ".", at = place(dog, "moondog.on_start(") })
  end))

  it("answers many at once as quickly as one", run.case(function()
    local dog, witness = start()
    witness:publish("stuck.now", "")
    health.wait_status(dog, "/livez", 503, 5)
    local pages, clients = { "/metrics", "/status", "/readyz", "/livez" }, {}
    local begun_at = run.now()
    for i = 1, 40 do
      clients[i] = assert(http.open(dog.http))
      clients[i]:ask(pages[i % #pages + 1])
    end
    for _, client in ipairs(clients) do
      assert(client:answer(5))
      client:close()
    end
    local took = run.now() - begun_at
    run.figure("40 pages at once while the loop is stuck", took * 1000, "ms")
    assert.is_true(took < 2, took .. " s")
  end))
end)

describe("a script that hangs while it is loaded", function()
  it("is not ready, and the pages say that there is no script", run.case(function()
    local dog = health.run([[
      local moondog = require "moondog"
      moondog.connect { servers = { $URL } }
    ]] .. health.STUCK .. "stuck()", { URL = "nats://127.0.0.1:1" }, { rude = true })
    local body = health.wait_status(dog, "/readyz", 503, 5)
    assert.matches("no script is at work", body.reasons[#body.reasons].reason)
    local status, text = get_quickly(dog, "/metrics")
    assert.equals(200, status)
    local samples = health.parse_metrics(text)
    assert.equals(0, health.sum(samples, "moondog_generation"))
    assert.equals(0, health.sum(samples, "moondog_connections_required"))
    status, body = get_quickly(dog, "/status")
    assert.equals(200, status)
    assert.is_nil(body.generation)
  end))

  it("at a reload is no stall: the running one goes on", run.case(function()
    local server = nats_server.start()
    local script = [[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      c:subscribe("echo", function(msg) msg:respond(msg.data) end)
    ]]
    local dog = health.run(script, { URL = server.url },
      { args = { "--load-budget", "300" }, rude = true })
    health.wait_status(dog, "/readyz", 200)
    local witness = server:connect()
    local sampler = health.sample(dog, "/livez")
    local entry = dog:reload(script .. 'local _ = (("a"):rep(100000)):find(".-.-.-.-.-.-c")',
      { URL = server.url })
    assert.equals("reload failed", entry.msg)
    assert.equals("hanging", entry.code)
    assert.equals("x", witness:wait_answer("echo", "x", 5).data)
    sampler:stop()
    for _, sample in ipairs(sampler.samples) do
      assert.equals(200, sample.status)
    end
    assert.equals(200, (health.get(dog, "/readyz")))
    assert.equals(1, health.metric(dog, "moondog_reloads_total", { outcome = "failed" }))
    assert.equals(0, health.metric(dog, "moondog_loop_stalls_total"))
  end))
end)

describe("a loop that was held for a while", function()
  it("is live again, and that it was not is counted", run.case(function()
    local dog, witness = start { args = { "--stall", "0.4" }, rude = false }
    local sampler = health.sample(dog, "/livez")
    witness:publish("stuck.now", "1.5")
    local body = health.wait_status(dog, "/livez", 503, 5)
    assert.equals("stuck.*", body.loop.name)
    local ended = dog:wait_log("^loop turns again$", 20)
    run.figure("the loop was held for", ended.stalled_seconds, "s")
    health.wait_status(dog, "/livez", 200, 2)
    health.wait_status(dog, "/readyz", 200, 2)
    sampler:stop()
    for _, sample in ipairs(sampler.samples) do
      assert.is_true(sample.status == 200 or sample.status == 503, tostring(sample.error))
    end
    assert.equals("x", witness:wait_answer("echo", "x", 5).data)

    local samples = health.metrics(dog)
    assert.equals(0, health.sum(samples, "moondog_loop_stalled"))
    assert.equals(1, health.sum(samples, "moondog_loop_stalls_total"))
    local seconds = health.sum(samples, "moondog_loop_stalled_seconds_total")
    assert.is_true(math.abs(seconds - ended.stalled_seconds) < 0.1,
      ("%g and %g s"):format(seconds, ended.stalled_seconds))
    assert.equals(1, #dog:find_logs("^loop stalled$"))
    assert.equals(1, #dog:find_logs("^loop turns again$"))
    assert.equals(1, #dog:find_logs("^handler failed$"))
    assert.equals(0, #dog:find_logs("^closed$") + #dog:find_logs("^disconnected$"))
  end))

  it("as often as it happens", run.case(function()
    local dog, witness = start { args = { "--stall", "0.4" }, rude = false }
    for number = 1, 2 do
      witness:publish("stuck.now", "1")
      dog:wait_log("^loop turns again$", 20, number)
    end
    health.wait_metric(dog, "moondog_loop_stalls_total", nil, 2)
    assert.equals(2, #dog:find_logs("^loop stalled$"))
  end))

  it("for less than its limit is no stall", run.case(function()
    local dog, witness = start { args = { "--stall", "30" }, rude = false }
    local sampler = health.sample(dog, "/livez")
    witness:publish("stuck.now", "0.7")
    dog:wait_log("^handler failed$", 20)
    assert.equals("x", witness:wait_answer("echo", "x", 5).data)
    sampler:stop()
    assert.is_true(#sampler.samples > 5)
    for _, sample in ipairs(sampler.samples) do
      assert.equals(200, sample.status)
    end
    assert.equals(0, health.metric(dog, "moondog_loop_stalls_total"))
    assert.equals(0, #dog:find_logs("^loop stalled$"))
  end))
end)

-- Handlers that are each stopped at their budget, one after the other.
local function spin(script, subjects)
  local server = nats_server.start()
  local dog = health.run(script, { URL = server.url }, { args = { "--stall", "0.8" } })
  health.wait_status(dog, "/readyz", 200)
  local witness = server:connect()
  witness:wait_answer("echo", "", 5)
  local sampler = health.sample(dog, "/livez")
  for _, subject in ipairs(subjects) do
    witness:publish(subject, "")
  end
  run.wait_until(function()
    return health.metric(dog, "moondog_subscription_overruns_total") == #subjects
  end, 15, "all of them stopped")
  assert.equals("x", witness:wait_answer("echo", "x", 10).data)
  sampler:stop()
  for _, sample in ipairs(sampler.samples) do
    assert.equals(200, sample.status)
  end
  assert.equals(0, #dog:find_logs("^loop stalled$"))
end

describe("spinning handlers", function()
  it("are stopped at their budgets and are no stall", run.case(function()
    local subjects = {}
    for i = 1, 10 do
      subjects[i] = "spin"
    end
    spin([[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      c:subscribe("spin", function() while true do end end)
      c:subscribe("echo", function(msg) msg:respond(msg.data) end)
    ]], subjects)
  end))

  it("of many connections are no stall together", run.case(function()
    local subjects = {}
    for i = 1, 10 do
      subjects[i] = "spin." .. i
    end
    spin([[
      local moondog = require "moondog"
      for i = 1, 10 do
        local c = moondog.connect { name = "c" .. i, servers = { $URL } }
        c:subscribe("spin." .. i, function() while true do end end)
        if i == 1 then c:subscribe("echo", function(msg) msg:respond(msg.data) end) end
      end
    ]], subjects)
  end))
end)
