--- Key-value buckets over JetStream, as the stock clients have them: js:key_value(bucket). A bucket is the stream
--- KV_<bucket>, a key the subject $KV.<bucket>.<key>, a value's revision its sequence. Called by
--- jetstream.lua with what it shares; returns the methods that make and find buckets. What follows one is in
--- kv_watch.lua. Everything in here that asks the server waits as request() does.
local host = ...

local type, tostring, tonumber, pairs, ipairs = type, tostring, tonumber, pairs, ipairs
local setmetatable, error = setmetatable, error
local floor, min = math.floor, math.min

local HISTORY_MAX = 64          -- of the convention
local DUPLICATE_WINDOW = 120    -- seconds; the server wants it no longer than the time to live
local CREATE_ATTEMPTS = 3       -- while others delete and create the same key
local LEVEL_OF_TTL = 1          -- the API's level at which a message may have a time to live

local DEFAULT_API = "$JS.API"

---@class moondog.key_value
local KeyValue = {}
KeyValue.__index = KeyValue

-- ---- errors ----

local function fail(code, message)
  return nil, host.error(code, host.NONE, message)
end

--- The server's refusals that mean something to a user of buckets: our code, and what to do.
local REFUSALS = {
  jetstream_10054 = { "value_too_large", "the value is larger than max_value_size of bucket \"%s\"" },
  jetstream_10077 = { "bucket_full", "bucket \"%s\" is at its max_bytes: purge keys, or let it have more" },
  jetstream_10109 = { "bucket_read_only", "bucket \"%s\" is sealed: it never changes any more" },
  stream_not_found = { "bucket_not_found", "there is no bucket \"%s\": make it with js:create_key_value()" },
}

--- nil and the error, in the words of buckets.
local function refused(err, bucket)
  local known = REFUSALS[err.code]
  if known and (known[1] ~= "bucket_full" or err.message:find("maximum bytes", 1, true)) then -- or a disk failed
    return fail(known[1], known[2]:format(bucket))
  end
  return nil, err
end

local function not_found(kv, key, revision)
  return fail("key_not_found", revision
    and ("bucket \"%s\" has no value of key \"%s\" at revision %.0f"):format(kv.bucket, key, revision)
    or ("bucket \"%s\" has no value of key \"%s\""):format(kv.bucket, key))
end

-- ---- arguments: each raises an error in the name of the function two levels above ----

local function check_bucket(name)
  if type(name) ~= "string" or not name:find("^[%w_-]+$") then
    error(("bad name of a bucket \"%s\": letters, digits, - and _"):format(tostring(name)), 3)
  end
end

local KEY_RULE = "letters, digits and - / _ = . with no dot at either end and no two in a row"

local function check_key(key)
  if type(key) ~= "string" or not key:find("^[-/_=.%w]+$") or key:find("^%.") or key:find("%.$")
    or key:find("..", 1, true) then
    error(("bad key \"%s\": %s"):format(tostring(key), KEY_RULE), 3)
  end
end

local function check_value(value)
  if type(value) ~= "string" and type(value) ~= "number" then
    error(("a value is a string, not a %s: encode it"):format(type(value)), 3)
  end
end

local function check_revision(revision)
  if type(revision) ~= "number" or revision < 0 or revision ~= floor(revision) then
    error(("bad revision %s: it is a whole number, as put() and get() return it"):format(tostring(revision)), 3)
  end
end

--- names: what there is, in the order in which an error lists it.
local function check_options(options, names, what)
  if options == nil then return {} end
  if type(options) ~= "table" then error(what .. ": the options are a table", 3) end
  for key in pairs(options) do
    local known = false
    for _, name in ipairs(names) do known = known or name == key end
    if not known then
      error(("unknown option \"%s\" of %s: there are %s"):format(tostring(key), what, table.concat(names, ", ")), 3)
    end
  end
  return options
end

-- ---- entries ----

local function first(value)
  if type(value) == "table" then return value[1] end
  return value
end

--- A server that removes values by their age leaves markers that name the reason.
local MARKERS = { MaxAge = "PURGE", Purge = "PURGE", Remove = "DEL" }

local function operation_of(headers)
  local operation = first(headers["KV-Operation"])
  if operation == "DEL" or operation == "PURGE" then return operation end
  return MARKERS[first(headers["Nats-Marker-Reason"])] or "PUT"
end

