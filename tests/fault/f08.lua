-- F8 of the fault suite: a peer that says. What a row is: tests/support/fault.lua.
local run = require "support.run"

local DOWN_SECONDS = 4

-- A good server, and a mute one that nobody can dial before the good one is gone.
local function play(silence)
  return function(stage)
    local good = stage:server()
    local mute = stage:scripted { [silence] = true }
    local way = stage:proxy(mute)
    way:lock()
    stage:start { urls = { good.url, way.url }, options = "watchdog = { timeout = 5, reconnecting = 5 }," }
    stage:fault()
    way:unlock()
    good:kill()
    run.pause(DOWN_SECONDS)
    stage:over()
    good:restart()
    stage.mute = mute
  end
end

-- What nats.c still holds of the mute server, it holds until that one hangs up.
local function after(stage)
  stage.mute:hang_up()
end

return {
  id = "F8",
  title = "a peer that says",
  seen = "nats.net #750",
  why = "the client waits for a word of it for ever; nats.c 3.4 even spins",
  promise = "a dial has a deadline (here 5 s), then the next server is asked",
  within = 15,
  patience = 25,
  cases = {
    { name = "nothing", play = play "silent", after = after },
    { name = "INFO, no more", play = play "info_only", after = after },
  },
}
