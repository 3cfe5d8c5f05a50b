--- JetStream over the connection's own requests: connection:jetstream(). Called with what C gives it:
--- encode and decode (JSON), base64 (decodes), load (what another embedded file returns), error (an error object),
--- and the classes of errors. Returns the function behind connection:jetstream(). Everything in here that asks the
--- server waits as request() does.
local host = ...

local require, type, tostring, tonumber, pairs, ipairs = require, type, tostring, tonumber, pairs, ipairs
local setmetatable, error = setmetatable, error
local floor = math.floor

local TIMEOUT = 5            -- seconds, of a request
local PUBLISH_ATTEMPTS = 3   -- while nobody listens: a stream may be electing its leader
local PUBLISH_PAUSE = 0.25   -- seconds, between two of them
local NANO = 1e9
local PAGES_MAX = 1000       -- of a list; the server sends 256 entries in each

---@class moondog.jetstream
local JetStream = {}
JetStream.__index = JetStream

-- ---- errors ----

--- Names for the server's numbers that programs look at; others are "jetstream_" and the number.
local CODES = {
  [10003] = "bad_request", [10037] = "message_not_found", [10039] = "no_jetstream", [10047] = "no_storage",
  [10058] = "stream_exists", [10059] = "stream_not_found", [10060] = "wrong_stream",
  [10070] = "wrong_last_msg_id", [10071] = "wrong_last_sequence", [10076] = "no_jetstream",
}

local function fail(code, class, message)
  return nil, host.error(code, class, message)
end

local function server_error(e, what)
  local number = tonumber(e.err_code) or 0
  return fail(CODES[number] or ("jetstream_%d"):format(number), host.PROTOCOL,
    ("JetStream refuses %s: %s"):format(what, e.description or "it does not say why"))
end

-- ---- requests ----

--- One request of the API; the answer as a table.
local function call(js, name, body)
  local text = ""
  if body ~= nil then
    text = host.encode(body)
    if not text then error(name .. ": this is no plain data, which JSON could hold", 3) end
  end
  local reply, err = js.connection:request(js.prefix .. "." .. name, text, { timeout = js.timeout })
  if not reply then
    if err.code ~= "no_responders" then return nil, err end
    return fail("no_jetstream", host.NONE, "nobody answers for JetStream: the server, or this account, has none now")
  end
  local answer = host.decode(reply.data)
  if type(answer) ~= "table" then
    return fail("bad_answer", host.PROTOCOL, "JetStream's answer to " .. name .. " cannot be read")
  end
  if answer.error then return server_error(answer.error, name) end
  return answer
end

-- ---- arguments ----

local function check_name(name, what)
  if type(name) ~= "string" or name == "" or #name > 255 or name:find("[%s.*>/\\%c]") then
    error(("bad name of a %s \"%s\": it has no spaces, dots, slashes, * and >"):format(what, tostring(name)),
      3)
  end
end

--- Fields that are seconds here, and nanoseconds on the wire.
local TIMES = { "max_age", "duplicate_window", "subject_delete_marker_ttl" }

local function to_wire(config)
  local out = {}
  for key, value in pairs(config) do out[key] = value end
  for _, key in ipairs(TIMES) do
    if out[key] ~= nil then
      if type(out[key]) ~= "number" then error(("stream: %s is a number of seconds"):format(key), 3) end
      out[key] = floor(out[key] * NANO + 0.5)
    end
  end
  return out
end

local function from_wire(info)
  for _, key in ipairs(TIMES) do
    if info.config and info.config[key] then info.config[key] = info.config[key] / NANO end
  end
  return info
end

--- Makes or changes a stream. Tail-called, so the script is two levels above what is called in here.
local function put_stream(js, verb, config)
  if type(config) ~= "table" then error("a stream is described by a table", 2) end
  check_name(config.name, "stream")
  local info, err = call(js, ("STREAM.%s.%s"):format(verb, config.name), to_wire(config))
  if not info then return nil, err end
  return from_wire(info)
end

-- ---- streams ----

--- What the account has and may have of it.
function JetStream:account()
  return call(self, "INFO")
end

function JetStream:add_stream(config)
  return put_stream(self, "CREATE", config)
end

function JetStream:update_stream(config)
  return put_stream(self, "UPDATE", config)
end

function JetStream:stream_info(name)
  check_name(name, "stream")
  local info, err = call(self, "STREAM.INFO." .. name)
  if not info then return nil, err end
  return from_wire(info)
end

