-- After 10,000 reloads there are as many threads and file descriptors as after ten, and memory is flat.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local RELOADS = moondog.sanitized() and 500 or 10000
local FIRST = 10
local GROWTH_MIB = 4 -- what an allocator may keep; 500 bytes that each reload leaves would be more

-- Each generation replaces itself until `goal` is reached.
local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
local state = moondog.state
state.rounds = state.rounds or 0
c:subscribe("go", function(msg) state.goal = tonumber(msg.data) end)
c:subscribe("rounds", function(msg) msg:respond(state.rounds .. " " .. c:stats().links) end)
for i = 1, 50 do c:subscribe("s." .. i, function() end) end
moondog.every(1, function() end)
moondog.on_start(function()
  while state.rounds >= (state.goal or 0) do moondog.sleep(0.01) end
  state.rounds = state.rounds + 1
  moondog.reload()
end)
]]

describe("ten thousand reloads", function()
  it("leave nothing behind", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run(SCRIPT, { URL = server.url }, { args = { "--level", "warn", "--retire", "0.2" } })
    local witness = server:connect()
    local function rounds()
      return witness:wait_answer("rounds", "", 10).data
    end
    rounds()
    local function reach(goal)
      witness:publish("go", tostring(goal))
      run.wait_until(function() return rounds() == goal .. " 1" end, 240, function()
        return goal .. " rounds on one link, there are " .. rounds()
      end)
    end
    reach(FIRST)
    run.pause(0.5) -- the last ones retire
    local threads, fds, rss = dog:threads(), dog:fds(), dog:rss()
    local subscriptions = server:subscriptions("")

    local begun_at = run.now()
    reach(RELOADS)
    run.figure("reloads", (RELOADS - FIRST) / (run.now() - begun_at), "per second")
    run.wait_until(function()
      return dog:threads() <= threads and dog:fds() <= fds
        and (moondog.sanitized() or dog:rss() - rss < GROWTH_MIB * 2 ^ 20)
    end, 10, function()
      return ("%d threads, %d descriptors and %.1f MiB as after ten reloads: there are %d, %d and %.1f MiB"):format(
        threads, fds, rss / 2 ^ 20, dog:threads(), dog:fds(), dog:rss() / 2 ^ 20)
    end)
    assert.equals(subscriptions, server:subscriptions(""))
    run.figure("threads after ten and at the end", dog:threads())
    run.figure("file descriptors after ten and at the end", dog:fds())
    run.figure("resident after ten", rss / 2 ^ 20, "MiB")
    run.figure("resident at the end", dog:rss() / 2 ^ 20, "MiB")
    assert.equals(0, #dog:find_logs("failed$"))
  end, { deadline = 280 }))
end)
