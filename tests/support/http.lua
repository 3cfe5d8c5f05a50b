-- An HTTP client over libuv sockets. Where to: a port of this test's address, { host, port }, or
-- { path } of a Unix socket.
--
--   local status, body = http.get(port, "/livez")
--   local client = http.open { path = folder .. "/health.sock" }
--   client:ask("/livez")
--   local answer = client:answer() -- status, headers (lower case), body
local uv = require "luv"
local network = require "support.network"
local run = require "support.run"

local M = {}
local Client = {}
Client.__index = Client

local WAIT_SECONDS = 5

local function start_reading(self)
  self.socket:read_start(run.callback(function(err, chunk)
    if chunk then
      table.insert(self.chunks, chunk)
      self.received = self.received + #chunk
    else
      self.over = err or "EOF"
    end
  end))
end

-- Begins to connect, and does not wait: `connected` is set when it is. where.receive_buffer: bytes
-- that the kernel takes for a client that does not read.
function M.begin(where)
  if type(where) == "number" then
    where = { port = where }
  end
  local self = setmetatable({ bytes = "", chunks = {}, received = 0, wanted = 0, asked = {} },
    Client)
  self.socket = where.path and uv.new_pipe(false) or uv.new_tcp(where.receive_buffer and "inet")
  if where.receive_buffer then
    assert(self.socket:recv_buffer_size(where.receive_buffer))
  end
  local function on_connected(err)
    if err then
      self.over = err
      return
    end
    self.connected = true
    if not self.deaf then
      start_reading(self)
    end
  end
  if where.path then
    self.socket:connect(where.path, run.callback(on_connected))
  else
    self.socket:connect(where.host or network.host, where.port, run.callback(on_connected))
  end
  return self
end

-- Returns the connection, or nil and an error.
function M.open(where, deadline)
  local self = M.begin(where)
  local ok, err = pcall(run.wait_until, function() return self.connected or self.over end,
    deadline or WAIT_SECONDS, "a connection")
  if not ok or self.over then
    self:close()
    return nil, self.over or err
  end
  return self
end

function Client:send(bytes)
  self.socket:write(bytes)
end

-- Takes no more bytes, so that they pile up on their way; or takes them again.
function Client:stop_reading()
  self.deaf = true
  self.socket:read_stop()
end

function Client:read_on()
  self.deaf = false
  start_reading(self)
end

-- Sends a request. options: method, headers (table), body, version ("1.1").
function Client:ask(path, options)
  options = options or {}
  local method = options.method or "GET"
  local lines = { ("%s %s HTTP/%s"):format(method, path, options.version or "1.1"),
    "Host: " .. network.host }
  for name, value in pairs(options.headers or {}) do
    lines[#lines + 1] = name .. ": " .. value
  end
  if options.body then
    lines[#lines + 1] = "Content-Length: " .. #options.body
  end
  table.insert(self.asked, method)
  self:send(table.concat(lines, "\r\n") .. "\r\n\r\n" .. (options.body or ""))
end

local function parse_head(text)
  local status = tonumber(text:match("^HTTP/1%.%d (%d+)"))
  local headers = {}
  for name, value in text:gmatch("\r\n([^:\r\n]+):[ \t]*([^\r\n]*)") do
    headers[name:lower()] = value
  end
  return status and { status = status, headers = headers, head = text }
end

-- The body of chunks that begins at `from`; its text and its end when it is complete.
local function parse_chunks(bytes, from)
  local parts = {}
  while true do
    local line_end = bytes:find("\r\n", from, true)
    local size = line_end and tonumber(bytes:sub(from, line_end - 1):match("^%x+"), 16)
    if not size or #bytes < line_end + 1 + size + 2 then
      return nil
    end
    parts[#parts + 1] = bytes:sub(line_end + 2, line_end + 1 + size)
    from = line_end + 2 + size + 2
    if size == 0 then
      return table.concat(parts), from
    end
  end
end

-- Takes a whole answer from what has come; nil: there is none yet.
local function take(self)
  if self.received < self.wanted and not self.over then
    return nil -- a large answer is not put together again and again
  end
  self.bytes, self.chunks = self.bytes .. table.concat(self.chunks), {}
  local head_end = select(2, self.bytes:find("\r\n\r\n", 1, true))
  local answer = head_end and parse_head(self.bytes:sub(1, head_end))
  if not answer then
    return nil
  end
  local length = tonumber(answer.headers["content-length"])
  local after
  if self.asked[1] == "HEAD" then
    answer.body, after = "", head_end + 1
  elseif (answer.headers["transfer-encoding"] or ""):lower() == "chunked" then
    answer.body, after = parse_chunks(self.bytes, head_end + 1)
  elseif length and #self.bytes >= head_end + length then
    answer.body, after = self.bytes:sub(head_end + 1, head_end + length), head_end + length + 1
  elseif not length and self.over then
    answer.body, after = self.bytes:sub(head_end + 1), #self.bytes + 1
  end
  if not answer.body then
    self.wanted = length and self.received - #self.bytes + head_end + length or 0
    return nil
  end
  self.bytes, self.wanted = self.bytes:sub(after), 0
  table.remove(self.asked, 1)
  return answer
end

-- The next answer, or nil and why there is none.
function Client:answer(deadline)
  local answer
  local ok, err = pcall(run.wait_until, function()
    answer = take(self)
    return answer or self.over
  end, deadline or WAIT_SECONDS, "an HTTP answer")
  if answer then
    return answer
  end
  return nil, ok and self.over or err
end

-- Waits until the other side has closed the connection, and returns why it is over.
function Client:wait_closed(deadline)
  return run.wait_until(function() return self.over end, deadline or WAIT_SECONDS,
    "the end of an HTTP connection")
end

function Client:close()
  if not self.socket:is_closing() then
    self.socket:close()
  end
end

-- One request over a connection of its own: the answer, or nil and an error. options: as for
-- ask(), and deadline.
function M.request(where, path, options)
  options = options or {}
  local client, err = M.open(where, options.deadline)
  if not client then
    return nil, err
  end
  client:ask(path, options)
  local answer
  answer, err = client:answer(options.deadline)
  client:close()
  return answer, err
end

-- Returns the status and the body, or nil and an error.
function M.get(where, path, deadline)
  local answer, err = M.request(where, path, { version = "1.0", deadline = deadline })
  if not answer then
    return nil, err
  end
  return answer.status, answer.body
end

return M
