local jetstream = require "support.fault_jetstream"
local run = require "support.run"

local KILLS, UP_SECONDS, DOWN_SECONDS = 3, 1.5, 1

-- Each number is a subject of its own, so that the stream tells how often it has it.
local SCRIPT = [[
local o = moondog.outbox { path = $PATH, connection = c }
local stored, failed, stopped, ended = 0, 0, false, false
moondog.spawn(function()
  local n = 0
  while not stopped do
    n = n + 1
    local ok = o:publish("s.moondog." .. n, n)
    stored, failed = stored + (ok and 1 or 0), failed + (ok and 0 or 1)
    moondog.sleep(0.01)
  end
  ended = true
end)
c:subscribe("stop", function(msg)
  stopped = true
  local s = o:status()
  msg:respond(("%d %d %s"):format(stored, failed, tostring(ended and s.waiting == 0)))
end)
]]

return {
  id = "F21",
  title = "publish said OK, three SIGKILLs",
  why = "what the library took is in a buffer, or in the kernel, and gone with the connection",
  promise = "what the outbox acknowledged is in the stream once, and nothing else was refused",
  within = 5,
  stock = { nats_js = "its publish() has no result; with JetStream's acknowledgements it is another program" },
  play = function(stage)
    local server = stage:server { jetstream = { store_dir = run.folder() .. "/js" } }
    jetstream.add_stream(server, "S", { "s.>" })
    stage:start { urls = { server.url }, noise = "s.nats_c", script = SCRIPT,
      values = { PATH = run.folder() .. "/out.db" } }
    stage:fault()
    for _ = 1, KILLS do
      run.pause(UP_SECONDS)
      server:kill()
      run.pause(DOWN_SECONDS)
      stage:over()
      server:restart()
    end
    stage.server = server
  end,
  after = function(stage)
    local witness = stage.server:connect()
    local stored, failed, done
    run.wait_until(function()
      stored, failed, done = witness:wait_answer("stop", "", 10).data:match("(%d+) (%d+) (%a+)")
      return done == "true"
    end, 30, "an empty outbox")
    local stock = stage.subjects.nats_c
    if stock then
      stock.process:signal("sigstop") -- it publishes no more; what it has sent arrives
    end
    witness:flush()
    local subjects = jetstream.subjects(stage.server, "S")
    local once, more = 0, 0
    for name, count in pairs(subjects) do
      if name:find("^s%.moondog%.") then
        once, more = once + (count == 1 and 1 or 0), more + (count > 1 and 1 or 0)
      end
    end
    stage:check(failed == "0", "%s publishes were refused", failed)
    stage:check(more == 0, "3: %d messages are in the stream more than once", more)
    stage:check(once == tonumber(stored), "3: %s were acknowledged, the stream has %d", stored, once)
    stage.lost.moondog = tonumber(stored) - once
    stage.lost.nats_c = stock and math.max(0, stock.took - (subjects["s.nats_c"] or 0))
  end,
}
