--- The task that keeps a consumer alive: it asks for messages, notices when none come, and has what has vanished made
--- again. And what it does with the messages: a handler's or a queue's. Called by consumer.lua with what it shares;
--- returns begin(c, handler), hungry(c), and finish(c).
local host = ...
local moondog = require "moondog"

local tonumber, pcall, tostring = tonumber, pcall, tostring
local floor, min, max = math.floor, math.min, math.max

local NANO = host.NANO
local PAUSE_MIN, PAUSE_MAX = 0.1, 5   -- seconds, between two attempts to make or to find it
local REFUSED_PAUSE = 1               -- seconds, after the server ended a request for no known reason
local FOREVER = 3600                  -- seconds; whoever waits so long looks again

local api, establish = host.consumer_server.api, host.consumer_server.establish

local function alive(c)
  return not c.stopped and not host.ending() and not host.over(c.connection)
end

-- ---- messages come ----

local function hungry(c)
  local coming = c.outstanding + c.last - c.first + 1
  return coming <= c.pull.batch / 2
end

local function push(c, msg, seq)
  c.last = c.last + 1
  c.queue[c.last] = msg:retain()
  if c.ordered then c.sequences[c.last] = seq end
  c.arrivals:set()
end

--- The server speaks of the request itself.
local function on_status(c, msg)
  local headers = msg.headers
  local status, text = headers.Status, headers.Description or ""
  if status == "100" then return end
  local left = tonumber(headers["Nats-Pending-Messages"])
  c.outstanding = left and max(c.outstanding - left, 0) or 0
  if status == "503" or text:find("Consumer Deleted", 1, true) then
    c.lost = true
  elseif status ~= "404" and status ~= "408" and not text:find("Leadership Change", 1, true) then
    c.not_before = moondog.now() + REFUSED_PAUSE
    moondog.log.warn("a request for messages was refused", { stream = c.stream, consumer = c.name, status = status,
      text = text })
  end
  c.signal:set()
end

local function on_message(c, inbox, msg)
  if inbox ~= c.inbox then return end -- of one that was given up
  local seq, consumer_seq, pending = c.ledger:take(msg, c.acks)
  c.heard_at, c.silence = host.turn_time(), nil
  if seq == nil then return on_status(c, msg) end
  c.outstanding = max(c.outstanding - 1, 0)
  if seq == false then
    c.skipped = c.skipped + 1
  elseif c.ordered then
    if host.ending() then return end -- the next generation has it
    if consumer_seq ~= c.expected then
      c.lost = true
      return c.signal:set()
    end
    c.expected = consumer_seq + 1
    if seq <= c.received then -- a cluster made it where it was to begin in an attempt before
      c.skipped, seq = c.skipped + 1, false
    else
      c.received = seq
      if c.handler then c.ledger:position(seq) end
    end
  end
  c.pending = pending or c.pending
  if seq then
    c.delivered = c.delivered + 1
    if c.handler then
      c.handler(msg)
    else
      push(c, msg, seq)
    end
  end
  if hungry(c) then c.signal:set() end
end

--- A fresh inbox: what is still on its way to the one before is not heard.
local function open_inbox(c)
  if c.subscription then c.subscription:unsubscribe() end
  c.outstanding = 0
  local inbox = host.inbox(c.connection)
  c.inbox = inbox
  local sub, err = c.connection:subscribe(inbox, function(msg) on_message(c, inbox, msg) end,
    { name = c.stream .. "/" .. c.name })
  if not sub then return nil, err end
  if c.handler then host.attribute(sub, c.attributed or c.handler) end
  c.subscription = sub
  return true
end

-- ---- the task that keeps it alive ----

--- Asks for more, when there is room. Returns how long the server may be silent.
local function ask_for_more(c)
  local now = host.turn_time()
  local wait = c.not_before - moondog.now()
  if wait > 0 then return wait end
  local room = c.pull.batch - c.outstanding - (c.last - c.first + 1)
  if c.handler then room = room - host.running(c.subscription) end
  if room >= max(c.pull.batch / 2, 1) then
    if c.outstanding == 0 then c.heard_at = now end
    local ok, err = c.connection:publish(("%s.%s"):format(c.js.prefix, api(c, "MSG.NEXT")), host.encode {
      batch = room, expires = floor(c.pull.expires * NANO), idle_heartbeat = floor(c.pull.heartbeat * NANO),
      max_bytes = c.pull.max_bytes,
    }, { reply = c.inbox })
    if not ok then
      c.err = err
      return REFUSED_PAUSE
    end
    c.outstanding = c.outstanding + room
  end
  if c.outstanding == 0 then return c.pull.heartbeat end
  return max(c.heard_at + c.pull.heartbeat * 2 + 0.5 - now, 0.01)
end

local function is_silent(c)
  return c.outstanding > 0 and host.turn_time() - c.heard_at >= c.pull.heartbeat * 2
end

--- Nothing was heard for two heartbeats: what does the server say?
local function examine(c)
  local info, err = host.call(c.impatient, api(c, "INFO"))
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
  -- What the old one still delivers while the new one is made, the new one delivers, too.
  if c.ordered then c.inbox = nil end
  local ok, err = establish(c)
  if ok then ok, err = open_inbox(c) end
  if ok then
    c.lost, c.err, c.pause = false, nil, PAUSE_MIN
    return
  end
  note_trouble(c, err)
  c.signal:wait(c.pause)
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
  c.in_use[c.key] = nil
  c.arrivals:set()
  if retiring then return end
  if c.subscription and not ending then c.subscription:unsubscribe() end
  if not c.config.durable_name and c.own_name then
    c.connection:publish(("%s.%s"):format(c.js.prefix, api(c, "DELETE")), "")
  end
  if c.stopped then c.ledger:forget() end
end

local function keep_alive(c)
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
end

local function begin(c, handler)
  if c.started then return true end
  if not alive(c) then return host.fail("stopped", host.NONE, ("consumer %s was stopped"):format(c.name)) end
  c.handler = handler
  c.link = host.link(c.connection)
  local ok, err = open_inbox(c)
  if not ok then return nil, err end
  c.started = true
  moondog.spawn(keep_alive, c)
  return true
end

return { begin = begin, hungry = hungry, finish = finish }
