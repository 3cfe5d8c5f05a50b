-- A reader of a stream or of a bucket, for rows of the fault suite: numbers are written while the fault
-- lasts, and each has to be read once, in order, and soon after.
local jetstream = require "support.jetstream_api"
local run = require "support.run"

local M = {}

M.STOCK = "the stock clients here read no stream: what becomes of a consumer is up to its program"

local HEARTBEAT = 1 -- seconds, of the readers here: two that are missed end a silence
local READ_SECONDS = 20

-- $READ opens the reader with take(number).
local SCRIPT = [[
local seen, count, twice, newest, back = {}, 0, 0, 0, 0
local function take(text)
  local number = tonumber(text)
  if seen[number] then twice = twice + 1 else count = count + 1 end
  if number < newest then back = back + 1 end
  seen[number], newest = true, math.max(newest, number)
end
moondog.on_start(function()
  local js = c:jetstream { wait = true }
  $READ
end)
c:subscribe("seen", function(msg) msg:respond(("%d %d %d %d"):format(count, newest, twice, back)) end)
]]

local KINDS = {
  durable = [[assert(js:consumer("S", { durable = "reader", heartbeat = $HEARTBEAT }))
    :consume(function(msg) take(msg.data) msg:ack() end)]],
  ephemeral = [[assert(js:consumer("S", { name = "reader", heartbeat = $HEARTBEAT, inactive_threshold = 300 }))
    :consume(function(msg) take(msg.data) msg:ack_sync() end)]],
  ordered = [[assert(js:ordered("S", { name = "reader", heartbeat = $HEARTBEAT }))
    :consume(function(msg) take(msg.data) end)]],
  watch = [[assert(js:create_key_value { bucket = "B" }):watch(function(entry) take(entry.value) end)]],
}

-- The script of a reader: "durable", "ephemeral", "ordered" or "watch".
function M.script(kind)
  return (SCRIPT:gsub("%$READ", function() return (KINDS[kind]:gsub("%$HEARTBEAT", HEARTBEAT)) end))
end

-- A server with JetStream and the stream "S".
function M.server(stage)
  local server = stage:server { jetstream = { store_dir = run.folder() .. "/js" } }
  jetstream.add_stream(server, "S", { "s.>" })
  stage.written = 0
  return server
end

-- Writes so many further numbers; returns when they are stored.
function M.write(stage, server, count, kind)
  local client = server:connect()
  for _ = 1, count do
    local number = stage.written + 1
    local subject = (kind == "watch" and "$KV.B.k" or "s.") .. number
    local answer, err = client:request(subject, tostring(number), 10)
    assert(answer and answer.data:find('"seq"', 1, true), answer and answer.data or err)
    stage.written = number
  end
  client:close()
end

-- Waits until all that was written has been read.
function M.wait_read(stage, server)
  local client = server:connect()
  local count, newest, twice, back
  stage:expect(function()
    count, newest, twice, back = client:wait_answer("seen", "", 10).data:match("(%d+) (%d+) (%d+) (%d+)")
    return tonumber(count) == stage.written
  end, READ_SECONDS, ("all %d numbers are read"):format(stage.written))
  client:close()
  return { count = tonumber(count), newest = tonumber(newest), twice = tonumber(twice), back = tonumber(back) }
end

-- The same, and each once and in order; the row's lost messages are those that were not read.
function M.check(stage, server)
  local read = M.wait_read(stage, server)
  stage:check(read.twice == 0, "%d numbers were read more than once", read.twice)
  stage:check(read.back == 0, "%d numbers were read out of order", read.back)
  stage.lost.moondog = stage.written - read.count
end

return M
