-- F4 of the fault suite: the attempts are used up. What a row is: tests/support/fault.lua.
local health = require "support.health"
local run = require "support.run"

-- As many attempts as nats.c makes by default, and nats.js: here without the pauses between them.
local ATTEMPTS = { nats_c = "60", nats_js = 10 }
local WAIT_MS = 100
local OUTAGE_SECONDS = 12

return {
  id = "F4",
  title = "the attempts are used up",
  seen = "connect #3312, dapr #4563, guardian #6615 (20 hours)",
  why = "by default a library makes 10 or 60 attempts, and then never one again",
  promise = "attempts are never used up; the age of the outage is a metric, and in /readyz",
  within = 5,
  play = function(stage)
    local server = stage:server()
    stage:start { urls = { server.url }, attempts = ATTEMPTS.nats_c, wait = tostring(WAIT_MS),
      npm = { maxReconnectAttempts = ATTEMPTS.nats_js, reconnectTimeWait = WAIT_MS, reconnectJitter = 0 } }
    stage:fault()
    server:kill()
    run.pause(OUTAGE_SECONDS)
    local age = health.metric(stage.dog, "moondog_connection_outage_age_seconds")
    stage:check(age and age > OUTAGE_SECONDS / 2 and age < OUTAGE_SECONDS * 2, "the outage is %s s old", tostring(age))
    local status, body = health.get(stage.dog, "/readyz")
    local reason = status == 503 and health.reason_of(body, "moondog")
    stage:check(reason and reason.outage > OUTAGE_SECONDS / 2, "/readyz does not tell how old the outage is")
    stage:over()
    server:restart()
  end,
}
