-- The witness: a small NATS client of the tests' own, so that what moondog does is seen from
-- outside. It never reconnects: when its link ends, `closed` says why and every call raises.
local cjson = require "cjson"
local uv = require "luv"
local network = require "support.network"
local protocol = require "support.protocol"
local run = require "support.run"

local M = {}
M.__index = M

local CONNECT_SECONDS = 5
local counter = 0

local function dispatch(self, op)
  local sid, reply = op.args[2], nil
  local words = #op.args - (op.verb == "HMSG" and 2 or 1)
  if words == 3 then
    reply = op.args[3]
  end
  local sub = self.subs[sid]
  if not sub then
    return
  end
  local msg = { subject = op.args[1], reply = reply, data = op.data, at = run.now() }
  if op.header then
    msg.headers, msg.status = protocol.parse_headers(op.header)
  end
  sub.count = sub.count + 1
  if sub.handler then
    sub.handler(msg)
  else
    table.insert(sub.messages, msg)
  end
end

local function on_op(self, op)
  if op.verb == "INFO" then
    self.info = cjson.decode(op.line:sub(6))
  elseif op.verb == "PING" then
    self:send("PONG\r\n")
  elseif op.verb == "PONG" then
    self.pongs = self.pongs + 1
  elseif op.verb == "-ERR" then
    self.error = op.line:match("'(.*)'") or op.line
  elseif op.verb == "MSG" or op.verb == "HMSG" then
    dispatch(self, op)
  end
end

local function ended(self, why)
  self.closed = self.closed or self.error or why
  if not self.socket:is_closing() then
    self.socket:close()
  end
end

-- options: port, host, user, password, token, name, timeout (seconds), login (a function of INFO
-- that returns more fields for CONNECT). Returns the client, or nil and the server's text (or the
-- socket's error); always third: what there is, with the INFO that came.
function M.try_connect(options)
  counter = counter + 1
  local self = setmetatable({ socket = uv.new_tcp(), subs = {}, pongs = 0, pings = 0, sid = 0,
    inbox = ("_INBOX.witness.%d.%d"):format(uv.os_getpid(), counter) }, M)
  local read = protocol.reader(function(op) on_op(self, op) end)
  self.socket:connect(options.host or network.host, options.port, run.callback(function(err)
    if err then
      return ended(self, err)
    end
    self.socket:nodelay(true)
    self.socket:read_start(run.callback(function(read_err, chunk)
      if chunk then
        read(chunk)
      else
        ended(self, read_err or "EOF")
      end
    end))
  end))
  local function step(what)
    return pcall(run.wait_until, function() return self.closed or what() end,
      options.timeout or CONNECT_SECONDS, "an answer of the server")
  end
  local ok, err = step(function() return self.info end)
  if ok and not self.closed then
    local fields = {
      verbose = false, pedantic = false, lang = "test", version = "0", headers = true,
      no_responders = true, echo = true, user = options.user, pass = options.password,
      auth_token = options.token, name = options.name or "witness",
    }
    for key, value in pairs(options.login and options.login(self.info) or {}) do
      fields[key] = value
    end
    self:send("CONNECT " .. cjson.encode(fields) .. "\r\nPING\r\n")
    self.pings = 1
    ok, err = step(function() return self.pongs == 1 end)
  end
  if not ok or self.closed then
    ended(self, err)
    return nil, self.closed, self
  end
  return self, nil, self
end

function M.connect(options)
  local self, err = M.try_connect(options)
  if not self then
    error("the witness cannot connect: " .. tostring(err), 2)
  end
  return self
end

function M:send(bytes)
  if self.closed then
    error("the witness has no link: " .. tostring(self.closed), 2)
  end
  self.socket:write(bytes)
end

-- options: reply, headers.
function M:publish(subject, data, options)
  local reply = options and options.reply and options.reply .. " " or ""
  data = data or ""
  if options and options.headers then
    local head = protocol.format_headers(options.headers)
    self:send(("HPUB %s %s%d %d\r\n%s%s\r\n"):format(subject, reply, #head, #head + #data, head,
      data))
  else
    self:send(("PUB %s %s%d\r\n%s\r\n"):format(subject, reply, #data, data))
  end
end

-- Without a handler, messages are collected in sub.messages. options: queue.
function M:subscribe(subject, handler, options)
  self.sid = self.sid + 1
  local sid = tostring(self.sid)
  local sub = { sid = sid, count = 0, messages = {}, handler = handler }
  self.subs[sid] = sub
  local queue = options and options.queue and options.queue .. " " or ""
  self:send(("SUB %s %s%s\r\n"):format(subject, queue, sid))
  return sub
end

function M:unsubscribe(sub)
  self.subs[sub.sid] = nil
  self:send("UNSUB " .. sub.sid .. "\r\n")
end

-- Waits until the server has seen everything sent so far.
function M:flush(deadline)
  self.pings = self.pings + 1
  local mine = self.pings
  self:send("PING\r\n")
  run.wait_until(function()
    assert(not self.closed, self.closed)
    return self.pongs >= mine
  end, deadline or 5, "PONG for the witness")
end

-- Returns the answer, or nil and "timeout" or "no responders". It has its own subscription.
function M:request(subject, data, deadline, options)
  self.requests = (self.requests or 0) + 1
  local inbox = self.inbox .. "." .. self.requests
  local sub = self:subscribe(inbox)
  self:publish(subject, data, { reply = inbox, headers = options and options.headers })
  local ok = pcall(run.wait_until, function() return self.closed or sub.messages[1] end,
    deadline or 5, "answer")
  if self.closed then
    return nil, self.closed
  end
  self:unsubscribe(sub)
  if not ok then
    return nil, "timeout"
  end
  if sub.messages[1].status == "503" then
    return nil, "no responders"
  end
  return sub.messages[1]
end

-- Asks again and again until there is an answer.
function M:wait_answer(subject, data, deadline)
  local limit = run.now() + deadline
  while true do
    local answer, err = self:request(subject, data, 1)
    if answer then
      return answer
    end
    if run.now() > limit then
      error(("after %g s still no answer on %s: %s"):format(deadline, subject, err), 2)
    end
    run.pause(0.005)
  end
end

function M:close()
  ended(self, "closed")
end

return M
