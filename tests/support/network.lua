-- Addresses for tests. Every test process has a loopback address of its own, made of its process
-- id, so that tests that run side by side never want the same port.
local uv = require "luv"

local M = {}

local given = {} -- ports of this process, so that none is given twice

local function own_address()
  local pid = uv.os_getpid()
  return ("127.%d.%d.%d"):format(1 + math.floor(pid / 65536) % 254, math.floor(pid / 256) % 256,
    pid % 256)
end

M.host = own_address()

-- A second one, for what moves from one to the other.
M.other_host = M.host:gsub("^127%.%d+", "127.255")

-- A port of M.host on which nobody listens.
function M.free_port()
  for _ = 1, 100 do
    local socket = uv.new_tcp()
    assert(socket:bind(M.host, 0))
    local port = socket:getsockname().port
    socket:close()
    if not given[port] then
      given[port] = true
      return port
    end
  end
  error("no free port on " .. M.host)
end

function M.url(port)
  return ("nats://%s:%d"):format(M.host, port)
end

return M
