-- A random run of the fault suite: moondog with everything a user has, faults of a schedule, and after each episode
-- a look at all promises.
--
-- There is a server with JetStream, the hub, and one without, a leaf node of it; moondog may be at either, and both
-- are reached through proxies. So it has somewhere to go when one is gone, its JetStream goes away and comes back
-- while its link stays, and what a stream has is one server's word: with a replicated stream it would be that of the
-- servers' consensus, which takes ten seconds to come back, and is not what is tried here.
local damage = require "fault.damage"
local checks = require "support.fault_checks"
local fault = require "support.fault"
local jetstream = require "support.jetstream_api"
local moondog = require "support.moondog"
local network = require "support.network"
local outbox = require "support.fault_outbox"
local reader = require "support.fault_reader"
local run = require "support.run"
local schedule = require "fault.schedule"
local traffic = require "support.fault_traffic"

local M = {}

local FAULT_SECONDS = 120 -- for an episode's faults to be over: the servers' and moondog's part of it
local CHECK_SECONDS = 150 -- for the checks behind it, when nothing comes
local QUIET_SECONDS = 0.7 -- pauses of messages that are shorter are the machine's
-- From the first third of a run to the last, the least that was seen may grow by so much.
local GROWTH = { threads = 1, fds = 1, rss = moondog.sanitized() and math.huge or 8 * 2 ^ 20 }
local KINDS = { "rss", "threads", "fds" }
M.FEWEST = 6 -- episodes that say something about growth

local READERS = { "durable", "ordered", "watch" }

local SCRIPT = [[
c:subscribe("version", function(msg) msg:respond($VERSION) end)
c:subscribe("flood", function()
  local till = moondog.now() + 0.0002
  while moondog.now() < till do end
end, { pending = { messages = 1000 } })
]]

-- ---- the world ----

-- A server's configuration, with moondog's user or without.
local function configuration(world, name, with_user)
  local users = { { user = "witness", password = "witness" } }
  if with_user then
    users[2] = { user = "moondog", password = "moondog" }
  end
  if name == "hub" then
    return { users = users, jetstream = { store_dir = run.folder() .. "/js", domain = "hub" },
      leafnodes = { listen = world.leaf_address, authorization = { user = "leaf", password = "leaf" } } }
  end
  -- What clients of the leaf ask JetStream goes to the hub's.
  return { users = users, default_js_domain = { ["$G"] = "hub" }, leafnodes = { reconnect = 1,
    remotes = { { url = "nats-leaf://leaf:leaf@" .. world.leaf_address } } } }
end

local function script_of_readers()
  local parts = {}
  for i, kind in ipairs(READERS) do
    parts[i] = reader.script(kind, { stream = "R", seen = "seen." .. kind })
  end
  return table.concat(parts)
end

local function make_servers(world)
  local stage = world.stage
  world.leaf_address = ("%s:%d"):format(network.host, network.free_port())
  world.configuration = function(name, with_user) return configuration(world, name, with_user) end
  world.servers, world.ways = {}, {}
  for _, name in ipairs { "hub", "leaf" } do
    local server = stage:server(world.configuration(name, true))
    world.servers[name] = server
    world.ways[name] = stage:proxy(server)
  end
  jetstream.add_stream(world.servers.hub, "S", { "s.>" })
  jetstream.add_stream(world.servers.hub, "R", { "r.>" })
end

