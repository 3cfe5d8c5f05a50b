--- A consumer of a stream, as a script holds it: it lives whatever happens to the link, to the server, and to the
--- consumer on the server. A task of its own asks for messages, notices when none come, and makes what has vanished
--- again, where the ledger says that it was (src/jetstream/ledger.h). Called by jetstream_consumers.lua with what it
--- shares; returns the function that opens one.
local host = ...
local moondog = require "moondog"

local type, tonumber, pairs = type, tonumber, pairs
local setmetatable, error, pcall, tostring = setmetatable, error, pcall, tostring
local floor, min, max = math.floor, math.min, math.max

local NANO = host.NANO
local PAUSE_MIN, PAUSE_MAX = 0.1, 5   -- seconds, between two attempts to make or to find it
local REFUSED_PAUSE = 1               -- seconds, after the server ended a request for no known reason
local FETCH_TIMEOUT = 5               -- seconds
local ORDERED_INACTIVE = 300          -- seconds, after which the server forgets one that nobody reads
local ACK_WAIT = 30                   -- seconds: the server's own default
local FOREVER = 3600                  -- seconds; whoever waits so long looks again

---@class moondog.consumer
local Consumer = {}
Consumer.__index = Consumer

--- Keys of ledgers that this generation reads: two consumers never share one.
local in_use = {}

local function alive(c)
  return not c.stopped and not host.ending() and not host.over(c.connection)
end

-- ---- on the server ----

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

--- Whether the stream is the one that the ledger knows; it forgets all when it is not.
local function look_at_stream(c)
  local info, err = host.call(c.js, "STREAM.INFO." .. c.stream)
  if not info then return nil, err end
  local known = max(c.ledger:position(), c.ledger:floor() - 1, c.received)
  if not c.ledger:same_stream(info.created or "") or info.state.last_seq < known then
    c.ledger:restart()
    c.restarts, c.received = c.restarts + 1, 0
    if c.made then moondog.log.warn("a stream has begun anew", { stream = c.stream, consumer = c.name }) end
  end
  return true
end

local function make(c, seq)
  local info, err = host.create_consumer(c.js, c.stream, config_from(c, seq))
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
  if c.made or position > 0 then host.call(c.js, api(c, "DELETE")) end
  local made, err = host.create_consumer(c.js, c.stream, config_from(c, position > 0 and position + 1 or nil))
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
    info, err = host.call(c.js, api(c, "INFO"))
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
    c.expected, c.received = consumer_seq + 1, seq
    if c.handler then c.ledger:position(seq) end
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
  local info, err = host.call(c.js, api(c, "INFO"))
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
  in_use[c.key] = nil
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

-- ---- reading ----

--- Of one that keeps its place, what nobody has taken when the generation ends is the next one's.
local function pop(c)
  if c.first > c.last or c.ordered and host.ending() then return nil end
  local msg = c.queue[c.first]
  if c.ordered then c.ledger:position(c.sequences[c.first]) end
  c.queue[c.first], c.sequences[c.first] = nil, nil
  c.first = c.first + 1
  if hungry(c) then c.signal:set() end
  return msg
end

--- Whether none will come any more. What is on its way when the generation ends is still handled, as with any
--- subscription; but the place of an ordered one belongs to the next generation at once.
local function is_over(c)
  return c.stopped or host.is_over(c.subscription) or (c.ordered and host.ending())
end

--- The next message; nil: there will be none any more; false: not until the deadline.
local function wait_for_message(c, deadline)
  host.breathe()
  while true do
    local msg = pop(c)
    if msg then
      host.hold(c.connection) -- until it is handled
      return msg
    end
    host.let_go()
    if is_over(c) then return nil end
    local left = deadline and deadline - moondog.now() or FOREVER
    if left <= 0 then return false end
    c.arrivals:wait(left)
  end
end

local function check_reader(c, what)
  if c.handler then error(("%s: the messages of %s go to the handler of consume()"):format(what, c.name), 3) end
end

function Consumer:messages()
  check_reader(self, "messages()")
  if not begin(self) then return function() return nil end end
  return function() return wait_for_message(self) or nil end
end

function Consumer:consume(handler)
  if type(handler) ~= "function" then error("consume() takes a function", 2) end
  if self.started then error(("consumer %s is read already"):format(self.name), 2) end
  return begin(self, handler)
end