--- "2022-10-06T12:34:56.123456789Z" as seconds since 1970.
local function seconds_of(text)
  local y, m, d, hour, minute, second = tostring(text):match("^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+%.?%d*)Z$")
  if not y then return nil end
  y, m, d = tonumber(y), tonumber(m), tonumber(d)
  if m <= 2 then y, m = y - 1, m + 12 end -- the day that leap years add is the last of such a year
  local days = 365 * y + floor(y / 4) - floor(y / 100) + floor(y / 400) + floor((153 * (m - 3) + 2) / 5) + d - 719469
  return days * 86400 + tonumber(hour) * 3600 + tonumber(minute) * 60 + tonumber(second)
end

--- delta: how many newer ones the answer was known to have behind it.
local function entry_of(kv, subject, value, revision, time, headers, delta)
  return { bucket = kv.bucket, key = subject:sub(#kv.prefix + 1), value = value, revision = revision, time = time,
    operation = operation_of(headers), delta = delta or 0 }
end

-- ---- reading: `revision`, or the key's last one; with `after`, the key's first one that is not before it ----

--- By the stream's leader, so no older than what was written before.
local function get_from_leader(kv, key, revision, after)
  local subject = kv.prefix .. key
  local which = revision and { seq = revision, next = after and subject } or { last = subject }
  local m, err = kv.js:get_message(kv.stream, which)
  if not m then
    if err.code == "message_not_found" then return not_found(kv, key, revision) end
    return refused(err, kv.bucket)
  end
  if m.subject ~= subject then return not_found(kv, key, revision) end
  return entry_of(kv, m.subject, m.data, m.seq, seconds_of(m.time), m.headers)
end

--- Nobody says a word when there is no such stream any more, or one that was made again without direct reading.
local function get_without_direct(kv, key, revision, after, err)
  local status, why = kv:status()
  if not status then return nil, why end
  if kv.direct then return nil, err end
  return get_from_leader(kv, key, revision, after)
end

--- By any server that has a copy of the stream; no JSON in the answer, and no base64.
local function get_direct(kv, key, revision, after)
  local subject = ("%s.DIRECT.GET.%s"):format(kv.js.prefix, kv.stream)
  local body = ""
  if revision then
    body = host.encode { seq = revision, next_by_subj = after and kv.prefix .. key }
  else
    subject = subject .. "." .. kv.prefix .. key
  end
  local reply, err = host.request(kv.js, subject, body, { timeout = kv.js.timeout / 2 })
  if not reply then
    if err.code ~= "timeout" and err.code ~= "no_responders" then return nil, err end
    return get_without_direct(kv, key, revision, after, err)
  end
  local headers = reply.headers
  local sequence, status = tonumber(first(headers["Nats-Sequence"])), first(headers.Status)
  if sequence then
    if first(headers["Nats-Subject"]) ~= kv.prefix .. key then return not_found(kv, key, revision) end
    return entry_of(kv, kv.prefix .. key, reply.data, sequence, seconds_of(first(headers["Nats-Time-Stamp"])), headers)
  end
  if status == "404" then return not_found(kv, key, revision) end
  return nil, host.error("bad_answer", host.PROTOCOL, ("the answer about key \"%s\" cannot be read: status %s")
    :format(key, tostring(status)))
end

--- One entry, whatever its operation.
local function read_entry(kv, key, options, after)
  if kv.direct and options.direct ~= false then return get_direct(kv, key, options.revision, after) end
  return get_from_leader(kv, key, options.revision, after)
end

function KeyValue:get(key, options)
  check_key(key)
  options = check_options(options, { "revision", "direct" }, "get")
  if options.revision ~= nil then check_revision(options.revision) end
  local entry, err = read_entry(self, key, options)
  if entry and entry.operation ~= "PUT" then return not_found(self, key, options.revision) end
  return entry, err
end

-- ---- writing ----

--- Why no stream took it: the stream is gone, or JetStream is.
local function no_stream(kv, err)
  local _, why = kv.js:stream_info(kv.stream)
  if why then return refused(why, kv.bucket) end
  return nil, err
end

--- Writes one revision. expected: the key's last one, or nil.
local function write(kv, key, value, headers, expected)
  local ack, err = kv.js:publish(kv.put_prefix .. key, value, { headers = headers, expect_subject_seq = expected })
  if ack then return ack.seq end
  if err.code == "no_stream" then return no_stream(kv, err) end
  if err.code == "wrong_last_sequence" then
    return fail("wrong_revision", ("the last revision of key \"%s\" is not %.0f: get it again, and decide again")
      :format(key, expected))
  end
  return refused(err, kv.bucket)
end

--- The header of a time to live in seconds.
local function ttl_headers(kv, ttl)
  if ttl == nil then return nil end
  if type(ttl) ~= "number" or ttl < 1 then error("ttl is a number of seconds, at least 1", 3) end
  if not kv.key_ttl then
    return fail("unsupported", ("bucket \"%s\" has no ttl of single keys: that needs nats-server 2.11 or newer, and a "
      .. "bucket that was made with limit_marker_ttl"):format(kv.bucket))
  end
  return { ["Nats-TTL"] = ttl == floor(ttl) and ("%.0fs"):format(ttl) or ("%.0fms"):format(ttl * 1000) }
end

function KeyValue:put(key, value, options)
  check_key(key)
  check_value(value)
  options = check_options(options, { "ttl" }, "put")
  local headers, err = ttl_headers(self, options.ttl)
  if err then return nil, err end
  return write(self, key, value, headers)
end

function KeyValue:create(key, value, options)
  check_key(key)
  check_value(value)
  options = check_options(options, { "ttl" }, "create")
  local headers, err = ttl_headers(self, options.ttl)
  if err then return nil, err end
  local expected = 0
  for _ = 1, CREATE_ATTEMPTS do
    local revision, why = write(self, key, value, headers, expected)
    if revision or why.code ~= "wrong_revision" then return revision, why end
    -- Something is there; when it is a deletion, the new value is to follow exactly that one.
    local entry, unknown = read_entry(self, key, { direct = false })
    if entry and entry.operation == "PUT" then break end
    if not entry and unknown.code ~= "key_not_found" then return nil, unknown end
    expected = entry and entry.revision or 0
  end
  return fail("key_exists", ("bucket \"%s\" has a value of key \"%s\" already"):format(self.bucket, key))
end

function KeyValue:update(key, value, revision, options)
  check_key(key)
  check_value(value)
  check_revision(revision)
  options = check_options(options, { "ttl" }, "update")
  local headers, err = ttl_headers(self, options.ttl)
  if err then return nil, err end
  return write(self, key, value, headers, revision)
end

function KeyValue:delete(key, options)
  check_key(key)
  options = check_options(options, { "revision" }, "delete")
  if options.revision ~= nil then check_revision(options.revision) end
  return write(self, key, "", { ["KV-Operation"] = "DEL" }, options.revision)
end

function KeyValue:purge(key, options)
  check_key(key)
  options = check_options(options, { "revision" }, "purge")
  if options.revision ~= nil then check_revision(options.revision) end
  return write(self, key, "", { ["KV-Operation"] = "PURGE", ["Nats-Rollup"] = "sub" }, options.revision)
end

-- ---- buckets ----

--- What is on the wire of a bucket, from its stream's configuration.
local function read_config(kv, config)
  kv.direct = config.allow_direct == true
  kv.key_ttl = config.allow_msg_ttl == true
  local origin, elsewhere = kv.bucket, nil
  if config.mirror then -- what it mirrors has its own subjects, and is where values are written
    origin = config.mirror.name:gsub("^KV_", "")
    elsewhere = config.mirror.external and config.mirror.external.api
  end
  kv.prefix = ("$KV.%s."):format(origin)
  -- Of a domain, $KV.> is reached by the same prefix as its API.
  local api = elsewhere or kv.js.prefix
  kv.put_prefix = api ~= DEFAULT_API and api .. "." .. kv.prefix or kv.prefix
  return kv
end

local function bucket_of(js, name, config)
  return read_config(setmetatable({ js = js, bucket = name, stream = "KV_" .. name }, KeyValue), config)
end

local function status_of(name, info)
  local config, state = info.config, info.state or {}
  return { bucket = name, stream = config.name, description = config.description, values = state.messages,
    bytes = state.bytes, revision = state.last_seq, history = config.max_msgs_per_subject, ttl = config.max_age or 0,
    max_value_size = config.max_msg_size, max_bytes = config.max_bytes, storage = config.storage,
    replicas = config.num_replicas, direct = config.allow_direct == true,
    mirror = config.mirror and config.mirror.name:gsub("^KV_", "") or nil,
    key_ttl = config.allow_msg_ttl == true, cluster = info.cluster }
end

function KeyValue:status()
  local info, err = self.js:stream_info(self.stream)
  if not info then return refused(err, self.bucket) end
  read_config(self, info.config)
  return status_of(self.bucket, info)
end

--- What contexts of JetStream get.
local M = {}

local CREATE_OPTIONS = { "bucket", "description", "history", "ttl", "max_value_size", "max_bytes", "storage",
  "replicas", "placement", "limit_marker_ttl" }

local function check_seconds(value, name)
  if value ~= nil and (type(value) ~= "number" or value < 0) then
    error(("create_key_value: %s is a number of seconds"):format(name), 3)
  end
end

--- The stream of a bucket.
local function config_of(o)
  local ttl = o.ttl or 0
  return {
    name = "KV_" .. o.bucket, description = o.description, subjects = { ("$KV.%s.>"):format(o.bucket) },
    max_msgs_per_subject = o.history or 1, max_age = ttl, max_msg_size = o.max_value_size or -1,
    max_bytes = o.max_bytes or -1, max_msgs = -1, max_consumers = -1, storage = o.storage or "file",
    num_replicas = o.replicas or 1, placement = o.placement, retention = "limits", discard = "new",
    duplicate_window = ttl > 0 and min(ttl, DUPLICATE_WINDOW) or DUPLICATE_WINDOW,
    allow_rollup_hdrs = true, deny_delete = true, allow_direct = true,
    allow_msg_ttl = o.limit_marker_ttl and true or nil, subject_delete_marker_ttl = o.limit_marker_ttl,
  }
end

--- Options of a bucket, and the fields that are the same thing of its stream.
local SETTINGS = { history = "max_msgs_per_subject", ttl = "max_age", max_value_size = "max_msg_size",
  max_bytes = "max_bytes", storage = "storage", replicas = "num_replicas" }

--- A bucket that is there, when it is what is asked for. Other clients set what does not matter here in other ways.
local function existing(js, options, wanted)
  local info, err = js:stream_info(wanted.name)
  if not info then return nil, err end
  for option, field in pairs(SETTINGS) do
    local is = info.config[field]
    if is ~= wanted[field] then
      return fail("bucket_exists", ("bucket \"%s\" is there, with %s = %s: bind it with js:key_value(), or delete it "
        .. "first"):format(options.bucket, option, tostring(is)))
    end
  end
  return info
end

function M:create_key_value(options)
  if type(options) ~= "table" then error("create_key_value takes a table of options, with bucket", 2) end
  check_options(options, CREATE_OPTIONS, "create_key_value")
  check_bucket(options.bucket)
  local history = options.history or 1
  if type(history) ~= "number" or history < 1 or history > HISTORY_MAX or history ~= floor(history) then
    error(("create_key_value: history is a whole number from 1 to %d"):format(HISTORY_MAX), 2)
  end
  check_seconds(options.ttl, "ttl")
  check_seconds(options.limit_marker_ttl, "limit_marker_ttl")
  if options.limit_marker_ttl then
    -- An older server would make the bucket, and leave the option away without a word.
    local account, err = self:account()
    if not account then return nil, err end
    if (account.api and account.api.level or 0) < LEVEL_OF_TTL then
      return fail("unsupported", "limit_marker_ttl and the ttl of single keys need nats-server 2.11 or newer")
    end
  end
  local config = config_of(options)
  local info, err = self:add_stream(config)
  if not info and err.code == "stream_exists" then info, err = existing(self, options, config) end
  if not info then return refused(err, options.bucket) end
  return bucket_of(self, options.bucket, info.config)
end

function M:key_value(bucket)
  check_bucket(bucket)
  local info, err = self:stream_info("KV_" .. bucket)
  if not info then return refused(err, bucket) end
  if (info.config.max_msgs_per_subject or 0) < 1 then
    return fail("bucket_not_found", ("stream KV_%s is there, but is no bucket: it keeps any number of revisions of a "
      .. "key"):format(bucket))
  end
  return bucket_of(self, bucket, info.config)
end

function M:key_values()
  local streams, err = self:streams()
  if not streams then return nil, err end
  local list = {}
  for _, info in ipairs(streams) do
    local name = info.config.name:match("^KV_([%w_-]+)$")
    if name and (info.config.max_msgs_per_subject or 0) >= 1 then list[#list + 1] = status_of(name, info) end
  end
  return list
end

function M:delete_key_value(bucket)
  check_bucket(bucket)
  local done, err = self:delete_stream("KV_" .. bucket)
  if not done then return refused(err, bucket) end
  return true
end

-- ---- what follows a bucket ----

host.kv = { check_key = check_key, check_options = check_options, refused = refused, key_rule = KEY_RULE,
  entry_of = entry_of, read_entry = read_entry }
for name, method in pairs(host.load("moondog.kv_watch", host)) do KeyValue[name] = method end

return M
