-- The outbox and a stream with three replicas, whose servers are killed one after the other.
local cjson = require "cjson"
local nats_cluster = require "support.nats_cluster"
local outbox_load = require "support.outbox_load"
local run = require "support.run"

local MESSAGES = tonumber(os.getenv("MOONDOG_OUTBOX_MESSAGES")) or 10000

local SETTLED_SECONDS = 20
local TRIES = 4

-- What JetStream answers at any of them, or nil.
local function ask(servers, name)
  for _, server in ipairs(servers) do
    local client = server:connect()
    local answer = client:request("$JS.API." .. name, "", 2)
    client:close()
    answer = answer and cjson.decode(answer.data)
    if answer and not answer.error then return answer end
  end
end

-- What keeps the stream from having three replicas that are up to date, or nil; and the names of those behind.
local function trouble(servers)
  local info = ask(servers, "STREAM.INFO.S")
  if not info then return "no server knows it", {} end
  if not info.cluster or not info.cluster.leader then return "it has no leader", {} end
  local replicas, behind = info.cluster.replicas or {}, {}
  for _, replica in ipairs(replicas) do
    if replica.offline or not replica.current then behind[#behind + 1] = replica.name end
  end
  if #behind > 0 then return cjson.encode(replicas), behind end
  if #replicas < 2 then return ("its leader knows %d others"):format(#replicas), {} end
end

local function play(case)
  local servers = nats_cluster.start().servers
  case.servers, case.replicas, case.in_turn = servers, 3, true
  -- A server of version 2.9 that is killed soon after a stream was made may come back with one of its own of
  -- that name, which belongs to no group of replicas, and stays so: what it has is of no use to the others.
  function case.settled()
    local why, behind
    for _ = 1, TRIES do
      if pcall(run.wait_until, function()
        why, behind = trouble(servers)
        return not why
      end, SETTLED_SECONDS, "replicas that are up to date") then
        return
      end
      for _, server in ipairs(servers) do
        if #behind == 1 and server.name == behind[1] then
          server:kill()
          server:forget()
          server:restart()
        end
      end
    end
    error("the replicas of the stream are not up to date: " .. tostring(why))
  end
  local result = outbox_load.play(case)
  assert.is_nil(result.first_wrong)
  assert.equals(case.messages, result.stored)
  assert.equals(case.messages, result.got)
end

describe("An outbox and a cluster of three", function()
  it("lose nothing and double nothing while one server after the other is killed", run.case(function()
    play { messages = MESSAGES, server_kills = 6, moondog_kills = 2, outage = 0.5, window = 120 }
  end, { deadline = outbox_load.SECONDS * 3 }))

  -- What was on its way before servers agree on a leader again may be stored then, after so short a window.
  it("nor when the duplicate window is over before there is a leader again", run.case(function()
    play { messages = MESSAGES / 4, server_kills = 2, moondog_kills = 0, together = true, fixed_outage = 1.5,
      window = 1 }
  end, { deadline = outbox_load.SECONDS * 3 }))
end)
