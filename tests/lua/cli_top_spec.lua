local cjson = require "cjson"
local cli_top = require "moondog.cli_top"

local function subscription(subject, handled, more)
  local s = { subject = subject, active = true, handled = handled, errors = 0, overruns = 0, dropped = 0, queued = 0,
    latency = cjson.null }
  for k, v in pairs(more or {}) do s[k] = v end
  return s
end

local function status(handled, more)
  local s = {
    name = "gateway", pid = 7, version = "0.1.0", state = "running", uptime = 3700,
    generation = { number = 2, path = "g.lua", loaded_at = "now", memory = 2048, memory_peak = 4096, handled = handled,
      errors = 0, waiting = 1 },
    reloads = { done = 1, failed = 0, retiring = 0 },
    connections = { {
      name = "gateway", state = "up", ready = true, outage = cjson.null, links = 2, reason = "probe", attempt = 0,
      in_msgs = handled, out_msgs = 0, in_bytes = handled * 10, out_bytes = 0, pending_bytes = 0, dropped = 0,
      pending_dropped = 0, subscriptions_total = 2,
      subscriptions = { subscription("slow.*", 10, { latency = { p50 = 0.0012, p99 = 1.5, samples = 9 } }),
        subscription("busy", handled, { queue = "q" }) },
    } },
  }
  for k, v in pairs(more or {}) do s[k] = v end
  return s
end

local function text_of(lines)
  local out = {}
  for i, line in ipairs(lines) do out[i] = line[1] end
  return table.concat(out, "\n")
end

-- A view after these answers, a second apart.
local function view(...)
  local top = cli_top.new()
  for i, one in ipairs { ... } do top:update(cjson.encode(one), i) end
  return top
end

describe("top", function()
  it("shows rates, latencies and states", function()
    local text = text_of(view(status(1000), status(3000)):lines(140))
    assert.matches("^gateway %(pid 7, moondog 0%.1%.0%), running for 61m40s", text)
    assert.matches("generation 2: g%.lua", text)
    assert.matches("gateway +up +%- +2 +probe +%- +2000 +0 +19%.5K", text)
    assert.matches("SUBSCRIPTION[^\n]*\nbusy +q +2000 +3000 +%- +%- +0 +0 +0\nslow%.%* +%- +0 +10 +1%.2ms +1%.5s", text)
  end)

  it("does not take a process that began anew for one that goes backwards", function()
    local other = status(50)
    other.pid = 8
    assert.matches("busy +q +0 +50", text_of(view(status(1000), other):lines(140)))
    assert.matches("busy +q +50 +50", text_of(view(status(1000), status(50)):lines(140)))
  end)

  it("says what is wrong", function()
    local down = status(1)
    local c = down.connections[1]
    c.state, c.ready, c.outage, c.attempt = "closed", false, 12.34, 5
    c.error = { class = "auth", code = "auth", message = "no\27[2Jentry" }
    down.reloads.last_error = { message = "g.lua:1: bad", at = "then" }
    local lines = view(down):lines(140)
    local text = text_of(lines)
    assert.matches("gateway +closed +12%.3s +2 +probe +5", text)
    assert.matches("  no%?%[2Jentry", text)
    assert.matches("last reload that failed: g%.lua:1: bad", text)
    local top = view(down)
    top:fail("it is gone")
    assert.same({ "it is gone", "bad" }, top:lines(140)[1])
    assert.matches("^gateway", top:lines(140)[2][1])
    top = cli_top.new()
    top:fail("nothing answers")
    assert.same({ { "nothing answers", "bad" } }, top:lines(80))
  end)

  it("fits any screen", function()
    local many = status(1)
    for i = 1, 500 do
      table.insert(many.connections[1].subscriptions, subscription(("subject.ü%d."):format(i):rep(9), i))
    end
    many.connections[1].subscriptions_total = 600
    local top = view(many)
    for _, width in ipairs { 20, 40, 80, 200 } do
      for _, height in ipairs { 5, 12, 50 } do
        local lines = top:lines(width, height)
        for _, line in ipairs(lines) do
          assert.is_true(select(2, line[1]:gsub("[^\128-\191]", "")) <= width, line[1])
        end
        if height >= 12 then assert.equals(height, #lines) end
      end
    end
    assert.matches("1 to 41 of 502, 98 not listed$", text_of(top:lines(100, 50)))
    top:scroll(10)
    assert.matches("11 to 51 of 502", text_of(top:lines(100, 50)))
    top:scroll(1000)
    assert.matches("462 to 502 of 502", text_of(top:lines(100, 50)))
    top:next_sort()
    assert.matches("by p99, 1 to", text_of(top:lines(100, 50)))
    assert.matches("ü1…", text_of(top:lines(80)))
  end)

  it("sorts by what is chosen", function()
    local one = status(5)
    one.connections[1].subscriptions = { subscription("b", 1, { errors = 3 }), subscription("a", 2),
      subscription("c", 3, { queued = 9 }) }
    local top = view(one)
    local function order()
      local text = text_of(top:lines(140)):match("SUBSCRIPTION[^\n]*\n(.*)$")
      return text:gsub("[^\n]*", function(line) return line:sub(1, 1) end):gsub("\n", "")
    end
    local orders = {}
    for _, name in ipairs(cli_top.sorts) do
      orders[name] = order()
      top:next_sort()
    end
    assert.equals("bac", orders.rate)
    assert.equals("bac", orders.errors)
    assert.equals("cba", orders.queued)
    assert.equals("abc", orders.name)
  end)

  it("gives JSON with rates", function()
    local result = cjson.decode(view(status(1000), status(3000)):json())
    assert.equals(2000, result.connections[1].in_rate)
    assert.equals(2000, result.connections[1].subscriptions[2].rate)
    assert.equals("gateway", result.name)
  end)
end)
