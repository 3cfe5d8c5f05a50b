-- A gateway: answers requests, asks others for what it does not know, and lives through what its connection goes
-- through, such as an auth service that refuses everybody for some seconds.
--
--   ./scripts/run examples/policies/gateway.lua       with a private nats-server when none is reachable
--   NATS_URL=nats://user:password@a:4222,nats://b:4222 moondog run gateway.lua --http 8080
--
-- Try it, with any NATS client:
--   nats request svc.echo hello
--   nats request svc.price apple        an error that says why, until there is: nats reply price.get 12.50
--   nats request gateway.status ""
--   nats subscribe heartbeat.gateway
--   curl -i localhost:8080/readyz
local cjson = require "cjson"
local moondog = require "moondog"

local PRICE_TIMEOUT = 2 -- seconds
local HEARTBEAT = 5     -- seconds between two
local AUTH_DELAY = 0.5  -- seconds between two dials while the server refuses the credentials, at most

local started = moondog.now()

-- How long to wait before each new dial: a function of a table (attempt, class, error, outage, server) that returns
-- seconds; moondog.backoff makes one, and this is the built-in one written out. After two refusals in a row the library
-- gives up for good, and moondog dials. An auth service that hiccups is back in seconds, so after the tenth refusal
-- this waits no longer than after the first. If it fails, the built-in policy acts, and that is logged.
local backoff = moondog.backoff { base = 0.05, cap = 5, jitter = "full" }

local function reconnect(attempt)
  if attempt.class == "auth" then return AUTH_DELAY * (0.5 + math.random() / 2) end
  return backoff(attempt)
end

-- The top level only declares. moondog dials when the whole script is in place, and it starts, and
-- stays, without NATS: the connection comes when the server does.
local gw = moondog.connect {
  name = "gateway",
  -- servers = { "nats://a:4222", "nats://b:4222" },      -- instead of $NATS_URL
  user = os.getenv("GATEWAY_USER"), password = os.getenv("GATEWAY_PASSWORD"),
  -- creds = "/etc/moondog/gateway.creds",                -- read again before every dial

  required = true, -- the default: /readyz is 503 while it is down, and says for how long and what is done about it
  reconnect = reconnect,

  -- What happens to the connection is logged anyway. Hooks are for what you want to do about it; an
  -- error in one is logged too, and stops nothing.
  on = {
    connected = function(_, info)
      moondog.log.info("the gateway answers", { server = info.server })
    end,
    disconnected = function(_, err)
      moondog.log.warn("the gateway cannot be reached", { class = err.class })
    end,
    closed = function(_, err)
      moondog.log.warn("the library gave up; moondog does not", { class = err.class })
    end,
    reconnected = function(_, info)
      moondog.log.info("the gateway answers again", { after = info.outage, fresh = info.fresh })
    end,
  },
}

-- Where the heartbeats go, when that is elsewhere. The gateway works without: readiness does not wait for it.
local telemetry = gw
if os.getenv("TELEMETRY_URL") then
  telemetry = moondog.connect { name = "telemetry", servers = os.getenv("TELEMETRY_URL"), required = false }
end

-- With a queue group, each request goes to one gateway of those that run.
gw:subscribe("svc.echo", function(msg)
  msg:respond(msg.data)
end, { queue = "gateway" })

-- An answer that is an error, as NATS services have it: every client sees the headers.
local function refuse(msg, code, text)
  return msg:respond(text, { ["Nats-Service-Error"] = text, ["Nats-Service-Error-Code"] = tostring(code) })
end

-- A handler may wait; others go on meanwhile. Whoever asks gets an answer in any case, and learns what went wrong.
gw:subscribe("svc.price", function(msg)
  if msg.data == "" then return refuse(msg, 400, "say what the price is asked of") end
  local price, err = gw:request("price.get", msg.data, { timeout = PRICE_TIMEOUT })
  if price then return msg:respond(price.data) end
  if err.code == "no_responders" then return refuse(msg, 503, "no price: nobody answers price.get now") end
  if err.code == "timeout" then
    return refuse(msg, 504, ("no price: price.get did not answer within %g s"):format(PRICE_TIMEOUT))
  end
  return refuse(msg, 503, ("no price: %s"):format(err.code))
end, { queue = "gateway" })

-- One subscription for gateway.status, gateway.uptime, and what you add.
local questions = {}

function questions.status()
  return cjson.encode(gw:status())
end

function questions.uptime()
  return ("%.1f"):format(moondog.now() - started)
end

gw:subscribe("gateway.*", function(msg)
  local question = questions[msg.subject:match("[^.]+$")]
  msg:respond(question and question() or "there are status and uptime",
    { status = question and "ok" or "unknown" }) -- headers of the response
end, { queue = "gateway" })

-- While the connection is down, publishes are kept and sent later. A heartbeat from the past is of
-- no use to anybody, so this one is left out instead.
moondog.every(HEARTBEAT, function()
  if telemetry:status().ready then
    telemetry:publish("heartbeat.gateway", questions.uptime())
  end
end)
