--- A consumer of a stream, as a script holds it: it lives whatever happens to the link, to the server, and to the
--- consumer on the server (consumer_upkeep.lua, consumer_server.lua). Its place is in a ledger
--- (src/jetstream/ledger.h). Called by jetstream_consumers.lua with what it shares; returns the function that opens
--- one.
local host = ...
local moondog = require "moondog"

local type, setmetatable, error, pcall, pairs, tostring = type, setmetatable, error, pcall, pairs, tostring
local floor, min, max = math.floor, math.min, math.max

local NANO = host.NANO
local PAUSE_MIN = 0.1        -- seconds, between two attempts to bring it back; it doubles
local FETCH_TIMEOUT = 5      -- seconds
local UPKEEP_TIMEOUT = 2     -- seconds, of what its upkeep asks the server
local FETCH_MAX = 65536      -- messages
local FETCH_BEAT = 0.15      -- of its time: how often the server shows that it knows the request
local FETCH_BEAT_FROM = 0.7  -- seconds; in less, none would come
local UNHEARD = 0.5          -- seconds of requests that nothing came to: then the consumer is looked for
local ENDED_PAUSE = 0.1      -- seconds
local MENDING = 4            -- requests, at most, that it takes to bring it back
local ORDERED_INACTIVE = 300 -- seconds, after which the server forgets one that nobody reads
local FOREVER = 3600         -- seconds; whoever waits so long looks again

---@class moondog.consumer
local Consumer = {}
Consumer.__index = Consumer

--- Keys of ledgers that this generation reads: two consumers never share one.
local in_use = {}

host.consumer_server = host.load("moondog.consumer_server", host)
local upkeep = host.load("moondog.consumer_upkeep", host)
local api, establish = host.consumer_server.api, host.consumer_server.establish
local begin, finish, hungry, give_back_all = upkeep.begin, upkeep.finish, upkeep.hungry, upkeep.give_back_all

-- ---- reading ----

--- Seconds from one message to the next, while there are some. When all were read it is tried with more.
local function note_pace(c)
  local now = moondog.now()
  if c.popped_at then
    local took = now - c.popped_at
    c.pace = c.pace and c.pace * 0.9 + took * 0.1 or took
  end
  local more = c.first <= c.last
  if c.pace and not more then c.pace = c.pace * 0.8 end
  c.popped_at = more and now or nil
end

--- Somebody reads: what is there may be asked for again.
local function note_reader(c)
  if not c.unread then return end
  c.unread = false
  c.signal:set()
end

--- Of one that keeps its place, what nobody has taken when the generation ends is the next one's. What has waited for
--- longer than its time comes again, and may be acknowledged before the other one is taken.
local function pop(c)
  while c.first <= c.last and not (c.ordered and host.ending()) do
    local msg = c.queue[c.first]
    if not c.acks then c.ledger:position(c.sequences[c.first]) end
    c.queue[c.first], c.sequences[c.first], c.came_at[c.first] = nil, nil, nil
    c.first = c.first + 1
    note_pace(c)
    if hungry(c) then c.signal:set() end
    if not (c.acks and host.was_acknowledged(msg)) then return msg end
    c.skipped = c.skipped + 1
  end
end

--- Whether none will come any more. What is on its way when the generation ends is still handled, as with any
--- subscription; but the place of an ordered one belongs to the next generation at once.
local function is_over(c)
  local ending = host.ending()
  return c.stopped or (c.ordered and ending)
    or ((ending or host.over(c.connection)) and host.is_over(c.subscription)) -- an inbox ends for other reasons, too
end

--- The next message; nil: there will be none any more; false: not until the deadline.
local function wait_for_message(c, deadline)
  host.breathe()
  note_reader(c)
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

-- ---- fetching ----

--- Whether the server was silent for longer than it says it would be: then it knows nothing of the request.
local function is_deaf(f)
  return f.heartbeat and moondog.now() - f.heard_at > f.heartbeat * 2 + 0.1
end

local function ask(c, f, count)
  local left = max(f.deadline - moondog.now(), 0.001)
  f.asked, f.heard_at = count, moondog.now()
  f.heartbeat = left >= FETCH_BEAT_FROM and min(left * FETCH_BEAT, c.pull.heartbeat) or nil
  return c.connection:publish(("%s.%s"):format(c.js.prefix, api(c, "MSG.NEXT")), host.encode {
    batch = count, expires = floor(left * 0.9 * NANO), max_bytes = c.pull.max_bytes,
    idle_heartbeat = f.heartbeat and floor(f.heartbeat * NANO) or nil,
  }, { reply = f.inbox })
