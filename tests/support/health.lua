-- moondog with its health over HTTP, seen from outside: pages, metrics, a sampler of /readyz, and a
-- canary that knows whether messages really come through.
local cjson = require "cjson"
local http = require "support.http"
local moondog = require "support.moondog"
local network = require "support.network"
local run = require "support.run"

local M = {}

local SAMPLE_SECONDS = 0.05
-- A sample, or a beat of the canary, may be late by this much on a loaded machine.
local LATE_SECONDS = 0.35
-- A link that is up for longer than some beats of the canary lets it pass.
local BLIP_SECONDS = 0.2
-- Pauses of the canary that are shorter are the machine's, not the connection's.
local GAP_SECONDS = 0.7

-- Runs a script like moondog.run(), with its health at dog.http, and waits until it is served.
-- options.http: another address.
function M.run(text, values, options)
  local given = options or {}
  local merged = {}
  for key, value in pairs(given) do
    merged[key] = value
  end
  local port = network.free_port()
  merged.args = { "--http", given.http or (network.host .. ":" .. port), unpack(given.args or {}) }
  local dog = moondog.run(text, values, merged)
  dog.http = port
  dog:wait_log("^health is served$")
  return dog
end

-- ---- pages ----

-- Status and body, decoded where it is JSON.
function M.get(where, page, deadline)
  local answer, err = http.request(type(where) == "table" and where.http or where, page,
    { deadline = deadline })
  assert(answer, ("GET %s: %s"):format(page, tostring(err)))
  if answer.headers["content-type"] == "application/json" then
    return answer.status, cjson.decode(answer.body)
  end
  return answer.status, answer.body
end

-- Waits until a page answers with this status, and returns its body.
function M.wait_status(dog, page, status, deadline)
  local got, body
  return run.wait_until(function()
    got, body = M.get(dog, page)
    return got == status and body
  end, deadline or 10, function()
    return ("%d from %s; the last answer was %s %s"):format(status, page, tostring(got),
      type(body) == "table" and cjson.encode(body) or tostring(body))
  end)
end

-- The reason of a /readyz body that is about this connection, or nil.
function M.reason_of(body, connection)
  for _, reason in ipairs(body.reasons or {}) do
    if reason.connection == connection then
      return reason
    end
  end
end

-- ---- metrics ----

local ESCAPES = { n = "\n", ['"'] = '"', ["\\"] = "\\" }

