-- A stock JavaScript client of NATS in a process of its own (tests/npm/driver.js), so that what
-- moondog writes is read by somebody else, and the other way round.
--
--   local npm = npm_client.start(server.url)
--   npm:call("stream_add", { config = { name = "S", subjects = { "s" } } })
--   local kv = npm:create_key_value("B", { history = 5 })
--   kv:put("k", "v"); kv:get("k").value
--   local watch = kv:watch(); watch:wait(1)
--
-- Every operation of the driver is a method: npm:publish { subject = ..., data = ... }. It waits
-- for the answer, and returns it, or nil and an error { code, message }. npm:call raises instead.
-- Times in configurations are the server's own: nanoseconds.
local cjson = require "cjson"
local uv = require "luv"
local moondog = require "support.moondog"
local process = require "support.process"
local run = require "support.run"

local M = {}
M.__index = M
local KeyValue = {}
KeyValue.__index = KeyValue
local Watch = {}
Watch.__index = Watch

local ANSWER_SECONDS = 15 -- the driver's own deadlines are shorter
local MODULES = moondog.root .. "/build/npm/node_modules"
M.modules = MODULES

local function program()
  for folder in (os.getenv("PATH") or ""):gmatch("[^:]+") do
    if uv.fs_access(folder .. "/node", "X") then
      return folder .. "/node"
    end
  end
  error("no node on the PATH; scripts/deps --test installs it")
end

-- A process of a script in tests/npm. options: those of process.start().
function M.node(script, options)
  if not uv.fs_stat(MODULES .. "/nats") then
    error("the JavaScript client is not in " .. MODULES .. "; scripts/deps --test installs it")
  end
  options.name, options.file = "npm " .. script, program()
  options.args = { moondog.root .. "/tests/npm/" .. script, unpack(options.args or {}) }
  options.env = { NODE_PATH = MODULES, NODE_OPTIONS = false, NO_COLOR = "1" }
  return process.start(options)
end

local function without_nulls(x)
  if x == cjson.null then
    return nil
  end
  if type(x) == "table" then
    for key, value in pairs(x) do
      x[key] = without_nulls(value)
    end
  end
  return x
end

local function on_line(self, line, stream)
  if stream ~= "stdout" then
    return
  end
  local message = without_nulls(cjson.decode(line))
  if message.event == "watch" then
    -- The first entries may come before the answer that names the watch.
    self.watches[message.watch] = self.watches[message.watch] or Watch.new(self, message.watch)
    self.watches[message.watch]:take(message)
  elseif message.event then
    table.insert(self.events, message)
  else
    self.answers[message.id] = message
  end
end

-- Starts the process and connects it. url: nil: not yet (npm:call("connect", { servers = ... })).
-- options: of the client's own connect().
function M.start(url, options)
  local self = setmetatable({ events = {}, answers = {}, watches = {}, last_id = 0 }, M)
  self.process = M.node("driver.js", { input = true,
    on_line = function(line, stream) on_line(self, line, stream) end })
  run.wait_until(function()
    assert(not self.process.exit, "the JavaScript client ended early")
    return self.events[1]
  end, ANSWER_SECONDS, "the start of the JavaScript client")
  if url then
    local args = { servers = url }
    for key, value in pairs(options or {}) do
      args[key] = value
    end
    self:call("connect", args)
  end
  return self
end

-- Sends a request and does not wait; answer(id) does.
function M:begin(op, args)
  self.last_id = self.last_id + 1
  self.process:write(cjson.encode { id = self.last_id, op = op, args = args } .. "\n")
  return self.last_id
end

function M:answer(id, deadline)
  local message = run.wait_until(function()
    assert(not self.process.exit, "the JavaScript client ended early")
    return self.answers[id]
  end, deadline or ANSWER_SECONDS, "an answer of the JavaScript client")
  self.answers[id] = nil
  if message.err then
    return nil, message.err
  end
  return message.ok
end

function M:ask(op, args, deadline)
  return self:answer(self:begin(op, args), deadline)
end

function M:call(op, args, deadline)
  local value, err = self:ask(op, args, deadline)
  if err then
    error(("%s: %s (%s)"):format(op, err.message, err.code), 2)
  end
  return value
