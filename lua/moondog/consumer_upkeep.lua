--- The task that keeps a consumer alive: it asks for messages, notices when none come, and has what has vanished made
--- again. And what it does with the messages: a handler's or a queue's. Called by consumer.lua with what it shares;
--- returns begin(c, handler), hungry(c), and finish(c).
local host = ...
local moondog = require "moondog"

local tonumber, pcall, tostring, error = tonumber, pcall, tostring, error
local floor, min, max = math.floor, math.min, math.max

local NANO = host.NANO
local PAUSE_MIN, PAUSE_MAX = 0.1, 5   -- seconds, between two attempts to make or to find it
local REFUSED_PAUSE = 1               -- seconds, after the server ended a request for no known reason
local FOREVER = 3600                  -- seconds; whoever waits so long looks again

local api, establish = host.consumer_server.api, host.consumer_server.establish

local SETTLED = 1                     -- seconds after it was made or found: then it may have vanished again

local function alive(c)
  return not c.stopped and not host.ending() and not host.over(c.connection)
end

--- Signals are set for many reasons; this is over with the time, with the link, or with the consumer.
local function pause(c, seconds)
  local till, link = moondog.now() + seconds, host.link(c.connection)
  local left = seconds
  while left > 0 and alive(c) and host.link(c.connection) == link do
    c.signal:wait(left)
    left = till - moondog.now()
  end
end

-- ---- messages come ----

--- How many are asked for ahead: no more than a slow loop reads in a quarter of the time that they may take.
local function window(c)
  if not c.pace or not c.patience then return c.pull.batch end
  return max(min(c.pull.batch, floor(c.patience / 2 / c.pace)), 1)
end

local function hungry(c)
  local coming = c.outstanding + c.last - c.first + 1
  return coming <= window(c) / 2
end

local function push(c, msg, seq)
  msg:retain() -- an error when there is no memory: nothing has changed then
  c.last = c.last + 1
  c.queue[c.last] = msg
  if c.ordered or not c.acks then c.sequences[c.last] = seq end
  c.came_at[c.last] = host.turn_time()
  c.arrivals:set()
end

--- Others may have it at once: nobody reads it here.
local function give_back(c, msg)
  if c.acks and not c.own_name then msg:nak() end
end

--- What it has asked for and nobody has read. Without acknowledgements it would be lost: it is left to those who read.
local function give_back_all(c)
  if not c.acks and not c.ordered then return end
  for i = c.first, c.last do
    give_back(c, c.queue[i])
    c.queue[i], c.sequences[i], c.came_at[i] = nil, nil, nil
  end
  c.first = c.last + 1
end

--- Whether others may have what nobody reads here: one that counts deliveries would lose it.
local function is_shared(c)
  return c.acks and not c.own_name and not c.handler and (c.config.max_deliver or 0) <= 0
end

--- A loop that was left, has failed or is stuck must not keep messages from others: what has waited for half of its
--- time is given back, and nothing is asked for until somebody reads again.
local function give_back_unread(c)
  if not c.patience or not is_shared(c) or c.first > c.last then return end
  if host.turn_time() - c.came_at[c.first] < c.patience then return end
  moondog.log.warn("messages of a consumer were not read in time: they are given back", { stream = c.stream,
    consumer = c.name, count = c.last - c.first + 1, seconds = c.patience })
  c.unread = true
  give_back_all(c)
end

--- A request is refused for a reason that lasts, perhaps: said once, and tried again in a while.
local function on_refusal(c, status, text)
  local reason = ("%s %s"):format(status or "no status", text)
  c.not_before = moondog.now() + REFUSED_PAUSE
  c.err = host.error("refused", host.PROTOCOL, ("the server does not send messages of %s: %s"):format(c.name, reason))
  if c.refused == reason then return end
  c.refused = reason
  moondog.log.warn("a request for messages was refused", { stream = c.stream, consumer = c.name, status = status,
    text = text })
end

--- A heartbeat says how many were delivered so far: of an ordered one, all of them have come, or one is missing. It
--- may be the last one, with none behind it that would tell.
local function on_heartbeat(c, headers)
  if c.ordered and (tonumber(headers["Nats-Last-Consumer"]) or 0) >= c.expected then
    c.lost = true
    c.signal:set()
  end
end

