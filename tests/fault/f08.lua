-- F8 of the fault suite: a peer that says. What a row is: tests/support/fault.lua.
local cells = require "support.fault_cells"
local moondog = require "support.moondog"
local run = require "support.run"
local wire = require "support.fault_wire"

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

-- ---- words, each to a connection of its own ----

local MOST_BYTES = 96 * 2 ^ 20 -- that moondog may have had more at any moment, with all that never ends

local function peak(dog)
  local file = assert(io.open(("/proc/%d/status"):format(dog.pid)))
  local text = file:read("*a")
  file:close()
  return tonumber(text:match("VmHWM:%s*(%d+)")) * 1024
end

local function words(name, make)
  return { name = name, stock = "many connections of one program, each with a peer of its own", play = function(stage)
    stage.grid = cells.start(stage, make(), { dial = 2 })
    stage.peak = peak(stage.dog)
    stage:fault()
    stage.grid:finish(60)
  end, after = function(stage)
    stage.grid:check()
    local grown = peak(stage.dog) - stage.peak
    stage:check(moondog.sanitized() or grown < MOST_BYTES, "it grew by %d bytes at its peak", grown)
  end }
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
    words("what is no INFO", wire.greetings),
    words("what never ends", wire.endless),
    words("broken frames", wire.frames),
    words("so many bytes", wire.so_many_bytes),
  },
}
