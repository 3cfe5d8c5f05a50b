--- A consumer as the server has it: made, found, and made again, where the ledger says that it was. Called by
--- consumer.lua with what it shares; returns api(c, verb), the name of a call about it, and establish(c).
local host = ...
local moondog = require "moondog"

local pairs, ipairs, type, min, max = pairs, ipairs, type, math.min, math.max

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

--- Where one that has vanished begins again: the first message that may not be acknowledged, or that has not come.
local function beginning(c)
  if c.acks then return c.ledger:floor() end
  return max(c.ledger:position(), c.received) + 1
end

--- Whether the stream is the one that the ledger knows; it forgets all when it is not.
local function look_at_stream(c)
  local info, err = host.call(asked(c), "STREAM.INFO." .. c.stream, host.STREAM_INFO)
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
    c.sequences = {} -- of what waits to be read: they say nothing of the new one
    if c.made then moondog.log.warn("a stream has begun anew", { stream = c.stream, consumer = c.name }) end
  end
  c.last_seq = info.state.last_seq
  return true
end

--- Nothing has come yet, and it may vanish before anything does: where it began is kept. The last ones of many subjects
--- have no such place.
local function note_beginning(c, info)
  if c.config.deliver_policy == "last_per_subject" then return end
  local delivered = min(info.delivered.stream_seq, c.last_seq)
  if c.acks then
    c.ledger:note_floor(info.num_ack_pending == 0 and delivered or min(info.ack_floor.stream_seq, c.last_seq))
  elseif c.ledger:position() == 0 and c.received == 0 then
    c.ledger:position(delivered)
  end
end

local function make(c, seq)
  local info, err = host.create_consumer(asked(c), c.stream, config_from(c, seq))
  if not info then return nil, err end
  c.pending = info.num_pending
  note_beginning(c, info)
  if c.made then
    c.recreated = c.recreated + 1
    moondog.log.warn("a consumer was made again", { stream = c.stream, consumer = c.name, from = seq or 1 })
  end
  return true
end

--- One that keeps its place by itself is made anew each time: behind what has come. A fresh one of a generation before
--- may still be there, under the same name, and would go on where that one was.
local function establish_ordered(c)
  local position = max(c.ledger:position(), c.received)
  c.received = position
  if c.made or c.fresh or position > 0 then host.call(asked(c), api(c, "DELETE"), {}) end
  local made, err = host.create_consumer(asked(c), c.stream, config_from(c, position > 0 and position + 1 or nil))
  if not made then return nil, err end
  c.pending = made.num_pending
  note_beginning(c, made)
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

--- Seconds: how soon the server may deliver a message again.
local function ack_wait_of(config)
  local wait = config.ack_wait or ACK_WAIT * NANO
  for i, delay in ipairs(config.backoff or {}) do wait = i == 1 and delay or min(wait, delay) end
  return wait / NANO
end

--- Whether what is there has all that is said.
local function covers(existing, said)
  if type(said) ~= "table" or type(existing) ~= "table" then return existing == said end
  for key, value in pairs(said) do
    if not covers(existing[key], value) then return false end
  end
  return true
end

--- What a consumer has only when it was said: where it is said no more, another one is wanted.
local ONLY_WHEN_SAID = { "filter_subject", "filter_subjects", "headers_only", "backoff" }

local function is_wanted(existing, said)
  for _, key in ipairs(ONLY_WHEN_SAID) do
    if not covers(said[key], existing[key]) then return false end
  end
  return covers(existing, said)
end

--- A server may be unable to write what it has: then that is used, when nothing else is wanted of it.
local function use_as_it_is(c, info, err)
  if err.class ~= "protocol" or not is_wanted(info.config, c.config) then return nil, err end
  c.pending = info.num_pending
  moondog.log.warn("a consumer is used as it is", { stream = c.stream, consumer = c.name, error = err.message })
  return true
end

--- Finds it, or makes it; one that has vanished begins where beginning() says.
local function establish_other(c)
  local seen = beginning(c) > 1
  local info, err
  if c.made or seen or not c.own_name then
    info, err = host.call(asked(c), api(c, "INFO"), host.CONSUMER_INFO)
    if not info and err.code ~= "consumer_not_found" then return nil, err end
  end
  local config = c.config
  if info and (c.bind or c.made) then
    config, c.pending = info.config, info.num_pending
    if c.bind then c.config = config end -- should it have to be made again
  else
    if info then keep_beginning(c, info) end
    local ok
    ok, err = make(c, not info and seen and beginning(c) or nil)
    if not ok and info then ok, err = use_as_it_is(c, info, err) end
    if not ok then return nil, err end
  end
  c.acks = config.ack_policy ~= "none"
  if info then note_beginning(c, info) end
  c.ledger:acks_all(config.ack_policy == "all")
  c.ledger:ack_wait(ack_wait_of(config))
  c.patience = c.acks and ack_wait_of(config) / 2 or nil
  return true
end

local function establish(c)
  local link = host.link(c.connection)
  local ok, err = look_at_stream(c)
  if ok then ok, err = (c.ordered and establish_ordered or establish_other)(c) end
  if not ok then return nil, err end
  c.made, c.link, c.established = true, link, moondog.now()
  return true
end

return { api = api, establish = establish }
