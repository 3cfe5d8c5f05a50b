-- F1, F2, F3, F6, F7, F10: readiness and liveness tell the truth while the connection is gone: a
-- canary through the server knows it.
local cjson = require "cjson"
local health = require "support.health"
local jwt = require "support.jwt"
local nats_server = require "support.nats_server"
local network = require "support.network"
local proxy = require "support.proxy"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

-- A link that is closed, or refused, is known to be at once; the rest is a loaded machine.
local AT_ONCE_SECONDS = 1.5
local FAULT_SECONDS = 2.5

local SCRIPT = [[
local moondog = require "moondog"
local c
c = moondog.connect {
  name = "gateway", servers = { $URL }, $LOGIN
  reconnect = $POLICY,
  on = { disconnected = $HOOK, closed = $HOOK, reconnected = $HOOK, error = $HOOK },
  watchdog = { probe = 1, probe_timeout = 1 },
}
]] .. health.CANARY

local POLICY = "moondog.backoff { base = 0.05, cap = 0.2, auth_base = 0.1 }"

local function script(options)
  local parts = { LOGIN = options.login or "", POLICY = options.policy or POLICY,
    HOOK = options.hook or "nil" }
  return (SCRIPT:gsub("%$(%u+)", parts))
end

-- Runs it, waits until it is ready and the canary passes, and looks at it from then on. options:
-- login, policy, hook (Lua code); values; connect (makes a witness).
local function watch(url, options)
  local values = options.values or {}
  values.URL = url
  return health.watch(health.run(script(options), values), options.connect)
end

-- blips: as for health.assert_truth().
local function check(seen, from, class, blips)
  return health.check_outage(seen,
    { from = from, detected = AT_ONCE_SECONDS, class = class, blips = blips })
end

local function users(password)
  return { users = { { user = "witness", password = "w" },
    { user = "game", password = password } } }
end

