-- Watches while the server is killed and comes back, and while their script is reloaded: the last value of each key is
-- seen, and revisions never go back.
local cjson = require "cjson"
local moondog = require "support.moondog"
local nats_cluster = require "support.nats_cluster"
local nats_server = require "support.nats_server"
local run = require "support.run"

local REVISIONS = tonumber(os.getenv("MOONDOG_KV_REVISIONS")) or 2000
local KILLS = tonumber(os.getenv("MOONDOG_KV_KILLS")) or 4
local RELOADS = tonumber(os.getenv("MOONDOG_KV_RELOADS")) or 4
local KEYS = 200
local DOWN_SECONDS = 0.3
local PER_REVISION_SECONDS = moondog.sanitized() and 0.02 or 0.005

-- Writes all the revisions, some of them deletions. What it is not sure of it writes again.
local WRITER = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { SERVERS }, reconnect = moondog.backoff { base = 0.05, cap = 0.2 } }
local last = {}
moondog.on_start(function()
  local js = c:jetstream { wait = true, timeout = 2 }
  local kv = assert(js:create_key_value { bucket = "cfg", history = 3, replicas = $REPLICAS })
  moondog.log.info("bucket made")
  local unsure, i = 0, 0
  while i < $REVISIONS do
    i = i + 1
    local key, gone = "k." .. math.random($KEYS), math.random(10) == 1
    repeat
      local revision, err
      if gone then revision, err = kv:delete(key) else revision, err = kv:put(key, i) end
      if revision then
        last[key] = { gone and "" or tostring(i), revision }
      else
        unsure = unsure + 1
        moondog.sleep(0.02)
      end
    until revision
    if i % $STEP == 0 then moondog.log.info("progress", { count = i }) end
  end
  moondog.log.info("written", { unsure = unsure, revision = kv:status().revision })
end)
c:subscribe("written", function(msg) msg:respond(require("cjson").encode(last)) end)
]]

-- One watch with a handler, one that is read slowly; what they know crosses a reload.
local WATCHER = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { SERVERS }, reconnect = moondog.backoff { base = 0.05, cap = 0.2 } }
moondog.state.handled = { last = {}, revision = 0, back = 0, count = 0 }
moondog.state.read = { last = {}, revision = 0, back = 0, count = 0 }
moondog.state.generations = 0
local watches = {}

local function note(seen, entry)
  if entry.revision <= seen.revision then seen.back = seen.back + 1 end
  seen.revision, seen.count = entry.revision, seen.count + 1
  seen.last[entry.key] = { entry.value, entry.revision }
end

-- Until it works, or another generation has taken over.
local function persist(f, ...)
  while true do
    local result, err = f(...)
    if result or not moondog.sleep(0.05) then return result end
    moondog.log.warn("not yet", { error = err.message })
  end
end

moondog.on_start(function(state)
  state.generations = state.generations + 1
  local js = c:jetstream { wait = true }
  local kv = js and persist(js.key_value, js, "cfg")
  if not kv then return end
  watches[1] = persist(kv.watch, kv, "k.*", function(entry) note(state.handled, entry) end)
  watches[2] = watches[1] and persist(kv.watch, kv, { "k.*", "other" })
  if not watches[2] then return end
  local n = 0
  for entry in watches[2]:updates() do
    note(state.read, entry)
    n = n + 1
    if n % 10 == 0 then moondog.sleep(0.005) end
  end
end)
c:subscribe("seen", function(msg)
  local s = moondog.state
  local recreated, repeated = 0, 0
  for _, w in ipairs(watches) do
    local status = w:status()
    recreated, repeated = recreated + status.recreated, repeated + status.repeated
  end
  msg:respond(require("cjson").encode { handled = s.handled, read = s.read, generations = s.generations,
    recreated = recreated, repeated = repeated })
end)
]]

-- Starts both, disturbs them, and looks at what the watches have seen. disturb(writer, watcher) returns how often it
-- has reloaded the watches' script; steps: how many records "progress" it waits for.
local function judge(urls, replicas, steps, disturb)
  local quoted = {}
  for i, url in ipairs(urls) do quoted[i] = ("%q"):format(url) end
  local function start(script)
    return moondog.run(script:gsub("SERVERS", table.concat(quoted, ", ")),
      { REVISIONS = REVISIONS, KEYS = KEYS, REPLICAS = replicas, STEP = math.floor(REVISIONS / (steps + 1)) })
  end
  local writer = start(WRITER)
  writer:wait_log("^bucket made$", 30)
  local watcher = start(WATCHER)
  watcher:wait_log("^connected$")
  local reloads, connect = disturb(writer, watcher)
  local written = writer:wait_log("^written$", REVISIONS * PER_REVISION_SECONDS + 60)
  local witness = connect()
  local last = cjson.decode(witness:wait_answer("written", "", 10).data)
  local seen
  run.wait_until(function()
    seen = cjson.decode(witness:wait_answer("seen", "", 10).data)
    return seen.handled.revision == written.revision and seen.read.revision == written.revision
  end, 40, function()
    return ("revision %d, there are %d and %d"):format(written.revision, seen.handled.revision, seen.read.revision)
  end)
  run.figure("revisions", written.revision)
  run.figure("entries of the handler", seen.handled.count)
  run.figure("entries that were read", seen.read.count)
  run.figure("generations", seen.generations)
  run.figure("writes that were done again", written.unsure)
  run.figure("consumers made again by the last generation", seen.recreated)
  assert.same(last, seen.handled.last)
  assert.same(last, seen.read.last)
  assert.equals(0, seen.handled.back)
  assert.equals(0, seen.read.back)
  assert.equals(0, seen.repeated)
  assert.equals(reloads + 1, seen.generations)
end

local function wait_progress(writer, nth)
  writer:wait_log("^progress$", REVISIONS * PER_REVISION_SECONDS + 40, nth)
end

local function reload(watcher)
  assert.equals("script reloaded", watcher:reload().msg)
end

describe("watches see the last value of each key, and revisions never go back", function()
  it("while the server is killed and the script is reloaded", run.case(function()
    local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
    judge({ server.url }, 1, KILLS + RELOADS, function(writer, watcher)
      local step = 0
      for i = 1, math.max(KILLS, RELOADS) do
        if i <= KILLS then
          step = step + 1
          wait_progress(writer, step)
          run.pause(math.random() * 0.05)
          server:kill()
          run.pause(math.random() * DOWN_SECONDS)
          server:restart()
        end
        if i <= RELOADS then
          step = step + 1
          wait_progress(writer, step)
          reload(watcher)
        end
      end
      return RELOADS, function() return server:connect() end
    end)
    run.figure("kills of the server", KILLS)
    run.wait_until(function()
      return #server:monitor("jsz?consumers=1").account_details[1].stream_detail[1].consumer_detail == 2
    end, 10, "two consumers on the server")
  end, { deadline = REVISIONS * PER_REVISION_SECONDS * 2 + 120 }))

  it("while three servers with a replica each are killed in turn", run.case(function()
    local cluster = nats_cluster.start()
    judge(cluster.urls, 3, 3, function(writer, watcher)
      for i = 1, 3 do
        wait_progress(writer, i)
        cluster:kill(i)
        if i == 2 then reload(watcher) end
        run.pause(math.random() * DOWN_SECONDS)
        cluster:restart(i)
        cluster:wait_healthy()
      end
      return 1, function() return cluster:connect() end
    end)
  end, { deadline = REVISIONS * PER_REVISION_SECONDS * 2 + 300 }))
end)
