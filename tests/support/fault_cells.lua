-- Many connections in the moondog of one case of the fault suite: for faults that have to be tried in
-- hundreds of ways. Each connection (a cell) has a server of its own that treats it badly, one way
-- after the other, and goes on when the connection answers a request again.
--
--   local grid = cells.start(stage, list, { dial = 5 })
--   stage:fault()
--   grid:finish(60)
--
-- A cell of the list: steps, played in order; title; noisy (it publishes all the time);
-- make_way(stage, server) (a proxy that its dials go through: cell.way). A step:
--
--   dials = { true, false, true } -- the next dials: whether each meets the fault, or is a good one that is then reset
--   greet = function(client) end -- the fault, in the place of INFO; true: nothing more is said
--   answer = function(client) end -- the fault, in the place of the PONG of the handshake
--   live = function(client) end -- the fault on a link that works; also with every good one of `times`
--   times = 2 -- (1) links of the live fault
--   at = "PUB" -- the live fault waits for this operation of the client
--   text = "..." -- what the log has to say for the connection
--   before = function(cell) end -- before anything else
local cjson = require "cjson"
local run = require "support.run"

local M = {}
M.__index = M

local UP_SECONDS = 30
local BUFFERS = 256 * 1024 -- of a connection: pages of them become memory when they are first used
local TWICE_SECONDS = 0.25 -- between two looks for a second link
local TWICE_TIMES = 6 -- a second link that is seen so often in a row is no glimpse of a change
local REASONABLE = { dialing = true, up = true, reconnecting = true, closed = true, idle = true }

local SCRIPT = [[
for _, cell in ipairs { $CELLS } do
  local conn = moondog.connect { name = cell.name, servers = { cell.url },
    reconnect = moondog.backoff { base = 0.02, cap = 0.2, auth_base = 0.02 },
    watchdog = { probe = 1, probe_timeout = 1, reconnecting = $DIAL, timeout = $DIAL } }
  conn:subscribe("cell", function(msg)
    pcall(function() -- of too many, reading them is an error
      for key, value in pairs(msg.headers) do
        assert(type(key) == "string" and value)
      end
    end)
    if msg.reply then
      msg:respond(msg.data)
    end
  end)
  if cell.noisy then
    moondog.every(0.05, function() conn:publish("noise", "hello") end)
  end
end
]]

-- ---- what a cell's server does ----

