--- Publishing into streams: one message and its acknowledgement, or many with their acknowledgements on the way.
--- Called by jetstream.lua with what it shares; returns the methods.
local host = ...
local moondog = require "moondog"

local type, tostring, pairs = type, tostring, pairs
local setmetatable, error = setmetatable, error
local min, max = math.min, math.max

local ATTEMPTS = 3   -- while nobody listens: a stream may be electing its leader
local PAUSE = 0.25   -- seconds, between two of them
local LOOK = 1       -- seconds; one that is out of its time is noticed so long after, behind one that is not

local M = {}

-- ---- options ----

--- The headers by which a publisher says what it expects.
local EXPECTATIONS = {
  msg_id = "Nats-Msg-Id", expect_stream = "Nats-Expected-Stream", expect_seq = "Nats-Expected-Last-Sequence",
  expect_msg_id = "Nats-Expected-Last-Msg-Id", expect_subject_seq = "Nats-Expected-Last-Subject-Sequence",
}
local PUBLISH_OPTIONS = { headers = true, timeout = true }

--- Tail-called, or called by a method: the script is two levels above.
local function read_publish_options(subject, data, options)
  local headers, timeout
  if type(subject) ~= "string" then error("publish: a subject is a text, not a " .. type(subject), 3) end
  if data ~= nil and type(data) ~= "string" and type(data) ~= "number" then
    error(("publish: data is a string, not a %s: encode it"):format(type(data)), 3)
  end
  if options ~= nil and type(options) ~= "table" then error("publish: options are a table", 3) end
  for key, value in pairs(options or {}) do
    local header = EXPECTATIONS[key]
    if header then
      headers = headers or {}
      headers[header] = type(value) == "number" and ("%.0f"):format(value) or tostring(value)
    elseif not PUBLISH_OPTIONS[key] then
      error(("unknown option \"%s\" of publish: there are headers, timeout, msg_id, expect_stream, expect_seq, "
        .. "expect_msg_id, expect_subject_seq"):format(tostring(key)), 3)
    end
  end
  if options and options.headers then
    headers = headers or {}
    for name, value in pairs(options.headers) do headers[name] = value end
  end
  timeout = options and options.timeout
  host.check_timeout(timeout, "publish", 2)
  return headers, timeout
end

-- ---- acknowledgements ----

local ACK = { stream = "string", seq = "number", duplicate = "boolean?", domain = "string?" }

local function read_ack(data, subject)
  local ack, err = host.read_answer(data, ACK, "a message on " .. subject)
  if not ack then return nil, err end
  if ack.seq == 0 then -- a cluster of 2.10; from 2.11 on it is an error with a number
    return host.fail("in_process", host.PROTOCOL,
      "a message on " .. subject .. " with this msg_id is on its way into the stream, and not stored yet")
  end
  return { stream = ack.stream, seq = ack.seq, duplicate = ack.duplicate or false, domain = ack.domain }
end

local function explain(err, subject)
  if err.code ~= "no_responders" then return nil, err end
  return host.fail("no_stream", host.NONE, ("no stream takes %s now, or there is no JetStream"):format(subject))
end

-- ---- one message ----

function M:publish(subject, data, options)
  local headers, timeout = read_publish_options(subject, data, options)
  local reply, err
  for attempt = 1, ATTEMPTS do
    reply, err = host.request(self, subject, data, { timeout = timeout or self.timeout, headers = headers })
    if reply or err.code ~= "no_responders" or attempt == ATTEMPTS then break end
    moondog.sleep(PAUSE)
  end
  if not reply then return explain(err, subject) end
  return read_ack(reply.data, subject)
end

-- ---- many ----

--- What was published and is not acknowledged yet: a queue, oldest first.
local function window_of(js)
  local w = js.window
  if not w then
    w = { first = 1, last = 0, serial = 0, answered = host.signal(js.connection), failed = 0 }
    js.window = w
  end
  return w
