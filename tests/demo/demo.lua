-- The demonstration: a stock client and moondog on one real nats-server, and an auth error of 4 s.
-- usage: luajit tests/demo/demo.lua [--json] [--plain]
-- Environment: MOONDOG_ROOT, MOONDOG_BUILD. Exit code 0 when it went as the story tells: the stock
-- client stayed closed, moondog recovered.
local root = assert(os.getenv("MOONDOG_ROOT"), "run it with scripts/demo")
package.path = root .. "/tests/?.lua;" .. package.path

local cjson = require "cjson"
local uv = require "luv"
local moondog = require "support.moondog"
local nats_client = require "support.nats_client"
local nats_server = require "support.nats_server"
local process = require "support.process"
local run = require "support.run"

local SUBJECT = "demo.tick"
local TICK = 0.02 -- seconds between messages
local HEALTHY = 1.5 -- of traffic before the fault
local OUTAGE = 4
local PATIENCE = 5 -- moondog has to be back by then
local AFTERWARDS = 3 -- and the stock client has as long to prove that it never will be
local DEAF = 5 * TICK -- a silence longer than that
local RECONNECT_WAIT_MS = "250" -- of the stock client, without jitter: the story shall be short

local as_json, coloured = false, true
for _, option in ipairs(arg) do
  as_json = as_json or option == "--json"
  coloured = coloured and option ~= "--plain" and not as_json
end

local COLOURS = { script = "1", stock = "31", moondog = "32" }
local zero -- when the story begins: both clients hear the traffic

local function say(who, text, at)
  if as_json then
    return
  end
  local line = ("%7.3f s  %-8s  %s"):format((at or run.now()) - zero, who == "script" and "" or who, text)
  print(coloured and ("\27[%sm%s\27[0m"):format(COLOURS[who], line) or line)
end

-- ---- what each of the two hears ----

local function listener(name)
  return { name = name, messages = 0, gaps = {} }
end

-- A message has come. A gap is remembered as { from, to }.
local function heard(self, at)
  if self.last and at - self.last > DEAF then
    table.insert(self.gaps, { from = self.last, to = at })
  end
  self.last = at
  self.messages = self.messages + 1
end

local function start_stock(url)
  local self = listener("stock")
  self.process = process.start {
    name = "the stock client",
    file = os.getenv("MOONDOG_BUILD") .. "/tests/stock_client",
    args = { "--wait", RECONNECT_WAIT_MS, url, SUBJECT },
    on_line = function(line)
      local kind, rest = line:match("^%d+ (%a+) ?(.*)")
      if kind == "message" then
        heard(self, run.now())
      elseif kind == "closed" then
        self.closed_at = run.now()
        say("stock", "CLOSED for ever: " .. rest)
      elseif kind == "disconnected" or kind == "reconnected" then
        say("stock", kind)
      end
    end,
  }
  return self
end

-- One short text of a log entry that tells a step of the story, or nil.
local function told(entry)
  if entry.msg == "disconnected" or entry.msg == "closed" or entry.msg == "dial failed" then
    return entry.msg .. (entry.error and ": " .. entry.error or "")
  elseif entry.msg == "reconnected" then
    return ("reconnected%s"):format(entry.fresh and " with a fresh link" or "")
  end
end

-- Tells the steps of moondog's own log, the same one only once.
local function teller()
  local before, again
  return function(text, at)
    if text == before then
      again = again + 1
      return
    end
    if before and again > 0 then
      say("moondog", ("... and %d more like that"):format(again), at)
    end
    before, again = text, 0
    say("moondog", text, at)
  end
end

local function start_moondog(url)
  local self = listener("moondog")
  self.process = moondog.start({ "run", root .. "/examples/policies/demo.lua", "--log", "json" },
    { env = { NATS_URL = url } })
  local tell, seen = teller(), 0
  local timer = uv.new_timer()
  timer:start(0, 5, run.callback(function()
    while self.process.logs[seen + 1] do
      seen = seen + 1
      local entry = self.process.logs[seen]
      if entry.msg == "message" then
        heard(self, entry.at)
      elseif zero and told(entry) then
        tell(told(entry), entry.at)
      end
    end
  end))
  run.defer(function() timer:close() end)
  return self
end

-- ---- the server and its traffic ----

local function configuration(password)
  return { users = {
    { user = "app", password = password },
    { user = "ticker", password = "ticker" },
  } }
end

