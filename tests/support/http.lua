-- GET over libuv sockets: status code and body.
local uv = require "luv"
local network = require "support.network"
local run = require "support.run"

local M = {}

-- Returns the status and the body, or nil and an error.
function M.get(port, path, deadline)
  local socket = uv.new_tcp()
  local chunks, over = {}, nil
  socket:connect(network.host, port, run.callback(function(err)
    if err then
      over = err
      return
    end
    socket:write(("GET %s HTTP/1.0\r\nHost: %s\r\n\r\n"):format(path, network.host))
    socket:read_start(run.callback(function(read_err, chunk)
      if chunk then
        chunks[#chunks + 1] = chunk
      else
        over = read_err or "EOF"
      end
    end))
  end))
  local ok, err = pcall(run.wait_until, function() return over end, deadline or 5, "HTTP answer")
  socket:close()
  local text = table.concat(chunks)
  local status, body = text:match("^HTTP/1%.%d (%d+).-\r\n\r\n(.*)$")
  if not status then
    return nil, ok and over or err
  end
  return tonumber(status), body
end

return M
