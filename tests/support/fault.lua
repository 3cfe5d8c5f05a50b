-- Plays a row of the fault suite (tests/fault/fNN.lua) with moondog and, beside it, the stock clients,
-- and measures what becomes of each. A row:
--
--   return {
--     id = "F1", title = "...", why = "one sentence: who dies of it",
--     seen = "where", -- nil: nobody has told
--     promise = "what moondog does", within = 5, -- seconds, of the return; see ALLOWANCE_SECONDS
--     stock = "why it means nothing for stock clients", -- nil: they play, too
--     patience = 20, -- seconds for a stock client to come back; then it is deaf
--     play = function(stage) ... end,
--     needs = function() return nil end, -- what is missing here, as a text: it is skipped
--     cases = { { name = "kill", play = ... }, ... } -- instead of play: several ways of one fault; what a
--     -- case does not say itself it has from the row
--   }
--
-- play() makes servers with the stage, starts the subjects, and does the damage:
--
--   local server = stage:server(config)
--   stage:start { urls = { server.url } }
--   stage:fault() -- from now on nothing may pass
--   ...
--   stage:over() -- the cause is gone; left out where it stays
--
-- Afterwards the runner waits until each subject answers again, has given up, or its time is over; then
-- comes after(stage), which may look at what the row alone knows (stage:check, stage:expect), and set
-- stage.lost[NAME] where other messages than those of the runner count.
local checks = require "support.fault_checks"
local nats_server = require "support.nats_server"
local network = require "support.network"
local proxy = require "support.proxy"
local run = require "support.run"
local scripted_server = require "support.scripted_server"
local subjects = require "support.fault_subjects"
local traffic = require "support.fault_traffic"

local M = {}
local Stage = {}
Stage.__index = Stage

local BEGIN_SECONDS = 30 -- for all to hear before the fault
local PATIENCE_SECONDS = 15
local AFTERWARDS_SECONDS = 3 -- one that has given up has as long to prove that it never comes back
-- A recovery may last so much longer than promised, on a machine with two cores that others load.
M.ALLOWANCE_SECONDS = 10

-- ---- servers ----

-- Every server that moondog may have a link to; stage.ports: where it dials.
local function note(self, server)
  table.insert(self.servers, server)
  self.ports[server.port] = true
  return server
end

function Stage:server(config, options)
  return note(self, nats_server.start(config, options))
end

function Stage:scripted(options)
  return note(self, scripted_server.start(options))
end

-- A TCP proxy before a server. options: those of proxy.start().
function Stage:proxy(server, options)
  local way = proxy.start(server, options)
  self.ports[way.port] = true
  return way
end

-- Servers that were made elsewhere.
function Stage:use(server)
  return note(self, server)
end

-- So many real servers that form a cluster, without JetStream. config: more for each; a table, or a
-- function of the number. Its no_advertise: clients are not told of the other servers.
function Stage:cluster(size, config)
  local routes, ports, list = {}, {}, {}
  for i = 1, size do
    ports[i] = network.free_port()
    routes[i] = ("nats-route://%s:%d"):format(network.host, ports[i])
  end
  for i = 1, size do
    local own = { cluster = { name = "faults", listen = network.host .. ":" .. ports[i], routes = routes } }
    for key, value in pairs(type(config) == "function" and config(i) or config or {}) do
      own[key] = value
    end
    own.cluster.no_advertise, own.no_advertise = own.no_advertise, nil
    list[i] = self:server(own)
  end
  run.wait_until(function()
    for _, server in ipairs(list) do
      if #server:monitor("routez").routes < size - 1 then
        return false
      end
    end
    return true
  end, 15, "routes between the servers")
  return list
end

local function is_scripted(server)
  return server.accepted ~= nil
end

local function count_clients_of(server, name)
  if is_scripted(server) then
    local count = 0
    for client in pairs(server.clients) do
      count = count + ((client.connect or {}).name == name and 1 or 0)
    end
    return count
  elseif server.process.exit or server.frozen then
    return 0
  end
  return #server:clients(("^%s$"):format(name))
end

function Stage:clients(name)
  local count = 0
  for _, server in ipairs(self.servers) do
    count = count + count_clients_of(server, name)
  end
  return count
end

-- ---- subjects and their messages ----

-- A witness at a server, with the server's own login.
local function witness_of(server)
  if is_scripted(server) then
    return nats_server.connect({ config = {}, port = server.port })
  end
  return server:connect()
