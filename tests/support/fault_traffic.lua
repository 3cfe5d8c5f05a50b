-- Numbered requests to each subject of the fault suite, all the time, and which of them came back:
-- what tells whether a subject hears, and is heard.
local run = require "support.run"

local M = {}
M.__index = M

local BEAT_SECONDS = 0.05
local GAP_SECONDS = 0.7 -- pauses that are shorter are the machine's, not the connection's

local function open(self, connect)
  local ok, client = pcall(connect)
  if not ok then
    return nil
  end
  for name, line in pairs(self.lines) do
    client:subscribe(("%s.%s"):format(client.inbox, name), function(msg)
      local number = tonumber(msg.data)
      if number and not line.back[number] then -- not the word that nobody is there
        line.back[number] = msg.at
        table.insert(line.echoes, { number = number, at = msg.at })
      end
    end)
  end
  return client
end

local function beat(self, clients)
  for name, line in pairs(self.lines) do
    line.last = line.last + 1
    line.sent[line.last] = run.now()
    for _, client in ipairs(clients) do
      client:publish("echo." .. name, tostring(line.last),
        { reply = ("%s.%s"):format(client.inbox, name) })
    end
  end
end

-- Keeps a witness in self.clients while it has a link.
local function keep_witness(self, connect)
  local client
  while not self.stopped do
    if not client or client.closed then
      client = open(self, connect)
      self.clients[connect] = client
    end
    run.pause(BEAT_SECONDS)
  end
  if client then
    client:close()
  end
end

local function keep_beating(self)
  while not self.stopped do
    local clients = {}
    for _, client in pairs(self.clients) do
      clients[#clients + 1] = not client.closed and client or nil
    end
    if #clients > 0 then
      beat(self, clients)
    end
    run.pause(BEAT_SECONDS)
  end
end

-- connects: a list of functions that make a witness, called again when its link ends; an answer to one of the
-- witnesses is enough. names: of the subjects, which answer on echo.NAME.
function M.start(connects, names)
  local self = setmetatable({ clients = {}, lines = {} }, M)
  for _, name in ipairs(names) do
    self.lines[name] = { last = 0, sent = {}, back = {}, echoes = {} }
  end
  for _, connect in ipairs(connects) do
    run.spawn(keep_witness, self, connect)
  end
  run.spawn(keep_beating, self)
  return self
end

function M:stop()
  self.stopped = true
end

-- When the first request that was sent after `since` had come back; nil: none has.
function M:passed(name, since)
  local line = self.lines[name]
  for _, echo in ipairs(line.echoes) do
    if echo.at > since and line.sent[echo.number] > since then
      return echo.at
    end
  end
end

-- How many that were sent after `since` never came back, and how many there were. With `all` also
-- those behind the last one that did.
function M:lost(name, since, all)
  local line = self.lines[name]
  local newest = line.echoes[#line.echoes]
  local lost, sent = 0, 0
  for number = 1, all and line.last or newest and newest.number or 0 do
    if line.sent[number] > since then
      sent = sent + 1
      lost = lost + (line.back[number] and 0 or 1)
    end
  end
  return lost, sent
end

-- The times after `since` in which nothing came back: a list of { from, to }; the last one may go on.
function M:gaps(name, since)
  local gaps, before = {}, since
  local function add(at)
    if at - before > GAP_SECONDS then
      gaps[#gaps + 1] = { from = before, to = at }
    end
    before = at
  end
  for _, echo in ipairs(self.lines[name].echoes) do
    if echo.at > since then
      add(echo.at)
    end
  end
  add(run.now())
  return gaps
end

return M
