--- What follows a bucket: watches, and what reads many of its keys. Both read an ordered consumer: it is made again
--- behind the last revision whatever happens to the link, to the server, or to the generation. Called by kv.lua with
--- what is shared; returns methods of buckets.
local host = ...
local moondog = require "moondog"
local shared = host.kv

local type, pairs, ipairs, tostring, setmetatable, error = type, pairs, ipairs, tostring, setmetatable, error
local max, min, time = math.max, math.min, os.time

local FILTERS_MAX = 64         -- of one watch
local SCAN_BATCH = 256         -- messages
local KEYS_MAX = 500000        -- of one list: more would not fit under a script's memory cap
local MARKERS_KEPT = 1800      -- seconds, by purge_deletes
local SCAN_INACTIVE = 30       -- seconds, until the server forgets a consumer that lost its reader

--- What buckets get.
local M = {}

-- ---- filters ----

local function is_filter(filter)
  if type(filter) ~= "string" or not filter:find("^[-/_=.*>%w]+$") then return false end
  local rest = filter == ">" and "*" or filter:gsub("%.>$", "")
  for token in (rest .. "."):gmatch("([^.]*)%.") do
    if token == "" or token ~= "*" and token:find("[*>]") then return false end
  end
  return true
end

local function check_filter(filter, level)
  if not is_filter(filter) then
    error(("bad filter \"%s\" of keys: %s; * stands for what is between two dots, > at the end for all the rest")
      :format(tostring(filter), shared.key_rule), level + 1)
  end
end

