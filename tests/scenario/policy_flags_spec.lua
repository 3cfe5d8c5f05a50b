-- The feature flags of examples/policies: before the bucket is there, with it, and while it is away.
local cjson = require "cjson"
local health = require "support.health"
local nats_server = require "support.nats_server"
local network = require "support.network"
local policy = require "support.policy"
local run = require "support.run"

local function start_hub(port)
  local hub = nats_server.start({ jetstream = { store_dir = run.folder() .. "/js" } }, { port = port })
  return hub, hub:connect()
end

local function get(witness, flag, user)
  local answer = witness:wait_answer("flags.get." .. flag, user or "ann", 20)
  assert.is_nil(answer.headers and answer.headers["Nats-Service-Error"], answer.data)
  return cjson.decode(answer.data)
end

local function wait_value(witness, flag, value)
  run.wait_until(function() return get(witness, flag).value == value end, 20, function()
    return ("%s = %s; it is %s"):format(flag, tostring(value), cjson.encode(get(witness, flag)))
  end)
end

-- As any client of NATS writes into a bucket.
local function put(witness, key, value, headers)
  local ack = cjson.decode(assert(witness:request("$KV.flags." .. key, value, 10, { headers = headers })).data)
  assert(not ack.error, cjson.encode(ack))
end

-- Users, as 1s and 0s, that have the new checkout. All are asked for at once.
local function rollout(witness, count)
  local out, got = {}, 0
  local sub = witness:subscribe("rollout.*", function(msg)
    out[tonumber(msg.subject:match("%d+$"))] = cjson.decode(msg.data).value and "1" or "0"
    got = got + 1
  end)
  for i = 1, count do
    witness:publish("flags.get.new_checkout", "user-" .. i, { reply = "rollout." .. i })
  end
  run.wait_until(function() return got == count end, 20, "answers for all users")
  witness:unsubscribe(sub)
  return table.concat(out)
end

-- A server for those who ask, a hub with the bucket (or nothing there yet), the policy.
local function start(without_hub)
  local edge, port = nats_server.start(), network.free_port()
  local hub, writer
  if not without_hub then hub, writer = start_hub(port) end
  local dog = policy.start("flags", { env = { NATS_URL = edge.url, FLAGS_URL = network.url(port) } })
  health.wait_status(dog, "/readyz", 200)
  if hub then dog:wait_log("^flags are known$", 20) end
  return dog, edge:connect(), hub or port, writer
end

describe("the hash of a user", function()
  it("is the one that all know as FNV-1a", function()
    local hash = policy.module "hash"
    assert.equals(0x811c9dc5, hash "")
    assert.equals(0xe40c292c, hash "a")
    assert.equals(0xbf9cf968, hash "foobar")
  end)
end)

describe("the policy flags.lua", function()
  it("has defaults until the bucket is there, makes it, and follows it", run.case(function()
    local dog, witness, port = start(true)
    assert.same({ value = 10, source = "default" }, get(witness, "max_items"))
    assert.is_nil(health.metric(dog, "flags_known"))
    local _, writer = start_hub(port)
    dog:wait_log("^flags are known$", 30)
    put(writer, "max_items", '{ "value": 20, "by": "ann" }')
    wait_value(witness, "max_items", 20)
    local entry = dog:wait_log("^flag changed$")
    assert.same({ "max_items", "default", "20", "ann", 1 }, { entry.flag, entry.from, entry.to, entry.by,
      entry.revision })
    put(writer, "max_items", "30")
    wait_value(witness, "max_items", 30)
    assert.equals("unknown", dog:wait_log("^flag changed$", 10, 2).by)
    put(writer, "max_items", "", { ["KV-Operation"] = "DEL" })
    wait_value(witness, "max_items", 10)
    assert.equals(3, health.metric(dog, "flag_changes_total", { flag = "max_items" }))
    assert.equals(1, health.metric(dog, "flags_known"))
    assert.is_true(health.metric(dog, "flag_answers_total", { flag = "max_items", source = "bucket" }) > 0)
  end))

  it("does not take what is of another type, or not allowed, also after a reload", run.case(function()
    local dog, witness, _, writer = start()
    put(writer, "theme", '"dark"')
    wait_value(witness, "theme", "dark")
    local bad = { '"pink"', "7", "nan", "dark", "null", '{ "value": "dark", "percent": 101 }', "{}",
      ('"%s"'):format(("x"):rep(5000)) }
    for i, value in ipairs(bad) do
      put(writer, "theme", value)
      assert.equals("dark", dog:wait_log("^flag not taken", 10, i).stays)
    end
    assert.equals(#bad, health.metric(dog, "flag_refused_total", { flag = "theme" }))
    assert.equals("dark", get(witness, "theme").value)
    dog:reload() -- and the last one is looked at again
    dog:wait_log("^flag not taken", 10, #bad + 1)
    assert.equals("dark", get(witness, "theme").value)
    local answer = witness:request("flags.get.thme", "ann", 10)
    assert.equals("404", answer.headers["Nats-Service-Error-Code"])
    assert.equals('there is no flag "thme"', answer.data)
  end))

  it("gives a share of the users a value, always the same ones", run.case(function()
    local dog, witness, _, writer = start()
    local function set(percent)
      local count = #dog:find_logs("^flag changed$")
      put(writer, "new_checkout", cjson.encode { value = true, percent = percent })
      dog:wait_log("^flag changed$", 10, count + 1)
      return rollout(witness, 400)
    end
    local quarter = set(25)
    local _, users = quarter:gsub("1", "")
    assert.is_true(users > 60 and users < 140, users .. " of 400 users")
    dog:reload()
    assert.equals(quarter, rollout(witness, 400))
    local half = set(50)
    for i = 1, #quarter do -- those who have it keep it
      assert.is_true(quarter:sub(i, i) == "0" or half:sub(i, i) == "1", "user-" .. i)
    end
    assert.equals(("1"):rep(400), set(100))
    assert.equals(("0"):rep(400), set(0))
    assert.equals("rollout", get(witness, "new_checkout").source)
  end))

  it("answers what it had last while the bucket is away, also after a reload", run.case(function()
    local dog, witness, hub, writer = start()
    put(writer, "max_items", "20")
    put(writer, "unheard", '"x"') -- a key that is no flag
    wait_value(witness, "max_items", 20)
    hub:kill()
    dog:wait_log(function(entry) return entry.connection == "hub" and entry.msg == "disconnected" end, 20)
    assert.equals(20, get(witness, "max_items").value)
    assert.equals("script reloaded", dog:reload().msg)
    assert.same({ value = 20, source = "bucket", revision = 1 }, get(witness, "max_items"))
    health.wait_status(dog, "/readyz", 200)
    local all = cjson.decode(witness:wait_answer("flags.get", "ann", 10).data)
    assert.same({ 20, false, "light" }, { all.max_items.value, all.new_checkout.value, all.theme.value })
    hub:restart()
    put(hub:connect(), "max_items", "40")
    wait_value(witness, "max_items", 40)
    assert.equals(2, #dog:find_logs("^flag changed$"))
  end))
end)