function JetStream:streams(options)
  local list = {}
  for _ = 1, PAGES_MAX do
    local page, err = call(self, "STREAM.LIST", { offset = #list, subject = options and options.subject })
    if not page then return nil, err end
    for _, info in ipairs(page.streams or {}) do list[#list + 1] = from_wire(info) end
    if #list >= page.total or not page.streams or #page.streams == 0 then return list end
  end
  return list
end

function JetStream:delete_stream(name)
  check_name(name, "stream")
  local answer, err = call(self, "STREAM.DELETE." .. name)
  if not answer then return nil, err end
  return true
end

function JetStream:purge_stream(name, options)
  check_name(name, "stream")
  options = options or {}
  local answer, err = call(self, "STREAM.PURGE." .. name,
    { filter = options.subject, keep = options.keep, seq = options.seq })
  if not answer then return nil, err end
  return answer.purged
end

-- ---- one message ----

--- "NATS/1.0\r\nName: value\r\n\r\n" as message.headers has it: one value as a string, several as a list.
local function read_headers(text)
  local headers = {}
  for name, value in text:gmatch("\n([^:\r\n]+):[ \t]*([^\r\n]*)") do
    local before = headers[name]
    if before == nil then
      headers[name] = value
    elseif type(before) == "table" then
      before[#before + 1] = value
    else
      headers[name] = { before, value }
    end
  end
  return headers
end

function JetStream:get_message(stream, which)
  check_name(stream, "stream")
  if type(which) == "number" then which = { seq = which } end
  if type(which) ~= "table" or (which.seq == nil) == (which.last == nil) then
    error("get_message: which one is a sequence, { seq = n }, or { last = subject }", 2)
  end
  local answer, err = call(self, "STREAM.MSG.GET." .. stream,
    { seq = which.seq, last_by_subj = which.last })
  if not answer then return nil, err end
  local m = answer.message or {}
  local data, headers = host.base64(m.data or ""), host.base64(m.hdrs or "")
  if not data or not headers then
    return fail("bad_answer", host.PROTOCOL, "the message in JetStream's answer is not base64")
  end
  return { subject = m.subject, seq = m.seq, time = m.time, data = data, headers = read_headers(headers) }
end

-- ---- publishing ----

--- The headers by which a publisher says what it expects.
local EXPECTATIONS = {
  msg_id = "Nats-Msg-Id", expect_stream = "Nats-Expected-Stream", expect_seq = "Nats-Expected-Last-Sequence",
  expect_msg_id = "Nats-Expected-Last-Msg-Id", expect_subject_seq = "Nats-Expected-Last-Subject-Sequence",
}
local PUBLISH_OPTIONS = { headers = true, timeout = true }

local function read_publish_options(options)
  local headers, timeout
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
  return headers, timeout
end

function JetStream:publish(subject, data, options)
  local headers, timeout = read_publish_options(options)
  local request = { timeout = timeout or self.timeout, headers = headers }
  local reply, err
  for attempt = 1, PUBLISH_ATTEMPTS do
    reply, err = self.connection:request(subject, data, request)
    if reply or err.code ~= "no_responders" or attempt == PUBLISH_ATTEMPTS then break end
    require("moondog").sleep(PUBLISH_PAUSE)
  end
  if not reply then
    if err.code ~= "no_responders" then return nil, err end
    return fail("no_stream", host.NONE, ("no stream takes %s now, or there is no JetStream"):format(subject))
  end
  local ack = host.decode(reply.data)
  if type(ack) ~= "table" then
    return fail("bad_answer", host.PROTOCOL, "the answer on " .. subject .. " is no acknowledgement of a stream")
  end
  if ack.error then return server_error(ack.error, "a message on " .. subject) end
  if not ack.seq then
    return fail("bad_answer", host.PROTOCOL, "the answer on " .. subject .. " is no acknowledgement of a stream")
  end
  return { stream = ack.stream, seq = ack.seq, duplicate = ack.duplicate or false, domain = ack.domain }
end

-- ---- buckets ----

host.load("moondog.kv", host)(JetStream)

-- ---- the context ----

--- connection:jetstream([options])
return function(connection, options)
  options = options or {}
  if type(options) ~= "table" then error("connection:jetstream() takes a table of options", 2) end
  for key in pairs(options) do
    if key ~= "domain" and key ~= "timeout" then
      error(("unknown option \"%s\" of jetstream: there are domain, timeout"):format(tostring(key)), 2)
    end
  end
  if options.domain ~= nil then check_name(options.domain, "domain") end
  local js = setmetatable({
    connection = connection,
    prefix = options.domain and ("$JS.%s.API"):format(options.domain) or "$JS.API",
    timeout = options.timeout or TIMEOUT,
  }, JetStream)
  local account, err = js:account()
  if not account then return nil, err end
  return js
end
