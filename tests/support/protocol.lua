-- Cuts a NATS byte stream into operations, for the client and for the scripted server. Written
-- for the tests alone: it shares nothing with what it tests.
local M = {}

local WITH_PAYLOAD = { PUB = true, HPUB = true, MSG = true, HMSG = true }

-- Returns a function that takes chunks and calls on_op { line, verb, args, header, data } for
-- each operation. An error in on_op is the caller's.
function M.reader(on_op)
  local buffer = ""
  local pending -- an operation that waits for its payload
  local function take_payload()
    local total = pending.size + 2
    if #buffer < total then
      return false
    end
    local op, body = pending, buffer:sub(1, pending.size)
    buffer, pending = buffer:sub(total + 1), nil
    op.header = op.header_size > 0 and body:sub(1, op.header_size) or nil
    op.data = body:sub(op.header_size + 1)
    on_op(op)
    return true
  end
  local function take_line()
    local stop = buffer:find("\r\n", 1, true)
    if not stop then
      return false
    end
    local line = buffer:sub(1, stop - 1)
    buffer = buffer:sub(stop + 2)
    local op = { line = line, verb = (line:match("^(%S*)") or ""):upper(), args = {} }
    for word in line:gmatch("%S+") do
      op.args[#op.args + 1] = word
    end
    table.remove(op.args, 1)
    if WITH_PAYLOAD[op.verb] then
      op.size = tonumber(op.args[#op.args])
      op.header_size = op.verb:sub(1, 1) == "H" and tonumber(op.args[#op.args - 1]) or 0
      pending = op
    else
      on_op(op)
    end
    return true
  end
  return function(chunk)
    buffer = #buffer > 0 and buffer .. chunk or chunk
    local more = true
    while more do
      if pending then
        more = take_payload()
      else
        more = take_line()
      end
    end
  end
end

-- "NATS/1.0 503 text\r\nkey: value\r\n\r\n" to a table of headers, and the status or nil.
function M.parse_headers(text)
  local headers = {}
  local status = text:match("^NATS/1%.0 +(%d+)")
  for key, value in text:gmatch("\r\n([^:\r\n]+):%s*([^\r\n]*)") do
    headers[key] = value
  end
  return headers, status
end

function M.format_headers(headers)
  local out = { "NATS/1.0" }
  for key, value in pairs(headers) do
    out[#out + 1] = key .. ": " .. value
  end
  return table.concat(out, "\r\n") .. "\r\n\r\n"
end

-- Whether a subscription's subject takes a message's subject.
function M.matches(pattern, subject)
  local p, s = pattern:gmatch("[^.]+"), subject:gmatch("[^.]+")
  while true do
    local want, have = p(), s()
    if want == ">" then
      return have ~= nil
    end
    if want == nil or have == nil then
      return want == have
    end
    if want ~= "*" and want ~= have then
      return false
    end
  end
end

return M
