-- The benches' client in moondog: a script that `moondog run` runs. It takes the orders of client.c, whose first
-- comment says what they are, and answers as that one does; it does not offer. It is told who it is and what its
-- handler does ("count", "data" or "json") by the environment: BENCH_NAME and BENCH_HANDLER; with BENCH_STOCK it
-- reconnects as moondog does when nobody has said anything.
local cjson = require "cjson"
local moondog = require "moondog"

local NAME, HANDLER = os.getenv("BENCH_NAME"), os.getenv("BENCH_HANDLER")
local WAIT = 30    -- what lasts longer is an error; the same in all clients
local PARKED = 600 -- of what is to be there, and not to happen
local STEP = 1000  -- subscriptions between two flushes
local RECONNECT = not os.getenv("BENCH_STOCK")
  and moondog.backoff { base = 0.01, cap = 0.01, auth_base = 0.01, jitter = "none" } or nil -- likewise
local c = moondog.connect { name = NAME, reconnect = RECONNECT }
local now = moondog.now
local received, targets = 0, {}

local handlers = {
  count = function() received = received + 1 end,
  data = function(msg) received = received + (msg.data ~= "" and 1 or 0) end,
  json = function(msg) received = received + (cjson.decode(msg.data) and 1 or 0) end,
}

local function summarize(latencies)
  table.sort(latencies)
  local function part(p) return latencies[math.floor(p * #latencies) + 1] end
  return part(0.5), part(0.99), part(0.999)
end

local operations = {}

function operations.subscribe(order)
  for _, sub in ipairs(targets) do sub:unsubscribe() end
  received, targets = 0, {}
  for i = 1, order.subjects do
    targets[i] = assert(c:subscribe(("%s.%d"):format(order.subject, i - 1), handlers[HANDLER]))
    if i % STEP == 0 then assert(c:flush(WAIT)) end
  end
  assert(c:flush(WAIT))
  return #targets
end

function operations.received()
  return received
end

function operations.publish(order)
  local latencies, data, subject = {}, order.data, order.subject
  local begun = now()
  local before = begun
  for batch = 1, order.count / order.value do
    for _ = 1, order.value do assert(c:publish(subject, data)) end
    assert(c:flush(WAIT))
    local after = now()
    latencies[batch], before = after - before, after
  end
  return order.count, before - begun, summarize(latencies)
end

function operations.request(order)
  local latencies, data, subject, options = {}, order.data, order.subject, { timeout = WAIT }
  local begun, sent, done, failure = now(), 0, 0, nil
  local function lane()
    while sent < order.count and not failure do
      sent = sent + 1
      local before = now()
      local reply, err = c:request(subject, data, options)
      latencies[#latencies + 1] = now() - before
      failure = failure or not reply and err
    end
    done = done + 1
  end
  for _ = 2, order.value do moondog.spawn(lane) end
  lane()
  while done < order.value do moondog.sleep(0.001) end
  local took = now() - begun
  if failure then error(failure.message) end
  return order.count, took, summarize(latencies)
end

function operations.answer(order)
  for i = 1, order.subjects do
    assert(c:subscribe(("%s.%d"):format(order.subject, i - 1), function(msg) msg:respond(msg.data) end))
    if i % STEP == 0 then assert(c:flush(WAIT)) end
  end
  assert(c:flush(WAIT))
  return order.subjects
end

-- Requests that nobody answers, each in a task of its own.
function operations.park(order)
  for _ = 1, order.count do moondog.spawn(function() c:request(order.subject, "", { timeout = PARKED }) end) end
  assert(c:flush(WAIT))
  return order.count
end

function operations.timers(order)
  for _ = 1, order.count do moondog.every(PARKED, function() end) end
  return order.count
end

function operations.connect(order)
  for i = 1, order.count do moondog.connect { name = NAME .. i, reconnect = RECONNECT } end
  return order.count
end

c:subscribe("bench." .. NAME, function(msg)
  local name, count, value, subject, subjects, data = msg.data:match("^(%S+) (%S+) (%S+) (%S+) (%S+)\n(.*)$")
  local ok, done, took, median, p99, p999 = pcall(operations[name], { count = tonumber(count),
    value = tonumber(value), subject = subject, subjects = tonumber(subjects), data = data })
  msg:respond(ok and ("%d %.9f %.9f %.9f %.9f"):format(done, took or 0, median or 0, p99 or 0, p999 or 0)
    or "error: " .. tostring(done))
end)
