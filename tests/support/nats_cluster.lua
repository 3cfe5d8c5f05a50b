-- Three real nats-servers with JetStream that form a cluster, on this process's loopback address.
--
--   local cluster = nats_cluster.start()
--   local npm = npm_client.start(cluster.urls)
--   npm:call("stream_add", { config = { name = "S", subjects = { "s" }, num_replicas = 3 } })
--   local i = cluster:kill_leader_of("S")
--   cluster:leader_of("S") -- the number of the next one
--   cluster:restart(i)
--   cluster:wait_healthy()
--
-- An election takes the servers 4 to 9 s, so deadlines are long. The servers are killed at the
-- test's end, and their files go with its folder.
local cjson = require "cjson"
local http = require "support.http"
local nats_server = require "support.nats_server"
local network = require "support.network"
local run = require "support.run"

local M = {}
M.__index = M

local SIZE = 3
local HEALTHY_SECONDS = 40
local STARTS = 4
local BEGINNING_SECONDS = 15 -- most take one
local ELECTION_SECONDS = 30
local POLL_SECONDS = 0.05 -- asked more often, the servers' logs hold nothing else
local PAGE_SECONDS = 1 -- a server of this machine that does not answer within that hangs
local counter = 0

-- ---- the servers' own view ----

-- A monitoring page of a server as a table, or nil: it does not run, or does not say.
local function page_of(self, i, name)
  if not self:runs(i) then
    return nil
  end
  local status, body = http.get(self.servers[i].http_port, "/" .. name, PAGE_SECONDS)
  local ok, page = pcall(cjson.decode, status == 200 and body or "")
  return ok and page or nil
end

local function rows(list)
  return type(list) == "table" and list or {} -- it may be null
end

