--- JetStream over the connection's own requests: connection:jetstream(). Called with what C gives it:
--- encode and decode (JSON), base64 (decodes), load (what another embedded file returns), error (an error object),
--- the classes of errors, and what consumers need (see src/script/api_consumer.c). Returns the function behind
--- connection:jetstream(). Everything in here that asks the server waits as request() does, and for a link before
--- that, within the same time.
local host = ...
local moondog = require "moondog"

local type, tostring, tonumber, pairs, ipairs = type, tostring, tonumber, pairs, ipairs
local setmetatable, error = setmetatable, error
local floor, min, max = math.floor, math.min, math.max

local TIMEOUT = 5            -- seconds, of a request
local MAX_PENDING = 4096     -- acknowledgements on their way, of what was published without waiting
local RETRY_MIN, RETRY_MAX = 0.25, 5 -- seconds, between two looks for JetStream
local NANO = 1e9
local SECONDS_MAX = 86400    -- that anything waits
local PENDING_MAX = 131072   -- of max_pending: half of the requests that a connection may have
local PAGES_MAX = 1000       -- of a list; the server sends 256 entries in each

---@class moondog.jetstream
local JetStream = {}
JetStream.__index = JetStream

-- ---- errors ----

--- Names for the server's numbers that programs look at; others are "jetstream_" and the number.
local CODES = {
  [10003] = "bad_request", [10014] = "consumer_not_found",
  [10037] = "message_not_found", [10039] = "no_jetstream", [10047] = "no_storage",
  [10058] = "stream_exists", [10059] = "stream_not_found", [10060] = "wrong_stream",
  [10070] = "wrong_last_msg_id", [10071] = "wrong_last_sequence", [10076] = "no_jetstream",
  [10158] = "in_process",
}

local function fail(code, class, message)
  return nil, host.error(code, class, message)
end

local function server_error(e, what)
  local number = tonumber(e.err_code) or 0
  return fail(CODES[number] or ("jetstream_%d"):format(number), host.PROTOCOL,
    ("JetStream refuses %s: %s"):format(what, e.description or "it does not say why"))
end

-- ---- answers: something else may answer on these subjects ----

--- Whether a value is what it has to be. A shape is the name of a type, or a table of them by field; an entry at 1 is
--- for each of a list. A name that ends in ? is of what may be missing, and so is a table with `missing`.
local function fits(value, shape)
  if type(shape) == "string" then
    if value == nil then return shape:sub(-1) == "?" end
    return type(value) == shape:match("^%a+")
  end
  if type(value) ~= "table" then return value == nil and shape.missing == true end
  for key, part in pairs(shape) do
    if key == 1 then
      for _, entry in ipairs(value) do
        if not fits(entry, part) then return false end
      end
    elseif key ~= "missing" and not fits(value[key], part) then
      return false
    end
  end
  return true
end

local ERROR = { err_code = "number?", description = "string?" }

local STREAM_INFO = {
  config = {
    name = "string", max_age = "number?", duplicate_window = "number?", subject_delete_marker_ttl = "number?",
    max_msgs_per_subject = "number?",
    mirror = { name = "string", external = { api = "string?", missing = true }, missing = true },
  },
  state = { last_seq = "number" }, created = "string?",
}

--- JSON as a table, or nil and an error: what the server refuses, or that it is no answer of this shape.
local function read_answer(text, shape, what)
  local answer = host.decode(text)
  if type(answer) == "table" and answer.error and fits(answer.error, ERROR) then
    return server_error(answer.error, what)
  end
  if answer == nil or not fits(answer, shape) or answer.error then
    return fail("bad_answer", host.PROTOCOL, "JetStream's answer to " .. what .. " cannot be read")
  end
  return answer
end

-- ---- requests ----

--- Whether the program ends; a generation that is only replaced may still finish what it has begun.
local function is_end()
  local ending, retiring = host.ending()
  return ending and not retiring
end

--- Waits until a link is up, at most so long. Returns how much of the time is left; nil: all of it is over, or there
--- will be no link any more.
local function wait_for_link(js, seconds)
  local deadline = moondog.now() + seconds
  while not host.link(js.connection) do
    local left = deadline - moondog.now()
    if left <= 0 or host.over(js.connection) or is_end() then return nil end
    js.signal:wait(left)
  end
  return max(deadline - moondog.now(), 0.001)