local function tokens_of(filter)
  local list = {}
  for token in filter:gmatch("[^.]+") do list[#list + 1] = token end
  return list
end

--- A Lua pattern that takes the same keys.
local function pattern_of(filter)
  return "^" .. filter:gsub("%p", "%%%0"):gsub("%%%*", "[^.]+"):gsub("%%>$", ".+") .. "$"
end

--- One filter that takes whatever one of these takes, and perhaps more: servers before 2.10 take only one.
local function cover(filters)
  local lists, shortest, same_length = {}, nil, true
  for i, filter in ipairs(filters) do
    lists[i] = tokens_of(filter)
    shortest = min(shortest or #lists[i], #lists[i])
    same_length = same_length and #lists[i] == #lists[1] and filter:sub(-1) ~= ">"
  end
  local out = {}
  for at = 1, same_length and shortest or shortest - 1 do
    local token = lists[1][at]
    for _, list in ipairs(lists) do
      if list[at] ~= token then token = "*" end
    end
    out[at] = token
  end
  if not same_length then out[#out + 1] = ">" end
  return table.concat(out, ".")
end

--- What of a bucket is wanted: the filter for the server, and for a list of them the patterns to look at here.
local function read_filters(keys)
  if keys == nil then return ">" end
  if type(keys) ~= "table" then
    check_filter(keys, 3)
    return keys
  end
  if #keys == 0 or #keys > FILTERS_MAX then
    error(("watch: a list of keys has 1 to %d of them"):format(FILTERS_MAX), 3)
  end
  local patterns = {}
  for i, filter in ipairs(keys) do
    check_filter(filter, 3)
    patterns[i] = pattern_of(filter)
  end
  if #keys == 1 then return keys[1] end
  return cover(keys), patterns
end

local function matches(patterns, key)
  for _, pattern in ipairs(patterns) do
    if key:find(pattern) then return true end
  end
  return false
end

-- ---- the consumer ----

--- fresh: where a generation before has stopped does not matter.
local function open_consumer(kv, spec, fresh)
  spec.filter = kv.prefix .. spec.filter
  local config, pull = host.read_consumer(1, spec)
  local c, err = host.open_consumer(kv.js, kv.stream, { config = config, pull = pull, ordered = true, fresh = fresh })
  if not c then return shared.refused(err, kv.bucket) end
  return c
end

-- ---- a watch ----

---@class moondog.watch
local Watch = {}
Watch.__index = Watch

--- Whoever waits for it goes on at the next turn of the loop, when the entry at hand has been handed over.
local function note_initial(w, pending)
  if w.is_ready or w.seen < w.initial and pending > 0 then return end
  w.is_ready = true
  w.changed:set()
end

--- Whether a message is one that came before. In a stream that has begun anew sequences are low and times are not;
--- what is read now may still be of the one before it.
local function is_repeated(w, m)
  local c = w.consumer
  if w.restarts ~= c.restarts then w.restarts, w.revision, w.newest = c.restarts, 0, 0 end
  if m.seq <= w.revision and m.time <= w.newest then return true end
  w.revision, w.newest = m.seq, max(m.time, w.newest)
  return false
end

--- The entry of a message, when the watch wants it. Revisions only grow, unless the stream has begun anew.
local function take(w, msg)
  local m = msg:metadata()
  if is_repeated(w, m) then
    w.repeated = w.repeated + 1
    return nil
  end
  w.seen = w.seen + 1
  note_initial(w, m.pending)
  local kv = w.kv
  local entry = shared.entry_of(kv, msg.subject, msg.data, m.seq, m.time, msg.headers, m.pending)
  if w.ignore_deletes and entry.operation ~= "PUT" then return nil end
  if w.patterns and not matches(w.patterns, entry.key) then return nil end
  w.delivered = w.delivered + 1
  return entry
end


function Watch:updates()
  local next_message = self.consumer:messages()
  return function()
    while true do
      local msg = next_message()
      if not msg then
        self.changed:set()
        return nil
      end
      local entry = take(self, msg)
      if entry then return entry end
    end
  end
end

function Watch:ready(timeout)
  local deadline = moondog.now() + (timeout or self.kv.js.timeout)
  while not self.is_ready do
    local left = deadline - moondog.now()
    if self.consumer.stopped or host.ending() then
      return host.fail("stopped", host.NONE, ("the watch on %s was stopped before it was ready"):format(self.filter))
    end
    if left <= 0 then
      return host.fail("timeout", host.TIMEOUT, ("%d of %d values of bucket \"%s\" have come; somebody must read them")
        :format(self.seen, self.initial, self.kv.bucket))
    end
    self.changed:wait(left)
  end
  return true
end

function Watch:stop()
  self.consumer:stop()
  self.changed:set()
  return true
end

function Watch:status()
  local s = self.consumer:status()
  return { bucket = self.kv.bucket, filter = self.filter, revision = self.revision, ready = self.is_ready,
    delivered = self.delivered, repeated = self.repeated, state = s.state, pending = s.pending, queued = s.queued,
    recreated = s.recreated, silences = s.silences, error = s.error }
end

-- ---- opening one ----

local WATCH_OPTIONS = { "include_history", "ignore_deletes", "headers_only", "updates_only", "resume_from", "fresh" }

--- watch([keys,] [handler,] [options])
local function read_arguments(a, b, c)
  local keys, handler, options
  if type(a) == "string" or type(a) == "table" and #a > 0 then keys, a, b, c = a, b, c, nil
  elseif a == nil then a, b, c = b, c, nil end
  if type(a) == "function" then handler, a, b = a, b, c
  elseif a == nil then a, b = b, c end
  options = a
  if b ~= nil or options ~= nil and type(options) ~= "table" then
    error("watch([keys,] [handler,] [options]): a filter or a list of them, a function, a table of options", 3)
  end
  return keys, handler, options
end

local function check_beginning(o)
  local count = (o.include_history and 1 or 0) + (o.updates_only and 1 or 0) + (o.resume_from and 1 or 0)
  if count > 1 then error("watch: only one of include_history, updates_only and resume_from", 3) end
  if o.resume_from ~= nil and (type(o.resume_from) ~= "number" or o.resume_from < 1 or o.resume_from % 1 ~= 0) then
    error("watch: resume_from is a revision, 1 or greater", 3)
  end
end

--- Where it begins, as consumers are told.
local function beginning(kv, o, spec)
  if o.include_history then spec.deliver = "all"
  elseif o.resume_from then spec.start_seq = o.resume_from
  elseif not o.updates_only then spec.deliver = "last_per_subject"
  else -- not "new": what comes while there is no link counts, too
    local status, err = kv:status()
    if not status then return nil, err end
    spec.start_seq = status.revision + 1
  end
  return spec
end

function M:watch(...)
  local keys, handler, options = read_arguments(...)
  options = shared.check_options(options, WATCH_OPTIONS, "watch")
  check_beginning(options)
  local filter, patterns = read_filters(keys)
  local spec, err = beginning(self, options, { filter = filter, headers_only = options.headers_only or nil })
  if not spec then return nil, err end
  local c
  c, err = open_consumer(self, spec, options.fresh)
  if not c then return nil, err end
  -- It is not to begin later when it is made again before anything has come.
  if spec.start_seq and c.ledger:position() == 0 then c.ledger:position(spec.start_seq - 1) end
  local w = setmetatable({ kv = self, filter = filter, patterns = patterns, consumer = c, restarts = c.restarts,
    ignore_deletes = options.ignore_deletes, revision = 0, newest = 0, seen = 0, delivered = 0,
    repeated = 0, initial = c.pending, is_ready = c.pending == 0, changed = host.signal() }, Watch)
  if not handler then return w end
  c.attributed = handler
  local ok
  ok, err = c:consume(function(msg)
    local entry = take(w, msg)
    if entry then handler(entry) end
  end)
  if not ok then
    c:stop()
    return nil, err
  end
  return w
end
-- ---- many keys ----

--- Calls f(entry) with the last entry of each key that the filter takes, and with what changes meanwhile; values are
--- not in it. f returns an error to end it.
local function scan(kv, filter, f)
  local c, err = open_consumer(kv, { filter = filter, deliver = "last_per_subject", headers_only = true,
    inactive_threshold = SCAN_INACTIVE }, true)
  if not c then return nil, err end
  local total, seen, left = c.pending, 0, c.pending
  while not err and left > 0 and seen < total do
    local list
    list, err = c:fetch(min(SCAN_BATCH, left, total - seen), { timeout = kv.js.timeout })
    if list and #list == 0 then
      local _
      _, err = host.fail(host.ending() and "replaced" or "timeout", host.TIMEOUT,
        ("%d of %d keys of bucket \"%s\" have come, and then none"):format(seen, total, kv.bucket))
    end
    for _, msg in ipairs(list or {}) do
      local m = msg:metadata()
      seen, left = seen + 1, m.pending
      err = err or f(shared.entry_of(kv, msg.subject, "", m.seq, m.time, msg.headers, m.pending))
      host.breathe()
    end
  end
  c:stop()
  if err then return nil, err end
  return true
end

--- The keys that have a value, in no order.
function M:keys(filter)
  if filter == nil then filter = ">" end
  check_filter(filter, 2)
  local present, list, count = {}, {}, 0
  local ok, err = scan(self, filter, function(entry)
    local is = entry.operation == "PUT" or nil
    count = count + (is and 1 or 0) - (present[entry.key] and 1 or 0)
    present[entry.key] = is
    if count <= KEYS_MAX then return nil end
    local _, many = host.fail("too_many_keys", host.NONE, ("bucket \"%s\" has more than %d keys: list them by "
      .. "filters, or watch them"):format(self.bucket, KEYS_MAX))
    return many
  end)
  if not ok then return nil, err end
  for key in pairs(present) do list[#list + 1] = key end
  return list
end

--- What is kept of a key, oldest first. It asks for one after the other: there are 64 at most.
function M:history(key)
  shared.check_key(key)
  local last, err = shared.read_entry(self, key, {})
  if not last then return nil, err end
  local list, from = {}, 1
  while from < last.revision do
    local entry, why = shared.read_entry(self, key, { revision = from }, true)
    if not entry and why.code ~= "key_not_found" then return nil, why end
    if not entry or entry.revision >= last.revision then break end
    list[#list + 1] = entry
    from = entry.revision + 1
  end
  list[#list + 1] = last
  for i, entry in ipairs(list) do entry.delta = #list - i end
  return list
end

--- Removes what deleted keys have left: the values, and markers that are old enough. How many revisions those were.
--- Only up to the marker: what was written since stays.
function M:purge_deletes(options)
  options = shared.check_options(options, { "older_than" }, "purge_deletes")
  local older_than = options.older_than or MARKERS_KEPT
  if type(older_than) ~= "number" or older_than < 0 then
    error("purge_deletes: older_than is a number of seconds", 2)
  end
  local markers = {}
  local ok, err = scan(self, ">", function(entry)
    markers[entry.key] = entry.operation ~= "PUT" and entry or nil
  end)
  if not ok then return nil, err end
  local count, limit = 0, time() - older_than
  for key, marker in pairs(markers) do
    local old = older_than == 0 or marker.time <= limit -- the clock here has whole seconds
    local below = old and marker.revision + 1 or marker.revision
    local purged, why = self.js:purge_stream(self.stream, { subject = self.prefix .. key, seq = below })
    if not purged then return shared.refused(why, self.bucket) end
    count = count + purged
  end
  return count
end
return M
