-- An outbox that is published to all the time, for rows of the fault suite: what it acknowledged is in
-- the stream once (the third invariant).
local jetstream = require "support.jetstream_api"

local M = {}

-- Each number is a subject of its own, so that the stream tells how often it has it; and an id of its own, because
-- two generations may ask for the same one at a reload. $PATH: of the outbox; $SIZE: of each message; $PAUSE: between
-- two. It says when publishing begins and ceases to fail. On the subject "stop" it ends, on "go on" it begins again.
M.script = [[
local o = moondog.outbox { path = $PATH, connection = c }
moondog.state.stored = 0
local stopped, failing, ended = false, false, false
local function keep_publishing()
  stopped, ended = false, false
  while not stopped do
    local number = moondog.state.stored + 1
    local ok, err = o:publish("s.moondog." .. number, ("x"):rep($SIZE), { msg_id = tostring(number) })
    moondog.state.stored = number - (ok and 0 or 1)
    if failing == (ok ~= nil) then
      failing = not failing
      moondog.log.info(failing and "refused" or "taken", { code = err and err.code, text = err and err.message })
    end
    moondog.sleep($PAUSE)
  end
  ended = true
end
moondog.spawn(keep_publishing)
moondog.on_unload(function() stopped = true end)
c:subscribe("stop", function(msg)
  stopped = true
  msg:respond(("%d %s"):format(moondog.state.stored, tostring(ended and o:status().waiting == 0)))
end)
c:subscribe("go_on", function(msg)
  if ended then moondog.spawn(keep_publishing) end
  msg:respond("")
end)
]]

-- Ends the publishing and waits until the outbox is empty. Returns how many messages it acknowledged; nil: no answer.
local function stop(stage, witness)
  local stored, done
  stage:expect(function()
    stored, done = witness:wait_answer("stop", "", 20).data:match("(%d+) (%a+)")
    return done == "true"
  end, 60, "an empty outbox")
  return tonumber(stored)
end

-- Compares what the outbox acknowledged, behind the first `before`, with what the stream has of it. Returns how many
-- are missing.
local function compare(stage, subjects, before, stored)
  if not stored then
    return 0
  end
  local count = 0
  for name, copies in pairs(subjects) do
    local number = tonumber(name:match("^s%.moondog%.(%d+)$"))
    if number then
      count = count + 1
      stage:check(copies == 1, "3: %s is in the stream %d times", name, copies)
      stage:check(number > before, "3: %s has come a second time", name)
    end
  end
  stage:check(stored - before == count, "3: %d were acknowledged, the stream has %d", stored - before, count)
  return math.max(0, stored - before - count)
end

-- Ends the publishing, waits until the outbox is empty, and looks into the stream "S" of a server that
-- answers. The stock client's own messages are compared with what its library took.
function M.check(stage, server)
  local witness = server:connect()
  local stored = stop(stage, witness)
  local stock = stage.subjects.nats_c
  if stock then
    stock.process:signal("sigstop") -- it publishes no more, and what it has sent arrives
  end
  witness:flush()
  local subjects = jetstream.subjects(server, "S")
  stage.lost.moondog = compare(stage, subjects, 0, stored)
  stage.lost.nats_c = stock and math.max(0, stock.took - (subjects["s.nats_c"] or 0))
  witness:close()
end

-- The same, with what came since the last time, and lets the publishing go on. What was compared is removed from the
-- stream, so that it does not grow.
function M.check_and_go_on(stage, server)
  local witness = server:connect()
  local before = stage.stored or 0
  local stored = stop(stage, witness)
  compare(stage, jetstream.subjects(server, "S"), before, stored)
  if stored then
    stage.stored = stored
    jetstream.api(server, "STREAM.PURGE.S")
  end
  witness:wait_answer("go_on", "", 20)
  witness:close()
end

return M
