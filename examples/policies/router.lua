-- A router for requests: it asks a service, asks again when that is safe and there is time, and asks a second time
-- early when the first answer is late. Callers have one deadline, and one answer or a clear error.
--
--   ./scripts/run examples/policies/router.lua       with a private nats-server when none is reachable
--   NATS_URL=nats://a:4222 moondog run router.lua --http 8080
--
-- Try it, with any NATS client:
--   nats reply price.get 12.50
--   nats request rpc.price apple
--   nats request -H Timeout-Ms:200 rpc.price apple     the caller waits no longer; the service is told so, too
--
-- Retries wait with full jitter. Retries and hedges together are a tenth of the requests at most (and some more at the
-- start), so that they do not bring down what is slow. What is not idempotent is asked again only when nobody was
-- there to hear it.
local budget = require "lib.budget"
local knob = require "lib.knob"
local latencies = require "lib.latencies"
local moondog = require "moondog"
local service = require "lib.service"

-- idempotent: asking twice does no harm.
local ROUTES = {
  { listen = "rpc.price", service = "price.get", idempotent = true },
  { listen = "rpc.order", service = "order.new" },
}

local DEADLINE = knob("ROUTER_DEADLINE", 2)              -- seconds, of all tries, when the caller names no shorter time
local TRY = knob("ROUTER_TRY", 0.5)                      -- seconds, of one try
local TRIES = knob("ROUTER_TRIES", 4)                    -- of one request, with the hedge
local BASE = knob("ROUTER_BACKOFF", 0.05)                -- seconds, before the first retry at most; it doubles
local CAP = knob("ROUTER_BACKOFF_CAP", 1)                -- seconds
local SHARE = knob("ROUTER_BUDGET", 0.1)                 -- further tries, of the requests
local SAVED = knob("ROUTER_BUDGET_SAVED", 10)            -- further tries that are saved up, and there at the start
local QUANTILE = knob("ROUTER_HEDGE_QUANTILE", 0.95)     -- of the recent latencies: then it is hedged
local RECENT = knob("ROUTER_HEDGE_RECENT", 200)          -- latencies
local RECENT_LEAST = knob("ROUTER_HEDGE_LEAST", 20)      -- before so many are known, nothing is hedged
local RUNNING = knob("ROUTER_RUNNING", 1000)             -- requests at a time, of a route

local LEFT = "Timeout-Ms" -- header: the milliseconds that whoever asks will wait. Clocks need not agree

local RETRIED = { [502] = true, [503] = true, [504] = true } -- errors that may pass

local requests = moondog.metrics.counter("router_requests", { labels = { "route", "result" },
  help = "Requests: ok, or the code of the error." })
local tries = moondog.metrics.counter("router_tries", { labels = { "route", "kind" }, help = "first, retry, hedge." })
local wins = moondog.metrics.counter("router_hedge_wins", { labels = { "route" },
  help = "Hedges that were answered first." })
local refused = moondog.metrics.counter("router_budget_refused", { labels = { "route", "kind" },
  help = "Further tries that there was no budget for." })
local seconds = moondog.metrics.histogram("router_seconds", { labels = { "route" }, help = "Until the answer." })

local gw = moondog.connect { name = "router" }

-- ---- the end of a request: whoever is first ----

local function finish(call, result)
  call.over = true
  call.route.running = call.route.running - 1
  requests:add(1, { route = call.route.listen, result = result })
  seconds:observe(moondog.now() - call.begun, { route = call.route.listen })
end

local function succeed(call, kind, answer)
  if kind == "hedge" then wins:add(1, { route = call.route.listen }) end
  local code = service.error_of(answer) -- one that asking again does not change: it is the caller's
  finish(call, code and tostring(code) or "ok")
  return call.msg:respond(answer.data, answer.headers)
end

local function fail(call, failure)
  finish(call, tostring(failure.code))
  return service.refuse(call.msg, failure.code, ("%s, after %d tries in %.3f s: %s"):format(call.route.service,
    call.tries, moondog.now() - call.begun, failure.text))
end

-- ---- tries ----

local function spend(route, kind)
  if route.budget:spend() then return true end
  refused:add(1, { route = route.listen, kind = kind })
  return false
end

-- One try. The answer, or nil and what failed: code, text, whether nobody has heard it, and whether this was the last
-- one because the time of this generation is over.
local function try(call, kind)
  local route, begun = call.route, moondog.now()
  local timeout = math.min(TRY, call.ends - begun)
  local headers = call.msg.headers
  headers[LEFT] = ("%d"):format(math.max(1, timeout * 1000))
  call.tries, call.trying = call.tries + 1, call.trying + 1
  tries:add(1, { route = route.listen, kind = kind })
  local answer, err = gw:request(route.service, call.msg.data, { timeout = timeout, headers = headers })
  call.trying = call.trying - 1
  if answer or err.code == "timeout" then route.recent:add(moondog.now() - begun) end
  if not answer then
    return nil, { code = service.code_of(err), text = err.message, unheard = err.code == "no_responders",
      last = err.code == "replaced" }
  end
  local code, text = service.error_of(answer)
  if code and RETRIED[code] then return nil, { code = code, text = text } end
  return answer
end

-- Waits for the time before a retry; false: there is none.
local function may_retry(call, failure)
  local route, now = call.route, moondog.now()
  if failure.last or not RETRIED[failure.code] or call.tries >= TRIES then return false end
  if not (route.idempotent or failure.unheard) then return false end
  local delay = math.random() * math.min(CAP, BASE * 2 ^ call.retries)
  if now + delay >= call.ends or not spend(route, "retry") then return false end
  call.retries = call.retries + 1
  return moondog.sleep(delay) and not call.over
end

-- Tries until there is an answer. When another try of this request is on its way, that one goes on.
local function run(call, kind)
  local answer, failure = try(call, kind)
  while not answer do
    if kind == "first" then call.first_over = true end
    if call.over or call.trying > 0 then return end
    if not may_retry(call, failure) then return call.over or fail(call, failure) end
    kind = "retry"
    answer, failure = try(call, kind)
  end
  return call.over or succeed(call, kind, answer)
end

-- The second request of one whose first try takes longer than most.
local function hedge(call, delay)
  if not moondog.sleep(delay) or call.over or call.first_over then return end
  if moondog.now() >= call.ends or call.tries >= TRIES then return end
  if spend(call.route, "hedge") then return run(call, "hedge") end
end

-- ---- requests ----

local function handle(route, msg)
  local now, wait = moondog.now(), tonumber(msg.headers[LEFT])
  local call = { route = route, msg = msg:retain(), begun = now, tries = 0, trying = 0, retries = 0,
    ends = now + math.min(DEADLINE, wait and wait / 1000 or DEADLINE) }
  route.running = route.running + 1
  if route.running > RUNNING then
    return fail(call, { code = 429, text = ("%d requests are on their way: ask again later"):format(RUNNING) })
  end
  if call.ends <= now then return fail(call, { code = 504, text = "the caller's time was over" }) end
  route.budget:earn()
  local delay = route.idempotent and route.recent:quantile(QUANTILE)
  if delay then moondog.spawn(hedge, call, delay) end
  return run(call, "first")
end

for _, route in ipairs(ROUTES) do
  route.budget, route.recent, route.running = budget(SHARE, SAVED), latencies(RECENT, RECENT_LEAST), 0
  gw:subscribe(route.listen, function(msg) return msg.reply and handle(route, msg) end, { queue = "router" })
end