local function ask(cell, client)
  for sid, subject in pairs(client.subs) do
    if subject == "cell" then
      local data = tostring(cell.number)
      client:send(("MSG cell %s back %d\r\n%s\r\n"):format(sid, #data, data))
    end
  end
end

local function hurt(cell, client)
  cell.times = cell.times - 1
  cell.step.live(client, cell)
  if not client.closed then
    ask(cell, client)
  end
end

-- The link works: the next thing of the step, or the question that ends it.
local function on_link(cell, client)
  if #cell.dials > 0 or client.bad then
    client:reset()
  elseif cell.times > 0 and not cell.step.at then
    hurt(cell, client)
  else
    ask(cell, client)
  end
end

local function begin(cell)
  cell.index = cell.index + 1
  cell.number = cell.number + 1
  cell.step = cell.steps[cell.index]
  if not cell.step then
    cell.grid.open = cell.grid.open - 1
    cell.dials, cell.times = {}, 0
    return
  end
  cell.dials = { unpack(cell.step.dials or {}) }
  cell.times = cell.step.live and (cell.step.times or 1) or 0
  if cell.step.before then
    cell.step.before(cell)
  end
  for client in pairs(cell.server.clients) do
    if cell.step.live and #cell.dials == 0 then
      on_link(cell, client)
    else
      client:reset()
    end
  end
end

local function on_answer(cell, client)
  if #cell.dials > 0 or cell.times > 0 then -- the fault has left the link as it was
    if not cell.step.at then
      on_link(cell, client)
    end
    return
  end
  cell.answered = cell.number
  if cell.grid.playing and cell.step then
    begin(cell)
  end
end

local function on_op(cell, client, op)
  local step = cell.step
  if op.verb == "PING" and client.bad and not client.greeted and step and step.answer then
    client.greeted = true
    return step.answer(client) ~= "go on"
  elseif op.verb == "SUB" and op.args[1] == "cell" then
    client.subs[op.args[#op.args]] = "cell"
    on_link(cell, client)
    return true
  elseif step and step.at == op.verb and op.args[1] == "noise" and cell.times > 0 and next(client.subs) then
    hurt(cell, client)
  elseif op.verb == "PUB" and op.args[1] == "back" and op.data == tostring(cell.number) then
    on_answer(cell, client)
  end
end

local function on_connect(cell, client)
  if #cell.dials > 0 then
    client.bad = table.remove(cell.dials, 1)
    if client.bad and cell.step.greet then
      return cell.step.greet(client)
    end
  end
end

-- ---- all of them ----

local function watch_for_two(self)
  local seen = {}
  while not self.over do
    for _, cell in ipairs(self.cells) do
      local count = 0
      for client in pairs(cell.server.clients) do -- a bad one may hold a link that hangs
        count = count + (client.connect and not client.bad and 1 or 0)
      end
      seen[cell] = count > 1 and (seen[cell] or 0) + 1 or 0
      if seen[cell] == TWICE_TIMES then
        self.stage:check(false, "2: %s has %d links at a time", cell.name, count)
      end
    end
    run.pause(TWICE_SECONDS)
  end
end

local function count_answered(self)
  local count = 0
  for _, cell in ipairs(self.cells) do
    count = count + (cell.answered == cell.number and 1 or 0)
  end
  return count
end

-- Starts moondog, with its own connection at a good server, and all cells; waits until they answer.
-- options: dial (10), the seconds of a dial's deadline, and of the library's reconnecting.
function M.start(stage, list, options)
  local self = setmetatable({ stage = stage, cells = list, open = #list }, M)
  local good = stage:scripted()
  local texts = {}
  for i, cell in ipairs(list) do
    cell.grid, cell.index, cell.number, cell.dials, cell.times = self, 0, 0, {}, 0
    cell.name = "cell-" .. i
    cell.server = stage:scripted {
      on_connect = function(client) return on_connect(cell, client) end,
      on_op = function(client, op) return on_op(cell, client, op) end }
    cell.way = cell.make_way and cell.make_way(stage, cell.server)
    texts[i] = ("{ name = %q, url = %q, noisy = %s }"):format(cell.name, (cell.way or cell.server).url,
      tostring(cell.noisy or false))
  end
  local parts = { CELLS = table.concat(texts, ", "), DIAL = tostring(options and options.dial or 10) }
  stage:start { urls = { good.url }, script = SCRIPT:gsub("%$(%u+)", parts) }
  stage.checks.limit, stage.checks.room = 1 + #list, #list * BUFFERS
  run.wait_until(function() return count_answered(self) == #list end, UP_SECONDS,
    function() return ("%d cells that answer; %d do"):format(#list, count_answered(self)) end)
  stage.checks:note_resources()
  return self
end

-- Plays the steps of all cells, and checks that each has come back and that the log says why.
function M:finish(deadline)
  self.playing = true
  run.spawn(function() watch_for_two(self) end)
  for _, cell in ipairs(self.cells) do
    begin(cell)
  end
  local done = pcall(run.wait_until, function() return self.open == 0 end, deadline, "the end of all cells")
  self.over = true
  if not done then
    self:tell_stuck()
  end
  self.stage:over()
end

function M:tell_stuck()
  local told = 0
  for _, cell in ipairs(self.cells) do
    if cell.step and told < 5 then
      told = told + 1
      self.stage:check(false, "%s stays away (%s, step %d, %s)", cell.name, cell.title or "-", cell.index,
        cell.step.title or cell.step.text or "-")
    end
  end
  self.stage:check(false, "%d of %d cells did not come to their ends", self.open, #self.cells)
end

-- What a text is in the log: nats.c keeps its beginning, and quotes and case may differ.
local function essence(text)
  return text:sub(1, 150):lower():gsub("'", "")
end

-- Each text that a step promises is in an entry of its connection.
function M:check_texts()
  local told, missing = {}, 0
  for _, entry in ipairs(self.stage.dog.logs) do
    if entry.error and entry.connection then
      told[entry.connection] = (told[entry.connection] or "") .. "\n" .. entry.error:lower():gsub("'", "")
    end
  end
  for _, cell in ipairs(self.cells) do
    for _, step in ipairs(cell.steps) do
      if step.text and not (told[cell.name] or ""):find(essence(step.text), 1, true) then
        missing = missing + 1
        self.stage:check(missing > 3, "the log has nothing with %q for %s (%s)", step.text:sub(1, 60), cell.name,
          cell.title or "-")
      end
    end
  end
  self.stage:check(missing == 0, "%d texts of the server are not in the log", missing)
end

local function is_utf8(text)
  local rest = text:gsub("[%z\1-\127]", ""):gsub("[\194-\223][\128-\191]", "")
    :gsub("[\224-\239][\128-\191][\128-\191]", ""):gsub("[\240-\244][\128-\191][\128-\191][\128-\191]", "")
  return rest == ""
end

-- Each line of the log is one object of JSON, in UTF-8, and without control bytes.
function M:check_log()
  for _, line in ipairs(self.stage.dog.process.lines) do
    local ok = line.text:sub(1, 1) == "{" and pcall(cjson.decode, line.text)
    if not ok or line.text:find("%c") or not is_utf8(line.text) then
      self.stage:check(false, "a line of the log is not valid: %s", line.text:sub(1, 200))
      return
    end
  end
end

-- Whatever /readyz said of a cell: there is a dial, or one is scheduled.
function M:check_schedule()
  for _, sample in ipairs(self.stage.checks.sampler.samples) do
    for _, reason in ipairs(sample.body and sample.body.reasons or {}) do
      if reason.connection and not (REASONABLE[reason.state] and #reason.plan > 10) then
        self.stage:check(false, "1: no dial is scheduled: %s, %s, %s", reason.connection, tostring(reason.state),
          tostring(reason.plan))
        return
      end
    end
  end
end

-- All of the above, for a row's after().
function M:check()
  self:check_texts()
  self:check_log()
  self:check_schedule()
end

return M
