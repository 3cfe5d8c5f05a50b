-- The gateway of examples/policies: before, during and after a hiccup of the auth service, and what callers are told.
local cjson = require "cjson"
local health = require "support.health"
local nats_server = require "support.nats_server"
local network = require "support.network"
local policy = require "support.policy"
local run = require "support.run"

local HICCUP_SECONDS = 4
local LOGIN = { user = "gateway", password = "right" }

local function start(env)
  local server = nats_server.start(LOGIN)
  local merged = { NATS_URL = server.url, GATEWAY_USER = LOGIN.user, GATEWAY_PASSWORD = LOGIN.password }
  for name, value in pairs(env or {}) do merged[name] = value end
  local dog = policy.start("gateway", { env = merged })
  health.wait_status(dog, "/readyz", 200)
  return dog, server, server:connect()
end

describe("the policy gateway.lua", function()
  it("survives a hiccup of the auth service, and says so meanwhile", run.case(function()
    local dog, server, before = start()
    assert.equals("hello", before:wait_answer("svc.echo", "hello", 10).data)
    dog:wait_log("^the gateway answers$")

    server:reload { user = LOGIN.user, password = "changed" }
    local during = server:connect()
    local body = health.wait_status(dog, "/readyz", 503)
    local reason = health.reason_of(body, "gateway")
    assert.is_true(reason ~= nil and #reason.plan > 10, cjson.encode(body))
    dog:wait_log("^the library gave up; moondog does not$")
    run.pause(HICCUP_SECONDS)
    reason = health.reason_of(health.wait_status(dog, "/readyz", 503), "gateway")
    assert.equals("auth", reason.error.class)
    assert.same({ nil, "no responders" }, { during:request("svc.echo", "hello", 10) })
    assert.equals(200, (health.get(dog, "/livez")))

    server:reload(LOGIN)
    health.wait_status(dog, "/readyz", 200, 20)
    assert.equals("again", server:connect():wait_answer("svc.echo", "again", 10).data)
    assert.is_true(dog:wait_log("^the gateway answers again$").fresh)
    assert.equals(0, #dog:find_logs(function(entry) return entry.level == "error" and entry.msg ~= "closed" end))
  end))

  it("answers every request, with what went wrong when something did", run.case(function()
    local _, _, witness = start()
    local function ask(data)
      local answer = assert(witness:request("svc.price", data, 20))
      return answer.data, answer.headers and answer.headers["Nats-Service-Error-Code"]
    end
    assert.same({ "say what the price is asked of", "400" }, { ask "" })
    assert.same({ "no price: nobody answers price.get now", "503" }, { ask "apple" })
    local answers = true
    witness:subscribe("price.get", function(msg)
      if answers then witness:publish(msg.reply, "price of " .. msg.data) end
    end)
    witness:flush()
    assert.same({ "price of apple" }, { ask "apple" })
    answers = false
    assert.same({ "no price: price.get did not answer within 2 s", "504" }, { ask "apple" })
    local status = cjson.decode(witness:wait_answer("gateway.status", "", 10).data)
    assert.same({ "gateway", "up", true }, { status.name, status.state, status.ready })
    assert.equals("unknown", witness:wait_answer("gateway.weather", "", 10).headers.status)
  end))

  it("is ready without what is not required, and sends heartbeats where they belong", run.case(function()
    local port = network.free_port()
    local dog = start { TELEMETRY_URL = network.url(port) }
    dog:wait_log(function(entry) return entry.msg == "dial failed" and entry.connection == "telemetry" end)
    assert.equals(200, (health.get(dog, "/readyz")))
    local telemetry = nats_server.start({}, { port = port })
    local beats = telemetry:connect():subscribe("heartbeat.gateway")
    run.wait_until(function() return beats.count > 0 end, 30, "a heartbeat")
    assert.matches("^%d+%.%d$", beats.messages[1].data)
  end))
end)
