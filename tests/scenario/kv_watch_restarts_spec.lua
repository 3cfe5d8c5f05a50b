-- Watches while the server is killed and comes back, and while their script is reloaded: the last value of each key is
-- seen, and revisions never go back.
local cjson = require "cjson"
local moondog = require "support.moondog"
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
local c = moondog.connect { servers = { $URL }, reconnect = moondog.backoff { base = 0.05, cap = 0.2 } }
local last = {}
moondog.on_start(function()
  local js = c:jetstream { wait = true, timeout = 2 }
  local kv = assert(js:create_key_value { bucket = "cfg", history = 3 })
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
local c = moondog.connect { servers = { $URL }, reconnect = moondog.backoff { base = 0.05, cap = 0.2 } }
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

local function disturb(server, writer, watcher)
  local actions = {}
  for i = 1, math.max(KILLS, RELOADS) do
    if i <= KILLS then actions[#actions + 1] = "kill" end
    if i <= RELOADS then actions[#actions + 1] = "reload" end
  end
  for i, action in ipairs(actions) do
    writer:wait_log("^progress$", REVISIONS * PER_REVISION_SECONDS + 20, i)
    if action == "reload" then
      assert.equals("script reloaded", watcher:reload().msg)
    else
      run.pause(math.random() * 0.05)
      server:kill()
      run.pause(math.random() * DOWN_SECONDS)
      server:restart()
    end
  end
end

describe("watches, while the server is killed and the script is reloaded", function()
  it("see the last value of each key, and revisions never go back", run.case(function()
    local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
    local values = { URL = server.url, REVISIONS = REVISIONS, KEYS = KEYS,
      STEP = math.floor(REVISIONS / (KILLS + RELOADS + 1)) }
    local writer = moondog.run(WRITER, values)
    writer:wait_log("^bucket made$")
    local watcher = moondog.run(WATCHER, values)
    watcher:wait_log("^connected$")
    disturb(server, writer, watcher)
    local written = writer:wait_log("^written$", REVISIONS * PER_REVISION_SECONDS + 60)
    local witness = server:connect()
    local last = cjson.decode(witness:wait_answer("written", "", 10).data)
    local seen
    run.wait_until(function()
      seen = cjson.decode(witness:wait_answer("seen", "", 10).data)
      return seen.handled.revision == written.revision and seen.read.revision == written.revision
    end, 30, function()
      return ("revision %d, there are %d and %d"):format(written.revision, seen.handled.revision, seen.read.revision)
    end)
    run.figure("revisions", written.revision)
    run.figure("entries of the handler", seen.handled.count)
    run.figure("entries that were read", seen.read.count)
    run.figure("kills of the server", KILLS)
    run.figure("generations", seen.generations)
    run.figure("writes that were done again", written.unsure)
    run.figure("consumers made again by the last generation", seen.recreated)
    assert.same(last, seen.handled.last)
    assert.same(last, seen.read.last)
    assert.equals(0, seen.handled.back)
    assert.equals(0, seen.read.back)
    assert.equals(0, seen.repeated)
    assert.equals(RELOADS + 1, seen.generations)
    run.wait_until(function()
      return #server:monitor("jsz?consumers=1").account_details[1].stream_detail[1].consumer_detail == 2
    end, 10, "two consumers on the server")
  end, { deadline = REVISIONS * PER_REVISION_SECONDS * 2 + 120 }))
end)