--- What comes to a request of its own, for one time.
local function fetch_once(c, count, timeout)
  local list, over, trouble = {}, false, nil
  local arrived = host.signal(c.connection)
  local inbox = host.inbox(c.connection)
  local sub, err = c.connection:subscribe(inbox, function(msg)
    local seq = c.ledger:take(msg, c.acks)
    if seq then
      list[#list + 1] = msg:retain()
      over = over or #list >= count
    elseif seq == nil and msg.headers.Status ~= "100" then
      over, trouble = true, msg.headers
    end
    arrived:set()
  end, { name = c.stream .. "/" .. c.name })
  if not sub then return nil, err end
  local deadline = moondog.now() + timeout
  local ok
  ok, err = c.connection:publish(("%s.%s"):format(c.js.prefix, api(c, "MSG.NEXT")),
    host.encode { batch = count, expires = floor(timeout * 0.9 * NANO), max_bytes = c.pull.max_bytes },
    { reply = inbox })
  local link = host.link(c.connection)
  while ok and not over and moondog.now() < deadline and host.link(c.connection) == link and not host.is_over(sub) do
    arrived:wait(deadline - moondog.now())
  end
  sub:unsubscribe()
  if not ok then return nil, err end
  return list, trouble
end

function Consumer:fetch(count, options)
  check_reader(self, "fetch()")
  local timeout = options and options.timeout or FETCH_TIMEOUT
  if type(count) ~= "number" or count < 1 then error("fetch() takes how many messages, 1 or more", 2) end
  if self.stopped then return host.fail("stopped", host.NONE, ("consumer %s was stopped"):format(self.name)) end
  if self.ordered then -- one reader keeps the order
    local list, deadline = {}, moondog.now() + timeout
    local ok, err = begin(self)
    while ok and #list < count do
      local msg = wait_for_message(self, deadline)
      if not msg then break end
      list[#list + 1] = msg
    end
    if not ok then return nil, err end
    return list
  end
  timeout = host.wait_for_link(self.js, timeout)
  if not timeout then return host.fail("disconnected", host.NETWORK, "there is no link") end
  local list, trouble = fetch_once(self, count, timeout)
  if not list then return nil, trouble end
  local status = trouble and trouble.Status
  if #list > 0 or not status or status == "404" or status == "408" then return list end
  if status == "503" then
    return host.fail("consumer_not_found", host.NONE, ("there is no consumer %s of stream %s, or no JetStream"):format(
      self.name, self.stream))
  end
  return host.fail("refused", host.PROTOCOL, ("the server refuses a request for messages: %s %s"):format(status,
    trouble.Description or ""))
end

function Consumer:next(timeout)
  local list, err = self:fetch(1, { timeout = timeout })
  if not list then return nil, err end
  if not list[1] then return host.fail("timeout", host.TIMEOUT, "no message in time") end
  return list[1]
end

-- ---- the rest ----

function Consumer:info()
  return self.js:consumer_info(self.stream, self.name)
end

function Consumer:status()
  local state = self.stopped and "stopped" or not self.started and "idle" or not self.link and "disconnected"
    or (self.lost or self.err) and "recovering" or "reading"
  return {
    name = self.name, stream = self.stream, state = state, delivered = self.delivered, skipped = self.skipped,
    queued = self.last - self.first + 1, unacknowledged = self.ledger:unacked(), pending = self.pending,
    seq = self.ordered and self.ledger:position() or nil, recreated = self.recreated, silences = self.silences,
    error = self.err,
  }
end

function Consumer:stop()
  if self.stopped then return true end
  self.stopped = true
  self.signal:set()
  self.arrivals:set()
  if not self.started then finish(self) end
  return true
end

function Consumer:delete()
  self:stop()
  return self.js:delete_consumer(self.stream, self.name)
end

-- ---- opening one ----

--- One ledger for each consumer, found again after a reload: by what the script says of it.
local function find_ledger(js, stream, spec)
  local config = spec.config
  local base = table.concat({ js.connection:status().name, js.prefix, stream,
    spec.fresh and "fresh" or spec.ordered and "ordered" or "",
    config.name or "", config.filter_subject or "", config.deliver_policy, config.opt_start_seq or "",
    config.opt_start_time or "" }, " ")
  local key, number = base, 1
  while in_use[key] do
    if config.durable_name then break end
    number = number + 1
    key = base .. " " .. number
  end
  return host.ledger(key), key
end

local function prepare_ordered(config)
  config.ack_policy = "none"
  config.max_deliver = 1
  config.mem_storage = true
  config.num_replicas = 1
  config.inactive_threshold = config.inactive_threshold or ORDERED_INACTIVE * NANO
end

return function(js, stream, spec)
  local ledger, key = find_ledger(js, stream, spec)
  if not ledger then
    return host.fail("too_many", host.NONE, "there are 4,096 consumers in this process: stop() those that are done")
  end
  local config = spec.config
  if spec.ordered then prepare_ordered(config) end
  if spec.fresh then ledger:restart() end -- of a generation before
  local c = setmetatable({
    js = js, connection = js.connection, stream = stream, name = config.name or ledger:name(),
    own_name = config.name == nil, config = config, pull = spec.pull, bind = spec.bind,
    ordered = spec.ordered or false, acks = config.ack_policy ~= "none", ledger = ledger, key = key,
    signal = host.signal(js.connection), arrivals = host.signal(js.connection),
    queue = {}, sequences = {}, first = 1, last = 0,
    outstanding = 0, expected = 1, received = 0, heard_at = 0, not_before = 0, pause = PAUSE_MIN, lost = false,
    delivered = 0, skipped = 0, recreated = 0, restarts = 0, silences = 0, pending = 0,
  }, Consumer)
  in_use[key] = true
  local ok, err = establish(c)
  if ok then return c end
  in_use[key] = nil
  return nil, err
end
