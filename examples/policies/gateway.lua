-- A gateway: answers requests, tells others that it is alive, and says what its connection goes through.
--
--   ./scripts/run examples/policies/gateway.lua       with a private nats-server when none is reachable
--   NATS_URL=nats://user:password@a:4222,nats://b:4222 moondog run gateway.lua
--
-- Try it, with any NATS client:
--   nats request svc.echo hello
--   nats request gateway.status ""
--   nats subscribe heartbeat.gateway
local cjson = require "cjson"
local moondog = require "moondog"

local started = moondog.now()

-- The top level only declares. moondog dials when the whole script is in place, and it starts, and
-- stays, without NATS: the connection comes when the server does.
local gw = moondog.connect {
  name = "gateway",
  -- servers = { "nats://a:4222", "nats://b:4222" },      -- instead of $NATS_URL
  -- user = "gateway", password = os.getenv("GATEWAY_PASSWORD"),
  -- creds = "/etc/moondog/gateway.creds",                -- read again before every dial

  -- How long to wait before each new dial. This is the built-in policy, written out; a function of
  -- your own gets a table (attempt, class, error, outage, server) and returns seconds:
  --   reconnect = function(ctx) return ctx.class == "auth" and 0.25 or 1 end,
  -- If it fails, the built-in policy acts, and the failure is logged.
  reconnect = moondog.backoff { base = 0.05, cap = 5, jitter = "full" },

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

-- With a queue group, each request goes to one gateway of those that run.
gw:subscribe("svc.echo", function(msg)
  msg:respond(msg.data)
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
moondog.every(5, function()
  if gw:status().ready then
    gw:publish("heartbeat.gateway", questions.uptime())
  end
end)
