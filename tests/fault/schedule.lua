-- The schedule of a random run of the fault suite: what is done, when, to what, for how long. It is a
-- pure function of the seed and the minutes, so that a run that failed can be repeated.
--
-- A schedule is a list of episodes, { at, seconds, within, faults = { { at, fault, args, seconds } } }; times
-- are seconds since the run began. The faults of an episode may overlap; after it comes a calm, in which the
-- promises are checked. within: how soon after its end moondog is to be back.
local M = {}

local CALM_SECONDS = 8 -- after an episode: most of it is what the checks take
local SPREAD_SECONDS = 3 -- between the beginnings of an episode's faults
local SHORTEST, LONGEST = 0.3, 12
local BACKOFF_STEP = 5 -- what moondog promises when the cause is gone
local PROBE_OR_DIAL = 20 -- the same where nothing tells it that: a dial's deadline and a step, or two probes
-- How many faults an episode has.
local COUNTS = { 1, 1, 2, 2, 2, 3 }

-- "Minimal standard" generator: the same numbers on every machine, and nobody else's.
local function generator(seed)
  local state = seed % 2147483646 + 1
  local self = {}
  function self.number(from, to)
    state = state * 48271 % 2147483647
    return from + (to - from) * state / 2147483647
  end
  function self.integer(from, to)
    return math.min(to, math.floor(self.number(from, to + 1)))
  end
  function self.one_of(list)
    return list[self.integer(1, #list)]
  end
  for _ = 1, 3 do -- the first ones are near each other when the seeds are
    self.number(0, 1)
  end
  return self
end

local function tenths(number)
  return math.floor(number * 10 + 0.5) / 10
end

-- Short ones are as likely as long ones of the same order.
local function duration(random)
  return tenths(math.exp(random.number(math.log(SHORTEST), math.log(LONGEST))))
end

local PLACES = { "hub", "leaf", "both", "both" }

-- Each kind: the place that it takes for itself while it lasts (two faults of an episode never want the
-- same one), whether it lasts, and its arguments besides the servers.
local KINDS = {
  kill = { place = "server", lasts = true },
  freeze = { place = "server", lasts = true },
  user = { place = "server", lasts = true },
  blackhole = { place = "way", lasts = true, args = function(random)
    return { direction = random.one_of { "up", "down", "both" }, existing = random.one_of { true, false },
      left = random.one_of { true, false } }
  end },
  lock = { place = "way", lasts = true, args = function(random)
    return { reset = random.one_of { true, true, false } }
  end },
  latency = { place = "way", lasts = true, args = function(random)
    return { by = tenths(random.number(0.05, 3)) }
  end },
  pause = { place = "way", lasts = true },
  reset = { place = "way" },
  reload = { place = "script" },
  sighup = { place = "script" },
  bad_reload = { place = "script", args = function(random)
    return { script = random.one_of { "syntax", "raises", "endless" } }
  end },
  flood = { place = "server", args = function(random)
    return { messages = random.integer(5, 30) * 1000 }
  end },
  forget = { place = "server", server = "hub" }, -- its JetStream forgets the consumers
}

-- The names of all kinds.
M.kinds = {}
for name in pairs(KINDS) do
  table.insert(M.kinds, name)
end
table.sort(M.kinds)

-- A bag of all kinds in a random order, again and again: none is missing for long. put_back() is for one
-- that cannot be used now.
local function new_bag(random)
  local bag = {}
  local self = {}
  function self.draw()
    if #bag == 0 then
      bag = { unpack(M.kinds) }
      for i = #bag, 2, -1 do
        local j = random.integer(1, i)
        bag[i], bag[j] = bag[j], bag[i]
      end
    end
    return table.remove(bag)
  end
  function self.put_back(name)
    table.insert(bag, name)
  end
  return self
end

local function places_of(kind, server)
  if kind.place == "script" then
    return { "script" }
  elseif server == "both" then
    return { kind.place .. " hub", kind.place .. " leaf" }
  end
  return { kind.place .. " " .. server }
end

-- Where a fault is to go, among what the episode's others have left. nil: there is no place.
local function choose_place(random, kind, taken)
  local wanted = kind.server or kind.place ~= "script" and random.one_of(PLACES) or "script"
  if kind.place == "server" and wanted == "both" and not kind.lasts then
    wanted = "hub" -- one flood is enough
  end
  for _, server in ipairs { wanted, not kind.server and "hub" or nil, not kind.server and "leaf" or nil } do
    local free = true
    for _, place in ipairs(places_of(kind, server)) do
      free = free and not taken[place]
    end
    if free then
      return server
    end
  end
end

local function make_fault(random, name, server, at)
  local kind = KINDS[name]
  local args = kind.args and kind.args(random) or {}
  if server ~= "script" then
    args.server = server
  end
  return { at = tenths(at), fault = name, args = args, seconds = kind.lasts and duration(random) or 0 }
end

local function make_episode(random, bag, at)
  local episode = { at = tenths(at), seconds = 0, within = BACKOFF_STEP, faults = {} }
  local taken = {}
  for _ = 1, random.one_of(COUNTS) do
    local name = bag.draw()
    local server = choose_place(random, KINDS[name], taken)
    if not server then
      bag.put_back(name)
      break
    end
    for _, place in ipairs(places_of(KINDS[name], server)) do
      taken[place] = true
    end
    local begin = #episode.faults == 0 and at or at + random.number(0, SPREAD_SECONDS)
    local fault = make_fault(random, name, server, begin)
    table.insert(episode.faults, fault)
    episode.seconds = math.max(episode.seconds, tenths(fault.at + fault.seconds - episode.at))
    episode.within = fault.args.left and PROBE_OR_DIAL or episode.within
  end
  table.sort(episode.faults, function(a, b) return a.at < b.at end)
  return episode
end

-- The schedule for so many minutes, at least one episode.
function M.make(seed, minutes)
  local random = generator(seed)
  local bag = new_bag(random)
  local episodes, at = {}, 0
  repeat
    local episode = make_episode(random, bag, at)
    episodes[#episodes + 1] = episode
    at = at + episode.seconds + CALM_SECONDS
  until at >= minutes * 60
  return episodes
end

-- ---- as text ----

-- A fault in words: "kill hub 3.2 s", "bad_reload (script raises)".
function M.words(fault)
  local names, more = {}, {}
  for name in pairs(fault.args) do
    if name ~= "server" then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  for i, name in ipairs(names) do
    local value = fault.args[name]
    more[i] = value == true and name or value == false and "not " .. name or ("%s %s"):format(name, tostring(value))
  end
  local words = { fault.fault }
  if fault.args.server then
    table.insert(words, fault.args.server)
  end
  if #more > 0 then
    table.insert(words, "(" .. table.concat(more, ", ") .. ")")
  end
  if fault.seconds > 0 then
    table.insert(words, ("%.1f s"):format(fault.seconds))
  end
  return table.concat(words, " ")
end

-- The whole schedule, a line for each fault.
function M.text(episodes)
  local out = {}
  for number, episode in ipairs(episodes) do
    for _, fault in ipairs(episode.faults) do
      out[#out + 1] = ("%4d %8.1f s  %s\n"):format(number, fault.at, M.words(fault))
    end
  end
  return table.concat(out)
end

return M
