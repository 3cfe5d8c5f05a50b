-- Asks subjects again and again from the moment that a server accepts, until each has answered: that is when clients
-- whose server was away are back. The server is asked for a connection every millisecond.
local uv = require "luv"
local network = require "support.network"
local protocol = require "support.protocol"
local run = require "support.run"

local M = {}
M.__index = M

local CONNECT_MS = 1
local ASK_MS = 2
local INBOX = "_INBOX.prober"

local function greet(self)
  self.accepted = run.now()
  self.socket:write('CONNECT {"verbose":false,"pedantic":false,"lang":"test","version":"0","name":"witness"}\r\nSUB '
    .. INBOX .. ".* 1\r\n")
  self.timer:start(0, ASK_MS, run.callback(function()
    local out = {}
    for i, subject in pairs(self.open) do
      out[#out + 1] = ("PUB %s %s.%d 0\r\n\r\n"):format(subject, INBOX, i)
    end
    self.socket:write(table.concat(out))
  end))
end

local function take(self, op)
  if op.verb == "INFO" and not self.accepted then
    greet(self)
  elseif op.verb == "PING" then
    self.socket:write("PONG\r\n")
  elseif op.verb == "MSG" then
    local i = tonumber(op.args[1]:match("(%d+)$"))
    if self.open[i] then
      self.open[i], self.left = nil, self.left - 1
      self.first = self.first or run.now()
      self.last = run.now()
    end
  end
end

-- One attempt to connect; the next one comes by itself while this one fails.
local function attempt(self)
  local socket = uv.new_tcp()
  local read = protocol.reader(function(op) take(self, op) end)
  socket:connect(network.host, self.port, run.callback(function(err)
    if err then
      socket:close()
      if not self.closed then self.timer:start(CONNECT_MS, 0, run.callback(function() attempt(self) end)) end
      return
    end
    self.socket = socket
    socket:nodelay(true)
    socket:read_start(run.callback(function(_, chunk)
      if chunk then read(chunk) end
    end))
  end))
end

function M.start(port, subjects)
  local self = setmetatable({ port = port, open = {}, left = #subjects, timer = uv.new_timer() }, M)
  for i, subject in ipairs(subjects) do self.open[i] = subject end
  attempt(self)
  return self
end

-- Waits until all have answered. Returns the seconds from the acceptance to the first and to the last answer.
function M:wait(deadline)
  run.wait_until(function() return self.left == 0 end, deadline, function()
    return ("answers on %d more subjects"):format(self.left)
  end)
  self.closed = true
  self.timer:close()
  self.socket:close()
  return self.first - self.accepted, self.last - self.accepted
end

return M
