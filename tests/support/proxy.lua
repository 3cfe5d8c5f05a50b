-- A TCP proxy with faults. "up" is from the client to the target, "down" the other way.
local uv = require "luv"
local network = require "support.network"
local run = require "support.run"

local M = {}
M.__index = M

local function close(socket, reset)
  if not socket:is_closing() then
    if reset then
      socket:close_reset()
    else
      socket:close()
    end
  end
end

local function drop(self, link, reset)
  close(link.client, reset)
  close(link.target)
  self.links[link] = nil
end

-- The link ends with the last byte that this chunk may have; true when it does.
local function cut(self, link, direction, to, chunk)
  local limit = link.limits[direction]
  if not limit or #chunk < limit.left then
    if limit then
      limit.left = limit.left - #chunk
    end
    return false
  end
  local function over() drop(self, link, limit.reset) end
  if limit.left == 0 then
    over()
  else
    to:write(chunk:sub(1, limit.left), over)
  end
  limit.left = 0
  return true
end

-- Piece by piece, with a pause behind each; what comes meanwhile has to wait.
local function trickle(self, link, direction, to, chunk)
  local waiting = link.waiting[direction]
  link.waiting[direction] = (waiting or "") .. chunk
  if waiting then
    return
  end
  local timer = uv.new_timer()
  local slice = self.slice
  timer:start(0, math.max(1, math.ceil(slice.pause * 1000)), function()
    local rest = link.waiting[direction]
    if rest == "" or to:is_closing() then
      timer:close()
      link.waiting[direction] = nil
      return
    end
    local size = slice.bytes
    if rest:sub(size, size + 1) == "\r\n" and slice.whole_ends then
      size = size + 1
    end
    link.waiting[direction] = rest:sub(size + 1)
    if not link.holes[direction] then
      to:write(rest:sub(1, size))
    end
  end)
end

local function forward(self, link, direction, to, chunk)
  if link.holes[direction] or to:is_closing() or cut(self, link, direction, to, chunk) then
    return
  end
  if self.slice then
    trickle(self, link, direction, to, chunk)
    return
  end
  local queue = link.late[direction]
  if self.delay == 0 and #queue == 0 then
    to:write(chunk)
    return
  end
  queue[#queue + 1] = chunk
  local timer = uv.new_timer() -- whichever fires writes the oldest: a shorter delay must not overtake a longer one
  timer:start(math.ceil(self.delay * 1000), 0, function()
    timer:close()
    local oldest = table.remove(queue, 1)
    if not to:is_closing() and not link.holes[direction] then
      to:write(oldest)
    end
  end)
end

local function read(self, link, direction, from, to)
  from:read_start(run.callback(function(_, chunk)
    if chunk then
      self.bytes[direction] = self.bytes[direction] + #chunk
      forward(self, link, direction, to, chunk)
    elseif not link.holes[direction] then -- in a black hole a FIN is lost as well
      close(link.client)
      close(link.target)
      self.links[link] = nil
    end
  end))
end

local function start_reading(self, link)
  if link.open and not link.client:is_closing() and not link.target:is_closing() then
    read(self, link, "up", link.client, link.target)
    read(self, link, "down", link.target, link.client)
  end
end

local function accept(self)
  local link = { client = uv.new_tcp(), target = uv.new_tcp(), late = { up = {}, down = {} },
    holes = { up = self.holes.up, down = self.holes.down }, limits = self.limits, waiting = {} }
  self.limits = {}
  self.socket:accept(link.client)
  self.accepted = self.accepted + 1
  if self.locked then
    close(link.client, true)
    close(link.target)
    return
  end
  self.links[link] = true
  link.target:connect(self.target_host, self.target_port, run.callback(function(err)
    if err then
      close(link.client, true)
      close(link.target)
      self.links[link] = nil
      return
    end
    link.open = true
    link.client:nodelay(true)
    link.target:nodelay(true)
    if not self.paused then
      start_reading(self, link)
    end
  end))
end

-- target: { port, host }. options: host, port, where it listens.
function M.start(target, options)
  options = options or {}
  local self = setmetatable({ target_host = target.host or network.host, target_port = target.port,
    host = options.host or network.host, port = options.port or network.free_port(), links = {}, holes = {},
    limits = {}, delay = 0, accepted = 0, bytes = { up = 0, down = 0 } }, M)
  self.url = ("nats://%s:%d"):format(self.host, self.port)
  self.socket = uv.new_tcp()
  assert(self.socket:bind(self.host, self.port))
  assert(self.socket:listen(128, run.callback(function(err)
    assert(not err, err)
    accept(self)
  end)))
  return self
end

-- Bytes vanish in this direction ("up", "down", "both"), nothing is closed. options.existing:
-- only on the links that there are, new ones work.
function M:blackhole(direction, options)
  local function swallow(holes)
    holes.up = holes.up or direction ~= "down"
    holes.down = holes.down or direction ~= "up"
  end
  for link in pairs(self.links) do
    swallow(link.holes)
  end
  if not (options and options.existing) then
    swallow(self.holes)
  end
end

-- Lets bytes through again; what vanished is lost. options.new_only: on links that come from now on.
function M:heal(options)
  self.holes = {}
  for link in pairs(options and options.new_only and {} or self.links) do
    link.holes = {}
  end
end

-- New links are reset at once, until unlock().
function M:lock()
  self.locked = true
end

function M:unlock()
  self.locked = false
end

-- No bytes are taken any more, so that the sender's socket fills up.
function M:pause()
  self.paused = true
  for link in pairs(self.links) do
    link.client:read_stop()
    link.target:read_stop()
  end
end

function M:resume()
  self.paused = false
  for link in pairs(self.links) do
    start_reading(self, link)
  end
end

-- Every byte arrives so many seconds later.
function M:latency(seconds)
  self.delay = seconds
end

-- What passes is cut into pieces of so many bytes, with a pause behind each: that is a slow line, too.
-- options.whole_ends: "\r\n" stays in one piece.
function M:cut_up(bytes, pause, options)
  self.slice = { bytes = bytes, pause = pause, whole_ends = options and options.whole_ends }
end

function M:be_whole()
  self.slice = nil
end

-- The next new link ends behind so many bytes in this direction; with RST, when reset is true.
function M:end_after(direction, bytes, reset)
  self.limits = { [direction] = { left = bytes, reset = reset } }
end

-- The links that there are end behind so many bytes more.
function M:end_links_after(direction, bytes, reset)
  for link in pairs(self.links) do
    link.limits = { [direction] = { left = bytes, reset = reset } }
  end
end

-- All links end, with RST.
function M:reset()
  for link in pairs(self.links) do
    close(link.client, true)
    close(link.target)
  end
  self.links = {}
end

-- The links that a black hole has swallowed end, as they do when the kernels give them up.
function M:end_swallowed()
  for link in pairs(self.links) do
    if link.holes.up or link.holes.down then
      close(link.client, true)
      close(link.target, true)
      self.links[link] = nil
    end
  end
end

function M:count()
  local count = 0
  for _ in pairs(self.links) do
    count = count + 1
  end
  return count
end

return M
