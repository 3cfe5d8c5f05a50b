-- A circuit breaker around services: callers ask here, and when a service fails they get an answer at once instead of
-- a timeout each, while the service has a moment to recover. The breaker itself is lib/breaker.lua.
--
--   ./scripts/run examples/policies/breaker.lua       with a private nats-server when none is reachable
--   NATS_URL=nats://a:4222 moondog run breaker.lua --http 8080
--
-- Try it, with any NATS client; without the reply command it opens:
--   nats reply price.get 12.50
--   nats request api.price apple
--   curl -s localhost:8080/metrics | grep ^breaker
local breaker = require "lib.breaker"
local knob = require "lib.knob"
local moondog = require "moondog"
local service = require "lib.service"

-- One breaker for each service. `fallback` is the answer when there is none of the service: a text, or a function of
-- the request that returns one. Without it the caller gets the error.
local ROUTES = {
  { listen = "api.price", service = "price.get", fallback = "price unknown" },
  { listen = "api.stock", service = "stock.get" },
}

local TIMEOUT = knob("BREAKER_TIMEOUT", 1) -- seconds, of a call

local CONFIG = {
  consecutive = knob("BREAKER_CONSECUTIVE", 5), -- failures in a row that open it
  window = knob("BREAKER_WINDOW", 10),          -- seconds, of the calls that the rate is of
  calls = knob("BREAKER_CALLS", 20),            -- that there have to be in it
  rate = knob("BREAKER_RATE", 0.5),             -- share of failures that opens it
  open = knob("BREAKER_OPEN", 5),               -- seconds, before a probe
  probes = knob("BREAKER_PROBES", 2),           -- that have to succeed, one after the other, to close it
  probe = TIMEOUT * 2,                          -- seconds, after which a probe without a result is forgotten
}

local GAUGE = { closed = 0, half_open = 1, open = 2 }

local states = moondog.metrics.gauge("breaker_state", { labels = { "service" },
  help = "0 closed, 1 half-open, 2 open." })
local changes = moondog.metrics.counter("breaker_changes", { labels = { "service", "to" },
  help = "Changes of the state." })
local calls = moondog.metrics.counter("breaker_calls", { labels = { "service", "result" },
  help = "Requests: success, failure, refused (the breaker was open)." })

local gw = moondog.connect { name = "breaker" }

-- By service. It crosses a reload: a breaker that is open stays open.
moondog.state.breakers = {}

local function state_of(name)
  return moondog.state.breakers[name] or breaker.new()
end

local function step(name, event)
  local before = state_of(name)
  local after, ticket, wait = breaker.step(CONFIG, before, event, moondog.now())
  moondog.state.breakers[name] = after
  if after.name ~= before.name then
    states:set(GAUGE[after.name], { service = name })
    changes:add(1, { service = name, to = after.name })
    local say = after.name == "open" and moondog.log.warn or moondog.log.info
    say("breaker " .. after.name, { service = name, before = before.name })
  end
  return ticket, wait
end

-- The answer, or nil with the code and the text of the error. An answer that says it is the caller's mistake (4xx) is
-- one of a service that works.
local function call(name, msg)
  local answer, err = gw:request(name, msg.data, { timeout = TIMEOUT, headers = msg.headers })
  if not answer then return nil, service.code_of(err), err.message end
  local code, text = service.error_of(answer)
  if code and code >= 500 then return nil, code, text end
  return answer
end

local function fall_back(route, msg, code, text)
  local fallback = route.fallback
  if type(fallback) == "function" then fallback = fallback(msg) end
  if not fallback then return service.refuse(msg, code, ("%s: %s"):format(route.service, text)) end
  return msg:respond(fallback, { ["Breaker-Fallback"] = state_of(route.service).name })
end

local function handle(route, msg)
  local name = route.service
  local ticket, wait = step(name, { kind = "ask" })
  if not ticket then
    calls:add(1, { service = name, result = "refused" })
    return fall_back(route, msg, 503, ("the breaker is open; ask again in %.1f s"):format(wait))
  end
  local answer, code, text = call(name, msg)
  local result = answer and "success" or "failure"
  step(name, { kind = result, ticket = ticket })
  calls:add(1, { service = name, result = result })
  if not answer then return fall_back(route, msg, code, text) end
  return msg:respond(answer.data, answer.headers)
end

for _, route in ipairs(ROUTES) do
  gw:subscribe(route.listen, function(msg) handle(route, msg) end, { queue = "breaker" })
end

moondog.on_start(function()
  for _, route in ipairs(ROUTES) do
    states:set(GAUGE[state_of(route.service).name], { service = route.service })
  end
end)