describe("readiness, when the server refuses the login for a while,", function()
  it("is withdrawn and comes back with the messages", run.case(function()
    local server = nats_server.start(users "right")
    local seen = watch(server.url, { login = 'user = "game", password = "right",',
      connect = function() return server:connect() end })
    local begun_at = run.now()
    server:reload(users "changed")
    run.pause(FAULT_SECONDS)
    server:reload(users "right")
    local refusals = check(seen, begun_at, "auth")
    local outages = health.metric(seen.dog, "moondog_connection_outages_total")
    assert.equals(1, outages)
    local reason = health.reason_of(refusals[#refusals].body, "gateway")
    assert.matches("uthorization", reason.reason)
    assert.is_true(reason.outage > FAULT_SECONDS - 1, tostring(reason.outage))
  end))
end)

describe("readiness, when credentials expire,", function()
  it("is withdrawn, and comes back with the rotated ones", run.case(function()
    local issuer = jwt.new()
    local server = nats_server.start(issuer.config)
    local path = jwt.creds(issuer:user(4))
    local witness = issuer:user()
    local seen = watch(server.url, { login = "creds = $FILE,", values = { FILE = path },
      connect = function() return server:connect { login = jwt.login(witness) } end })
    local begun_at = run.now()
    seen.canary:wait_silence(FAULT_SECONDS, 15)
    jwt.creds(issuer:user())
    -- In the second of the expiry the server lets the expired one in, and ends its link at once.
    check(seen, begun_at, "auth", true)
  end))
end)

describe("readiness, when the server ends the link with an error,", function()
  for _, case in ipairs {
    { "maximum connections exceeded", "limit" },
    { "The moon is in the wrong phase", false },
  } do
    local text, class = case[1], case[2] or nil
    it(("such as %q, is withdrawn until there is a fresh link"):format(text), run.case(function()
      local refusing = false
      local server = scripted_server.start { on_op = function(client, op)
        if refusing and op.verb == "CONNECT"
          and cjson.decode(op.line:sub(9)).name ~= "witness" then
          client:error(text)
          return true
        end
      end }
      local seen = watch(server.url, {
        connect = function() return nats_server.connect({ config = {}, port = server.port }) end })
      local begun_at = run.now()
      refusing = true
      for client in pairs(server.clients) do
        if client.connect and client.connect.name ~= "witness" then
          client:error(text)
        end
      end
      run.pause(FAULT_SECONDS)
      refusing = false
      local refusals = check(seen, begun_at, class)
      local reason = health.reason_of(refusals[#refusals].body, "gateway")
      assert.is_truthy(cjson.encode(reason):lower():find(text:lower(), 1, true),
        cjson.encode(reason))
    end))
  end
end)

describe("readiness, when NATS is not there at the start,", function()
  it("is not there either, and liveness is", run.case(function()
    local port = network.free_port()
    local begun_at = run.now()
    local dog = health.run(script {}, { URL = network.url(port) })
    local sampler, live = health.sample(dog), health.sample(dog, "/livez")
    dog:wait_log("^dial failed$")
    run.pause(FAULT_SECONDS)
    local server = nats_server.start({}, { port = port })
    local canary = health.canary(function() return server:connect() end)
    local passed = canary:wait_pass(begun_at, 15)
    health.wait_status(dog, "/readyz", 200, 3)
    run.pause(0.3)
    sampler:stop()
    live:stop()
    assert.equals(0, #sampler:between(200, begun_at, passed - 0.3))
    local refusals = health.assert_truth { sampler = sampler, canary = canary, from = begun_at,
      gap = { from = begun_at, to = passed } }
    for _, sample in ipairs(live.samples) do
      assert.equals(200, sample.status)
    end
    -- The very first ones may be of the time before the script was loaded, or before the dial.
    local told = {}
    for _, sample in ipairs(refusals) do
      local reason = health.reason_of(sample.body, "gateway")
      if reason and reason.error then
        told[#told + 1] = sample
      end
    end
    health.assert_told(told, "gateway", "network")
    assert.is_true(#told > 10, #told .. " of " .. #refusals .. " answers name the error")
  end))
end)

-- The network is cut for a while, on the way of the script's connection only.
local function cut(options)
  local server = nats_server.start()
  local way = proxy.start(server)
  options.connect = function() return server:connect() end
  local seen = watch(way.url, options)
  local begun_at = run.now()
  way:lock()
  way:reset()
  run.pause(FAULT_SECONDS)
  way:unlock()
  check(seen, begun_at, "network")
  return seen.dog
end

describe("readiness, in an outage in which functions of the script fail,", function()
  it("is the truth when a hook raises", run.case(function()
    local dog = cut { hook = 'function() local t; t.boom = "hook" end' }
    dog:wait_log("^hook failed$", 5)
    assert.is_true(health.metric(dog, "moondog_lua_errors_total", { kind = "hook" }) >= 1)
  end))

  it("is the truth when the policy raises", run.case(function()
    local dog = cut { policy = 'function() error("no idea") end' }
    dog:wait_log("^policy failed$", 5)
    assert.is_true(health.metric(dog, "moondog_lua_errors_total", { kind = "policy" }) >= 1)
  end))

  it("is the truth when the policy never returns", run.case(function()
    local dog = cut { policy = "function() while true do end end" }
    dog:wait_log("^policy failed$", 5)
  end))
end)

describe("a handler that spins", function()
  it("is neither a stall nor a lost connection, however often", run.case(function()
    local server = nats_server.start()
    local dog = health.run(script {} .. 'c:subscribe("spin", function() while true do end end)\n',
      { URL = server.url })
    health.wait_status(dog, "/readyz", 200)
    local canary = health.canary(function() return server:connect() end)
    canary:wait_pass(run.now())
    local sampler, live = health.sample(dog), health.sample(dog, "/livez")
    local witness = server:connect()
    local begun_at = run.now()
    for _ = 1, 25 do
      witness:publish("spin", "")
    end
    health.wait_metric(dog, "moondog_subscription_overruns_total", { subject = "spin" }, 25, 15)
    run.figure("25 spinning handlers took", run.now() - begun_at, "s")
    canary:wait_pass(run.now())
    sampler:stop()
    live:stop()
    assert.is_true(#live.samples > 20, tostring(#live.samples))
    for _, list in ipairs { sampler.samples, live.samples } do
      for _, sample in ipairs(list) do
        assert.equals(200, sample.status)
      end
    end
    assert.equals(0, health.metric(dog, "moondog_loop_stalls_total"))
  end))
end)