end

-- how: as for fault_subjects.start(); connections: how many moondog has (1); witness: makes one (default:
-- at the first server); witnesses: a list of these, of which one that hears moondog is enough; before_nats:
-- nobody hears yet. Waits until all of them answer.
function Stage:start(how)
  local names = {}
  for _, name in ipairs(subjects.names) do
    if self.plays[name] then
      self.subjects[name] = subjects.start(name, how)
      names[#names + 1] = name
    end
  end
  self.dog = self.subjects.moondog.dog
  self.checks = checks.start(self.dog, self.ports)
  self.checks.limit = how.connections or 1
  self.traffic = traffic.start(how.witnesses or { how.witness or function() return witness_of(self.servers[1]) end },
    names)
  if not how.before_nats then
    self:hears(run.now())
    self.checks:note_resources()
  end
end

-- Waits until each subject that plays has answered a request that was sent after `since`.
function Stage:hears(since)
  run.wait_until(function()
    self:poll()
    for name in pairs(self.subjects) do
      if not self.traffic:passed(name, since) then
        return false
      end
    end
    return true
  end, BEGIN_SECONDS, "answers of all subjects before the fault")
end

function Stage:poll()
  for _, subject in pairs(self.subjects) do
    if subject.poll then
      subject.poll()
    end
  end
end

-- The clients of a scripted server that are subjects.
function Stage:subject_clients(server)
  local list = {}
  for client in pairs(server.clients) do
    if self.subjects[(client.connect or {}).name or ""] then
      list[#list + 1] = client
    end
  end
  return list
end

-- Waits until moondog's answers are back, for rows that go on after a first recovery.
function Stage:wait_pass(deadline)
  local since = run.now()
  run.wait_until(function() return self.traffic:passed("moondog", since) end, deadline or 30,
    "an answer of moondog")
end

-- Waits until no subject has answered anything for so many seconds.
function Stage:wait_silence(seconds, deadline)
  run.wait_until(function()
    for name in pairs(self.subjects) do
      if self.traffic:passed(name, run.now() - seconds) then
        return false
      end
    end
    return true
  end, deadline or 30, "silence of all subjects")
end

function Stage:fault()
  self.fault_at = run.now()
  self.log_from = #self.dog.logs
end

function Stage:over()
  self.over_at = run.now()
end

-- A part of the promise that the row looks at itself; text: what is wrong when it does not hold.
function Stage:check(holds, text, ...)
  if not holds then
    table.insert(self.wrong, text:format(...))
  end
end

-- Waits for a condition that the promise names; what is wrong when it does not come.
function Stage:expect(condition, deadline, text)
  local holds, err = pcall(run.wait_until, condition, deadline, text)
  self:check(holds, "%s", tostring(err))
end

-- moondog's log entries since the fault began, as dog:find_logs() finds them.
function Stage:logs(wanted)
  local found = {}
  for _, entry in ipairs(self.dog:find_logs(wanted)) do
    if entry.index > self.log_from then
      found[#found + 1] = entry
    end
  end
  return found
end

-- ---- what became of them ----

local function reference(self)
  return self.over_at or self.fault_at
end

-- Waits until nothing more is to be expected: it answers, it has given up, or its time is over.
local function settle(self)
  local since = reference(self)
  local limits = { moondog = self.case.within + M.ALLOWANCE_SECONDS }
  local patience = self.case.patience or PATIENCE_SECONDS
  local function settled(name, subject)
    local age = run.now() - since
    return self.traffic:passed(name, since) or subject.given_up() and age > AFTERWARDS_SECONDS
      or age > (limits[name] or patience)
  end
  run.wait_until(function()
    self:poll()
    for name, subject in pairs(self.subjects) do
      if not settled(name, subject) then
        return false
      end
    end
    return true
  end, math.max(limits.moondog, patience) + 10, "an end")
end

-- What moondog did: "fresh" link, the library had it "back", or it was "kept".
local function what_moondog_did(self)
  local word = "kept"
  for _, entry in ipairs(self:logs(function(e) return e.msg == "reconnected" or e.msg == "connected" end)) do
    word = (entry.fresh ~= false) and "fresh" or word == "kept" and "back" or word
  end
  return word
end

local function outcome(self, name, subject)
  local since = reference(self)
  local at = self.traffic:passed(name, since)
  local given_up = subject.given_up()
  local result = { deaf = at and at - since or nil, given_up = given_up or nil }
  result.lost, result.sent = self.traffic:lost(name, self.fault_at, not at or given_up)
  result.lost = self.lost[name] or result.lost
  if at and not given_up then
    result.word = name == "moondog" and what_moondog_did(self) or subject.cut and "back" or "kept"
  else
    result.deaf = nil
    result.word = given_up or "deaf"
    result.waited = run.now() - since
  end
  return result
end

local function judge(self, result)
  local wrong = self.wrong
  if not result.deaf then
    table.insert(wrong, 1, ("it is %s, %.1f s after the fault"):format(result.word, result.waited))
  elseif result.deaf > self.case.within + M.ALLOWANCE_SECONDS then
    table.insert(wrong, 1, ("5: deaf for %.1f s, %g are promised and %g more allowed on a loaded machine")
      :format(result.deaf, self.case.within, M.ALLOWANCE_SECONDS))
  end
  local found = self.checks:finish(function() return self:clients("moondog") end,
    function() return self.traffic:gaps("moondog", self.fault_at) end, not result.deaf)
  for _, text in ipairs(found) do
    table.insert(wrong, text)
  end
  local now = run.now() -- and it stays so
  local function passes() return self.traffic:passed("moondog", now) end
  if result.deaf and not pcall(run.wait_until, passes, M.ALLOWANCE_SECONDS, "an answer") then
    table.insert(wrong, "it is deaf again")
  end
end

-- ---- rows ----

-- A stage for the subjects that are in the set `plays`.
function M.stage(plays)
  return setmetatable({ plays = plays, servers = {}, ports = {}, subjects = {}, wrong = {}, lost = {} }, Stage)
end

local function perform(case, plays, results)
  local stage = M.stage(plays)
  stage.case = case
  case.play(stage)
  assert(stage.fault_at, "the row does no damage")
  settle(stage)
  if case.after then
    case.after(stage)
  end
  for name, subject in pairs(stage.subjects) do
    results[name] = outcome(stage, name, subject)
  end
  judge(stage, results.moondog)
  if #stage.wrong > 0 then
    print(stage.dog.process:report())
  end
  results.moondog.wrong = stage.wrong
  stage.traffic:stop()
end

-- Which subjects play a case, and why the others do not.
local function cast(case, wanted)
  local plays, reasons = {}, {}
  for _, name in ipairs(subjects.names) do
    local there, why = subjects.available(name)
    local reason = name ~= "moondog" and (type(case.stock) == "table" and case.stock[name]
      or type(case.stock) == "string" and case.stock)
    if wanted and not wanted[name] then
      there, why = false, "not asked for"
    end
    reasons[name] = reason or not there and why or nil
    plays[name] = not reasons[name]
  end
  return plays, reasons
end

-- The ways in which a row is played: a list of { name (or nil), play, after, ... }.
function M.cases(row)
  local cases = row.cases or { {} }
  for _, case in ipairs(cases) do
    setmetatable(case, { __index = row })
  end
  return cases
end

local function describe(row, case)
  return { id = row.id, case = case.name, title = row.title, why = row.why, seen = row.seen,
    promise = row.promise, within = case.within, subjects = {}, wrong = {} }
end

-- The result of a case that was not played, or not to its end.
function M.unplayed(row, case, why)
  local result = describe(row, case)
  result.ok, result.seconds, result.wrong = false, 0, { why }
  return result
end

-- Plays one case. wanted: a set of subjects (nil: all). Returns { id, title, case, ok, wrong, why,
-- promise, subjects = { NAME = { word, deaf, lost, sent } or { absent = why } }, seconds }.
function M.play(row, case, wanted)
  local plays, reasons = cast(case, wanted)
  local results, began = {}, run.now()
  local skip = case.needs and case.needs()
  local result = describe(row, case)
  result.subjects = results
  if skip then
    result.skipped = skip
    return result
  end
  local ok, err = pcall(run.case(function() perform(case, plays, results) end,
    { deadline = case.deadline or 150 }))
  for name, reason in pairs(reasons) do
    results[name] = { absent = reason }
  end
  local dog = results.moondog
  result.wrong = dog and dog.wrong or {}
  if not ok then
    table.insert(result.wrong, 1, tostring(err):match("[^\n]*"))
  end
  result.ok = #result.wrong == 0
  result.seconds = run.now() - began
  return result
end

return M
