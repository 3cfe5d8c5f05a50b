-- The router of examples/policies: retries, their budget, hedges, and deadlines, with services that fail and dawdle.
local health = require "support.health"
local nats_server = require "support.nats_server"
local policy = require "support.policy"
local run = require "support.run"

local budget, latencies = policy.module "budget", policy.module "latencies"

-- Deadlines are long: what is tried here are decisions, and not how fast this machine is.
local PATIENT = { ROUTER_DEADLINE = "40", ROUTER_TRY = "30", ROUTER_BACKOFF = "0.01" }

local function start(env)
  local server = nats_server.start()
  local merged = { NATS_URL = server.url }
  for _, values in ipairs { PATIENT, env or {} } do
    for name, value in pairs(values) do merged[name] = value end
  end
  local dog = policy.start("router", { env = merged })
  health.wait_status(dog, "/readyz", 200)
  return dog, server:connect()
end

-- A service: answer(msg, number) returns data and headers, or nil: no answer. What was asked is in `asked`.
local function serve(witness, subject, answer)
  local service = { asked = {} }
  function service.reply(msg, data, headers) witness:publish(msg.reply, data, { headers = headers }) end
  service.sub = witness:subscribe(subject, function(msg)
    table.insert(service.asked, msg)
    local data, headers = answer(msg, #service.asked)
    if data then service.reply(msg, data, headers) end
  end)
  witness:flush()
  return service
end

local function unavailable()
  return "", { ["Nats-Service-Error"] = "restarting", ["Nats-Service-Error-Code"] = "503" }
end

local function ask(witness, subject, headers, data)
  return assert(witness:request(subject, data or "apple", 30, { headers = headers }))
end

local function tries(dog, kind)
  return health.metric(dog, "router_tries_total", { route = "rpc.price", kind = kind }) or 0
end

describe("a retry budget", function()
  it("is a share of the requests", function()
    local b = budget(0.1, 2)
    assert.same({ true, true, false }, { b:spend(), b:spend(), b:spend() })
    local spent = 0
    for _ = 1, 1000 do
      b:earn()
      if b:spend() then spent = spent + 1 end
    end
    assert.is_true(spent >= 98 and spent <= 100, spent)
    for _ = 1, 1000 do b:earn() end
    assert.same({ true, true, false }, { b:spend(), b:spend(), b:spend() })
  end)
end)

describe("recent latencies", function()
  it("have a quantile when there are enough, and forget the old ones", function()
    local recent = latencies(100, 20)
    for i = 1, 19 do recent:add(i) end
    assert.is_nil(recent:quantile(0.95))
    for i = 20, 100 do recent:add(i) end
    assert.equals(95, recent:quantile(0.95))
    for _ = 1, 100 do recent:add(7) end
    assert.equals(7, recent:quantile(0.95))
    assert.equals(100, #recent.values)
  end)
end)

describe("the policy router.lua", function()
  it("asks again what is idempotent, until there is an answer", run.case(function()
    local dog, witness = start()
    local service = serve(witness, "price.get", function(_, number)
      if number <= 2 then return unavailable() end
      return "12.50", { Currency = "EUR" }
    end)
    local answer = ask(witness, "rpc.price", { Trace = "t1" })
    assert.same({ "12.50", "EUR" }, { answer.data, answer.headers.Currency })
    assert.same({ 3, "t1" }, { #service.asked, service.asked[3].headers.Trace })
    assert.same({ 1, 2, 0 }, { tries(dog, "first"), tries(dog, "retry"), tries(dog, "hedge") })
    assert.equals(1, health.metric(dog, "router_requests_total", { route = "rpc.price", result = "ok" }))
  end))

  it("says what went wrong when its tries are used up", run.case(function()
    local _, witness = start { ROUTER_TRIES = "3" }
    local service = serve(witness, "price.get", unavailable)
    local answer = ask(witness, "rpc.price")
    assert.equals("503", answer.headers["Nats-Service-Error-Code"])
    assert.matches("^price.get, after 3 tries in [%d.]+ s: restarting$", answer.data)
    assert.equals(3, #service.asked)
  end))

  it("asks again what is not idempotent only when nobody has heard it", run.case(function()
    local dog, witness = start { ROUTER_BACKOFF = "1", ROUTER_TRIES = "1000", ROUTER_BUDGET_SAVED = "1000" }
    local answer
    run.spawn(function() answer = ask(witness, "rpc.order") end)
    health.wait_metric(dog, "router_tries_total", { route = "rpc.order", kind = "retry" },
      function(count) return count >= 1 end, 20)
    local service = serve(witness, "order.new", function() return "taken" end)
    run.wait_until(function() return answer end, 30, "an answer")
    assert.same({ "taken", 1 }, { answer.data, #service.asked })
    witness:unsubscribe(service.sub)
    service = serve(witness, "order.new", unavailable)
    assert.equals("503", ask(witness, "rpc.order").headers["Nats-Service-Error-Code"])
    assert.equals(1, #service.asked)
  end))

  it("hands on an error that asking again does not change", run.case(function()
    local _, witness = start()
    local service = serve(witness, "price.get", function()
      return "no", { ["Nats-Service-Error"] = "no such thing", ["Nats-Service-Error-Code"] = "404" }
    end)
    assert.equals("no such thing", ask(witness, "rpc.price").headers["Nats-Service-Error"])
    assert.equals(1, #service.asked)
  end))

  it("has no more than a tenth of further tries while a service is down", run.case(function()
    local dog, witness = start { ROUTER_BUDGET_SAVED = "5", ROUTER_BACKOFF = "0.001",
      ROUTER_HEDGE_LEAST = "1000" } -- hedges would be paid for out of the same budget
    local service = serve(witness, "price.get", unavailable)
    for _ = 1, 100 do ask(witness, "rpc.price") end
    local retries = tries(dog, "retry")
    assert.is_true(retries >= 5 and retries <= 15, retries .. " retries")
    assert.equals(100 + retries, #service.asked)
    assert.is_true(health.metric(dog, "router_budget_refused_total", { kind = "retry" }) > 0)
  end))

  it("asks a second time when an answer is late, and takes the first that comes", run.case(function()
    local dog, witness = start { ROUTER_HEDGE_LEAST = "5", ROUTER_BUDGET_SAVED = "100" }
    local late = false
    local service = serve(witness, "price.get", function() return not late and "quick" or nil end)
    for _ = 1, 10 do assert.equals("quick", ask(witness, "rpc.price").data) end
    late = true
    -- Asks, waits until the service was asked twice, and lets it answer so.
    local function ask_late(data, ...)
      local answer, both
      run.spawn(function() answer = ask(witness, "rpc.price", nil, data) end)
      run.wait_until(function()
        both = {}
        for _, msg in ipairs(service.asked) do
          if msg.data == data then both[#both + 1] = msg end
        end
        return #both == 2
      end, 20, "a second request")
      for _, reply in ipairs { ... } do service.reply(both[reply[1]], reply[2], reply[3]) end
      run.wait_until(function() return answer end, 20, "an answer")
      return answer.data, both
    end
    local wins = health.metric(dog, "router_hedge_wins_total") or 0
    local data, both = ask_late("pear", { 2, "second" })
    assert.equals("second", data)
    assert.equals(wins + 1, health.metric(dog, "router_hedge_wins_total"))
    service.reply(both[1], "first") -- too late: nobody hears it
    late = false
    assert.equals("quick", ask(witness, "rpc.price").data)
    late = true
    local _, headers = unavailable() -- one that fails while the other is on its way is no answer
    assert.equals("second", (ask_late("plum", { 1, "", headers }, { 2, "second" })))
    assert.equals("first", (ask_late("fig", { 2, "", headers }, { 1, "first" })))
    assert.equals(14, health.metric(dog, "router_requests_total", { route = "rpc.price", result = "ok" }))
    assert.equals(0, #dog:find_logs(function(entry) return entry.level == "error" end))
  end))

  it("never hedges what is not idempotent", run.case(function()
    local dog, witness = start { ROUTER_HEDGE_LEAST = "5" }
    local late = false
    local service = serve(witness, "order.new", function() return not late and "taken" or nil end)
    for _ = 1, 10 do ask(witness, "rpc.order") end
    late = true
    local answer
    run.spawn(function() answer = ask(witness, "rpc.order") end)
    run.wait_until(function() return #service.asked == 11 end, 20, "the request")
    run.holds(function() return #service.asked == 11 end, 0.5, "no second one")
    service.reply(service.asked[11], "taken")
    run.wait_until(function() return answer end, 20, "an answer")
    assert.is_nil(health.metric(dog, "router_tries_total", { route = "rpc.order", kind = "hedge" }))
  end))

  it("passes the deadline on, and keeps it", run.case(function()
    local _, witness = start { ROUTER_DEADLINE = "10", ROUTER_TRY = "3" }
    local service = serve(witness, "price.get", function(_, number) return number == 1 and "quick" or nil end)
    ask(witness, "rpc.price")
    assert.equals("3000", service.asked[1].headers["Timeout-Ms"])
    local answer = ask(witness, "rpc.price", { ["Timeout-Ms"] = "500" }) -- the service dawdles
    assert.equals("504", answer.headers["Nats-Service-Error-Code"])
    assert.is_true(tonumber(service.asked[2].headers["Timeout-Ms"]) <= 500)
    local asked = #service.asked
    answer = ask(witness, "rpc.price", { ["Timeout-Ms"] = "0" })
    assert.matches("after 0 tries in [%d.]+ s: the caller's time was over", answer.data)
    assert.equals(asked, #service.asked)
  end))

  it("refuses more than it may have on its way", run.case(function()
    local _, witness = start { ROUTER_RUNNING = "2" }
    local service = serve(witness, "price.get", function() end)
    local answers = 0
    for _ = 1, 2 do
      run.spawn(function()
        ask(witness, "rpc.price")
        answers = answers + 1
      end)
    end
    run.wait_until(function() return #service.asked == 2 end, 20, "two requests")
    assert.equals("429", ask(witness, "rpc.price").headers["Nats-Service-Error-Code"])
    for i = 1, 2 do service.reply(service.asked[i], "late") end
    run.wait_until(function() return answers == 2 end, 20, "two answers")
    run.spawn(function() ask(witness, "rpc.price") end)
    run.wait_until(function() return #service.asked == 3 end, 20, "a third request")
    service.reply(service.asked[3], "done")
  end))
end)
