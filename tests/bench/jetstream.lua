-- JetStream as moondog does it, next to plain nats.c and the npm client: scripts/bench jetstream.
-- The three are connected to one server all the time, and take turns: each gets its orders as
-- requests on a subject of its own, and says how long it took. Ratios are made within a round, so
-- that they hold also on a machine that has other things to do.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local cjson = require "cjson"
local cpu = require "bench.cpu"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local npm_client = require "support.npm_client"
local process = require "support.process"
local results = require "bench.results"
local run = require "support.run"
local turns = require "bench.turns"

local ROUNDS = results.brief and 1 or 5
local SIZE = 128 -- bytes of a message
local MANY = results.brief and 1000 or 20000
local COUNTS = { single = MANY / 10, pipelined = MANY, fetch = MANY, consume = MANY, messages = MANY }
local ORDER_SECONDS = 60

local SCRIPT = [[
local moondog = require "moondog"
local MAX_PENDING, BATCH, WAIT = 4096, 256, 30 -- the same in all clients
local c = moondog.connect { name = "moondog", servers = { $URL } }
local now = moondog.now
local js

local operations = {}

function operations.single(order)
  local latencies, data, subject = {}, ("x"):rep(order.size), order.subject
  local begun = now()
  local before = begun
  for i = 1, order.count do
    assert(js:publish(subject, data))
    local after = now()
    latencies[i], before = after - before, after
  end
  table.sort(latencies)
  return before - begun, latencies[math.floor(order.count / 2) + 1],
    latencies[math.floor(order.count * 0.99) + 1]
end

function operations.pipelined(order)
  local data, subject = ("x"):rep(order.size), order.subject
  local begun = now()
  for _ = 1, order.count do assert(js:publish_async(subject, data)) end
  assert(js:publish_async_complete(WAIT))
  return now() - begun
end

function operations.fetch(order)
  local begun, taken = now(), 0
  local consumer = assert(js:consumer(order.stream, { durable = order.consumer, batch = BATCH }))
  while taken < order.count do
    local list = assert(consumer:fetch(math.min(BATCH, order.count - taken), { timeout = WAIT }))
    for _, m in ipairs(list) do assert(m:ack()) end
    taken = taken + #list
  end
  assert(c:flush(WAIT))
  local took = now() - begun
  consumer:stop()
  return took
end

function operations.messages(order)
  local begun, taken = now(), 0
  local consumer = assert(js:consumer(order.stream, { durable = order.consumer, batch = BATCH }))
  for m in consumer:messages() do
    assert(m:ack())
    taken = taken + 1
    if taken == order.count then break end
  end
  assert(c:flush(WAIT))
  local took = now() - begun
  consumer:stop()
  return took
end

function operations.consume(order)
  local begun, taken, took = now(), 0, nil
  local consumer = assert(js:consumer(order.stream, { durable = order.consumer, batch = BATCH }))
  consumer:consume(function(m)
    assert(m:ack())
    taken = taken + 1
    if taken == order.count then
      assert(c:flush(WAIT))
      took = now() - begun
    end
  end)
  while not took do moondog.sleep(0.005) end
  consumer:stop()
  return took
end

c:subscribe("bench.moondog", function(msg)
  js = js or assert(c:jetstream { max_pending = MAX_PENDING, timeout = WAIT })
  local name, count, size, subject, stream, consumer = msg.data:match(("(%S+) "):rep(5) .. "(%S+)")
  local ok, took, median, p99 = pcall(operations[name], { count = tonumber(count),
    size = tonumber(size), subject = subject, stream = stream, consumer = consumer })
  msg:respond(ok and ("%.9f %.9f %.9f"):format(took, median or 0, p99 or 0)
    or "error: " .. tostring(took))
end)
]]

-- ---- the server's side ----

local function api(witness, name, body)
  local answer = cjson.decode(witness:wait_answer("$JS.API." .. name, body and cjson.encode(body) or "", 10).data)
  if answer.error then
    error(name .. ": " .. answer.error.description)
  end
  return answer
end

-- One stream to publish into, one to read from, filled.
local function make_streams(witness, storage)
  api(witness, "STREAM.CREATE.IN", { name = "IN", subjects = { "bench.in" }, storage = storage })
  api(witness, "STREAM.CREATE.OUT", { name = "OUT", subjects = { "bench.out" }, storage = storage })
  local line = ("PUB bench.out %d\r\n%s\r\n"):format(SIZE, ("x"):rep(SIZE))
  for _ = 1, MANY / 1000 do
    witness:send(line:rep(1000))
    witness:flush(10)
  end
  run.wait_until(function()
    return api(witness, "STREAM.INFO.OUT").state.messages == MANY
  end, 30, "a filled stream")
end

local function delete_streams(witness)
  api(witness, "STREAM.DELETE.IN")
  api(witness, "STREAM.DELETE.OUT")
end

-- ---- one measurement ----

local consumers = 0