end

-- Waits for the nth (1) event of that kind ("disconnect", "reconnect", ...) of the connection.
function M:wait_status(kind, deadline, nth)
  return run.wait_until(function()
    local count = 0
    for _, event in ipairs(self.events) do
      count = count + (event.type == kind and 1 or 0)
      if event.type == kind and count == (nth or 1) then
        return event
      end
    end
  end, deadline or 10, kind .. " of the JavaScript client")
end

-- Ends it as it likes to: it says goodbye to the server.
function M:stop()
  self.process:end_input()
  return self.process:wait_exit(5)
end

-- ---- key-value ----

local function bucket(self, op, name, options)
  local ok, err = self:ask(op, { bucket = name, options = options })
  if not ok then
    return nil, err
  end
  return setmetatable({ client = self, name = name }, KeyValue)
end

-- options: history, ttl (milliseconds), replicas, storage, ...: the client's own.
function M:create_key_value(name, options)
  return bucket(self, "kv_create", name, options)
end

function M:key_value(name)
  return bucket(self, "kv_bind", name)
end

function KeyValue:ask(op, args)
  args = args or {}
  args.bucket = self.name
  return self.client:ask(op, args)
end

-- An entry: bucket, key, value, revision, operation ("PUT", "DEL", "PURGE"), created (seconds since
-- 1970), delta (how many come after it). nil: no such key, or one that was deleted without history.
function KeyValue:get(key, revision)
  return self:ask("kv_get", { key = key, revision = revision })
end

-- The revision.
function KeyValue:put(key, value)
  return self:ask("kv_put", { key = key, value = value })
end

function KeyValue:create(key, value)
  return self:ask("kv_create_key", { key = key, value = value })
end

function KeyValue:update(key, value, revision)
  return self:ask("kv_update", { key = key, value = value, revision = revision })
end

function KeyValue:delete(key)
  return self:ask("kv_delete", { key = key })
end

function KeyValue:purge(key)
  return self:ask("kv_purge", { key = key })
end

function KeyValue:keys(filter)
  return self:ask("kv_keys", { filter = filter })
end

function KeyValue:history(key)
  return self:ask("kv_history", { key = key })
end

function KeyValue:status()
  return self:ask("kv_status")
end

function KeyValue:destroy()
  return self:ask("kv_destroy")
end

-- options: key (a pattern), include ("last", "history", "updates"), ignore_deletes, resume_from.
function KeyValue:watch(options)
  local args = {}
  for key, value in pairs(options or {}) do
    args[key] = value
  end
  local id, err = self:ask("kv_watch", args)
  if not id then
    return nil, err
  end
  local watches = self.client.watches
  watches[id] = watches[id] or Watch.new(self.client, id)
  return watches[id]
end

-- ---- a watch: its entries in `entries`, as they came ----

function Watch.new(client, id)
  return setmetatable({ client = client, id = id, entries = {} }, Watch)
end

function Watch:take(message)
  if message.entry then
    table.insert(self.entries, message.entry)
  end
  self.initialized = self.initialized or message.initialized
  self.ended = self.ended or message.ended
  self.err = self.err or message.err
end

-- Waits until there are so many entries, and returns them.
function Watch:wait(count, deadline)
  run.wait_until(function() return #self.entries >= count end, deadline or 10, function()
    return ("%d entries of a watch, there are %d"):format(count, #self.entries)
  end)
  return self.entries
end

-- Waits until all that was there when the watch began has come.
function Watch:wait_initialized(deadline)
  run.wait_until(function() return self.initialized end, deadline or 10, "a watch's beginning")
  return self.entries
end

function Watch:stop()
  return self.client:ask("kv_unwatch", { watch = self.id })
end

-- ---- every other operation of the driver ----

local OPERATIONS = { "connect", "disconnect", "flush", "echo", "versions", "publish", "message",
  "stream_add", "stream_info", "stream_delete", "consumer_add", "consumer_info", "consumer_delete",
  "consumers", "next", "fetch", "ack" }
for _, op in ipairs(OPERATIONS) do
  M[op] = function(self, args)
    return self:ask(op, args)
  end
end

return M