end

local function on_fetched(c, f, msg)
  local seq = c.ledger:take(msg, c.acks)
  f.heard_at, f.heard = moondog.now(), true
  if seq then
    f.asked = f.asked - 1
    if f.over then -- too late for this one; others may have it
      if c.acks then msg:nak() end
      return
    end
    f.list[#f.list + 1] = msg:retain()
    c.delivered, c.received = c.delivered + 1, seq
    if not c.acks then c.ledger:position(seq) end
  elseif seq == false then
    f.asked, c.skipped = f.asked - 1, c.skipped + 1
  elseif msg.headers.Status ~= "100" then
    f.status, f.text = msg.headers.Status or "no status", msg.headers.Description or ""
  end
  f.arrived:set()
end

--- What comes to a request of its own until the deadline. Returns it, with what the server said in `status` and `text`;
--- heard: whether it said anything.
local function fetch_once(c, count, deadline)
  local f = { list = {}, asked = 0, deadline = deadline, inbox = host.inbox(c.connection),
    arrived = host.signal(c.connection) }
  local sub, err = c.connection:subscribe(f.inbox, function(msg) on_fetched(c, f, msg) end,
    { name = c.stream .. "/" .. c.name })
  if not sub then return nil, err end
  local link = host.link(c.connection)
  local ok
  ok, err = ask(c, f, count)
  while ok and not f.status and #f.list < count and moondog.now() < deadline and not c.stopped
    and host.link(c.connection) == link and not host.is_over(sub) and not is_deaf(f) do
    if f.asked == 0 then -- some were not for the script
      ok, err = ask(c, f, count - #f.list)
    else
      f.arrived:wait(min(deadline - moondog.now(), f.heartbeat or FOREVER))
    end
  end
  f.over = true
  if f.asked > 0 and not f.status then sub:drain() else sub:unsubscribe() end
  if not ok and not f.list[1] then return nil, err end
  return f
end

--- Finds it or makes it again, when it may not be there: one task at a time. One that is read otherwise is kept alive
--- by its own task.
local function ensure(c, deadline)
  while c.mending > moondog.now() do
    local left = min(deadline, c.mending) - moondog.now()
    if deadline <= moondog.now() then
      return host.fail("timeout", host.TIMEOUT, ("consumer %s is being brought back"):format(c.name))
    end
    c.arrivals:wait(max(left, 0))
  end
  if c.started or (not c.lost and c.link == host.link(c.connection)) then return true end
  c.mending = moondog.now() + c.js.timeout * MENDING -- should something end this task that no pcall() holds up
  local fine, ok, err = pcall(establish, c)
  c.mending = 0
  c.arrivals:set()
  if not fine then error(ok, 0) end
  if not ok then
    c.lost, c.err = true, err
    return nil, err
  end
  c.lost, c.err, c.unheard = false, nil, 0
  return true
end

--- Nothing at all was heard, not even that the time was over: there may be no such consumer any more.
local function note_silence(c, f, seconds)
  c.unheard = f.heard and 0 or c.unheard + seconds
  if c.unheard >= UNHEARD or is_deaf(f) then c.lost = true end
  if f.status == "503" or (f.text and f.text:find("Consumer Deleted", 1, true)) then c.lost = true end
end

local function fetch(c, count, deadline)
  while true do
    local begun = moondog.now()
    if not host.wait_for_link(c.js, max(deadline - begun, 0.001)) then
      return host.fail("disconnected", host.NETWORK, ("there is no link to read consumer %s"):format(c.name))
    end
    local ok, err = ensure(c, deadline)
    if not ok then return nil, err end
    local f
    f, err = fetch_once(c, count, deadline)
    if not f then return nil, err end
    note_silence(c, f, moondog.now() - begun)
    if f.list[1] then return f.list end
    local again = c.lost and not c.started
    if f.status and f.status ~= "404" and f.status ~= "408" and not again then
      return host.fail("refused", host.PROTOCOL, ("the server refuses a request for messages of %s: %s %s"):format(
        c.name, f.status, f.text))
    end
    if not again or c.stopped or host.ending() or moondog.now() >= deadline then return f.list end
  end
end

--- One reader keeps the order.
local function fetch_in_order(c, count, deadline)
  local list = {}
  local ok, err = begin(c)
  if not ok then return nil, err end
  while #list < count do
    local msg = wait_for_message(c, deadline)
    if not msg then break end
    list[#list + 1] = msg
  end
  host.let_go() -- nothing is acknowledged: a task that keeps them is no reason to keep the link
  return list
end

local function read_some(c, count, timeout)
  if c.stopped or host.ending() then
    if host.ending() then moondog.sleep(ENDED_PAUSE) end -- a loop that does not look at errors must not spin
    return host.fail("stopped", host.NONE, ("consumer %s was stopped, or this generation of the script ends"):format(
      c.name))
  end
  return (c.ordered and fetch_in_order or fetch)(c, count, moondog.now() + (timeout or FETCH_TIMEOUT))
end

function Consumer:fetch(count, options)
  check_reader(self, "fetch()")
  if type(count) ~= "number" or not (count >= 1 and count <= FETCH_MAX) or count ~= floor(count) then
    error(("fetch() takes how many messages, a whole number from 1 to %d"):format(FETCH_MAX), 2)
  end
  if options ~= nil and type(options) ~= "table" then error("fetch(): options are a table", 2) end
  for key in pairs(options or {}) do
    if key ~= "timeout" then error(("unknown option \"%s\" of fetch(): there is timeout"):format(tostring(key)), 2) end
  end
  host.check_timeout(options and options.timeout, "fetch()")
  return read_some(self, count, options and options.timeout)
end

function Consumer:next(timeout)
  check_reader(self, "next()")
  host.check_timeout(timeout, "next()")
  local list, err = read_some(self, 1, timeout)
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
  give_back_all(self)
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

--- Of the ledger, one for each consumer, found again after a reload: what the script says of it. Those with a name
--- share it.
local function find_key(js, stream, spec)
  local config = spec.config
  local base = table.concat({ js.connection:status().name, js.prefix, stream,
    spec.fresh and "fresh" or spec.ordered and "ordered" or "",
    config.name or "", config.filter_subject or "", config.deliver_policy, config.opt_start_seq or "",
    config.opt_start_time or "" }, " ")
  local key, number = base, 1
  while in_use[key] and not config.name do
    number = number + 1
    key = base .. " " .. number
  end
  return key
end

local function prepare_ordered(config)
  config.ack_policy = "none"
  config.max_deliver = 1
  config.mem_storage = true
  config.num_replicas = 1
  config.inactive_threshold = config.inactive_threshold or ORDERED_INACTIVE * NANO
end

return function(js, stream, spec)
  local config, key = spec.config, find_key(js, stream, spec)
  if spec.ordered and in_use[key] then
    return host.fail("in_use", host.NONE, ("%s is read in order already, and two readers would take it from each "
      .. "other: stop() that one, or give it another name"):format(config.name))
  end
  local ledger = host.ledger(key)
  if not ledger then
    return host.fail("too_many", host.NONE, "there are 4,096 consumers in this process: stop() those that are done")
  end
  if spec.ordered then prepare_ordered(config) end
  if spec.fresh then ledger:restart() end -- of a generation before
  local c = setmetatable({
    js = js, impatient = setmetatable({ timeout = min(js.timeout, UPKEEP_TIMEOUT) }, { __index = js }),
    connection = js.connection, stream = stream, name = config.name or ledger:name(),
    own_name = config.name == nil, config = config, pull = spec.pull, bind = spec.bind,
    ordered = spec.ordered or false, fresh = spec.fresh, acks = config.ack_policy ~= "none",
    ledger = ledger, key = key, in_use = in_use, claim = {},
    signal = host.signal(js.connection), arrivals = host.signal(js.connection),
    queue = {}, sequences = {}, came_at = {}, first = 1, last = 0,
    outstanding = 0, expected = 1, received = 0, heard_at = 0, unheard = 0, mending = 0, not_before = 0,
    pause = PAUSE_MIN, lost = false,
    delivered = 0, skipped = 0, recreated = 0, restarts = 0, silences = 0, pending = 0,
  }, Consumer)
  in_use[key] = in_use[key] or c.claim
  local ok, err = establish(c)
  if ok then return c end
  if in_use[key] == c.claim then in_use[key] = nil end
  return nil, err
end
