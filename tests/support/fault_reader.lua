-- A reader of a stream or of a bucket, for rows of the fault suite: numbers are written while the fault
-- lasts, and each has to be read once, in order, and soon after.
local jetstream = require "support.jetstream_api"
local run = require "support.run"

local M = {}

M.STOCK = "the stock clients here read no stream: what becomes of a consumer is up to its program"

local WRITE_SECONDS = 0.05 -- between two numbers
local HEARTBEAT = 1 -- seconds, of the readers here: two that are missed end a silence
local READ_SECONDS = 20

-- $READ returns a reader that has take(number), or nil and an error. What it has read is in moondog.state: numbers up
-- to `floor`, and those `ahead` of it. $SEEN: the subject that is asked for it. What a generation still reads when
-- another one has its state is told by the log, and handed to the other one.
local SCRIPT = [[
do
  moondog.state[$SEEN] = { count = 0, newest = 0, twice = 0, back = 0, floor = 0, ahead = {} }
  local unloaded = false
  moondog.on_unload(function() unloaded = true end)
  local function take(text)
    local s, number = moondog.state[$SEEN], tonumber(text)
    if unloaded then
      moondog.log.info("read late", { reader = $SEEN, number = number })
      return
    end
    if number <= s.floor or s.ahead[number] then
      s.twice = s.twice + 1
    else
      s.count, s.ahead[number] = s.count + 1, true
    end
    if number < s.newest then s.back = s.back + 1 end
    s.newest = math.max(s.newest, number)
    while s.ahead[s.floor + 1] do
      s.floor = s.floor + 1
      s.ahead[s.floor] = nil
    end
  end
  moondog.spawn(function()
    local js, reader, err = c:jetstream { wait = true }
    repeat
      reader, err = (function() $READ end)()
      if err then
        moondog.log.info("no reader yet", { reader = $SEEN, text = err.message })
        moondog.sleep(0.2)
      end
    until reader
  end)
  c:subscribe($SEEN .. ".late", function(msg)
    take(msg.data)
    msg:respond("")
  end)
  c:subscribe($SEEN, function(msg)
    local s = moondog.state[$SEEN]
    msg:respond(("%d %d %d %d"):format(s.count, s.newest, s.twice, s.back))
  end)
end
]]

local KINDS = {
  durable = [[
    local reader, err = js:consumer($STREAM, { durable = "reader", heartbeat = $HEARTBEAT, ack_wait = 5 })
    return reader and reader:consume(function(msg) take(msg.data) msg:ack() end), err]],
  ephemeral = [[
    local reader, err = js:consumer($STREAM, { name = "reader", heartbeat = $HEARTBEAT, inactive_threshold = 300 })
    return reader and reader:consume(function(msg) take(msg.data) msg:ack_sync() end), err]],
  ordered = [[
    local reader, err = js:ordered($STREAM, { name = "ordered", heartbeat = $HEARTBEAT })
    return reader and reader:consume(function(msg) take(msg.data) end), err]],
  watch = [[
    local bucket, err = js:create_key_value { bucket = "B" }
    if not bucket then return nil, err end
    return bucket:watch(function(entry) take(entry.value) end)]],
}

-- The script of a reader: "durable", "ephemeral", "ordered" or "watch". of: stream ("S"), seen: the subject on which
-- it answers what it has read ("seen").
function M.script(kind, of)
  local parts = { HEARTBEAT = HEARTBEAT, STREAM = ("%q"):format(of and of.stream or "S"),
    SEEN = ("%q"):format(of and of.seen or "seen") }
  local text = SCRIPT:gsub("%$READ", function() return KINDS[kind] end)
  return (text:gsub("%$(%u+)", parts))
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

-- Asks a server to store one message; true when it has it, be it from an attempt before.
local function store(client, subject, number, headers)
  local answer = client:request(subject, tostring(number), 2, { headers = headers })
  local text = answer and answer.data or ""
  return text:find('"seq"', 1, true) ~= nil or text:find("10071", 1, true) ~= nil -- wrong last sequence: it is there
end

local function write_next(stage, client)
  local number = stage.written + 1
  if store(client, "r." .. number, number, { ["Nats-Msg-Id"] = tostring(number) })
    and store(client, "$KV.B.k" .. number, number, { ["Nats-Expected-Last-Subject-Sequence"] = "0" }) then
    stage.written = number
    return true
  end
end

-- Writes numbers all the time from now on, each into the stream "R" (subjects r.>) and into the bucket "B". Returns
-- the writer. It is `idle` while it is `held`, as soon as what it had begun is stored.
function M.keep_writing(stage, server)
  local self = {}
  stage.written = 0
  run.spawn(function()
    local client, stored
    while true do
      self.idle = self.held and stored
      if not self.idle then
        if not client or client.closed then
          local ok, made = pcall(server.connect, server)
          client = ok and made or nil
        end
        local ok, done = pcall(write_next, stage, client)
        stored = ok and done
      end
      run.pause(WRITE_SECONDS)
    end
  end)
  return self
end

-- Hands what a replaced generation has read to the one that counts, each once.
local function hand_over_late(stage, client, seen)
  stage.handed_over = stage.handed_over or {}
  for _, entry in ipairs(stage.dog:find_logs("^read late$")) do
    if entry.reader == seen and not stage.handed_over[entry] then
      local answer, err = client:request(seen .. ".late", tostring(entry.number), 10)
      assert(answer or err == "no responders", err) -- it has not come to this server yet: next time
      stage.handed_over[entry] = answer and true
    end
  end
end

-- Waits until all that was written has been read. seen: as for script(). Returns what has been read; nil: no answer.
function M.wait_read(stage, server, seen)
  local client = server:connect()
  local count, newest, twice, back
  stage:expect(function()
    hand_over_late(stage, client, seen or "seen")
    count, newest, twice, back = client:wait_answer(seen or "seen", "", 10).data:match("(%d+) (%d+) (%d+) (%d+)")
    return tonumber(count) == stage.written
  end, READ_SECONDS, function()
    return ("all %d numbers are read (%s), there are %s"):format(stage.written, seen or "seen", tostring(count))
  end)
  client:close()
  return count and { count = tonumber(count), newest = tonumber(newest), twice = tonumber(twice),
    back = tonumber(back) }
end

-- The same, and each once since the last time that was looked; in order, too, unless options.any_order. The row's lost
-- messages are those that were not read. options: seen, as for script(); any_order: what was on its way to a link
-- that was lost comes again, behind others.
function M.check(stage, server, options)
  local seen = options and options.seen or "seen"
  local read = M.wait_read(stage, server, seen)
  if not read then
    return
  end
  local before = (stage.read or {})[seen] or { twice = 0, back = 0 }
  stage:check(read.twice == before.twice, "%d numbers were read more than once (%s)", read.twice - before.twice, seen)
  stage:check(read.back == before.back or options and options.any_order, "%d numbers were read out of order (%s)",
    read.back - before.back, seen)
  stage.lost.moondog = stage.written - read.count
  stage.read = stage.read or {}
  stage.read[seen] = read
end

-- Plays an outage in which the reader's link is cut, and none is let through: meanwhile(server) happens
-- in it. It is over when numbers can be written and read again.
function M.play_cut(stage, kind, meanwhile)
  local server = M.server(stage)
  local way = stage:proxy(server)
  stage:start { urls = { way.url }, script = M.script(kind) }
  M.write(stage, server, 20)
  M.wait_read(stage, server)
  stage:fault()
  way:lock()
  way:reset()
  meanwhile(server)
  stage:over()
  way:unlock()
  M.write(stage, server, 100)
  stage.server = server
end

return M