-- The streams that server i has a replica of, as it tells: each with its name, config, cluster
-- (leader, replicas) and consumer_detail. nil: the server does not answer.
function M:streams_of(i)
  local page = page_of(self, i, "jsz?accounts=1&streams=1&consumers=1&config=1")
  if not page then
    return nil
  end
  local found = {}
  for _, account in ipairs(rows(page.account_details)) do
    for _, stream in ipairs(rows(account.stream_detail)) do
      found[#found + 1] = stream
    end
  end
  return found
end

-- The number of the server with that name.
function M:number_of(name)
  for i, server in ipairs(self.servers) do
    if server.name == name then
      return i
    end
  end
end

-- The number of the server that leads what find(i) returns from that server's own page: only a
-- server's word about itself is good, the others may not know yet.
local function find_leader(self, find)
  for i, server in ipairs(self.servers) do
    local group = find(i)
    if group and group.leader == server.name then
      return i
    end
  end
end

local function wait_leader(self, find, deadline, what)
  return run.wait_until(function() return find_leader(self, find) end, deadline or ELECTION_SECONDS,
    "a leader of " .. what)
end

-- Waits for the leader of a stream, and returns the number of that server.
function M:leader_of(stream, deadline)
  return wait_leader(self, function(i)
    for _, detail in ipairs(self:streams_of(i) or {}) do
      if detail.name == stream then
        return detail.cluster
      end
    end
  end, deadline, "stream " .. stream)
end

function M:leader_of_consumer(stream, consumer, deadline)
  return wait_leader(self, function(i)
    for _, detail in ipairs(self:streams_of(i) or {}) do
      for _, info in ipairs(detail.name == stream and rows(detail.consumer_detail) or {}) do
        if info.name == consumer then
          return info.cluster
        end
      end
    end
  end, deadline, ("consumer %s of stream %s"):format(consumer, stream))
end

-- The server that decides where streams are.
function M:meta_leader(deadline)
  return wait_leader(self, function(i)
    local page = page_of(self, i, "jsz")
    return page and page.meta_cluster
  end, deadline, "the cluster")
end

-- ---- health ----

-- What is wrong with a stream that server `name` has a replica of, or nil, in its leader's eyes.
local function trouble_of_stream(stream, name)
  local current = 1 -- the leader
  if rows(stream.cluster).leader ~= name then
    return nil
  end
  for _, replica in ipairs(rows(stream.cluster.replicas)) do
    if replica.offline or not replica.current then
      return ("stream %s: %s is %s"):format(stream.name, replica.name,
        replica.offline and "offline" or "behind")
    end
    current = current + 1
  end
  if current < stream.config.num_replicas then
    return ("stream %s has %d replicas of %d"):format(stream.name, current,
      stream.config.num_replicas)
  end
end

-- What is wrong with what server i has, or nil. led["stream S"] becomes whether a server leads it.
-- The replicas of a consumer are not looked at: this server calls them behind after a restart until
-- the consumer has something to do.
local function trouble_of_streams(self, i, led)
  local name = self.servers[i].name
  local trouble
  local function note(group, what)
    led[what] = led[what] or rows(group).leader == name
  end
  for _, stream in ipairs(self:streams_of(i) or {}) do
    note(stream.cluster, "stream " .. stream.name)
    for _, consumer in ipairs(rows(stream.consumer_detail)) do
      note(consumer.cluster, ("consumer %s of stream %s"):format(consumer.name, stream.name))
    end
    trouble = trouble or trouble_of_stream(stream, name)
  end
  return trouble
end

-- What is wrong with the group of all servers, or nil.
local function trouble_of_meta(self, running)
  local leader = find_leader(self, function(i)
    local page = page_of(self, i, "jsz")
    return page and page.meta_cluster
  end)
  if not leader then
    return "the cluster has no leader"
  end
  local meta = page_of(self, leader, "jsz")
  local others = 0
  for _, replica in ipairs(meta and rows(meta.meta_cluster.replicas) or {}) do
    others = others + ((replica.current and not replica.offline) and 1 or 0)
  end
  if others + 1 < running then
    return ("the cluster has %d servers of %d"):format(others + 1, running)
  end
end

-- What is wrong with the cluster in the eyes of the servers that run, or nil.
function M:trouble()
  local running, led = 0, {}
  for i, server in ipairs(self.servers) do
    if self:runs(i) then
      running = running + 1
      if not page_of(self, i, "healthz?js-server-only=1") then
        return server.name .. " is not healthy"
      end
    end
  end
  local failed = trouble_of_meta(self, running)
  if failed then
    return failed
  end
  for i in ipairs(self.servers) do
    local trouble = trouble_of_streams(self, i, led)
    if trouble and running == #self.servers then
      return trouble
    end
  end
  for what, is_led in pairs(led) do
    if not is_led then
      return what .. " has no leader"
    end
  end
end

-- Waits until the cluster has a leader, and every stream and consumer one, too; with all servers
-- running also until their replicas have everything.
function M:wait_healthy(deadline)
  local trouble
  run.wait_until(function()
    trouble = self:trouble()
    if trouble then
      run.pause(POLL_SECONDS)
    end
    return not trouble
  end, deadline or HEALTHY_SECONDS, function()
    return "a healthy cluster: " .. tostring(trouble)
  end)
end

-- ---- servers come and go ----

function M:runs(i)
  local server = self.servers[i]
  return not server.process.exit and not server.frozen
end

function M:kill(i)
  self.servers[i]:kill()
  self.servers[i].frozen = false
end

-- SIGSTOP: its connections stay open, and nobody answers.
function M:freeze(i)
  self.servers[i]:stop()
  self.servers[i].frozen = true
end

function M:thaw(i)
  self.servers[i]:cont()
  self.servers[i].frozen = false
end

-- A new process with the files of the one that was killed. It does not wait for its replicas.
function M:restart(i)
  self.servers[i]:restart()
end

-- Returns the number of the killed server.
function M:kill_leader_of(stream, deadline)
  local i = self:leader_of(stream, deadline)
  self:kill(i)
  return i
end

-- Kills all of them; a test's end does so, too.
function M:stop()
  for i, server in ipairs(self.servers) do
    if not server.process.exit then
      self:kill(i)
    end
  end
end

-- A witness at server i, or at the first that runs.
function M:connect(i)
  for number = i or 1, i or #self.servers do
    if self:runs(number) then
      return self.servers[number]:connect()
    end
  end
  error("no server runs", 2)
end

local function launch(config)
  counter = counter + 1
  local self = setmetatable({ servers = {}, urls = {} }, M)
  local routes, ports = {}, {}
  for i = 1, SIZE do
    ports[i] = network.free_port()
    routes[i] = ("nats-route://%s:%d"):format(network.host, ports[i])
  end
  for i = 1, SIZE do
    local own = {
      cluster = { name = "cluster" .. counter, listen = network.host .. ":" .. ports[i],
        routes = routes },
      jetstream = { store_dir = ("%s/cluster%d-%d"):format(run.folder(), counter, i) },
    }
    for key, value in pairs(config or {}) do
      own[key] = value
    end
    self.servers[i] = nats_server.start(own)
    self.urls[i] = self.servers[i].url
  end
  return self
end

-- config: more for each server's file (no jetstream, cluster or port). Waits until it is healthy.
-- Of new clusters of nats-server 2.10, which nobody else talks to yet, one in twenty never is: two have
-- a leader, and the third stays outside. That is no cluster; another one is started.
function M.start(config)
  for attempt = 1, STARTS do
    local self = launch(config)
    local last = attempt == STARTS or not self.servers[1]:version():find("^2%.10%.")
    local ok, err = pcall(self.wait_healthy, self, not last and BEGINNING_SECONDS or nil)
    if ok then
      return self
    elseif last then
      error(err, 0)
    end
    self:stop()
  end
end

return M
