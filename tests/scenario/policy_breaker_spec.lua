-- The circuit breaker of examples/policies: its decisions without a clock, and the policy around a service that fails.
local health = require "support.health"
local nats_server = require "support.nats_server"
local policy = require "support.policy"
local run = require "support.run"

local breaker = policy.module "breaker"

local CONFIG = { consecutive = 3, window = 10, calls = 10, rate = 0.5, open = 5, probes = 2, probe = 2 }

-- A breaker with a clock that the test sets.
local function model()
  local self = { state = breaker.new(), now = 1000 }
  function self.ask()
    local ticket, wait
    self.state, ticket, wait = breaker.step(CONFIG, self.state, { kind = "ask" }, self.now)
    return ticket, wait
  end
  function self.tell(kind, ticket)
    self.state = breaker.step(CONFIG, self.state, { kind = kind, ticket = ticket }, self.now)
    return self.state.name
  end
  function self.calls(kinds)
    for kind in kinds:gmatch("%S+") do
      self.tell(kind == "ok" and "success" or "failure", assert(self.ask(), "refused"))
    end
    return self.state.name
  end
  return self
end

describe("the breaker's decisions:", function()
  it("it opens after failures in a row, and a success begins anew", function()
    local m = model()
    assert.equals("closed", m.calls "failed failed ok failed failed")
    assert.equals("open", m.calls "failed")
    local ticket, wait = m.ask()
    assert.is_nil(ticket)
    assert.equals(5, wait)
  end)

  it("it opens at a rate of failures, of enough calls", function()
    assert.equals("closed", model().calls "failed ok failed ok failed ok failed ok failed")
    assert.equals("open", model().calls "failed ok failed ok failed ok failed ok failed failed")
    assert.equals("closed", model().calls "ok ok failed ok ok failed ok ok failed ok ok failed ok ok")
  end)

  it("what is older than the window does not count", function()
    local m = model()
    assert.equals("closed", m.calls "failed failed ok failed failed ok failed failed ok")
    m.now = m.now + 10
    assert.equals("closed", m.calls "failed")
    assert.equals(1, #m.state.slices)
    for _ = 1, 1000 do -- it keeps no more than the window has slices
      m.now = m.now + 0.1
      m.calls "ok"
    end
    assert.is_true(#m.state.slices <= 10)
  end)

  it("half-open lets one probe through at a time, and closes after enough of them", function()
    local m = model()
    m.calls "failed failed failed"
    m.now = m.now + 4.9
    assert.is_nil(m.ask())
    m.now = m.now + 0.1
    local probe = assert(m.ask())
    assert.equals("half_open", m.state.name)
    assert.is_nil(m.ask())
    assert.equals("half_open", m.tell("success", probe))
    local second = assert(m.ask())
    assert.is_nil(m.ask())
    assert.equals("half_open", m.tell("success", probe)) -- told twice
    assert.equals("closed", m.tell("success", second))
    assert.equals("closed", m.calls "failed failed")
  end)

  it("a probe that fails opens it again, for the whole time", function()
    local m = model()
    m.calls "failed failed failed"
    m.now = m.now + 5
    assert.equals("open", m.tell("failure", m.ask()))
    local _, wait = m.ask()
    assert.equals(5, wait)
  end)

  it("a probe without a result is forgotten after its time", function()
    local m = model()
    m.calls "failed failed failed"
    m.now = m.now + 5
    local lost = assert(m.ask())
    m.now = m.now + 2
    local probe = assert(m.ask())
    assert.equals("half_open", m.tell("failure", lost))
    assert.equals("half_open", m.tell("success", probe))
  end)

  it("a call from before the last change tells nothing", function()
    local m = model()
    local early = assert(m.ask())
    m.calls "failed failed failed"
    m.now = m.now + 5
    m.calls "ok"
    assert.equals("half_open", m.tell("failure", early))
    m.calls "ok"
    assert.equals("closed", m.tell("failure", early))
    assert.equals(0, m.state.row)
  end)

  it("a state is never changed", function()
    local before = breaker.new()
    local after = breaker.step(CONFIG, before, { kind = "failure", ticket = before.epoch }, 1)
    assert.same(breaker.new(), before)
    assert.equals(1, after.row)
  end)
end)

local function count(dog, result)
  return health.metric(dog, "breaker_calls_total", { service = "price.get", result = result }) or 0
end

local function ask(witness)
  return assert(witness:request("api.price", "apple", 10))
end

-- The service: it answers as `mode` says.
local function serve(witness)
  local price = { mode = "works", asked = 0 }
  price.sub = witness:subscribe("price.get", function(msg)
    price.asked = price.asked + 1
    if price.mode == "works" then
      witness:publish(msg.reply, "price of " .. msg.data)
    elseif price.mode == "refuses" then
      witness:publish(msg.reply, "no", { headers = { ["Nats-Service-Error"] = "no such thing",
        ["Nats-Service-Error-Code"] = "404" } })
    elseif price.mode == "fails" then
      witness:publish(msg.reply, "no", { headers = { ["Nats-Service-Error"] = "broken",
        ["Nats-Service-Error-Code"] = "500" } })
    end -- "hangs"
  end)
  witness:flush()
  return price
end

describe("the policy breaker.lua", function()
  it("opens, answers with the fallback, stays open over a reload, and closes again", run.case(function()
    local server = nats_server.start()
    local witness = server:connect()
    local price = serve(witness)
    local dog = policy.start("breaker", { env = { NATS_URL = server.url, BREAKER_CONSECUTIVE = "3",
      BREAKER_OPEN = "3", BREAKER_TIMEOUT = "1" } })
    health.wait_status(dog, "/readyz", 200)
    assert.equals("price of apple", ask(witness).data)
    price.mode = "refuses" -- the caller's mistake is no failure of the service
    for _ = 1, 5 do assert.equals("404", ask(witness).headers["Nats-Service-Error-Code"]) end
    assert.equals(6, count(dog, "success"))

    price.mode = "fails"
    for _ = 1, 3 do assert.equals("price unknown", ask(witness).data) end
    dog:wait_log("^breaker open$")
    assert.equals(2, health.metric(dog, "breaker_state", { service = "price.get" }))
    assert.equals(0, health.metric(dog, "breaker_state", { service = "stock.get" }))
    dog:reload()
    local asked = price.asked
    local answer = ask(witness)
    -- Open for less than the machine has taken so far, or not: it is refused, or a probe that fails.
    assert.equals("price unknown", answer.data)
    assert.equals("open", answer.headers["Breaker-Fallback"])
    assert.is_true(price.asked <= asked + 1)
    run.wait_until(function()
      ask(witness)
      return count(dog, "refused") > 0
    end, 20, "a call that is refused")
    assert.is_nil(dog:find_logs("^breaker closed$")[1])

    price.mode = "hangs" -- a probe that hangs is the only call, and the others do not wait
    asked = price.asked
    run.wait_until(function()
      local before = count(dog, "failure")
      return ask(witness).data == "price unknown" and count(dog, "failure") > before
    end, 20, "a probe that fails")
    assert.is_true(price.asked > asked)

    price.mode = "works"
    run.wait_until(function() return ask(witness).data == "price of apple" end, 20, "an answer of the service")
    run.wait_until(function()
      ask(witness)
      return health.metric(dog, "breaker_state", { service = "price.get" }) == 0
    end, 20, "a closed breaker")
    dog:wait_log("^breaker closed$")
    for _, state in ipairs { "open", "half_open", "closed" } do
      assert.is_true(health.metric(dog, "breaker_changes_total", { service = "price.get", to = state }) >= 1, state)
    end
    assert.equals(0, #dog:find_logs(function(entry) return entry.level == "error" end))
  end))

  it("without a fallback hands on the error, and nobody is one", run.case(function()
    local server = nats_server.start()
    local witness = server:connect()
    local dog = policy.start("breaker", { env = { NATS_URL = server.url, BREAKER_CONSECUTIVE = "2",
      BREAKER_OPEN = "600" } })
    health.wait_status(dog, "/readyz", 200)
    for _ = 1, 2 do
      local answer = assert(witness:request("api.stock", "apple", 10))
      assert.equals("503", answer.headers["Nats-Service-Error-Code"])
      assert.matches("stock.get: nobody is subscribed", answer.data)
    end
    assert.matches("stock.get: the breaker is open; ask again in", witness:request("api.stock", "apple", 10).data)
  end))

  it("says at the load which knob is no number", run.case(function()
    local moondog = require "support.moondog"
    local dog = moondog.start({ "check", policy.folder .. "/breaker.lua" }, { env = { BREAKER_OPEN = "soon" } })
    dog:wait_exit(1)
    assert.matches('breaker.lua:%d+: BREAKER_OPEN is "soon": set it to a number, or unset it for 5', dog:text())
  end))
end)
