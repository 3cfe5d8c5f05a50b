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

local function start_moondog(handler, stock)
  return function(url, name, under)
    local text = assert(io.open(HERE .. "client.lua")):read("*a")
    -- Sorting all latencies is longer than what a handler is allowed, on a machine that has much to do.
    return moondog.run(text, nil, { args = { "--budget", "60000", "--stall", "120" },
      env = { NATS_URL = url, BENCH_NAME = name, BENCH_HANDLER = handler,
        BENCH_STOCK = stock }, under = under })
  end
end

local function start_c(delivery)
  return function(url, name, under)
    local command = { unpack(under or {}) }
    for _, word in ipairs { moondog.build .. "/tests/bench_client", url, name, delivery } do
      command[#command + 1] = word
    end
    return process.start { name = name, file = command[1], args = { unpack(command, 2) } }
  end
end

local function start_npm(url, name)
  return npm_client.node("bench_core.js", { args = { url, name } })
end

-- scripts/bench builds it, where there is Debian's Go.
local GO = moondog.build .. "/bench/nats_go"

local function start_go(url, name)
  return process.start { name = name, file = GO, args = { url, name } }
end

local function lacks_go()
  return not uv.fs_access(GO, "X") and "not built; scripts/bench does it with Debian's packages golang-go and "
    .. "golang-github-nats-io-go-nats-dev"
end

local function lacks_npm()
  return not uv.fs_stat(npm_client.modules .. "/nats") and "not there; scripts/deps --test installs it"
end

-- What each is called in tables, in their order.
local ALL = {
  { name = "moondog", start = start_moondog("count") },
  { name = "moondog data", start = start_moondog("data") },
  { name = "moondog json", start = start_moondog("json") },
  { name = "nats.c", start = start_c("default") },
  { name = "nats.c pool", start = start_c("pool") },
  { name = "nats.go", start = start_go, lacks = lacks_go },
  { name = "npm", start = start_npm, lacks = lacks_npm },
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

-- Those that differ in more than how they receive.
local EACH_ONCE = { "moondog", "nats.c", "nats.go", "npm" }

-- Those that are there, to be started. missing: a list to which is added what is not, and why. wanted: names; by
-- default EACH_ONCE; "all".
function M.kinds(missing, wanted)
  local kinds, takes = {}, {}
  for _, name in ipairs(wanted ~= "all" and wanted or EACH_ONCE) do takes[name] = true end
  for _, kind in ipairs(ALL) do
    local why = kind.lacks and kind.lacks()
    if why then
      missing[#missing + 1] = { kind.name, why }
    elseif wanted == "all" or takes[kind.name] then
      kinds[#kinds + 1] = kind
    end
  end
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

-- Those that reconnect as they do when nobody has said anything, but that nats.c is to try for ever.
M.STOCK = { { name = "moondog", start = start_moondog("count", "yes") }, { name = "nats.c", start = start_c("stock") } }

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