local function parse_labels(text)
  local labels, at = {}, 1
  while at <= #text do
    local name, from = text:match('^,?([%a_][%w_]*)="()', at)
    assert(name, "labels: " .. text)
    local value = {}
    at = from
    while text:sub(at, at) ~= '"' do
      local c = text:sub(at, at)
      assert(c ~= "", "labels that do not end: " .. text)
      if c == "\\" then
        at = at + 1
        c = assert(ESCAPES[text:sub(at, at)], "a bad escape: " .. text)
      end
      value[#value + 1] = c
      at = at + 1
    end
    labels[name] = table.concat(value)
    at = at + 1
  end
  return labels
end

-- A list of { name, labels, value }, and types by family.
function M.parse_metrics(text)
  local samples, types = {}, {}
  for line in text:gmatch("([^\n]*)\n") do
    local family, kind = line:match("^# TYPE (%S+) (%S+)$")
    if family then
      assert(not types[family], "a second family " .. family)
      types[family] = kind
    elseif line:sub(1, 1) ~= "#" then
      local name, labels, value = line:match("^([%a_:][%w_:]*)(%b{}) (%S+)$")
      if not name then -- a brace inside of a value
        name, labels, value = line:match("^([%a_:][%w_:]*)(%{.*%}) (%S+)$")
      end
      if not name then
        name, value = line:match("^([%a_:][%w_:]*) (%S+)$")
      end
      assert(name, "not a sample: " .. line)
      samples[#samples + 1] = { name = name, labels = labels and parse_labels(labels:sub(2, -2))
        or {}, value = tonumber((value:gsub("^%+Inf$", "inf"))) }
    end
  end
  return samples, types
end

local function has_labels(sample, labels)
  for name, value in pairs(labels or {}) do
    if sample.labels[name] ~= value then
      return false
    end
  end
  return true
end

-- The sum of the samples of that name with these labels, nil when there are none.
function M.sum(samples, name, labels)
  local sum
  for _, sample in ipairs(samples) do
    if sample.name == name and has_labels(sample, labels) then
      sum = (sum or 0) + sample.value
    end
  end
  return sum
end

function M.metrics(dog)
  local status, text = M.get(dog, "/metrics")
  assert(status == 200, "/metrics: " .. status)
  return M.parse_metrics(text)
end

function M.metric(dog, name, labels)
  return M.sum(M.metrics(dog), name, labels)
end

-- Waits until a metric has this value, or until a function of it is true; returns it.
function M.wait_metric(dog, name, labels, wanted, deadline)
  local value
  return run.wait_until(function()
    value = M.metric(dog, name, labels)
    if type(wanted) == "function" then
      return value and wanted(value) and value
    end
    return value == wanted and value
  end, deadline or 5, function()
    return ("%s%s as wanted (%s); it is %s"):format(name, cjson.encode(labels or {}),
      tostring(wanted), tostring(value))
  end)
end

-- ---- the sampler ----

local Sampler = {}
Sampler.__index = Sampler

-- Asks for a page again and again: samples of { asked, at, status, body }. What it says was true
-- at some moment from `asked` to `at`. status nil: there was no answer.
function M.sample(dog, page)
  local self = setmetatable({ samples = {}, page = page or "/readyz" }, Sampler)
  run.spawn(function()
    while not self.stopped do
      local asked = run.now()
      local answer, err = http.request(dog.http, self.page)
      table.insert(self.samples, { asked = asked, at = run.now(), status = answer and answer.status,
        body = answer and cjson.decode(answer.body), error = err })
      run.pause(SAMPLE_SECONDS)
    end
  end)
  return self
end

function Sampler:stop()
  self.stopped = true
end

-- Those with this status that were asked for and answered between two points in time.
function Sampler:between(status, from, to)
  local found = {}
  for _, sample in ipairs(self.samples) do
    if sample.status == status and sample.asked > from and sample.at < to then
      found[#found + 1] = sample
    end
  end
  return found
end

-- ---- the canary ----

local Canary = {}
Canary.__index = Canary

-- A subscription that a script needs for the canary.
M.CANARY = [[
c:subscribe("canary", function(msg) msg:respond(msg.data) end)
]]

local function open(self)
  local ok, client = pcall(self.connect)
  if not ok then
    return nil
  end
  client:subscribe(client.inbox .. ".canary", function(msg)
    if msg.status ~= "503" then -- there was somebody
      table.insert(self.answers, msg.at)
    end
  end)
  return client
end

-- Sends a request to the script's subscription all the time, and notes when an answer came.
-- connect: makes a witness; called again when its link ends.
function M.canary(connect)
  local self = setmetatable({ answers = {}, connect = connect }, Canary)
  run.spawn(function()
    local client
    while not self.stopped do
      if not client or client.closed then
        client = open(self)
      end
      if client and not client.closed then
        client:publish("canary", "", { reply = client.inbox .. ".canary" })
      end
      run.pause(SAMPLE_SECONDS)
    end
    if client then
      client:close()
    end
  end)
  return self
end

function Canary:stop()
  self.stopped = true
end

-- Waits until it passes after this time; returns when that was.
function Canary:wait_pass(after, deadline)
  return run.wait_until(function()
    local last = self.answers[#self.answers]
    return last and last > after and last
  end, deadline or 10, "an answer to the canary")
end

-- Waits until no answer has come for so long; returns when the last one came.
function Canary:wait_silence(seconds, deadline)
  return run.wait_until(function()
    local last = self.answers[#self.answers] or 0
    return run.now() - last >= seconds and last
  end, deadline or 10, "a silence of the canary")
end

-- The times after `from` in which no answer came: a list of { from, to }.
function Canary:gaps(from)
  local gaps, before = {}, from
  for _, at in ipairs(self.answers) do
    if at > from then
      if at - before > GAP_SECONDS then
        gaps[#gaps + 1] = { from = before, to = at }
      end
      before = at
    end
  end
  return gaps
end

-- ---- what must hold ----

local function show(samples)
  local out, before = {}, nil
  for _, sample in ipairs(samples) do
    if sample.status ~= before then
      out[#out + 1] = ("%.3f: %s %s"):format(sample.at % 1000, tostring(sample.status),
        sample.body and cjson.encode(sample.body) or tostring(sample.error))
      before = sample.status
    end
  end
  return table.concat(out, "\n")
end

local function first(samples, wanted)
  for _, sample in ipairs(samples) do
    if wanted(sample) then
      return sample
    end
  end
end

-- /readyz tells the truth about one outage. options: sampler, canary, from (when the fault began),
-- detected (seconds in which a 503 has to come; 10), gap (that the canary had; nil: it had exactly
-- one), blips (links may come up in between, and end before the canary has passed). Returns the
-- last 503's without another answer between them, and how long it took until the first one, and
-- back to 200.
function M.assert_truth(options)
  local samples, bound = options.sampler.samples, options.detected or 10
  local gaps = options.canary:gaps(options.from)
  local gap = options.gap
  if not gap then
    assert(#gaps == 1, ("the canary had %d outages, one was expected\n%s"):format(#gaps,
      show(samples)))
    gap = gaps[1]
  end
  local function fail(format, ...)
    error(format:format(...) .. (" (deaf from %.3f to %.3f)\n"):format(gap.from % 1000,
      gap.to % 1000) .. show(samples), 3)
  end
  local refusal = first(samples, function(s) return s.status == 503 and s.at > gap.from end)
  if not refusal or refusal.asked > gap.from + bound + LATE_SECONDS then
    fail("no 503 within %g s of deafness", bound)
  end
  local ready_since, last_ready
  for _, s in ipairs(samples) do
    local certainly_deaf = s.asked > refusal.at and s.at < gap.to - LATE_SECONDS
    if s.status == nil then
      fail("no answer from /readyz: %s", tostring(s.error))
    elseif s.status == 503 then
      ready_since = nil
    elseif certainly_deaf then
      ready_since, last_ready = ready_since or s.at, s
      if not options.blips or s.asked - ready_since > BLIP_SECONDS then
        fail("ready at %.3f, and deaf", s.at % 1000)
      end
    end
  end
  local back = first(samples, function(s)
    return s.status == 200 and s.at > math.max(gap.to - LATE_SECONDS, refusal.at)
  end)
  if not back or back.asked > gap.to + 2 then
    fail("not ready within 2 s after messages came through again")
  end
  return options.sampler:between(503, last_ready and last_ready.at or gap.from, gap.to),
    refusal.at - gap.from, math.max(0, back.at - gap.to)
end

-- Each 503 says which connection, its state, why, for how long, and what comes next; the outage
-- grows with the time. class: of the error that at least the last one names.
function M.assert_told(refusals, connection, class)
  assert(#refusals > 0, "no 503")
  local age_before, at_before
  for _, sample in ipairs(refusals) do
    local body = sample.body
    local reason = M.reason_of(body, connection)
    local text = cjson.encode(body)
    assert(body.ready == false, text)
    assert(reason, "nothing about " .. connection .. ": " .. text)
    assert(type(reason.reason) == "string" and #reason.reason > 10, text)
    assert(type(reason.plan) == "string" and #reason.plan > 10, text)
    assert(({ idle = 1, dialing = 1, up = 1, reconnecting = 1, closed = 1 })[reason.state], text)
    assert(reason.outage >= 0, text)
    if age_before then -- it is the same outage, which has grown by the time between
      local grown = reason.outage - age_before
      assert(math.abs(grown - (sample.at - at_before)) < LATE_SECONDS,
        ("the outage grew by %.3f s in %.3f s"):format(grown, sample.at - at_before))
    end
    age_before, at_before = reason.outage, sample.at
  end
  if class then
    local last = M.reason_of(refusals[#refusals].body, connection)
    assert(last.error and last.error.class == class, "class " .. class .. " expected: "
      .. cjson.encode(last))
    assert(#last.error.message > 5, cjson.encode(last))
  end
end

-- Waits until it is ready and the canary passes, and looks at it from then on. connect: makes a
-- witness for the canary.
function M.watch(dog, connect)
  M.wait_status(dog, "/readyz", 200)
  local canary = M.canary(connect)
  canary:wait_pass(run.now())
  return { dog = dog, canary = canary, sampler = M.sample(dog), live = M.sample(dog, "/livez") }
end

-- The fault is over: waits until all is well again with what M.watch() gave, and checks what was
-- said meanwhile. options: from, detected, blips, as for M.assert_truth(); class, as for
-- M.assert_told(). Returns the 503's.
function M.check_outage(seen, options)
  seen.canary:wait_pass(run.now(), 15)
  M.wait_status(seen.dog, "/readyz", 200, 3)
  run.pause(0.3) -- samples after it
  seen.sampler:stop()
  seen.live:stop()
  local refusals, found, back = M.assert_truth { sampler = seen.sampler, canary = seen.canary,
    from = options.from, detected = options.detected, blips = options.blips }
  M.assert_told(refusals, "gateway", options.class)
  run.figure("from deafness to 503", found, "s")
  run.figure("from the canary's return to 200", back * 1000, "ms")
  for _, sample in ipairs(seen.live.samples) do
    assert(sample.status == 200, ("/livez said %s"):format(tostring(sample.status)))
  end
  return refusals
end

-- ---- stuck in C ----

-- For scripts: stuck() is one call into C that lasts longer than any test; stuck(seconds) one that
-- lasts for about so long. The work grows with the cube of the text's length; how fast this machine
-- is is measured at load, on a text for which it takes some milliseconds.
M.STUCK = [[
local function stuck_for(length)
  return (("a"):rep(length)):find("^.-.-.-b")
end
local length, took = 100, 0
repeat
  length = length * 2
  local begun = os.clock() -- other processes do not count
  stuck_for(length)
  took = os.clock() - begun
until took > 0.02
local function stuck(seconds)
  if not seconds then
    return (("a"):rep(100000)):find(".-.-.-.-.-.-c")
  end
  stuck_for(math.ceil(length * (seconds / took) ^ (1 / 3)))
end
]]

return M
