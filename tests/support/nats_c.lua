-- The stock C client's own buckets, for scenarios that compare. Its calls block, which does not matter to those who
-- run in processes of their own: servers, moondog.
local ffi = require "ffi"
local run = require "support.run"

ffi.cdef [[
typedef struct natsConnection natsConnection;
typedef struct jsCtx jsCtx;
typedef struct kvStore kvStore;
typedef struct kvEntry kvEntry;
typedef struct { const char *bucket, *description; int32_t max_value_size; uint8_t history; int64_t ttl, max_bytes;
  int storage, replicas; void *republish, *fields_of_newer_versions[15]; } kvConfig;
typedef struct { kvEntry **entries; int count; } kvEntryList;
typedef struct { char **keys; int count; } kvKeysList;
int natsConnection_ConnectTo(natsConnection **, const char *);
void natsConnection_Destroy(natsConnection *);
int natsConnection_JetStream(jsCtx **, natsConnection *, void *);
void jsCtx_Destroy(jsCtx *);
const char *natsStatus_GetText(int);
int kvConfig_Init(kvConfig *);
int js_CreateKeyValue(kvStore **, jsCtx *, kvConfig *);
int js_KeyValue(kvStore **, jsCtx *, const char *);
void kvStore_Destroy(kvStore *);
int kvStore_Get(kvEntry **, kvStore *, const char *);
int kvStore_Put(uint64_t *, kvStore *, const char *, const void *, int);
int kvStore_Create(uint64_t *, kvStore *, const char *, const void *, int);
int kvStore_Update(uint64_t *, kvStore *, const char *, const void *, int, uint64_t);
int kvStore_Delete(kvStore *, const char *);
int kvStore_Purge(kvStore *, const char *, void *);
int kvStore_Keys(kvKeysList *, kvStore *, void *);
void kvKeysList_Destroy(kvKeysList *);
int kvStore_History(kvEntryList *, kvStore *, const char *, void *);
void kvEntryList_Destroy(kvEntryList *);
const char *kvEntry_Key(kvEntry *);
const void *kvEntry_Value(kvEntry *);
int kvEntry_ValueLen(kvEntry *);
uint64_t kvEntry_Revision(kvEntry *);
int kvEntry_Operation(kvEntry *);
void kvEntry_Destroy(kvEntry *);
]]

local M = {}
local KeyValue = {}
KeyValue.__index = KeyValue

local NAMES = { "libnats.so", "libnats.so.3.4", "libnats.so.3" }
local OPERATIONS = { "PUT", "DEL", "PURGE" }
local library

local function load_library()
  for _, name in ipairs(NAMES) do
    local found, lib = pcall(ffi.load, name)
    if found then return lib end
  end
  error("no " .. NAMES[1] .. ": scripts/deps installs it")
end

-- true, or nil and the client's words.
local function result(status)
  if status == 0 then return true end
  return nil, ffi.string(library.natsStatus_GetText(status))
end

local function check(status)
  local ok, err = result(status)
  if not ok then error("nats.c: " .. err, 3) end
end

local function plain(entry)
  return { key = ffi.string(library.kvEntry_Key(entry)), revision = tonumber(library.kvEntry_Revision(entry)),
    value = ffi.string(library.kvEntry_Value(entry), library.kvEntry_ValueLen(entry)),
    operation = OPERATIONS[library.kvEntry_Operation(entry)] }
end

-- Binds a bucket, or makes it: options: history, ttl (seconds).
function M.key_value(url, bucket, options)
  library = library or load_library()
  local connection, js, kv = ffi.new "natsConnection *[1]", ffi.new "jsCtx *[1]", ffi.new "kvStore *[1]"
  check(library.natsConnection_ConnectTo(connection, url))
  run.defer(function() library.natsConnection_Destroy(connection[0]) end)
  check(library.natsConnection_JetStream(js, connection[0], nil))
  run.defer(function() library.jsCtx_Destroy(js[0]) end)
  if options then
    local config = ffi.new "kvConfig[1]"
    library.kvConfig_Init(config)
    config[0].bucket, config[0].history, config[0].ttl = bucket, options.history or 1, (options.ttl or 0) * 1e9
    check(library.js_CreateKeyValue(kv, js[0], config))
  else
    check(library.js_KeyValue(kv, js[0], bucket))
  end
  run.defer(function() library.kvStore_Destroy(kv[0]) end)
  return setmetatable({ kv = kv[0] }, KeyValue)
end

function KeyValue:get(key)
  local entry = ffi.new "kvEntry *[1]"
  local ok, err = result(library.kvStore_Get(entry, self.kv, key))
  if not ok then return nil, err end
  local found = plain(entry[0])
  library.kvEntry_Destroy(entry[0])
  return found
end

local function write(f, kv, key, value, ...)
  local revision = ffi.new "uint64_t[1]"
  local ok, err = result(f(revision, kv, key, value, #value, ...))
  if not ok then return nil, err end
  return tonumber(revision[0])
end

function KeyValue:put(key, value)
  return write(library.kvStore_Put, self.kv, key, value)
end

function KeyValue:create(key, value)
  return write(library.kvStore_Create, self.kv, key, value)
end

function KeyValue:update(key, value, revision)
  return write(library.kvStore_Update, self.kv, key, value, revision)
end

function KeyValue:delete(key)
  return result(library.kvStore_Delete(self.kv, key))
end

function KeyValue:purge(key)
  return result(library.kvStore_Purge(self.kv, key, nil))
end

function KeyValue:keys()
  local list, keys = ffi.new "kvKeysList[1]", {}
  check(library.kvStore_Keys(list, self.kv, nil))
  for i = 1, list[0].count do keys[i] = ffi.string(list[0].keys[i - 1]) end
  library.kvKeysList_Destroy(list)
  return keys
end

function KeyValue:history(key)
  local list, entries = ffi.new "kvEntryList[1]", {}
  check(library.kvStore_History(list, self.kv, key, nil))
  for i = 1, list[0].count do entries[i] = plain(list[0].entries[i - 1]) end
  library.kvEntryList_Destroy(list)
  return entries
end

return M
