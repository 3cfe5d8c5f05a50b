-- The bridge of examples/policies: between two servers, with two bridges, and while a side is down.
local cjson = require "cjson"
local health = require "support.health"
local nats_server = require "support.nats_server"
local policy = require "support.policy"
local run = require "support.run"

local mapping = policy.module "mapping"

-- The west has streams: for what a test looks at after the server was away.
local function start_servers()
  local east = nats_server.start()
  local west = nats_server.start { jetstream = { store_dir = run.folder() .. "/west" } }
  local witness = west:connect()
  for name, subject in pairs { ORDERS = "east.orders.>", BILLS = "bills.>" } do
    assert(witness:request("$JS.API.STREAM.CREATE." .. name, cjson.encode { name = name, subjects = { subject } }, 10))
  end
  return east, west, east:connect(), witness
end

local function start_bridge(east, west, env, name)
  env = env or {}
  env.EAST_URL, env.WEST_URL, env.BRIDGE_OUTBOX = east.url, west.url, run.folder() .. "/" .. (name or "bridge")
  return policy.start("bridge", { env = env, args = { "--name", name or "bridge" } })
end

-- The subjects in a stream, in order.
local function stored(witness, stream)
  local function ask(api, data)
    local answer = witness:request("$JS.API.STREAM." .. api .. "." .. stream, data, 10)
    return cjson.decode(assert(answer, "no JetStream").data)
  end
  local subjects, state = {}, ask("INFO", "").state
  for seq = state.first_seq, state.last_seq do
    local message = ask("MSG.GET", cjson.encode { seq = seq }).message
    subjects[#subjects + 1] = message and message.subject
  end
  return subjects
end

local function wait_stored(witness, stream, count)
  return run.wait_until(function()
    local subjects = stored(witness, stream)
    return #subjects >= count and subjects
  end, 30, function() return ("%d messages in %s; there are %d"):format(count, stream, #stored(witness, stream)) end)
end

local function wait_messages(sub, count)
  run.wait_until(function() return sub.count >= count end, 20, function()
    return ("%d messages; there are %d"):format(count, sub.count)
  end)
end

local function collect(witness, subject)
  local sub = witness:subscribe(subject)
  witness:flush()
  return sub
end

local function total(dogs, name, labels)
  local sum = 0
  for _, dog in ipairs(dogs) do sum = sum + (health.metric(dog, name, labels) or 0) end
  return sum
end

describe("a mapping of subjects", function()
  it("fills in wildcards and the rest", function()
    assert.equals("east.a.b", mapping("a.b", "east.a.b")("a.b"))
    assert.equals("x.2.1", mapping("in.*.*", "x.$2.$1")("in.1.2"))
    assert.equals("y.x-k.a.b", mapping("in.*.>", "y.x-$1.>")("in.k.a.b"))
    assert.equals("all.a.b", mapping(">", "all.>")("a.b"))
    assert.equals("%1.a%b", mapping("in.*", "%1.$1")("in.a%b"))
  end)

  it("that cannot work is an error", function()
    for target, text in pairs { ["a.$2"] = "has no %$2", ["a.*"] = "write %$1", ["a.>"] = "both end with >" } do
      local ok, err = pcall(mapping, "in.*", target)
      assert.is_false(ok)
      assert.matches(text, err)
    end
  end)
end)

describe("the policy bridge.lua", function()
  it("renames, chooses, and carries requests with their answers", run.case(function()
    local east, west, eastern, western = start_servers()
    local dog = start_bridge(east, west)
    health.wait_status(dog, "/readyz", 200)
    local in_west, in_east = collect(western, "*.orders.>"), collect(eastern, "*.orders.>")
    local chat = collect(eastern, "chat.>")
    eastern:publish("orders.berlin.new", "apple", { headers = { Trace = "t1" } })
    eastern:publish("orders.berlin.old", "not chosen")
    western:publish("orders.lima.new", "pear")
    western:publish("chat.private.ann", "psst")
    western:publish("chat.all", "hello")
    wait_messages(in_east, 1)
    wait_messages(chat, 1)
    assert.same({ "west.orders.lima.new", "pear" }, { in_east.messages[1].subject, in_east.messages[1].data })
    assert.same({ "hello", "west", "1" }, { chat.messages[1].data, chat.messages[1].headers["Bridge-Origin"],
      chat.messages[1].headers["Bridge-Hops"] })
    wait_messages(in_west, 1)
    local order = in_west.messages[1]
    assert.same({ "east.orders.berlin.new", "apple", "t1" }, { order.subject, order.data, order.headers.Trace })
    assert.equals(1, in_west.count)
    assert.equals(1, health.metric(dog, "bridge_dropped_total", { reason = "filter" }))

    local answer = assert(eastern:request("west.price.apple", "2", 10)) -- nobody yet
    assert.equals("503", answer.headers["Nats-Service-Error-Code"])
    assert.matches("over the bridge to west: nobody is subscribed", answer.data)
    western:subscribe("price.>", function(msg)
      western:publish(msg.reply, msg.subject .. " " .. msg.data, { headers = { Currency = "EUR" } })
    end)
    western:flush()
    answer = assert(eastern:request("west.price.apple", "2", 10))
    assert.same({ "price.apple 2", "EUR" }, { answer.data, answer.headers.Currency })
    assert.equals(1, health.metric(dog, "bridge_requests_total", { result = "ok" }))
    assert.equals(0, health.metric(dog, "bridge_requests_running"))
  end))

  it("refuses more requests than it may have on their way, and carries on those of before a reload", run.case(function()
    local east, west, eastern, western = start_servers()
    local dog = start_bridge(east, west, { BRIDGE_REQUESTS = "1", BRIDGE_TIMEOUT = "30" })
    health.wait_status(dog, "/readyz", 200)
    local asked = collect(western, "price.>")
    local answer
    run.spawn(function() answer = eastern:request("west.price.apple", "", 30) end)
    wait_messages(asked, 1)
    local refusal = assert(eastern:request("west.price.pear", "", 10))
    assert.same({ "429", 1 }, { refusal.headers["Nats-Service-Error-Code"], asked.count })
    assert.equals("script reloaded", dog:reload().msg)
    western:publish(asked.messages[1].reply, "12.50")
    run.wait_until(function() return answer end, 20, "an answer")
    assert.equals("12.50", answer.data)
    local chat = collect(western, "chat.>")
    eastern:publish("chat.all", "hello")
    wait_messages(chat, 1)
    assert.equals(1, chat.count)
  end))

  it("does not send anything round, with two of them", run.case(function()
    local east, west, eastern, western = start_servers()
    local dogs = { start_bridge(east, west, nil, "one"), start_bridge(east, west, nil, "two") }
    for _, dog in ipairs(dogs) do health.wait_status(dog, "/readyz", 200) end
    local in_east, in_west = collect(eastern, "chat.>"), collect(western, "chat.>")
    for i = 1, 50 do
      eastern:publish("chat.room", "e" .. i)
      western:publish("chat.room", "w" .. i)
    end
    eastern:publish("chat.tired", "", { headers = { ["Bridge-Hops"] = "4", ["Bridge-Origin"] = "north" } })
    -- Whatever a bridge brings comes to the other bridge, and no further.
    run.wait_until(function() return total(dogs, "bridge_dropped_total", { reason = "loop" }) == 100 end, 20,
      "100 messages that end at the other bridge")
    run.wait_until(function() return total(dogs, "bridge_dropped_total", { reason = "hops" }) == 1 end, 20,
      "one that has passed too many bridges")
    wait_messages(in_east, 101)
    wait_messages(in_west, 100)
    assert.equals(100, total(dogs, "bridge_forwarded_total"))
    eastern:flush()
    western:flush()
    assert.same({ 101, 100 }, { in_east.count, in_west.count })
  end))

  it("keeps what goes to a side that is down, up to its cap, and says so to who asks", run.case(function()
    local east, west, eastern = start_servers()
    local dog = start_bridge(east, west, { BRIDGE_PENDING = "65536" })
    health.wait_status(dog, "/readyz", 200)
    west:kill()
    local reason = health.reason_of(health.wait_status(dog, "/readyz", 503), "west")
    assert.is_true(reason ~= nil, "it is the west")
    for i = 1, 20 do eastern:publish(("orders.%d.new"):format(i), "small") end
    for i = 21, 120 do eastern:publish(("orders.%d.new"):format(i), ("x"):rep(1024)) end
    local full = { from = "east", to = "west", reason = "pending_full" }
    run.wait_until(function()
      return total({ dog }, "bridge_forwarded_total") + total({ dog }, "bridge_dropped_total", full) == 120
    end, 20, "120 messages, kept or dropped")
    local kept = total({ dog }, "bridge_forwarded_total")
    assert.is_true(kept > 20 and kept < 120, kept .. " kept")
    local answer = assert(eastern:request("west.price.apple", "", 10))
    assert.equals("503", answer.headers["Nats-Service-Error-Code"])
    assert.matches("over the bridge to west", answer.data)
    dog:wait_log("^messages dropped$", 20)

    west:restart()
    health.wait_status(dog, "/readyz", 200, 30)
    local subjects = wait_stored(west:connect(), "ORDERS", kept)
    assert.equals(kept, #subjects)
    local last = 0
    for i, subject in ipairs(subjects) do
      local number = tonumber(subject:match("^east%.orders%.(%d+)%.new$"))
      assert.is_true(number > last, subject)
      assert.is_true(i > 20 or number == i, subject)
      last = number
    end
  end))

  it("loses nothing on a durable route, whatever is down meanwhile", run.case(function()
    local east, west, eastern = start_servers()
    local dog = start_bridge(east, west)
    health.wait_status(dog, "/readyz", 200)
    west:kill()
    health.wait_status(dog, "/readyz", 503)
    for i = 1, 10 do assert.equals("kept", assert(eastern:request("bills." .. i, "", 10)).data) end
    dog:signal("sigkill")
    dog.process:wait_exit(5)
    dog = start_bridge(east, west)
    assert.equals("kept", eastern:wait_answer("bills.11", "", 20).data)
    west:restart()
    local witness = west:connect()
    local subjects = wait_stored(witness, "BILLS", 11)
    for i = 1, 11 do assert.equals("bills." .. i, subjects[i]) end
    assert.equals(11, #subjects)
    health.wait_status(dog, "/readyz", 200, 30)
  end))
end)