--- The server speaks of the request itself.
local function on_status(c, msg)
  local headers = msg.headers
  local status, text = headers.Status, tostring(headers.Description or "")
  if status == "100" then return on_heartbeat(c, headers) end
  local left = tonumber(headers["Nats-Pending-Messages"])
  c.outstanding = left and max(c.outstanding - left, 0) or 0
  if status == "503" or text:find("Consumer Deleted", 1, true) then
    c.lost = true
  elseif status ~= "404" and status ~= "408" and not text:find("Leadership Change", 1, true)
    and not text:find("Batch Completed", 1, true) then
    on_refusal(c, status, text)
  end
  c.signal:set()
end

--- A message to be handled.
local function hand_on(c, msg, seq, consumer_seq)
  if not c.handler then push(c, msg, seq) end
  if c.ordered then c.expected = consumer_seq + 1 end
  c.received = seq
  c.delivered = c.delivered + 1
  if not c.handler then return end
  if not c.acks then c.ledger:position(seq) end
  c.handler(msg)
end

local function on_message(c, inbox, msg)
  local current = inbox == c.inbox -- or of one that was given up: only a message that is to be acknowledged counts
  if not current and not c.acks then return end
  local seq, consumer_seq, pending = c.ledger:take(msg, c.acks)
  if current then c.heard_at, c.silence = host.turn_time(), nil end
  if seq == nil then
    if current then on_status(c, msg) end
    return
  end
  if current then c.outstanding = max(c.outstanding - 1, 0) end
  if c.refused then c.refused, c.err = nil, nil end
  if seq == false then
    c.skipped = c.skipped + 1
  elseif c.stopped or c.unread then
    give_back(c, msg)
  elseif not c.ordered or not host.ending() then -- of an ordered one, the next generation has it
    if c.ordered and seq <= c.received then
      -- Twice: while one connection takes over from another, or from where an attempt before wanted to begin.
      c.skipped = c.skipped + 1
      if consumer_seq == c.expected then c.expected = consumer_seq + 1 end
    elseif c.ordered and consumer_seq ~= c.expected then
      c.lost = true
      return c.signal:set()
    else
      c.pending = pending
      hand_on(c, msg, seq, consumer_seq)
    end
  end
  if hungry(c) then c.signal:set() end
end

--- What has arrived, or is on its way, to the inbox before is still handled, but where each is acknowledged by itself
--- only: whoever keeps a place begins behind it.
local function close_inbox(c)
  if not c.subscription then return end
  if c.acks then c.subscription:drain() else c.subscription:unsubscribe() end
end

local function open_inbox(c)
  close_inbox(c)
  c.outstanding = 0
  local inbox = host.inbox(c.connection)
  c.inbox = inbox
  local sub, err = c.connection:subscribe(inbox, function(msg) on_message(c, inbox, msg) end,
    { name = c.stream .. "/" .. c.name })
  if not sub then return nil, err end
  if c.handler then
    host.attribute(sub, c.attributed or c.handler)
    host.wakes(sub, c.signal, floor(c.pull.batch / 2)) -- also those that failed make room
  end
  c.subscription = sub
  return true
end

-- ---- the task that keeps it alive ----

--- Asks for more, when there is room. Returns how long the server may be silent.
local function ask_for_more(c)
  local now = host.turn_time()
  local wait = c.not_before - moondog.now()
  if wait > 0 then return wait end
  give_back_unread(c)
  if c.unread then return FOREVER end
  local room = window(c) - c.outstanding - (c.last - c.first + 1)
  if c.handler then room = room - host.running(c.subscription) end
  if room >= max(window(c) / 2, 1) then
    if c.outstanding == 0 then c.heard_at = now end
    local ok, err = c.connection:publish(("%s.%s"):format(c.js.prefix, api(c, "MSG.NEXT")), host.encode {
      batch = room, expires = floor(c.pull.expires * NANO), idle_heartbeat = floor(c.pull.heartbeat * NANO),
      max_bytes = c.pull.max_bytes,
    }, { reply = c.inbox })
    if not ok then
      c.err, c.unsent = err, true
      return REFUSED_PAUSE
    end
    if c.unsent then c.err, c.unsent = nil, nil end
    c.outstanding = c.outstanding + room
  end
  local look = (c.patience or FOREVER) / 2 -- at what waits to be read
  if c.outstanding == 0 then return min(c.pull.heartbeat, look) end
  return max(min(c.heard_at + c.pull.heartbeat * 2 + 0.5 - now, look), 0.01)
