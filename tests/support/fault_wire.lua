-- What a peer can say that is not what the NATS protocol says: cells for support.fault_cells.
local cjson = require "cjson"
local uv = require "luv"

local M = {}

local CRLF = "\r\n"
local HOLD_MS = 10 -- between two pieces of what never ends

local function info(client, changes)
  local fields = {}
  for key, value in pairs(client.server.info) do
    fields[key] = value
  end
  for key, value in pairs(changes or {}) do
    fields[key] = value
  end
  return "INFO " .. cjson.encode(fields) .. CRLF
end

-- Calls f every HOLD_MS until the client is gone, or f returns false.
local function drip(client, f)
  local timer = uv.new_timer()
  timer:start(0, HOLD_MS, function()
    if client.closed or client.socket:is_closing() or f() == false then
      timer:close()
    end
  end)
end

-- The same piece again and again.
local function pour(client, piece)
  drip(client, function()
    if client.socket:get_write_queue_size() < 2 ^ 20 then
      client:send(piece)
    end
  end)
end

-- ---- instead of INFO ----

local GREETINGS = {
  { "no JSON", "INFO hello" .. CRLF },
  { "half of the JSON", 'INFO {"server_id":"A","port":' .. CRLF },
  { "JSON that is no object", "INFO [1,2]" .. CRLF },
  { "null", "INFO null" .. CRLF },
  { "an empty object", "INFO {}" .. CRLF },
  { "no object at all", "INFO" .. CRLF },
  { "INFO and a space", "INFO " .. CRLF },
  { "wrong types", 'INFO {"server_id":5,"port":"x","max_payload":"big","headers":"yes","connect_urls":"a","proto":{}}'
    .. CRLF },
  { "wrong types in a list", 'INFO {"connect_urls":[1,null,{}],"port":-1}' .. CRLF },
  { "strange addresses", 'INFO {"max_payload":1048576,"connect_urls":["","::","a b:c","nats://x:99999"]}' .. CRLF },
  { "a negative payload", 'INFO {"max_payload":-5}' .. CRLF },
  { "numbers without bounds", 'INFO {"max_payload":1e999,"port":99999999999999999999,"client_id":-1}' .. CRLF },
  { "objects in objects", "INFO " .. ('{"a":'):rep(5000) .. CRLF },
  { "lists in lists", 'INFO {"connect_urls":' .. ("["):rep(20000) .. CRLF },
  { "strings that do not end", 'INFO {"server_id":"' .. ("x"):rep(20000) .. CRLF },
  { "escapes", 'INFO {"server_id":"\\u00zz\\q\\' .. CRLF },
  { "a NUL byte", "INFO {\0}" .. CRLF },
  { "no UTF-8", 'INFO {"server_id":"\255\254\192"}' .. CRLF },
  { "TLS required", function(client) return info(client, { tls_required = true }) end },
  { "a nonce", function(client) return info(client, { auth_required = true, nonce = ("n"):rep(5000) }) end },
  { "an HTTP answer", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" },
  { "a page", "HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" .. ("<html>"):rep(3000) },
  { "SSH", "SSH-2.0-OpenSSH_9.2p1 Debian-2" .. CRLF },
  { "SMTP", "220 mail.example ESMTP" .. CRLF },
  { "TLS", "\21\3\1\0\2\2\70" },
  { "NULs", ("\0"):rep(100) .. CRLF },
  { "noise", "\200\1\254\7\r\r\r\n\n\n" },
  { "an empty line", CRLF },
  { "PONG", "PONG" .. CRLF },
  { "a message", "MSG a 1 5\r\nhello\r\n" },
}

local ANSWERS = {
  { "an empty line", CRLF },
  { "no line", "x" },
  { "HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n" },
  { "INFO again", function(client) return info(client) end },
  { "NULs", ("\0"):rep(100) .. CRLF },
  { "a long line", ("PING"):rep(5000) .. CRLF },
  { "no UTF-8", "\255\254 %s%n" .. CRLF },
}

local function bytes_of(entry, client)
  return type(entry) == "function" and entry(client) or entry
end

local function hung_up(client, bytes)
  client.socket:write(bytes, function() client:close() end)
end

-- Twice in a row, hung up; then once, left open.
function M.greetings()
  local list = {}
  local function add(title, place, entry, rest)
    local function step(dials, hang_up)
      return { dials = dials, title = hang_up and "hung up" or "left open", [place] = function(client)
        local bytes = bytes_of(entry, client)
        if hang_up then
          hung_up(client, bytes)
        else
          client:send(bytes)
        end
        return rest
      end }
    end
    list[#list + 1] = { title = title, steps = { step({ true, true }, true), step({ true }, false) } }
  end
  for _, greeting in ipairs(GREETINGS) do
    add(greeting[1], "greet", greeting[2], true)
  end
  for _, answer in ipairs(ANSWERS) do
    add(answer[1] .. " instead of PONG", "answer", answer[2])
  end
  return list
end

-- ---- what never ends ----

local PIECE = ("endless "):rep(2000)

local function slowly(client)
  local text, at = info(client), 0
  drip(client, function()
    at = at + 1
    -- The last two go together: nats.c before 3.13 does not know its line's end when it comes in two.
    client:send(at < #text - 1 and text:sub(at, at) or text:sub(at))
    return at < #text - 1
  end)
  return true
end

function M.endless()
  local function dial(title, place, f)
    return { title = title, steps = { { dials = { true }, [place] = function(client) return f(client) or true end } } }
  end
  local function live(title, begin, piece)
    return { title = title, steps = { { live = function(client)
      client:send(begin)
      pour(client, piece)
    end } } }
  end
  return {
    dial("INFO", "greet", function(client)
      client:send 'INFO {"server_id":"'
      pour(client, PIECE)
    end),
    dial("no line", "greet", function(client) pour(client, PIECE) end),
    dial("lines", "greet", function(client) pour(client, PIECE .. CRLF) end),
    dial("a line instead of PONG", "answer", function(client) pour(client, PIECE) end),
    dial("single bytes instead of PONG", "answer", function(client) pour(client, "x") end),
    dial("-ERR instead of PONG", "answer", function(client)
      client:send "-ERR '"
      pour(client, PIECE)
    end),
    dial("INFO in single bytes", "greet", slowly),
    live("INFO on a link", 'INFO {"server_id":"', PIECE),
    live("-ERR on a link", "-ERR '", PIECE),
    live("MSG on a link", "MSG ", PIECE),
    live("spaces on a link", "MSG", (" "):rep(16000)),
    live("+OK on a link", "+OK", PIECE),
    live("payload on a link", "MSG cell 1 1000000000" .. CRLF, PIECE),
    live("after a payload on a link", "MSG cell 1 3" .. CRLF .. "abc", PIECE),
    live("PINGs on a link", "", ("PING" .. CRLF):rep(100)),
    live("PONGs on a link", "", ("PONG" .. CRLF):rep(100)),
    live("INFOs on a link", "", ('INFO {"connect_urls":[]}' .. CRLF):rep(20)),
  }
end

-- ---- so many bytes, and no more ----

local MOST_SENT = 600 -- the handshake is over before
local CELLS = 50

-- The link ends behind each number of bytes, in both directions, with FIN and with RST.
function M.so_many_bytes()
  local list = {}
  for i = 1, CELLS do
    list[i] = { title = "so many bytes", make_way = function(stage, server) return stage:proxy(server) end, steps = {} }
  end
  for bytes = 1, MOST_SENT do
    local cell = list[bytes % CELLS + 1]
    for _, direction in ipairs { "down", "up" } do
      for _, reset in ipairs { false, true } do
        table.insert(cell.steps, { title = ("%d bytes %s%s"):format(bytes, direction, reset and ", RST" or ""),
          before = function() cell.way:end_after(direction, bytes, reset) end })
      end
    end
  end
  return list
end

-- ---- frames on a link that works ----

local HEADERS = "NATS/1.0" .. CRLF

local function hmsg(block, data, header_size, size)
  return function(sid)
    return ("HMSG cell %s %d %d\r\n%s%s\r\n"):format(sid, header_size or #block, size or #block + #data, block, data)
  end
end

local function line(text, data)
  return function(sid)
    return (text:gsub("SID", sid)) .. CRLF .. (data and data .. CRLF or "")
  end
end

-- Each a title, and a function of the subscription's number.
local FRAMES = {
  { "half of a payload", function(sid) return ("MSG cell %s 100\r\nhalf"):format(sid) end },
  { "half of a line", function(sid) return ("MSG cell %s"):format(sid) end },
  { "half of the headers", function(sid) return ("HMSG cell %s 50 60\r\n%sk: v"):format(sid, HEADERS) end },
  { "a payload of a gigabyte", line("MSG cell SID 1000000000", "x") },
  { "a size beyond 32 bits", line("MSG cell SID 4294967299", "abc") },
  { "a size beyond 64 bits", line("MSG cell SID 99999999999999999999999", "abc") },
  { "a negative size", line("MSG cell SID -5", "abc") },
  { "a size that is no number", line("MSG cell SID abc", "abc") },
  { "no size", line("MSG cell SID", "abc") },
  { "no arguments", line("MSG", "abc") },
  { "too many arguments", line("MSG cell SID a b c d 3", "abc") },
  { "a payload that is longer than its size", line("MSG cell SID 3", "abcdef") },
  { "a payload that is shorter than its size", line("MSG cell SID 9", "abc") },
  { "a subscription that is not there", line("MSG cell 4711 3", "abc") },
  { "subscription 0", line("MSG cell 0 3", "abc") },
  { "a negative subscription", line("MSG cell -1 3", "abc") },
  { "another subject", line("MSG other SID 3", "abc") },
  { "a subject of 10 KB", line("MSG " .. ("s"):rep(10000) .. " SID 3", "abc") },
  { "a subject that is no UTF-8", line("MSG \255\254 SID 3", "abc") },
  { "headers that are longer than all", hmsg(HEADERS .. "k: v\r\n\r\n", "abc", 5000, 23) },
  { "headers of a negative size", hmsg(HEADERS, "abc", -5, 20) },
  { "headers without an end", hmsg(HEADERS .. "k: v", "abc") },
  { "headers without a version", hmsg("k: v\r\n\r\n", "abc") },
  { "headers of an unknown version", hmsg("NATS/9.9 abc\r\nk: v\r\n\r\n", "abc") },
  { "headers without a colon", hmsg(HEADERS .. "key value\r\n\r\n", "abc") },
  { "headers without a key", hmsg(HEADERS .. ": value\r\n\r\n", "abc") },
  { "headers with NULs", hmsg(HEADERS .. "k\0: \0v\r\n\r\n", "abc") },
  { "headers that are no UTF-8", hmsg(HEADERS .. "\255: \254\r\n\r\n", "abc") },
  { "headers that are empty", hmsg("", "abc") },
  { "headers that are a line's end", hmsg(CRLF, "abc") },
  { "a header of 900 KB", hmsg(HEADERS .. "k: " .. ("v"):rep(900000) .. "\r\n\r\n", "abc") },
  { "headers of 900 KB", hmsg(HEADERS .. ("key: value\r\n"):rep(75000) .. CRLF, "abc") },
  { "a status without a text", hmsg("NATS/1.0 503\r\n\r\n", "") },
  { "a status that is no number", hmsg("NATS/1.0 abc def\r\n\r\n", "") },
  { "an unknown operation", line("HELLO") },
  { "an empty line", line("") },
  { "what only clients say", line('CONNECT {"verbose":true}') },
  { "noise", function() return "\0\1\2\255\254\r\r\n" end },
  { "HTTP", line("HTTP/1.1 502 Bad Gateway", "") },
  { "INFO that is no JSON", line("INFO hello") },
  { "INFO with addresses that are none", line('INFO {"connect_urls":["","::","a b:c","nats://x:99999"]}') },
  { "INFO with 10,000 addresses", line('INFO {"connect_urls":[' .. ('"127.0.0.1:1",'):rep(9999) .. '"127.0.0.1:2"]}') },
  { "INFO with objects in objects", line("INFO " .. ('{"a":'):rep(20000)) },
  { "INFO that says lame duck", line('INFO {"ldm":true}') },
  { "INFO that allows no payload", line('INFO {"max_payload":0}') },
  { "PONG that nobody asked for", line("PONG") },
  { "+OK that nobody asked for", line("+OK") },
  { "+NO", line("+NO") },
}

-- Left open, then hung up, then reset.
function M.frames()
  local list = {}
  for _, frame in ipairs(FRAMES) do
    local function bytes(client)
      return frame[2](tostring((next(client.subs))))
    end
    list[#list + 1] = { title = frame[1], steps = {
      { title = "left open", live = function(client) client:send(bytes(client)) end },
      { title = "hung up", live = function(client) hung_up(client, bytes(client)) end },
      { title = "reset", live = function(client)
        client.socket:write(bytes(client), function() client:reset() end)
      end },
    } }
  end
  return list
end

return M
