-- After 1,000 fresh links there are as many threads and file descriptors as after ten, and memory
-- is flat.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local LINKS = 1000
local FIRST = 10
local GROWTH_MIB = 8 -- what an allocator may keep; a leak of a link's buffers alone would be 60

local SCRIPT = [[
local moondog = require "moondog"
local c
local rounds, limit = 0, $FIRST
local function again()
  if rounds < limit then
    rounds = rounds + 1
    assert(c:reconnect())
  else
    collectgarbage()
    print("rounds " .. rounds)
  end
end
c = moondog.connect {
  servers = { $URL }, reconnect = function() return 0 end,
  on = {
    connected = again,
    reconnected = function(_, info)
      if not info.fresh then error("not a fresh link") end
      again()
    end,
  },
}
c:subscribe("more", function(msg)
  local first = limit ~= $LINKS -- the witness asks again when the answer is late
  limit = $LINKS
  msg:respond("ok")
  if first then again() end
end)
c:subscribe("links", function(msg) msg:respond(tostring(c:stats().links)) end)
]]

describe("a thousand fresh links", function()
  it("leave nothing behind", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run(SCRIPT, { URL = server.url, FIRST = FIRST, LINKS = LINKS },
      { args = { "--level", "warn" } })
    -- The script's own lines are at level info: count from outside.
    local function made(witness)
      return tonumber(witness:wait_answer("links", "", 5).data)
    end
    local witness = server:connect()
    run.wait_until(function() return made(witness) == FIRST + 1 end, 20, "the first links")
    run.wait_until(function() return #server:clients() == 1 end, 10, "one link")
    local threads, fds, rss = dog:threads(), dog:fds(), dog:rss()

    local begun_at = run.now()
    witness:wait_answer("more", "", 10)
    run.wait_until(function() return made(witness) == LINKS + 1 end, 120, function()
      return LINKS .. " links, there are " .. made(witness)
    end)
    run.figure("fresh links", (LINKS - FIRST) / (run.now() - begun_at), "per second")
    run.wait_until(function() return dog:threads() <= threads end, 10, function()
      return ("%d threads, there are %d"):format(threads, dog:threads())
    end)
    run.wait_until(function() return dog:fds() <= fds end, 10, function()
      return ("%d file descriptors, there are %d"):format(fds, dog:fds())
    end)
    run.wait_until(function() return #server:clients() == 1 end, 10, "one link and no leftover")
    run.figure("threads after ten and at the end", dog:threads())
    run.figure("file descriptors after ten and at the end", dog:fds())
    run.figure("resident after ten", rss / 2 ^ 20, "MiB")
    run.figure("resident at the end", dog:rss() / 2 ^ 20, "MiB")
    if not moondog.sanitized() then
      assert.is_true(dog:rss() - rss < GROWTH_MIB * 2 ^ 20)
    end
    assert.equals(0, #dog:find_logs("^hook failed$"))
    assert.equals(2, server:subscriptions("^more$") + server:subscriptions("^links$"))
  end, { deadline = 180 }))
end)