end

--- connection:request(), when there is a link; options.timeout is for both.
local function request(js, subject, data, options)
  options.timeout = wait_for_link(js, options.timeout) or 0.001
  return js.connection:request(subject, data, options)
end

--- One request of the API; the answer as a table, in which is what `shape` names.
local function call(js, name, shape, body)
  local text = ""
  if body ~= nil then
    text = host.encode(body)
    if not text then error(name .. ": this is no plain data, which JSON could hold", 3) end
  end
  local reply, err = request(js, js.prefix .. "." .. name, text, { timeout = js.timeout })
  if not reply then
    if err.code ~= "no_responders" then return nil, err end
    return fail("no_jetstream", host.NONE, "nobody answers for JetStream: the server, or this account, has none now")
  end
  return read_answer(reply.data, shape, name)
end

-- ---- arguments ----

local function check_name(name, what)
  if type(name) ~= "string" or name == "" or #name > 255 or name:find("[%s.*>/\\%c]") then
    error(("bad name of a %s \"%s\": it has no spaces, dots, slashes, * and >"):format(what, tostring(name)),
      3)
  end
end

--- `level`: of the function that calls this; nil: a method that the script calls.
local function check_timeout(value, what, level)
  if value ~= nil and not (type(value) == "number" and value > 0 and value <= SECONDS_MAX) then
    error(("%s: timeout is a number of seconds, more than 0 and no more than a day"):format(what), (level or 1) + 2)
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
    if info.config[key] then info.config[key] = info.config[key] / NANO end
  end
  return info
end

--- What servers know of a stream, up to 2.12: a misspelt field would be dropped without a word.
local STREAM_FIELDS = {}
for field in ([[allow_atomic allow_direct allow_msg_counter allow_msg_schedules allow_msg_ttl allow_rollup_hdrs
  compression consumer_limits deny_delete deny_purge description discard discard_new_per_subject duplicate_window
  first_seq max_age max_bytes max_consumers max_msg_size max_msgs max_msgs_per_subject metadata mirror mirror_direct
  name no_ack num_replicas persist_mode placement republish retention sealed sources storage subject_delete_marker_ttl
  subject_transform subjects template_owner]]):gmatch("%S+") do
  STREAM_FIELDS[field] = true
end

local function check_stream(config)
  for key in pairs(config) do
    if not STREAM_FIELDS[key] then
      error(("a stream has no field \"%s\": it has name, subjects, retention, max_age, ... as the server calls them")
        :format(tostring(key)), 3)
    end
  end
  if config.subjects ~= nil and type(config.subjects) ~= "table" then
    error("a stream's subjects are a list: { \"orders.>\" }", 3)
  end
end

--- Makes or changes a stream. Tail-called, so the script is two levels above what is called in here.
local function put_stream(js, verb, config)
  if type(config) ~= "table" then error("a stream is described by a table", 2) end
  check_name(config.name, "stream")
  check_stream(config)
  local info, err = call(js, ("STREAM.%s.%s"):format(verb, config.name), STREAM_INFO, to_wire(config))
  if not info then return nil, err end
  return from_wire(info)
end

-- ---- streams ----

--- What the account has and may have of it.
function JetStream:account()
  return call(self, "INFO", { api = { level = "number?", missing = true } })
end

function JetStream:add_stream(config)
  return put_stream(self, "CREATE", config)
end

function JetStream:update_stream(config)
  return put_stream(self, "UPDATE", config)
end

function JetStream:stream_info(name)
  check_name(name, "stream")
  local info, err = call(self, "STREAM.INFO." .. name, STREAM_INFO)
  if not info then return nil, err end
  return from_wire(info)
end