-- Whoever makes a witness for the traffic: one at each server.
local function witnesses_of(world)
  local list = {}
  for _, server in pairs(world.servers) do
    list[#list + 1] = function() return server:connect() end
  end
  return list
end

local function make_world()
  local stage = fault.stage { moondog = true }
  local world = { stage = stage }
  make_servers(world)
  world.witnesses = witnesses_of(world)
  world.values = { VERSION = 1, PATH = run.folder() .. "/out.db", SIZE = 100, PAUSE = 0.02 }
  stage:start { urls = { world.ways.hub.url, world.ways.leaf.url }, user = "moondog", password = "moondog",
    options = "ignore_discovered = true,", script = outbox.script .. SCRIPT .. script_of_readers(),
    values = world.values, witnesses = world.witnesses }
  world.dog, world.text = stage.dog, stage.subjects.moondog.text
  jetstream.api(world.servers.hub, "STREAM.INFO.KV_B") -- until the script has made the bucket
  world.writer = reader.keep_writing(stage, world.servers.hub)
  return world
end

-- ---- an episode ----

-- Looks at the promises from here on. What was measured before the first episode stays the measure.
local function begin(world)
  local stage = world.stage
  stage.traffic:stop()
  stage.checks:stop()
  stage.wrong, stage.lost = {}, {}
  stage.checks = checks.start(stage.dog, stage.ports)
  stage.checks.before = world.before
  stage.traffic = traffic.start(world.witnesses, { "moondog" })
  stage:wait_pass()
  stage:fault()
end

local function do_damage(world, episode)
  local began, over = run.now(), 0
  for _, entry in ipairs(episode.faults) do
    run.spawn(function()
      run.pause(entry.at - episode.at)
      damage.play(world, entry)
      over = over + 1
    end)
  end
  run.wait_until(function() return over == #episode.faults end, FAULT_SECONDS, "the end of the faults")
  return run.now() - began
end

local function check_readers(world)
  local stage = world.stage
  world.writer.held = true
  stage:expect(function() return world.writer.idle end, 30, "the numbers are stored")
  for _, kind in ipairs(READERS) do
    reader.check(stage, world.servers.hub, { seen = "seen." .. kind, any_order = kind == "durable" })
  end
  world.writer.held = false
end

local function check_version(world)
  local witness = world.servers.hub:connect()
  local answer = witness:wait_answer("version", "", 10).data
  world.stage:check(answer == tostring(world.values.VERSION), "version %s of the script answers, %d was loaded", answer,
    world.values.VERSION)
  witness:close()
end

-- Waits until a message passes; returns how long that took after the cause was gone, or nil.
local function wait_return(stage, within)
  local function passed() return stage.traffic:passed("moondog", stage.over_at) end
  local limit = within + fault.ALLOWANCE_SECONDS
  if pcall(run.wait_until, passed, limit, "an answer") then
    return passed() - stage.over_at
  end
  stage:check(false, "5: deaf for more than %.0f s after the cause was gone, %g are promised", limit, within)
end

-- All that was promised, when the faults are over.
local function check(world, back)
  local stage = world.stage
  for _, way in pairs(world.ways) do
    way:end_swallowed() -- the server has its half of such a link until then
  end
  if back then
    check_readers(world)
    outbox.check_and_go_on(stage, world.servers.hub)
    check_version(world)
  end
  local found = stage.checks:finish(function() return stage:clients("moondog") end,
    function() return stage.traffic:gaps("moondog", stage.fault_at) end, not back)
  for _, text in ipairs(found) do
    table.insert(stage.wrong, text)
  end
end

local function seconds_deaf(stage)
  local seconds = 0
  for _, gap in ipairs(stage.traffic:gaps("moondog", stage.fault_at)) do
    seconds = seconds + ((gap.to - gap.from > QUIET_SECONDS) and gap.to - gap.from or 0)
  end
  return seconds
end

-- Plays an episode; returns { deaf, back, lost, sent, wrong, threads, fds, rss }: deaf for so many seconds in all,
-- back so long after the cause was gone.
local function play_episode(world, episode)
  local stage = world.stage
  begin(world)
  do_damage(world, episode)
  stage:over()
  local back = wait_return(stage, episode.within)
  check(world, back)
  local result = { back = back, deaf = seconds_deaf(stage), wrong = stage.wrong }
  result.lost, result.sent = stage.traffic:lost("moondog", stage.fault_at, not back)
  for _, kind in ipairs(KINDS) do
    result[kind] = stage.dog.process.exit and 0 or stage.dog[kind](stage.dog)
  end
  return result
end

-- What is made when it is first needed is made before anything is measured.
local WARM_UP = { at = 0, seconds = 0, within = 5, faults = {
  { at = 0, fault = "flood", args = { server = "hub", messages = 20000 }, seconds = 0 },
  { at = 0, fault = "reset", args = { server = "both" }, seconds = 0 },
  { at = 0, fault = "reload", args = {}, seconds = 0 },
} }

-- ---- a run ----

local function least(results, from, to, kind)
  local value = math.huge
  for i = from, to do
    value = math.min(value, results[i][kind])
  end
  return value
end

-- What has grown from the first third of a run to the last, as texts.
function M.growth(results)
  local wrong, third = {}, math.floor(#results / 3)
  for _, kind in ipairs(#results >= M.FEWEST and KINDS or {}) do
    local first, last = least(results, 1, third, kind), least(results, #results - third + 1, #results, kind)
    if last > first + GROWTH[kind] then
      wrong[#wrong + 1] = ("6: %s grew from %d to %d over the run, %d more are allowed"):format(kind, first, last,
        GROWTH[kind])
    end
  end
  return wrong
end

-- First, last and largest of what was seen of the process, as a text.
function M.figures(results)
  local out = {}
  for _, kind in ipairs(KINDS) do
    local scale = kind == "rss" and 2 ^ 20 or 1
    local peak = 0
    for _, result in ipairs(results) do
      peak = math.max(peak, result[kind])
    end
    out[#out + 1] = ("%s %.4g, %.4g, %.4g"):format(kind == "rss" and "MiB resident" or kind,
      results[1][kind] / scale, results[#results][kind] / scale, peak / scale)
  end
  return "first, last, most: " .. table.concat(out, "; ")
end

local function command(seed, minutes)
  return ("scripts/faults --random --seed %d --minutes %g"):format(seed, minutes)
end

local function line_of(number, episode, result)
  local words = {}
  for i, entry in ipairs(episode.faults) do
    words[i] = schedule.words(entry)
  end
  return ("%3d  deaf %5.1f s  back %s  lost %3d of %3d  %5.1f MiB  %-6s  %s\n"):format(number, result.deaf,
    result.back and ("%4.1f s"):format(result.back) or " never", result.lost, result.sent, result.rss / 2 ^ 20,
    #result.wrong == 0 and "ok" or "FAILED", table.concat(words, " + "))
end

local function play_all(episodes, say, results)
  local world = make_world()
  play_episode(world, WARM_UP)
  world.stage.checks:note_resources()
  world.before = world.stage.checks.before
  local began = run.now()
  for number, episode in ipairs(episodes) do
    run.pause(math.max(0, began + episode.at - run.now()))
    local result = play_episode(world, episode)
    results[number] = result
    say(line_of(number, episode, result))
    for _, text in ipairs(result.wrong) do
      say("       " .. text .. "\n")
    end
    if world.dog.process.exit then
      error("moondog has ended\n" .. world.dog:report(), 0)
    end
  end
end

-- Plays the schedule of a seed, or these episodes. say(text): takes what is to be told. Returns whether all was kept,
-- and the results of the episodes.
function M.play(seed, minutes, say, episodes)
  episodes = episodes or schedule.make(seed, minutes)
  say(("seed %d, %g min, %d episodes; to repeat it: %s\n"):format(seed, minutes, #episodes, command(seed, minutes)))
  local results, began = {}, run.now()
  local deadline = minutes * 60 + #episodes * CHECK_SECONDS + FAULT_SECONDS
  local ok, err = pcall(run.case(function() play_all(episodes, say, results) end, { deadline = deadline }))
  local wrong = M.growth(results)
  if not ok then
    table.insert(wrong, 1, tostring(err))
  end
  for _, text in ipairs(wrong) do
    say(text .. "\n")
  end
  local failed = 0
  for _, result in ipairs(results) do
    failed = failed + (#result.wrong > 0 and 1 or 0)
  end
  if #results > 0 then
    say(M.figures(results) .. "\n")
  end
  local kept = failed == 0 and #wrong == 0 and #results == #episodes
  say(("%d of %d episodes in %.0f s: %d failed%s\n"):format(#results, #episodes, run.now() - began, failed,
    kept and "" or ("; to repeat it: " .. command(seed, minutes))))
  return kept, results
end

return M
