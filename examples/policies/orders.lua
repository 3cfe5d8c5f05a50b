-- Orders that are not lost: taken over NATS, kept on the disk until a stream has them, worked on once, with prices that
-- operators change in a bucket of keys.
--
--   ./scripts/run examples/policies/orders.lua       with a private nats-server when none is reachable
--
-- Try it, with any NATS client; stop the server in between, and look at the file with `moondog outbox orders.outbox`:
--   nats request shop.order apple
--   nats kv put prices apple 3
--   nats stream info ORDERS
local moondog = require "moondog"

local gw = moondog.connect { name = "shop" }

-- What it takes is on the disk when publish() returns, and comes to the stream once and in order, whatever happens to
-- the link, the server, or this process.
local outbox = moondog.outbox { path = os.getenv("ORDERS_OUTBOX") or "orders.outbox", connection = gw }

gw:subscribe("shop.order", function(msg)
  local ok, err = outbox:publish("orders.new", msg.data)
  msg:respond(ok and "taken" or "not taken: " .. err.message)
end, { queue = "shops" })

local prices = {}

-- Until it works: JetStream may come later than this script.
local function patiently(f, ...)
  local result, err = f(...)
  while not result do
    moondog.log.warn("not yet", { error = err.message })
    moondog.sleep(1)
    result, err = f(...)
  end
  return result
end

moondog.on_start(function()
  local js = gw:jetstream { wait = true }
  patiently(js.add_stream, js, { name = "ORDERS", subjects = { "orders.>" }, duplicate_window = 120 })

  -- A watch has all values first, and then each change; it goes on where it was after anything.
  local bucket = patiently(js.create_key_value, js, { bucket = "prices" })
  patiently(bucket.watch, bucket, ">", function(entry)
    prices[entry.key] = tonumber(entry.value)
  end, { fresh = true }) -- after a reload all of them again: `prices` is new

  -- A durable consumer is found again by its name. It is kept alive: after a fresh link, a restart of the server, or
  -- when somebody has deleted it. A handler that fails is logged, and its message comes again after ack_wait.
  local worker = patiently(js.consumer, js, "ORDERS", { durable = "worker", ack_wait = 30 })
  worker:consume(function(msg)
    local price = prices[msg.data]
    if price then
      moondog.log.info("sold", { what = msg.data, price = price, order = msg:metadata().seq })
      msg:ack()
    else
      msg:nak(5) -- comes again in 5 s: perhaps it has a price then
    end
  end)
end)
