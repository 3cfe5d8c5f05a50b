-- The clients that the benches of core messaging compare, each a process of its own, connected to one server. They
-- take orders on subjects of their own; see client.c.
local uv = require "luv"
local moondog = require "support.moondog"
local npm_client = require "support.npm_client"
local process = require "support.process"
local run = require "support.run"

local M = {}
local Peer = {}
Peer.__index = Peer

local START_SECONDS = 20
local ORDER_SECONDS = 60
local HERE = moondog.root .. "/tests/bench/"
local PYTHON = "python3"

local function start_moondog(handler, stock)
  return function(url, name, under)
    local text = assert(io.open(HERE .. "client.lua")):read("*a")
    -- Sorting all latencies is longer than what a handler is allowed, on a machine that has much to do.
    return moondog.run(text, nil, { args = { "--budget", "60000", "--stall", "120" },
      env = { NATS_URL = url, BENCH_NAME = name, BENCH_HANDLER = handler,
        BENCH_STOCK = stock }, under = under })
  end
end

local function start_c(mode)
  return function(url, name, under)
    local command = { unpack(under or {}) }
    for _, word in ipairs { moondog.build .. "/tests/bench_client", url, name, mode } do
      command[#command + 1] = word
    end
    return process.start { name = name, file = command[1], args = { unpack(command, 2) } }
  end
end

local function start_npm(mode)
  return function(url, name) return npm_client.node("bench_core.js", { args = { url, name, mode } }) end
end

-- scripts/bench builds it, where there is Debian's Go.
local GO = moondog.build .. "/bench/nats_go"

local function start_go(mode)
  return function(url, name) return process.start { name = name, file = GO, args = { url, name, mode } } end
end

local function start_python(mode)
  return function(url, name)
    return process.start { name = name, file = PYTHON, args = { HERE .. "client.py", url, name, mode } }
  end
end

local function lacks_go()
  return not uv.fs_access(GO, "X") and "not built; scripts/bench does it with Debian's packages golang-go and "
    .. "golang-github-nats-io-go-nats-dev"
end

local function lacks_npm()
  return not uv.fs_stat(npm_client.modules .. "/nats") and "not there; scripts/deps --test installs it"
end

local has_nats_py -- nil: not asked yet

local function lacks_python()
  if has_nats_py == nil then
    local pipe = io.popen(PYTHON .. " -c 'import nats; nats.connect; print(\"there\")' 2>/dev/null")
    has_nats_py = pipe:read("*a") == "there\n"
    pipe:close()
  end
  return not has_nats_py and PYTHON .. " cannot import nats; Debian has no package of it"
end

-- All its threads share the first processor that this process may use.
local function on_one_cpu(start)
  return function(url, name)
    local status = io.open("/proc/self/status"):read("*a")
    return start(url, name, { "taskset", "-c", status:match("Cpus_allowed_list:%s*(%d+)") })
  end
end

-- What each is called in tables, in their order. stock: starts one that reconnects as it does when nobody has said
-- anything, but that it is to try for ever.
local ALL = {
  { name = "moondog", start = start_moondog("count"), stock = start_moondog("count", "yes") },
  { name = "moondog data", start = start_moondog("data") },
  { name = "moondog json", start = start_moondog("json") },
  { name = "moondog 1 CPU", start = on_one_cpu(start_moondog("count")) },
  { name = "nats.c", start = start_c("default"), stock = start_c("stock") },
  { name = "nats.c pool", start = start_c("pool") },
  { name = "nats.c 1 CPU", start = on_one_cpu(start_c("default")) },
  { name = "nats.c asap", start = start_c("asap") },
  { name = "nats.go", start = start_go(), stock = start_go("stock"), lacks = lacks_go },
  { name = "npm", start = start_npm(), stock = start_npm("stock"), lacks = lacks_npm },
  { name = "nats-py", start = start_python(), stock = start_python("stock"), lacks = lacks_python },
}

-- Subjects have no dots in their words.
local function word(name)
  return (name:gsub("%W", "_"))
end

-- One process, which is there when it has answered. kind: { name, start(url, word, under) }. suffix: for its word, when
-- there are several of a kind. under: a command that runs it, as a list.
function M.start(server, witness, kind, suffix, under)
  local name = word(kind.name) .. (suffix or "")
  local child = kind.start(server.url, name, under)
  local self = setmetatable({ name = kind.name, word = name, pid = child.pid, child = child, witness = witness }, Peer)
  run.wait_until(function()
    local answer = witness:request("bench." .. name, "received 1 1 - 1\n", 1)
    return answer
  end, START_SECONDS, "an answer of " .. kind.name)
  return self
end

-- Those that differ in more than how they receive and send.
local EACH_ONCE = { "moondog", "nats.c", "nats.go", "npm", "nats-py" }

-- Those that are there, to be started. missing: a list to which is added what is not, and why. wanted: names; nil:
-- EACH_ONCE.
function M.kinds(missing, wanted)
  local kinds, takes = {}, {}
  for _, name in ipairs(wanted or EACH_ONCE) do takes[name] = true end
  for _, kind in ipairs(ALL) do
    local why = takes[kind.name] and kind.lacks and kind.lacks()
    if why then
      missing[#missing + 1] = { kind.name, why }
    elseif takes[kind.name] then
      kinds[#kinds + 1] = kind
    end
  end
  return kinds
end

-- Those that reconnect in their own way.
function M.stock_kinds(missing)
  local kinds = {}
  for i, kind in ipairs(M.kinds(missing)) do kinds[i] = { name = kind.name, start = kind.stock } end
  return kinds
end

-- All of them on one server; returns what is missing, too.
function M.start_all(server, witness, wanted)
  local peers, missing = {}, {}
  for i, kind in ipairs(M.kinds(missing, wanted)) do peers[i] = M.start(server, witness, kind) end
  return peers, missing
end

-- What sends to all of them and asks them: nats.c in a process of its own.
function M.start_sender(server, witness)
  return M.start(server, witness, { name = "sender", start = start_c("default") })
end

-- What answers all of them, at once: by default nats.c waits for a millisecond before it sends an answer.
function M.start_responder(server, witness)
  return M.start(server, witness, { name = "responder", start = start_c("asap") })
end

-- order: count, value, subject, subjects, data. Returns { count, seconds, p50, p99, p999 }, or nil and why not.
function Peer:try(op, order)
  local text = ("%s %d %d %s %d\n%s"):format(op, order.count or 1, order.value or 1, order.subject or "-",
    order.subjects or 1, order.data or "")
  local answer, err = self.witness:request("bench." .. self.word, text, ORDER_SECONDS)
  local list = {}
  for number in (answer and answer.data or ""):gmatch("%S+") do list[#list + 1] = tonumber(number) end
  if #list ~= 5 then
    return nil, ("%s, %s: %s"):format(self.name, op, answer and answer.data or err)
  end
  return { count = list[1], seconds = list[2], p50 = list[3], p99 = list[4], p999 = list[5] }
end

function Peer:order(op, order)
  local result, err = self:try(op, order or {})
  if not result then error(err, 0) end
  return result
end

-- Ends its process.
function Peer:stop()
  local child = self.child.process or self.child
  child:finish()
end

return M
