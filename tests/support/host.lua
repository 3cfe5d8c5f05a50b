-- A program that embeds moondog and is told what to do (tests/support/host_program.c).
local cjson = require "cjson"
local moondog = require "support.moondog"
local process = require "support.process"
local run = require "support.run"
local uv = require "luv"

local M = {}
M.__index = M

local program = assert(uv.fs_realpath(os.getenv("MOONDOG_BUILD") or "build")) .. "/tests/host_program"
local BREAKAGES = { "ERROR: %w+Sanitizer", "WARNING: ThreadSanitizer", ": runtime error: ", "Assertion.*failed" }

local function split(line)
  local fields = {}
  for field in (line .. "\t"):gmatch("(.-)\t") do fields[#fields + 1] = field end
  return fields
end

-- It has to end by itself, whole, when its input ends.
local function finish(self)
  local p = self.process
  if not p.exit then
    uv.kill(p.pid, "sigcont")
    p:end_input()
  end
  local code, signal = p:wait_exit(20)
  local broken = (code ~= 0 or signal ~= 0) and ("exit %d signal %d"):format(code, signal)
  for _, line in ipairs(p.lines) do
    for _, pattern in ipairs(BREAKAGES) do
      broken = broken or line.text:find(pattern) and line.text
    end
  end
  if broken then error(("the host broke: %s\n%s"):format(broken, p:report()), 0) end
end

-- script: a text to load, with `values` in it (see moondog.fill()); nil: none yet. argument: "poll", or where
-- health and metrics are served.
function M.start(script, values, argument)
  local self = setmetatable({ events = {}, answers = {}, logs = {} }, M)
  self.process = process.start { name = "host", file = program, input = true, args = { argument },
    env = { NATS_URL = false },
    on_line = function(line, stream)
      if stream == "stdout" then
        local fields = split(line)
        local list = (fields[1] == "ok" or fields[1] == "no") and self.answers or self.events
        list[#list + 1] = fields
      elseif line:sub(1, 1) == "{" then
        local ok, entry = pcall(cjson.decode, line)
        if ok then self.logs[#self.logs + 1] = entry end
      end
    end }
  self.asked = 0
  run.defer(function() finish(self) end)
  if script then
    self.path = moondog.script(moondog.fill(script, values))
    self:tell("load", self.path)
  end
  return self
end

-- Does it, and returns "ok", or nil, the code and the message.
function M:ask(...)
  self.process:write(table.concat({ ... }, "\t") .. "\n")
  self.asked = self.asked + 1
  local mine = self.asked
  local answer = run.wait_until(function()
    assert(self.answers[mine] or not self.process.exit, "the host ended early")
    return self.answers[mine]
  end, 20, "an answer of the host")
  if answer[1] == "ok" then return "ok" end
  return nil, answer[2], answer[3]
end

-- The same, and it has to work.
function M:tell(...)
  local ok, code, message = self:ask(...)
  if not ok then error(("the host cannot %s: %s: %s"):format((...), code, message), 2) end
end

-- The events of this kind, and with these first fields.
function M:find(kind, ...)
  local found, wanted = {}, { kind, ... }
  for _, event in ipairs(self.events) do
    local same = true
    for i, text in ipairs(wanted) do same = same and event[i] == text end
    if same then found[#found + 1] = event end
  end
  return found
end

-- Waits for the `nth` event of that kind, with those first fields.
function M:wait(nth, ...)
  local wanted = { ... }
  return run.wait_until(function()
    return self:find(unpack(wanted))[nth]
  end, 10, function()
    return ("%d of %s, there are %d"):format(nth, table.concat(wanted, " "), #self:find(unpack(wanted)))
  end)
end

function M:wait_log(pattern, nth)
  return run.wait_until(function()
    local count = 0
    for _, entry in ipairs(self.logs) do
      count = count + (entry.msg:find(pattern) and 1 or 0)
      if count == (nth or 1) then return entry end
    end
  end, 10, ("%d log entries %q"):format(nth or 1, pattern))
end

-- Puts another text to work, or the same; returns the number of its generation.
function M:reload(script, values)
  if script then run.file(self.path:match("[^/]+$"), moondog.fill(script, values)) end
  local before = #self:find("reloaded")
  self:tell("reload")
  return tonumber(self:wait(before + 1, "reloaded")[2])
end

function M:status()
  local before = #self:find("status")
  self:tell("status")
  return cjson.decode(self:wait(before + 1, "status")[2])
end

-- What a listener that counts has had: handled, and of 1 to `last` missing, twice, and how many came after a
-- greater one.
function M:numbers(id, last)
  local before = #self:find("numbers")
  self:tell("numbers", id, tostring(last))
  local _, handled, missing, twice, disordered = unpack(self:wait(before + 1, "numbers"))
  return { handled = tonumber(handled), missing = tonumber(missing), twice = tonumber(twice),
    disordered = tonumber(disordered) }
end

return M
