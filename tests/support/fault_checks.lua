-- What must hold for moondog in every fault (the invariants of the fault suite), seen from outside:
-- through /readyz, /metrics, /proc, its log, and the servers' own lists of clients.
--
--   1  there is a live link, a dial under way or one that is scheduled
--   2  at most one dial and one link; no zombie is left at a server
--   4  /readyz does not say ready for longer than 10 s while nothing passes, and is ready when it does
--   6  descriptors, threads and memory are what they were before
--
-- The third (the outbox) and the fifth (recovery in time) are judged by the rows.
local health = require "support.health"
local moondog = require "support.moondog"
local run = require "support.run"
local uv = require "luv"

local M = {}
M.__index = M

local TRUTH_SECONDS = 10
local LATE_SECONDS = 0.5 -- a sample, or an answer, may be late by this much on a loaded machine
local SETTLE_SECONDS = 15 -- for links that were given up to go, and for what they held
local HOPELESS_SECONDS = 2 -- the same, when moondog is deaf anyway
local SOCKETS_SECONDS = 0.25 -- between two looks at the sockets
local SOCKETS_TIMES = 4 -- a number that is too high so often in a row is no glimpse of a change
-- What the process may have more than before, once: the four threads of libuv's pool and what else is
-- made when it is first needed, and what an allocator keeps.
local MORE = { threads = 6, fds = 4, rss = moondog.sanitized() and math.huge or 24 * 2 ^ 20 }

local STATES = { dialing = true, up = true, reconnecting = true, closed = true }
local ESTABLISHED, SYN_SENT = "01", "02"
-- A line of /proc/net/tcp: the other side's port, the state, the inode.
local SOCKET = "^%s*%d+: %S+ %x+:(%x+) (%x%x) %S+ %S+ %S+%s+%d+%s+%d+ (%d+)"

local function read(path)
  local file = io.open(path)
  local text = file and file:read("*a") or ""
  if file then
    file:close()
  end
  return text
end

-- How many TCP connections of the process to these ports are open, or on the way to be.
local function count_links(pid, ports)
  local own = {}
  local entries = uv.fs_scandir(("/proc/%d/fd"):format(pid))
  while entries do
    local name = uv.fs_scandir_next(entries)
    if not name then
      break
    end
    local target = uv.fs_readlink(("/proc/%d/fd/%s"):format(pid, name))
    local inode = target and target:match("^socket:%[(%d+)%]$")
    if inode then
      own[inode] = true
    end
  end
  local count, shown = 0, {}
  for line in read(("/proc/%d/net/tcp"):format(pid)):gmatch("[^\n]+") do
    local port, state, inode = line:match(SOCKET)
    local open = state == ESTABLISHED or state == SYN_SENT
    if open and own[inode] and ports[tonumber(port, 16)] then
      count = count + 1
      shown[count] = ("%d %s"):format(tonumber(port, 16), state == SYN_SENT and "asked" or "open")
    end
  end
  return count, table.concat(shown, ", ")
end

local function watch_sockets(self)
  local dog, times = self.dog, 0
  while not self.stopped and not dog.process.exit do
    local links, shown = count_links(dog.pid, self.ports)
    local status, page = pcall(health.metric, dog, "moondog_hanging_links")
    local allowed = self.limit + (status and page or 0)
    times = links > allowed and times + 1 or 0
    if times == SOCKETS_TIMES then
      table.insert(self.wrong, ("2: %d links or dials at a time, %d are allowed: to the ports %s")
        :format(links, allowed, shown))
    end
    run.pause(SOCKETS_SECONDS)
  end
end

-- dog: of health.run(), with a connection "moondog"; self.limit: how many connections it has; self.room:
-- bytes that they may have come to use all together. ports: the set of those on which its servers, or
-- the ways to them, listen.
function M.start(dog, ports)
  local self = setmetatable({ dog = dog, ports = ports, limit = 1, room = 0, wrong = {} }, M)
  self.sampler = health.sample(dog)
  run.spawn(function() watch_sockets(self) end)
  return self
end

local function resources(dog)
  return { threads = dog:threads(), fds = dog:fds(), rss = dog:rss() }
end

function M:note_resources()
  self.before = resources(self.dog)
end

-- Bytes of resident memory that came to it since then; 0 where a sanitizer has its own.
function M:growth()
  return moondog.sanitized() and 0 or self.dog:rss() - self.before.rss
end

-- ---- at the end ----

local function check_schedule(self)
  for _, sample in ipairs(self.sampler.samples) do
    local reason = sample.status == 503 and health.reason_of(sample.body, "moondog")
    if reason and not (STATES[reason.state] and #reason.plan > 10) then
      -- The first look may come before the first dial.
      if reason.state ~= "idle" or (reason.attempt or 0) > 0 or self.began then
        table.insert(self.wrong, ("1: no dial is scheduled: %s, %s"):format(reason.state, reason.plan))
        return
      end
    elseif reason then
      self.began = true
    end
  end
end

local function check_truth(self, gaps)
  for _, gap in ipairs(gaps) do
    for _, sample in ipairs(self.sampler.samples) do
      if sample.status == 200 and sample.asked > gap.from + TRUTH_SECONDS + LATE_SECONDS
        and sample.at < gap.to - LATE_SECONDS then
        table.insert(self.wrong, ("4: ready %.1f s after the last message had passed"):format(
          sample.at - gap.from))
        return
      end
    end
  end
end

-- Waits for a condition, and notes what is wrong when it does not come; what: a text or a function.
local function expect(self, condition, what)
  if not pcall(run.wait_until, condition, self.deaf and HOPELESS_SECONDS or SETTLE_SECONDS, "it") then
    table.insert(self.wrong, type(what) == "function" and what() or what)
  end
end

local function check_resources(self)
  local before, after = self.before, nil
  local grown
  expect(self, function()
    after = resources(self.dog)
    grown = nil
    for name, more in pairs(MORE) do
      if after[name] > before[name] + more + (name == "rss" and self.room or 0) then
        grown = name
      end
    end
    return not grown
  end, function()
    return ("6: %s were %d and are %d"):format(grown, before[grown], after[grown])
  end)
end

-- Looks no longer.
function M:stop()
  self.stopped = true
  self.sampler:stop()
end

-- Checks all of it, when the fault is over. count_clients(): how many links of moondog the servers
-- have. gaps(): the times in which nothing passed. deaf: whether it is so still. Returns the list of
-- what is wrong; the numbers are those of the invariants.
function M:finish(count_clients, gaps, deaf)
  if self.dog.process.exit then
    return { "1: moondog has ended" }
  end
  self.deaf = deaf
  if not deaf then
    expect(self, function() return (health.get(self.dog, "/readyz")) == 200 end,
      "4: not ready, although messages pass")
  end
  local clients
  expect(self, function()
    clients = count_clients()
    return clients == 1
  end, function() return ("2: the servers have %d links of it"):format(clients) end)
  if self.before then
    check_resources(self)
  end
  self:stop()
  check_schedule(self)
  check_truth(self, gaps())
  return self.wrong
end

return M
