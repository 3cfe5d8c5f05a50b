-- What `moondog status` and the console say of subscriptions, by whose they are.
local answers = require "moondog.cli_answers"

local function subscription(subject, more)
  local s = { subject = subject, kind = "script", active = true, handled = 7, errors = 0, overruns = 0, dropped = 2,
    queued = 1 }
  for key, value in pairs(more or {}) do s[key] = value end
  return s
end

local function status(more)
  local r = { name = "moondog", pid = 7, version = "1.2.3", state = "running", uptime = 5,
    loop = { stalled = false, stalls = 0, stalled_seconds = 0 },
    reloads = { done = 0, failed = 0, retiring = 0 },
    connections = { { name = "gateway", state = "up", ready = true, attempt = 0, server = "nats://x", links = 1,
      in_msgs = 0, out_msgs = 0, pending_bytes = 0, dropped = 0, subscriptions_total = 4, subscriptions = {
        subscription "orders.*", subscription("orders.*", { queue = "q" }),
        subscription("players", { kind = "host" }), subscription("work", { kind = "host", queue = "workers" }),
      } } } }
  for key, value in pairs(more or {}) do r[key] = value end
  return r
end

local function has(lines, text)
  for _, line in ipairs(lines) do
    if line:gsub("%s+", " "):find(text, 1, true) then return true end
  end
  error("no line with: " .. text .. "\n" .. table.concat(lines, "\n"))
end

describe("an answer about subscriptions", function()
  it("says whose they are", function()
    for _, lines in ipairs { answers.subscriptions(status()), answers.status(status()) } do
      has(lines, "orders.* 7 handled 0 errors 2 dropped 1 queued")
      has(lines, "orders.* queue q 7 handled")
      has(lines, "players host 7 handled")
      has(lines, "work host, queue workers 7 handled")
    end
  end)

  it("says that some of the host's wait for their connection", function()
    has(answers.status(status { host = { messages = { subscriptions = 3, waiting = 1, requests = 0 } } }),
      "1 subscription of the host waiting for a connection")
    local none = { host = { messages = { subscriptions = 3, waiting = 0, requests = 0 } } }
    for _, line in ipairs(answers.status(status(none))) do
      assert.is_nil(line:find("waiting for a connection", 1, true))
    end
  end)
end)
