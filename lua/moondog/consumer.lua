--- A consumer of a stream, as a script holds it: it lives whatever happens to the link, to the server, and to the
--- consumer on the server (consumer_upkeep.lua, consumer_server.lua). Its place is in a ledger
--- (src/jetstream/ledger.h). Called by jetstream_consumers.lua with what it shares; returns the function that opens
--- one.
local host = ...
local moondog = require "moondog"

local type, setmetatable, error = type, setmetatable, error
local floor, min = math.floor, math.min

local NANO = host.NANO
local PAUSE_MIN = 0.1        -- seconds, between two attempts to bring it back; it doubles
local FETCH_TIMEOUT = 5      -- seconds
local UPKEEP_TIMEOUT = 2     -- seconds, of what its upkeep asks the server
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
local begin, finish, hungry = upkeep.begin, upkeep.finish, upkeep.hungry

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
    js = js, impatient = setmetatable({ timeout = min(js.timeout, UPKEEP_TIMEOUT) }, { __index = js }),
    connection = js.connection, stream = stream, name = config.name or ledger:name(),
    own_name = config.name == nil, config = config, pull = spec.pull, bind = spec.bind,
    ordered = spec.ordered or false, acks = config.ack_policy ~= "none", ledger = ledger, key = key, in_use = in_use,
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
