-- A bridge between two clusters of NATS: subjects are chosen, renamed, and carried over, in both directions, with the
-- answers to requests. Run two of it for availability: each message goes over one of them.
--
--   EAST_URL=nats://a:4222 WEST_URL=nats://b:4222 moondog run bridge.lua --http 8080
--
-- Try it, with any NATS client:
--   nats -s $WEST_URL subscribe 'east.orders.>'
--   nats -s $EAST_URL publish orders.berlin.new apple
--   nats -s $WEST_URL reply price.get 12.50
--   nats -s $EAST_URL request west.price.get apple
--
-- While a side is down, what goes there is kept, in order, up to BRIDGE_PENDING bytes; the rest is dropped and counted.
-- Requests fail at once, with a clear error. On a route with `durable`, messages are on this machine's disk first, in
-- an outbox, and come to a stream of the other side whatever is down meanwhile: give the other side a stream for them.
-- What NATS itself can do (leaf nodes, mirrors, sources) is better where one administration has both sides.
local knob = require "lib.knob"
local mapping = require "lib.mapping"
local moondog = require "moondog"
local service = require "lib.service"

-- from, subject: what is taken. to, as: where it goes. `take`: of these messages, those for which it returns true.
-- A subject that goes both ways under one name does not go round: see "no loops" below.
local ROUTES = {
  { from = "east", subject = "orders.*.new", to = "west", as = "east.orders.$1.new" },
  { from = "west", subject = "orders.*.new", to = "east", as = "west.orders.$1.new" },
  { from = "east", subject = "chat.>", to = "west", as = "chat.>" },
  { from = "west", subject = "chat.>", to = "east", as = "chat.>",
    take = function(msg) return not msg.subject:find("^chat%.private%.") end },
  { from = "east", subject = "west.price.>", to = "west", as = "price.>" }, -- requests, too
  { from = "east", subject = "bills.>", to = "west", as = "bills.>", durable = true },
}

local PENDING = knob("BRIDGE_PENDING", 8 * 2 ^ 20)       -- bytes kept for a side that is down
local QUEUED = knob("BRIDGE_QUEUED", 10000)              -- messages of a route that wait to be carried over
local QUEUED_BYTES = knob("BRIDGE_QUEUED_BYTES", 2 ^ 26) -- of them
local REQUESTS = knob("BRIDGE_REQUESTS", 1000)           -- on their way at a time, in both directions
local TIMEOUT = knob("BRIDGE_TIMEOUT", 5)                -- seconds, of a request
local HOPS = knob("BRIDGE_HOPS", 4)                      -- bridges that a message passes, at most
local OUTBOX = os.getenv("BRIDGE_OUTBOX") or "bridge"    -- the files are <this>-<side>.outbox
local OUTBOX_BYTES = knob("BRIDGE_OUTBOX_BYTES", 2 ^ 30) -- of each

local labels = { "from", "to" }
local forwarded = moondog.metrics.counter("bridge_forwarded", { labels = labels, help = "Messages handed over." })
local dropped = moondog.metrics.counter("bridge_dropped", { labels = { "from", "to", "reason" },
  help = "Messages not handed over: loop, hops, filter, or the code of the error." })
local requests = moondog.metrics.counter("bridge_requests", { labels = { "from", "to", "result" },
  help = "Requests: ok, or the code of the error." })
local on_way = moondog.metrics.gauge("bridge_requests_running", { help = "Requests on their way." })

-- `no_echo`: what the bridge publishes does not come back to itself. Both are required: /readyz fails while one is
-- down, and says which.
local function connect(name, url)
  return moondog.connect { name = name, servers = url, no_echo = true, pending = { bytes = PENDING } }
end

local sides = {
  east = connect("east", os.getenv("EAST_URL")),
  west = connect("west", os.getenv("WEST_URL")),
}

-- One outbox for each side that durable messages go to.
local outboxes = {}
for _, route in ipairs(ROUTES) do
  if route.durable and not outboxes[route.to] then
    outboxes[route.to] = moondog.outbox { path = ("%s-%s.outbox"):format(OUTBOX, route.to),
      connection = sides[route.to], max_bytes = OUTBOX_BYTES }
  end
end

-- ---- no loops ----

-- Of another bridge, no_echo says nothing. So each message says in its headers where it comes from and how many
-- bridges it has passed: it never goes back to where it comes from, and round a ring of clusters it comes to an end.
local ORIGIN, PASSED = "Bridge-Origin", "Bridge-Hops"

-- The headers to send it on with, or nil and why it is not sent on.
local function mark(route, msg)
  local headers = msg.headers
  local passed = tonumber(headers[PASSED]) or 0
  if headers[ORIGIN] == route.to then return nil, "loop" end
  if passed >= HOPS then return nil, "hops" end
  headers[ORIGIN] = headers[ORIGIN] or route.from
  headers[PASSED] = tostring(passed + 1)
  return headers
end

-- ---- carrying over ----

local drops = {} -- by route and reason, since the last report

local function drop(route, reason)
  dropped:add(1, { from = route.from, to = route.to, reason = reason })
  if reason == "loop" or reason == "filter" then return end -- nothing is wrong
  local key = ("%s to %s: %s"):format(route.subject, route.to, reason)
  drops[key] = (drops[key] or 0) + 1
end

moondog.every(10, function()
  for key, count in pairs(drops) do moondog.log.warn("messages dropped", { what = key, count = count }) end
  drops = {}
end)

local running = 0

local function carry_request(route, msg, headers)
  local function count(result)
    requests:add(1, { from = route.from, to = route.to, result = result })
  end
  if running >= REQUESTS then
    count("too_many")
    return service.refuse(msg, 429, ("%d requests are on their way over the bridge: ask again later"):format(running))
  end
  running = running + 1
  on_way:set(running)
  local answer, err = sides[route.to]:request(route.map(msg.subject), msg.data, { timeout = TIMEOUT,
    headers = headers })
  running = running - 1
  on_way:set(running)
  count(answer and "ok" or err.code)
  if answer then return msg:respond(answer.data, answer.headers) end
  return service.refuse(msg, service.code_of(err), ("%s, over the bridge to %s: %s"):format(msg.subject, route.to,
    err.message))
end

-- On the disk before whoever asks for it hears so.
local function carry_durably(route, msg, headers)
  local id = headers["Nats-Msg-Id"]
  headers["Nats-Msg-Id"] = nil -- the outbox writes it
  local ok, err = outboxes[route.to]:publish(route.map(msg.subject), msg.data, { headers = headers,
    msg_id = type(id) == "string" and id or nil })
  if not ok then
    drop(route, err.code)
    return service.refuse(msg, service.code_of(err), err.message)
  end
  forwarded:add(1, { from = route.from, to = route.to })
  return msg.reply and msg:respond("kept")
end

local function carry(route, msg)
  if route.take and not route.take(msg) then return drop(route, "filter") end
  local headers, why = mark(route, msg)
  if not headers then return drop(route, why) end
  if route.durable then return carry_durably(route, msg, headers) end
  if msg.reply then return carry_request(route, msg, headers) end
  local ok, err = sides[route.to]:publish(route.map(msg.subject), msg.data, { headers = headers })
  if not ok then return drop(route, err.code) end
  return forwarded:add(1, { from = route.from, to = route.to })
end

for _, route in ipairs(ROUTES) do
  route.map = mapping(route.subject, route.as)
  sides[route.from]:subscribe(route.subject, function(msg) return carry(route, msg) end,
    { queue = "bridge", pending = { messages = QUEUED, bytes = QUEUED_BYTES } })
end