local function start_ticker(server)
  local client = nats_client.connect { port = server.port, user = "ticker", password = "ticker" }
  local timer, count = uv.new_timer(), 0
  timer:start(0, TICK * 1000, run.callback(function()
    count = count + 1
    client:publish(SUBJECT, tostring(count))
  end))
  run.defer(function()
    timer:close()
    client:close()
  end)
end

local interrupted = false

local function interruptible()
  for _, name in ipairs { "sigint", "sigterm" } do
    uv.new_signal():start(name, function() interrupted = true end)
  end
end

-- Waits for the condition, or for the time to be over; whether the condition holds.
local function wait(seconds_at_most, condition)
  local limit = run.now() + seconds_at_most
  local holds
  run.wait_until(function()
    holds = condition and condition()
    return holds or interrupted or run.now() >= limit
  end, seconds_at_most + 10, "anything")
  if interrupted then
    error("interrupted", 0)
  end
  return holds
end

-- ---- the story ----

local function seconds(x)
  return x and math.floor(x * 1000 + 0.5) / 1000 or nil
end

-- What became of it: when it went deaf, and when it heard again; times since the traffic began.
local function outcome(self, accepted)
  local gap
  for _, one in ipairs(self.gaps) do
    if one.to > accepted then
      gap = one
    end
  end
  local deaf_at = gap and gap.from or self.last
  return {
    messages = self.messages,
    deaf_at = seconds(deaf_at - zero),
    closed_at = seconds(self.closed_at and self.closed_at - zero),
    recovered = gap ~= nil,
    deaf_in_all = gap and seconds(gap.to - gap.from) or cjson.null,
    deaf_after_acceptance = gap and seconds(gap.to - accepted) or cjson.null,
  }
end

local function print_result(name, result)
  local text = result.recovered and ("%7.3f s  %16.3f s"):format(result.deaf_in_all,
    result.deaf_after_acceptance) or ("%9s  %18s"):format("for ever", "for ever")
  print(("%-14s  %s"):format(name, text))
end

local result

local function tell()
  local server = nats_server.start(configuration("first"))
  local url = ("nats://app:first@%s:%d"):format(server.host, server.port)
  local stock, dog = start_stock(url), start_moondog(url)
  start_ticker(server)
  assert(wait(10, function() return stock.messages > 0 and dog.messages > 0 end),
    "no messages at the clients after 10 s")
  zero = run.now()
  say("script", ("both clients hear a message every %d ms"):format(TICK * 1000))
  wait(HEALTHY)

  local changed = run.now()
  say("script", "the server's operator changes the password", changed)
  server:reload(configuration("second"))
  wait(OUTAGE - (run.now() - changed))

  -- Taken before the server has even read it: deafness is never told shorter than it is.
  local accepted = run.now()
  say("script", "the old password is valid again", accepted)
  server:reload(configuration("first"))
  if wait(PATIENCE, function() return dog.last > accepted end) then
    say("moondog", "hears again", dog.gaps[#dog.gaps].to)
  end
  wait(math.max(DEAF, AFTERWARDS - (run.now() - accepted)))
  say("stock", stock.last > accepted and "hears again"
    or "hears nothing, and will not until a person restarts it")

  result = {
    outage = seconds(accepted - changed), tick = TICK,
    changed_at = seconds(changed - zero), accepted_at = seconds(accepted - zero),
    stock = outcome(stock, accepted), moondog = outcome(dog, accepted),
  }
  result.as_told = result.moondog.recovered and not result.stock.recovered
    and stock.closed_at ~= nil and not stock.process.exit
end

-- An interruption ends it without the harness's report of a failure.
local function story()
  interruptible()
  local ok, err = pcall(tell)
  if not ok and not interrupted then
    error(err, 0)
  end
end

local ok, err = pcall(run.case(story, { deadline = 50 }))
if interrupted then
  os.exit(130)
elseif not ok then
  io.stderr:write("demo: ", tostring(err), "\n")
  os.exit(1)
end
if as_json then
  print(cjson.encode(result))
else
  print(("\nAn auth error of %.1f s:\n%-14s  %9s  %18s"):format(result.outage, "",
    "deaf", "after it was over"))
  print_result("stock client", result.stock)
  print_result("moondog", result.moondog)
end
if not result.as_told then
  io.stderr:write("demo: this is not the story: moondog has to recover, and the stock client to stay closed\n")
end
os.exit(result.as_told and 0 or 1)
