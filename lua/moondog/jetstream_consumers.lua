--- Consumers of streams: what a script says of one, as the server wants it; and the calls that make, find and end
--- them. How one is read, and brought back, is in consumer.lua. Called by jetstream.lua with what it shares; returns
--- the methods.
local host = ...

local type, tostring, pairs, ipairs = type, tostring, pairs, ipairs
local error = error
local floor = math.floor

local NANO = host.NANO
local LISTED_MAX = 1000 -- pages of a list

-- ---- options ----

local function text(value, key)
  if type(value) ~= "string" or value == "" then error(("consumer: %s is a text"):format(key), 0) end
  return value
end

local function seconds(value, key)
  if type(value) ~= "number" or value < 0 then error(("consumer: %s is a number of seconds"):format(key), 0) end
  return floor(value * NANO + 0.5)
end

local function count(value, key)
  if type(value) ~= "number" or value < 0 or value ~= floor(value) then
    error(("consumer: %s is a whole number"):format(key), 0)
  end
  return value
end

local function flag(value, key)
  if type(value) ~= "boolean" then error(("consumer: %s is true or false"):format(key), 0) end
  return value
end

local function one_of(...)
  local allowed = { ... }
  return function(value, key)
    for _, name in ipairs(allowed) do
      if value == name then return value end
    end
    error(("consumer: %s is one of %s, not \"%s\""):format(key, table.concat(allowed, ", "), tostring(value)), 0)
  end
end

local function delays(value, key)
  if type(value) ~= "table" then error(("consumer: %s is a list of seconds"):format(key), 0) end
  local out = {}
  for i, delay in ipairs(value) do out[i] = seconds(delay, key) end
  return out
end

--- What a script calls it: what the server calls it, and how it is read.
local FIELDS = {
  durable = { "durable_name", text }, name = { "name", text }, filter = { "filter_subject", text },
  description = { "description", text },
  deliver = { "deliver_policy", one_of("all", "last", "new", "last_per_subject") },
  start_seq = { "opt_start_seq", count }, start_time = { "opt_start_time", text },
  ack = { "ack_policy", one_of("explicit", "none", "all") }, ack_wait = { "ack_wait", seconds },
  max_deliver = { "max_deliver", count }, backoff = { "backoff", delays },
  max_ack_pending = { "max_ack_pending", count }, max_waiting = { "max_waiting", count },
  inactive_threshold = { "inactive_threshold", seconds }, headers_only = { "headers_only", flag },
  replicas = { "num_replicas", count }, memory = { "mem_storage", flag },
  replay = { "replay_policy", one_of("instant", "original") },
}

--- How it is pulled: the default, the least and the most.
local PULL = {
  batch = { 256, 1, 65536 }, max_bytes = { nil, 1, 2 ^ 30 }, heartbeat = { 5, 0.1, 60 }, expires = { 30, 1, 3600 },
}