end

---@class moondog.publication
local Publication = {}
Publication.__index = Publication

local function result(p)
  if p.ack == nil and p.err == nil then
    local data, err = p.answer:data()
    if data then
      p.ack, p.err = read_ack(data, p.subject)
    else
      p.ack, p.err = explain(err, p.subject)
    end
  end
  return p.ack, p.err
end

--- Whether it is answered, or out of its time, which is then given up. It is counted when it failed.
local function is_settled(w, p)
  if not p.answer:done() then
    if moondog.now() < p.deadline then return false end
    p.answer:cancel()
  end
  if not p.answer:good() then
    local _, err = result(p)
    if err then
      w.failed = w.failed + 1
      w.error = w.error or err
    end
  end
  return true
end

--- Takes what is settled out of the front of the queue.
local function settle(w)
  while w.first <= w.last and is_settled(w, w[w.first]) do
    w[w.first] = nil
    w.first = w.first + 1
  end
end

--- The same behind one that is not.
local function settle_all(w)
  local free = w.first
  for i = w.first, w.last do
    local p = w[i]
    w[i] = nil
    if not is_settled(w, p) then
      w[free] = p
      free = free + 1
    end
  end
  w.last = free - 1
end

--- Waits until at most `count` are left.
local function wait_for_room(w, count)
  settle(w)
  while w.last - w.first + 1 > count do
    local oldest = w[w.first]
    w.answered:wait(min(max(oldest.deadline - moondog.now(), 0), LOOK))
    settle(w)
    if w[w.first] == oldest then settle_all(w) end
  end
end

function M:publish_async(subject, data, options)
  local headers, timeout = read_publish_options(subject, data, options)
  local w, most = window_of(self), self.max_pending - 1
  timeout = timeout or self.timeout
  wait_for_room(w, most)
  if not host.link(self.connection) then
    host.wait_for_link(self, timeout)
    wait_for_room(w, most) -- others have waited for the link, too
  end
  local answer, err = host.ask(self.connection, subject, data, headers and { headers = headers }, w.answered)
  if not answer then return explain(err, subject) end
  w.serial, w.last = w.serial + 1, w.last + 1
  local p = setmetatable({ window = w, answer = answer, subject = subject, deadline = moondog.now() + timeout,
    serial = w.serial }, Publication)
  w[w.last] = p
  host.breathe()
  return p
end

--- Waits for everything that was published without waiting so far. nil, err: the first of those that failed since the
--- last time; err.failed says how many there were.
function M:publish_async_complete(timeout)
  host.check_timeout(timeout, "publish_async_complete")
  local w = window_of(self)
  local deadline, last = moondog.now() + (timeout or self.timeout), w.serial
  settle(w)
  while w.first <= w.last and w[w.first].serial <= last do
    local left = deadline - moondog.now()
    if left <= 0 then
      return host.fail("timeout", host.TIMEOUT, ("%d messages are not acknowledged yet"):format(w.last - w.first + 1))
    end
    w.answered:wait(min(left, max(w[w.first].deadline - moondog.now(), 0)))
    settle(w)
  end
  if w.failed == 0 then return true end
  local err = w.error
  err.failed = w.failed
  w.failed, w.error = 0, nil
  return nil, err
end

function Publication:done()
  return self.answer:done()
end

--- The acknowledgement, or nil, err. Without `timeout` it waits as long as the message has.
function Publication:wait(timeout)
  host.check_timeout(timeout, "wait")
  local deadline = timeout and moondog.now() + timeout or self.deadline
  while not self.answer:done() do
    local left = deadline - moondog.now()
    if left <= 0 then
      if deadline < self.deadline then
        return host.fail("timeout", host.TIMEOUT, "no acknowledgement yet")
      end
      self.answer:cancel()
      break
    end
    self.window.answered:wait(left)
  end
  host.breathe() -- thousands that are there already are looked at in one loop
  return result(self)
end

return M