end

local function is_silent(c)
  return c.outstanding > 0 and not c.unread and host.turn_time() - c.heard_at >= c.pull.heartbeat * 2
end

--- Nothing was heard for two heartbeats: what does the server say?
local function examine(c)
  local info, err = host.call(c.impatient, api(c, "INFO"), host.CONSUMER_INFO)
  if not info then return nil, err end
  c.silences = c.silences + 1
  local level = info.num_pending > 0 and "warn" or "info"
  if c.silence ~= level then -- once, while it lasts
    c.silence = level
    moondog.log[level]("a consumer was silent", { stream = c.stream, consumer = c.name, pending = info.num_pending,
      unacknowledged = info.num_ack_pending, requests = info.num_waiting or 0 })
  end
  c.pending = info.num_pending
  if c.ordered and info.delivered.consumer_seq ~= c.expected - 1 then c.lost = true end
  return open_inbox(c)
end

local function note_trouble(c, err)
  if not c.err or c.err.code ~= err.code then
    moondog.log.warn("a consumer cannot be read now", { stream = c.stream, consumer = c.name, code = err.code,
      error = err.message })
  end
  c.err = err
end

local function recover(c)
  if c.ordered then c.inbox = nil end -- what still comes to it is of the consumer before, and counted otherwise
  local ok, err = establish(c)
  if ok then ok, err = open_inbox(c) end
  if ok then
    c.lost, c.err, c.refused, c.pause = false, nil, nil, PAUSE_MIN
    return
  end
  note_trouble(c, err)
  pause(c, c.pause)
  c.pause = min(c.pause * 2, PAUSE_MAX)
end

local function step(c)
  local link = host.link(c.connection)
  if not link then
    c.link = nil
    c.signal:wait(FOREVER)
  elseif c.link ~= link then
    -- What was asked over the link before is not known any more, and perhaps the consumer is not: a request to one
    -- that is not there has no answer at all.
    c.link, c.lost = link, true
  elseif c.lost then
    recover(c)
  elseif is_silent(c) then
    local ok, err = examine(c)
    if not ok then
      c.lost = true
      note_trouble(c, err)
    end
  else
    c.signal:wait(ask_for_more(c))
  end
end

--- Its name may be used again, by this process or, after a reload, by the next generation.
local function finish(c)
  local ending, retiring = host.ending()
  if c.in_use[c.key] == c.claim then c.in_use[c.key] = nil end
  c.arrivals:set()
  if retiring then return end
  if not ending then close_inbox(c) end
  if not c.config.durable_name and c.own_name then
    c.connection:publish(("%s.%s"):format(c.js.prefix, api(c, "DELETE")), "")
  end
  if c.stopped then c.ledger:forget() end
end

--- It begins again when something has ended it that no pcall() holds up: a machine that stood still for longer than the
--- time budget, memory that there was not.
local function keep_alive(c)
  if c.kept then c.lost = true end
  c.kept = true
  while alive(c) do
    local ok, err = pcall(step, c)
    if not ok and alive(c) then -- no error may end this
      moondog.log.error("a consumer failed, and goes on", { stream = c.stream, consumer = c.name,
        error = tostring(err) })
      c.lost = true
      moondog.sleep(PAUSE_MAX)
    end
  end
  finish(c)
  host.keeper_over()
end

local function begin(c, handler)
  if c.started then return true end
  if not alive(c) then
    return host.fail("stopped", host.NONE,
      ("consumer %s was stopped, or its connection or this generation of the script ends"):format(c.name))
  end
  c.handler = handler
  local ok, opened, err = pcall(open_inbox, c)
  if ok and opened then ok, err = pcall(host.keep, function() keep_alive(c) end) end
  if not ok or not opened then
    close_inbox(c)
    c.handler, c.inbox, c.subscription = nil, nil, nil
    if not ok then error(err or opened, 0) end
    note_trouble(c, err)
    return nil, err
  end
  if moondog.now() - c.established > SETTLED then c.lost = true end
  c.started = true
  return true
end

return { begin = begin, hungry = hungry, finish = finish, give_back_all = give_back_all }