-- A fresh consumer, whose messages are all to come.
local function make_consumer(witness)
  consumers = consumers + 1
  local name = "c" .. consumers
  api(witness, "CONSUMER.DURABLE.CREATE.OUT." .. name, { stream_name = "OUT", config = {
    durable_name = name, ack_policy = "explicit", deliver_policy = "all", max_ack_pending = 4096 } })
  return name
end

-- Everything was acknowledged, or stored; then it is taken away.
local function check(witness, name, consumer)
  if consumer then
    run.wait_until(function()
      local info = api(witness, "CONSUMER.INFO.OUT." .. consumer)
      return info.ack_floor.stream_seq == COUNTS[name] and info.num_ack_pending == 0
    end, 10, "all messages acknowledged")
    api(witness, "CONSUMER.DELETE.OUT." .. consumer)
  else
    assert(api(witness, "STREAM.INFO.IN").state.messages == COUNTS[name], name .. ": messages are missing")
    api(witness, "STREAM.PURGE.IN")
  end
end

-- What one client does with an order: rate (messages a second), cpu (microseconds of a message),
-- and p50 and p99 (microseconds) of single publishes. nil: it has no such operation.
local function measure(witness, client, name)
  if client.lacks[name] then return nil end
  local reads = name ~= "single" and name ~= "pipelined"
  local consumer = reads and make_consumer(witness)
  local count = COUNTS[name]
  local before = cpu(client.pid)
  local order = ("%s %d %d %s OUT %s"):format(name, count, SIZE, reads and "bench.out" or "bench.in",
    consumer or "-")
  local answer, err = witness:request("bench." .. client.word, order, ORDER_SECONDS)
  local used = cpu(client.pid) - before
  local took, median, p99 = (answer and answer.data or ""):match("^(%S+) (%S+) (%S+)$")
  if not took or not tonumber(took) then
    error(("%s, %s: %s"):format(client.name, name, answer and answer.data or err), 0)
  end
  check(witness, name, consumer)
  return { rate = count / tonumber(took), cpu = used / count / 1e3, p50 = tonumber(median) * 1e6,
    p99 = tonumber(p99) * 1e6 }
end

-- ---- what is printed ----

-- Which operation of each client is compared. nats.c reads in batches only.
local ROWS = {
  { "publish, one at a time", { moondog = "single", ["nats.c"] = "single", npm = "single" } },
  { "publish, pipelined", { moondog = "pipelined", ["nats.c"] = "pipelined", npm = "pipelined" } },
  { "pull: fetch, ack", { moondog = "fetch", ["nats.c"] = "fetch", npm = "fetch" } },
  { "pull: a loop, ack", { moondog = "messages", ["nats.c"] = "fetch", npm = "consume" } },
  { "pull: a handler, ack", { moondog = "consume", ["nats.c"] = "fetch", npm = "consume" } },
}
local RATES = { { "rate", "messages/s", "%.0f", ratio = true }, { "cpu", "us CPU each", "%.2f", ratio = true } }
local TIMES = { { "p50", "us", "%.0f", ratio = true }, { "p99", "us", "%.0f", ratio = true }, RATES[2] }

local function add_rows(found, storage, got)
  for _, row in ipairs(ROWS) do
    local title, operations = unpack(row)
    local rounds = {}
    for i = 1, ROUNDS do
      rounds[i] = {}
      for peer, operation in pairs(operations) do rounds[i][peer] = got[operation][i][peer] end
    end
    found:add(("%s storage, %s"):format(storage, title), rounds, operations.moondog == "single" and TIMES or RATES,
      { storage = storage, bytes = SIZE })
  end
end

-- ---- the bench ----

-- Operations that are compared follow each other.
local ORDER = { "single", "pipelined", "fetch", "messages", "consume" }

local function start_clients(url)
  local dog = moondog.run(SCRIPT, { URL = url })
  local c = process.start { name = "jetstream_client", args = { url },
    file = moondog.build .. "/tests/jetstream_client" }
  local npm = npm_client.node("bench.js", { args = { url } })
  return { { name = "moondog", word = "moondog", pid = dog.pid, lacks = {} },
    { name = "nats.c", word = "c", pid = c.pid, lacks = { messages = true, consume = true } },
    { name = "npm", word = "npm", pid = npm.pid, lacks = { messages = true } } }
end

results.run(function()
  local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
  local witness = server:connect()
  local clients = start_clients(server.url)
  run.wait_until(function() return #server:clients() == #clients end, 20, "three clients")
  local found = results.new("jetstream", ("Streams with messages of %d bytes. nats.c reads in batches only: loops and "
    .. "handlers are compared with its fetch, and the npm client's loop with both"):format(SIZE), clients)
  for _, storage in ipairs { "memory", "file" } do
    make_streams(witness, storage)
    add_rows(found, storage, turns.play(clients, ORDER, ROUNDS, function(client, name)
      return measure(witness, client, name)
    end))
    delete_streams(witness)
  end
  found:finish { server = server:version() }
end, 900)