function JetStream:streams(options)
  local list, shape = {}, { total = "number", streams = { STREAM_INFO, missing = true } }
  for _ = 1, PAGES_MAX do
    local page, err = call(self, "STREAM.LIST", shape, { offset = #list, subject = options and options.subject })
    if not page then return nil, err end
    for _, info in ipairs(page.streams or {}) do list[#list + 1] = from_wire(info) end
    if #list >= page.total or not page.streams or #page.streams == 0 then return list end
  end
  return list
end

function JetStream:delete_stream(name)
  check_name(name, "stream")
  local answer, err = call(self, "STREAM.DELETE." .. name, {})
  if not answer then return nil, err end
  return true
end

function JetStream:purge_stream(name, options)
  check_name(name, "stream")
  options = options or {}
  if type(options) ~= "table" then error("purge_stream: options are a table", 2) end
  for key in pairs(options) do -- a misspelt one must not purge all
    if key ~= "subject" and key ~= "keep" and key ~= "seq" then
      error(("unknown option \"%s\" of purge_stream: there are keep, seq, subject"):format(tostring(key)), 2)
    end
  end
  local answer, err = call(self, "STREAM.PURGE." .. name, { purged = "number" },
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

local MESSAGE = {
  message = { subject = "string", seq = "number", time = "string?", data = "string?", hdrs = "string?" },
}

function JetStream:get_message(stream, which)
  check_name(stream, "stream")
  if type(which) == "number" then which = { seq = which } end
  if type(which) ~= "table" or (which.seq == nil) == (which.last == nil) then
    error("get_message: which one is a sequence, { seq = n }, { seq = n, next = subject }, or { last = subject }", 2)
  end
  local answer, err = call(self, "STREAM.MSG.GET." .. stream, MESSAGE,
    { seq = which.seq, last_by_subj = which.last, next_by_subj = which.next })
  if not answer then return nil, err end
  local m = answer.message
  local data, headers = host.base64(m.data or ""), host.base64(m.hdrs or "")
  if not data or not headers then
    return fail("bad_answer", host.PROTOCOL, "the message in JetStream's answer is not base64")
  end
  return { subject = m.subject, seq = m.seq, time = m.time, data = data, headers = read_headers(headers) }
end

-- ---- the context ----

host.NANO = NANO
host.fail, host.call, host.request, host.wait_for_link = fail, call, request, wait_for_link
host.read_answer, host.STREAM_INFO = read_answer, STREAM_INFO
host.check_name, host.check_timeout = check_name, check_timeout
for _, module in ipairs { "jetstream_publish", "jetstream_consumers", "kv" } do
  for name, method in pairs(host.load("moondog." .. module, host)) do JetStream[name] = method end
end

local OPTIONS = { domain = true, timeout = true, max_pending = true, wait = true }

local function check_options(options)
  if type(options) ~= "table" then error("connection:jetstream() takes a table of options", 3) end
  for key in pairs(options) do
    if not OPTIONS[key] then
      error(("unknown option \"%s\" of jetstream: there are domain, max_pending, timeout, wait"):format(
        tostring(key)), 3)
    end
  end
  check_timeout(options.timeout, "jetstream", 2)
  local most = options.max_pending
  if most ~= nil and not (type(most) == "number" and most >= 1 and most <= PENDING_MAX and most == floor(most)) then
    error(("option max_pending of jetstream is a whole number from 1 to %d"):format(PENDING_MAX), 3)
  end
  if options.domain ~= nil then check_name(options.domain, "domain") end
end

--- connection:jetstream([options])
return function(connection, options)
  options = options or {}
  check_options(options)
  local js = setmetatable({
    connection = connection,
    prefix = options.domain and ("$JS.%s.API"):format(options.domain) or "$JS.API",
    timeout = options.timeout or TIMEOUT,
    max_pending = options.max_pending or MAX_PENDING,
    signal = host.signal(connection),
  }, JetStream)
  local pause = RETRY_MIN
  while true do
    local account, err = js:account()
    if account then return js end
    local till, link = moondog.now() + pause, host.link(connection)
    repeat -- the signal is set for many reasons; of those only a link that came or went counts
      if not options.wait or host.ending() or host.over(connection) then return nil, err end
      js.signal:wait(max(till - moondog.now(), 0))
    until moondog.now() >= till or host.link(connection) ~= link
    pause = min(pause * 2, RETRY_MAX)
  end
end
