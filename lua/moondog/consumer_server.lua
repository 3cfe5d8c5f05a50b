--- A consumer as the server has it: made, found, and made again, where the ledger says that it was. Called by
--- consumer.lua with what it shares; returns api(c, verb), the name of a call about it, and establish(c).
local host = ...
local moondog = require "moondog"

local pairs, max = pairs, math.max

local NANO = host.NANO
local ACK_WAIT = 30 -- seconds: the server's own default
local BEHIND = 20 -- seconds, in which the new leader of a replicated stream may know less than the one that died

--- What has worked once is asked again with less patience: while a cluster elects, an answer may never come.
local function asked(c)
  return c.made and c.impatient or c.js
end

local function api(c, verb)
  return ("CONSUMER.%s.%s.%s"):format(verb, c.stream, c.name)
end

--- A copy of the configuration that begins at a sequence.
local function config_from(c, seq)
  local config = {}
  for key, value in pairs(c.config) do config[key] = value end
  config.name = c.name
  if seq then
    config.deliver_policy, config.opt_start_seq, config.opt_start_time = "by_start_sequence", seq, nil
  end
  return config
end

--- Whether to wait until the leader of a replicated stream has read what was delivered before. One that knows less for
--- long has lost it.
local function is_behind(c, info)
  if (info.config.num_replicas or 1) < 2 then return false end
  c.behind_since = c.behind_since or moondog.now()
  return moondog.now() - c.behind_since < BEHIND
end

--- Whether the stream is the one that the ledger knows; it forgets all when it is not.
local function look_at_stream(c)
  local info, err = host.call(asked(c), "STREAM.INFO." .. c.stream)
  if not info then return nil, err end
  local known = max(c.ledger:position(), c.ledger:floor() - 1, c.received)
  local same, behind = c.ledger:same_stream(info.created or ""), info.state.last_seq < known
  if same and behind and is_behind(c, info) then
    return host.fail("stream_behind", host.NONE,
      ("stream %s ends at %.0f, and %.0f was delivered: its leader has not read all of it yet"):format(c.stream,
        info.state.last_seq, known))
  end
  c.behind_since = nil
  if not same or behind then
    c.ledger:restart()
    c.restarts, c.received = c.restarts + 1, 0
    if c.made then moondog.log.warn("a stream has begun anew", { stream = c.stream, consumer = c.name }) end
  end
  return true
end

local function make(c, seq)
  local info, err = host.create_consumer(asked(c), c.stream, config_from(c, seq))
  if not info then return nil, err end
  c.pending = info.num_pending
  if c.made then
    c.recreated = c.recreated + 1
    moondog.log.warn("a consumer was made again", { stream = c.stream, consumer = c.name, from = seq or 1 })
  end
  return true
end

--- One that keeps its place by itself is made anew each time: behind what has come.
local function establish_ordered(c)
  local position = max(c.ledger:position(), c.received)
  c.received = position
  if c.made or position > 0 then host.call(asked(c), api(c, "DELETE")) end
  local made, err = host.create_consumer(asked(c), c.stream, config_from(c, position > 0 and position + 1 or nil))
  if not made then return nil, err end
  c.pending = made.num_pending
  c.expected = 1
  if c.made then c.recreated = c.recreated + 1 end
  return true
end

--- Where it began is not changed any more, once it was made again somewhere else.
local function keep_beginning(c, info)
  local existing = info.config
  if existing.deliver_policy == "by_start_sequence" and c.config.deliver_policy ~= "by_start_sequence" then
    c.config.deliver_policy, c.config.opt_start_seq = existing.deliver_policy, existing.opt_start_seq
  end
end

--- Finds it, or makes it; one that has vanished begins at the first message that may not be acknowledged.
local function establish_other(c)
  local seen = c.ledger:floor() > 1
  local info, err
  if c.made or seen or not c.own_name then
    info, err = host.call(asked(c), api(c, "INFO"))
    if not info and err.code ~= "consumer_not_found" then return nil, err end
  end
  local config = c.config
  if info and (c.bind or c.made) then
    config, c.pending = info.config, info.num_pending
  else
    if info then keep_beginning(c, info) end
    local ok
    ok, err = make(c, not info and seen and c.ledger:floor() or nil)
    if not ok then return nil, err end
  end
  c.acks = config.ack_policy ~= "none"
  c.ledger:acks_all(config.ack_policy == "all")
  c.ledger:ack_wait((config.backoff and config.backoff[1] or config.ack_wait or ACK_WAIT * NANO) / NANO)
  return true
end

local function establish(c)
  local ok, err = look_at_stream(c)
  if ok then ok, err = (c.ordered and establish_ordered or establish_other)(c) end
  if not ok then return nil, err end
  c.made = true
  return true
end

return { api = api, establish = establish }
