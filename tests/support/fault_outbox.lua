-- An outbox that is published to all the time, for rows of the fault suite: what it acknowledged is in
-- the stream once (the third invariant).
local jetstream = require "support.jetstream_api"

local M = {}

-- Each number is a subject of its own, so that the stream tells how often it has it. $PATH: of the
-- outbox; $SIZE: of each message; $PAUSE: between two. It says when publishing begins and ceases to fail.
M.script = [[
local o = moondog.outbox { path = $PATH, connection = c }
local n, stopped, failing, ended = 0, false, false, false
moondog.spawn(function()
  while not stopped do
    local ok, err = o:publish("s.moondog." .. n + 1, ("x"):rep($SIZE))
    n = n + (ok and 1 or 0)
    if failing == (ok ~= nil) then
      failing = not failing
      moondog.log.info(failing and "refused" or "taken", { code = err and err.code, text = err and err.message })
    end
    moondog.sleep($PAUSE)
  end
  ended = true
end)
c:subscribe("stop", function(msg)
  stopped = true
  msg:respond(("%d %s"):format(n, tostring(ended and o:status().waiting == 0)))
end)
]]

-- Ends the publishing, waits until the outbox is empty, and looks into the stream "S" of a server that
-- answers. The stock client's own messages are compared with what its library took.
function M.check(stage, server)
  local witness = server:connect()
  local stored, done
  stage:expect(function()
    stored, done = witness:wait_answer("stop", "", 20).data:match("(%d+) (%a+)")
    return done == "true"
  end, 60, "an empty outbox")
  local stock = stage.subjects.nats_c
  if stock then
    stock.process:signal("sigstop") -- it publishes no more, and what it has sent arrives
  end
  witness:flush()
  local subjects = jetstream.subjects(server, "S")
  local count = 0
  for name, copies in pairs(subjects) do
    if name:find("^s%.moondog%.") then
      count = count + 1
      stage:check(copies == 1, "3: %s is in the stream %d times", name, copies)
    end
  end
  stage:check(tonumber(stored) == count, "3: %s were acknowledged, the stream has %d", tostring(stored), count)
  stage.lost.moondog = math.max(0, tonumber(stored) - count)
  stage.lost.nats_c = stock and math.max(0, stock.took - (subjects["s.nats_c"] or 0))
  witness:close()
end

return M
