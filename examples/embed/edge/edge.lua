-- The policy of the sensor gateway beside it (edge.c): what becomes of readings, and who may command the sensors.
--
-- A reading that makes no sense is counted and left out. The others are summed up: a summary of each sensor every
-- WINDOW seconds, and an alarm at once. Both are on the disk before anything else happens, and come to the stream EDGE
-- once and in order, however long the gateway has no link. Edit this file and send the gateway a SIGHUP: what is summed
-- up so far goes on in the new version.
local cjson = require "cjson"
local moondog = require "moondog"

local WINDOW = 5                -- seconds
local LOWEST, HIGHEST = -40, 80 -- degrees: outside the sensor is broken
local ALARM, ALARM_OVER = 50, 45

local gw = moondog.connect { name = "edge" } -- to $NATS_URL
local outbox = moondog.outbox { path = os.getenv("EDGE_OUTBOX") or "edge.outbox", connection = gw }

-- Plain data in moondog.state crosses a reload.
local state = moondog.state
state.windows = {} -- by sensor: { from, to, count, rejected, sum, min, max }
state.alarms = {}  -- by sensor: true while it is too warm

local function add(sensor, part)
  local w = state.windows[sensor]
  if not w then
    state.windows[sensor] = part
    return
  end
  w.from, w.to = math.min(w.from, part.from), math.max(w.to, part.to)
  w.count, w.rejected, w.sum = w.count + part.count, w.rejected + part.rejected, w.sum + part.sum
  w.min, w.max = math.min(w.min, part.min), math.max(w.max, part.max)
end

local function send(subject, body)
  local ok, err = outbox:publish(subject, cjson.encode(body)) -- waits until it is on the disk
  if not ok then moondog.log.error("not kept", { subject = subject, error = err.message }) end
  return ok
end

local function watch(sensor, value)
  local before = state.alarms[sensor] or false
  local now = value > ALARM or before and value > ALARM_OVER
  if now == before then return end
  state.alarms[sensor] = now or nil
  send("edge.alarm." .. sensor, { on = now, value = value })
end

-- The gateway tells each reading as an event: { sensor = "s1", number = 17, value = 21.3 }.
moondog.on_event("reading", function(reading)
  local value, number = reading.value, reading.number
  if value < LOWEST or value > HIGHEST then
    add(reading.sensor, { from = number, to = number, count = 0, rejected = 1, sum = 0, min = HIGHEST, max = LOWEST })
    return
  end
  add(reading.sensor, { from = number, to = number, count = 1, rejected = 0, sum = value, min = value, max = value })
  watch(reading.sensor, value)
end)

local function send_windows()
  local windows = state.windows
  state.windows = {} -- now, and not when they are sent: meanwhile there are readings
  for sensor, w in pairs(windows) do
    local sent = send("edge.summary." .. sensor, {
      from = w.from, to = w.to, count = w.count, rejected = w.rejected,
      mean = w.count > 0 and w.sum / w.count or nil,
      min = w.count > 0 and w.min or nil, max = w.count > 0 and w.max or nil,
    })
    if not sent then add(sensor, w) end -- a full disk, say: with those of the next window, then
  end
end

moondog.every(WINDOW, send_windows)

-- At the end of the gateway, which waits for on_unload. When a new version of this file takes over, that one goes on
-- with the windows.
local closing = false
moondog.on_event("closing", function() closing = true end)
moondog.on_unload(function()
  if not closing then return end
  send_windows()
  outbox:flush(2) -- with a link they are gone by then; without one they are sent after the next start
end)

-- The gateway's own functions. edge.command.s1.interval "0.5", edge.command.s1.target "60".
local commands = { interval = host.set_interval, target = host.set_target }

gw:subscribe("edge.command.*.*", function(msg)
  local sensor, name = msg.subject:match("([^.]+)%.([^.]+)$")
  local command, value = commands[name], tonumber(msg.data)
  if not command then return msg:respond("there are interval and target") end
  if not value then return msg:respond("send a number") end
  local ok, err = command(sensor, value)
  msg:respond(ok and "done" or err.message)
end)

gw:subscribe("edge.sensors", function(msg)
  msg:respond(cjson.encode(host.sensors()))
end)

-- The stream, when there is none. What the outbox has waits for it.
moondog.on_start(function()
  local js = gw:jetstream { wait = true }
  while true do
    local ok, err = js:add_stream { name = "EDGE", subjects = { "edge.summary.*", "edge.alarm.*" } }
    if ok or err.code == "stream_exists" then return end
    moondog.log.warn("no stream yet", { error = err.message })
    moondog.sleep(1)
  end
end)