local function list_names(allowed)
  local names = {}
  for name in pairs(allowed or FIELDS) do names[#names + 1] = name end
  for name in pairs(PULL) do names[#names + 1] = name end
  table.sort(names)
  return table.concat(names, ", ")
end

local function read_pull(key, value)
  local range = PULL[key]
  local whole = key == "batch" or key == "max_bytes"
  if type(value) ~= "number" or not (value >= range[2] and value <= range[3]) or (whole and value ~= floor(value)) then
    local kind = whole and "whole number" or "number"
    error(("consumer: %s is a %s from %s to %s"):format(key, kind, range[2], range[3]), 0)
  end
  return value
end

--- What is said of a consumer: its configuration for the server, how it is pulled, and whether anything but its name
--- is said of it. `allowed`: of FIELDS; nil: all.
local function read(spec, allowed)
  if type(spec) ~= "table" then error("a consumer is described by a table", 0) end
  local config, pull, described = {}, {}, false
  for key, range in pairs(PULL) do pull[key] = range[1] end
  for key, value in pairs(spec) do
    local field = FIELDS[key]
    if field and (not allowed or allowed[key]) then
      config[field[1]] = field[2](value, key)
      described = described or (key ~= "durable" and key ~= "name")
    elseif PULL[key] then
      pull[key] = read_pull(key, value)
    else
      error(("unknown option \"%s\" of a consumer: there are %s"):format(tostring(key), list_names(allowed)), 0)
    end
  end
  if pull.heartbeat * 2 >= pull.expires then error("consumer: expires is more than twice the heartbeat", 0) end
  if config.opt_start_seq then config.deliver_policy = "by_start_sequence" end
  if config.opt_start_time then config.deliver_policy = "by_start_time" end
  config.deliver_policy = config.deliver_policy or "all"
  if config.deliver_policy == "last_per_subject" then -- the server wants to hear of which ones
    config.filter_subject = config.filter_subject or ">"
  end
  config.ack_policy = config.ack_policy or "explicit"
  config.replay_policy = config.replay_policy or "instant"
  if config.durable_name then config.name = config.durable_name end
  return config, pull, described
end

--- read() for methods that a script calls: its errors are the script's.
local function checked(level, ...)
  local ok, config, pull, described = pcall(read, ...)
  if not ok then error(config, level + 1) end
  return config, pull, described
end

-- ---- on the wire ----

local TIMES = { "ack_wait", "inactive_threshold" }

local CONSUMER_INFO = {
  config = {
    ack_wait = "number?", inactive_threshold = "number?", num_replicas = "number?",
    backoff = { "number", missing = true },
  },
  num_pending = "number", num_ack_pending = "number", num_waiting = "number?",
  delivered = { stream_seq = "number", consumer_seq = "number?" }, ack_floor = { stream_seq = "number" },
}

local function from_wire(info)
  local config = info.config
  for _, key in ipairs(TIMES) do
    if config[key] then config[key] = config[key] / NANO end
  end
  for i, delay in ipairs(config.backoff or {}) do config.backoff[i] = delay / NANO end
  return info
end

--- Makes the consumer, or changes the one with its name.
local function create(js, stream, config)
  return host.call(js, ("CONSUMER.CREATE.%s.%s"):format(stream, config.name), CONSUMER_INFO,
    { stream_name = stream, config = config })
end

host.create_consumer = create
host.read_consumer = checked
host.consumer_from_wire = from_wire
host.CONSUMER_INFO = CONSUMER_INFO

-- ---- methods ----

local M = {}

function M:add_consumer(stream, spec)
  host.check_name(stream, "stream")
  local config = checked(2, spec)
  host.check_name(config.name, "consumer")
  local info, err = create(self, stream, config)
  if not info then return nil, err end
  return from_wire(info)
end

function M:consumer_info(stream, name)
  host.check_name(stream, "stream")
  host.check_name(name, "consumer")
  local info, err = host.call(self, ("CONSUMER.INFO.%s.%s"):format(stream, name), CONSUMER_INFO)
  if not info then return nil, err end
  return from_wire(info)
end

function M:consumers(stream)
  host.check_name(stream, "stream")
  local list, shape = {}, { total = "number", consumers = { CONSUMER_INFO, missing = true } }
  for _ = 1, LISTED_MAX do
    local page, err = host.call(self, "CONSUMER.LIST." .. stream, shape, { offset = #list })
    if not page then return nil, err end
    for _, info in ipairs(page.consumers or {}) do list[#list + 1] = from_wire(info) end
    if #list >= page.total or not page.consumers or #page.consumers == 0 then break end
  end
  return list
end

function M:delete_consumer(stream, name)
  host.check_name(stream, "stream")
  host.check_name(name, "consumer")
  local answer, err = host.call(self, ("CONSUMER.DELETE.%s.%s"):format(stream, name), {})
  if not answer then return nil, err end
  return true
end

local open = host.load("moondog.consumer", host)
host.open_consumer = open

function M:consumer(stream, spec)
  host.check_name(stream, "stream")
  local config, pull, described = checked(2, spec)
  if config.name then host.check_name(config.name, "consumer") end
  return open(self, stream, { config = config, pull = pull, bind = config.name ~= nil and not described })
end

--- What may be said of one that keeps its place by itself.
local ORDERED = {
  name = true, filter = true, deliver = true, start_seq = true, start_time = true, headers_only = true,
  description = true, inactive_threshold = true, replay = true,
}

function M:ordered(stream, spec)
  host.check_name(stream, "stream")
  local config, pull = checked(2, spec or {}, ORDERED)
  if config.name then host.check_name(config.name, "consumer") end
  return open(self, stream, { config = config, pull = pull, ordered = true })
end

return M
