-- A NATS server that does what a test wants: says nothing, says errors, hangs up, forgets PONG.
-- Left alone it is a small honest broker, so that only the fault of the test is in it.
--
--   local server = scripted_server.start { on_op = function(client, op) ... return true end }
--
-- options: port; info (fields of INFO); silent (never speaks); info_only (INFO, then nothing);
-- no_pong (answers no PING after the handshake's); close_after (bytes sent to each client, then
-- the link ends); on_connect(client), on_op(client, op): return true when the default shall not
-- act. All of them can be changed while it runs: server.options.no_pong = true.
local cjson = require "cjson"
local uv = require "luv"
local network = require "support.network"
local protocol = require "support.protocol"
local run = require "support.run"

local Client = {}
Client.__index = Client

function Client:send(bytes)
  if self.socket:is_closing() then
    return
  end
  local limit = self.server.options.close_after
  if limit and self.sent + #bytes >= limit then
    bytes = bytes:sub(1, limit - self.sent)
    self.socket:write(bytes, function() self:close() end)
    self.sent = limit
    return
  end
  self.sent = self.sent + #bytes
  self.socket:write(bytes)
end

function Client:error(text, hang_up)
  local line = "-ERR '" .. text .. "'\r\n"
  if hang_up == false then
    return self:send(line)
  end
  self.socket:write(line, function() self:close() end)
end

local function forget(self)
  self.closed = true
  self.server.clients[self] = nil
end

function Client:close()
  forget(self)
  if not self.socket:is_closing() then
    self.socket:close()
  end
end

-- RST instead of FIN.
function Client:reset()
  forget(self)
  if not self.socket:is_closing() then
    self.socket:close_reset()
  end
end

local M = {}
M.__index = M

local function deliver(server, op)
  local subject = op.args[1]
  local reply = #op.args - (op.verb == "HPUB" and 2 or 1) == 2 and op.args[2] .. " " or ""
  for client in pairs(server.clients) do
    for sid, pattern in pairs(client.subs) do
      if protocol.matches(pattern, subject) then
        if op.header then
          client:send(("HMSG %s %s %s%d %d\r\n%s%s\r\n"):format(subject, sid, reply, #op.header,
            #op.header + #op.data, op.header, op.data))
        else
          client:send(("MSG %s %s %s%d\r\n%s\r\n"):format(subject, sid, reply, #op.data, op.data))
        end
      end
    end
  end
end

local default = {}

function default.CONNECT(client, op)
  client.connect = cjson.decode(op.line:sub(9))
end

function default.PING(client)
  if not client.greeted or not client.server.options.no_pong then
    client:send("PONG\r\n")
  end
  client.greeted = true
end

function default.SUB(client, op)
  client.subs[op.args[#op.args]] = op.args[1]
end

function default.UNSUB(client, op)
  if not op.args[2] then -- with a count it goes on
    client.subs[op.args[1]] = nil
  end
end

function default.PUB(client, op)
  deliver(client.server, op)
end

default.HPUB = default.PUB

local function on_op(client, op)
  local server = client.server
  table.insert(client.ops, op)
  if server.options.silent or server.options.info_only then
    return
  end
  if server.options.on_op and server.options.on_op(client, op) then
    return
  end
  if default[op.verb] and not client.closed then
    default[op.verb](client, op)
  end
end

local function accept(server)
  local socket = uv.new_tcp()
  server.socket:accept(socket)
  server.accepted = server.accepted + 1
  local client = setmetatable({ server = server, socket = socket, number = server.accepted,
    subs = {}, ops = {}, sent = 0, at = run.now() }, Client)
  server.clients[client] = true
  server.last = client
  local read = protocol.reader(function(op) on_op(client, op) end)
  socket:read_start(run.callback(function(_, chunk)
    if chunk and not client.closed then
      read(chunk)
    elseif not chunk then
      client:close()
    end
  end))
  if server.options.silent then
    return
  end
  local handled = server.options.on_connect and server.options.on_connect(client)
  if not handled and not client.closed then
    client:send("INFO " .. cjson.encode(server.info) .. "\r\n")
  end
end

function M.start(options)
  options = options or {}
  local self = setmetatable({ options = options, clients = {}, accepted = 0,
    host = network.host, port = options.port or network.free_port() }, M)
  self.url = network.url(self.port)
  self.info = { server_id = "SCRIPTED", server_name = "scripted", version = "2.9.10", proto = 1,
    go = "none", host = self.host, port = self.port, headers = true, max_payload = 1048576,
    client_id = 1 }
  for key, value in pairs(options.info or {}) do
    self.info[key] = value
  end
  self.socket = uv.new_tcp()
  assert(self.socket:bind(self.host, self.port))
  assert(self.socket:listen(128, run.callback(function(err)
    assert(not err, err)
    accept(self)
  end)))
  return self
end

-- How many links are open.
function M:count()
  local count = 0
  for _ in pairs(self.clients) do
    count = count + 1
  end
  return count
end

-- Every client gets the error; they are hung up on unless hang_up is false.
function M:error(text, hang_up)
  for client in pairs(self.clients) do
    client:error(text, hang_up)
  end
end

-- Ends all links.
function M:hang_up()
  for client in pairs(self.clients) do
    client:close()
  end
end

-- How many subscriptions all open links have to a subject (a Lua pattern).
function M:subscriptions(pattern)
  local count = 0
  for client in pairs(self.clients) do
    for _, subject in pairs(client.subs) do
      if subject:find(pattern) then
        count = count + 1
      end
    end
  end
  return count
end

function M:publish(subject, data)
  deliver(self, { verb = "PUB", args = { subject, tostring(#data) }, data = data })
end

return M
