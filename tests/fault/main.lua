-- Runs the fault suite and prints its table: see scripts/faults. Environment: MOONDOG_ROOT,
-- MOONDOG_BUILD. Exit code 0 when moondog kept each promise.
local root = assert(os.getenv("MOONDOG_ROOT"), "run it with scripts/faults")
package.path = root .. "/tests/?.lua;" .. package.path

local interrupted = false

-- What a case that failed has to tell goes to standard error: the table stays a table. One that was
-- interrupted has nothing to tell.
print = function(...) -- luacheck: ignore 121
  if interrupted then
    return
  end
  local words = {}
  for i = 1, select("#", ...) do
    words[i] = tostring((select(i, ...)))
  end
  io.stderr:write(table.concat(words, "\t"), "\n")
end

local cjson = require "cjson"
local fault = require "support.fault"
local random = require "fault.random"
local rows = require "fault.rows"
local schedule = require "fault.schedule"
local table_text = require "support.fault_table"
local run = require "support.run"
local uv = require "luv"

io.stdout:setvbuf("line")

local MINUTES = 5
local flags, numbers, wanted = {}, {}, {}
do
  local i = 1
  while arg[i] do
    local option = arg[i]:match("^%-%-(%a+)$")
    if option == "seed" or option == "minutes" then
      numbers[option] = assert(tonumber(arg[i + 1]), arg[i] .. " needs a number")
      i = i + 1
    elseif option then
      flags[option] = true
    else
      wanted[#wanted + 1] = arg[i]
    end
    i = i + 1
  end
end

local function usage_error(text)
  io.stderr:write("faults: " .. text .. "\n")
  os.exit(2)
end

-- An interruption ends what is played, so that what it started is stopped. The end of a case closes these handles, too.
local function hear_interruptions()
  for _, name in ipairs { "sigint", "sigterm" } do
    uv.new_signal():start(name, run.callback(function()
      interrupted = true
      error("interrupted", 0)
    end))
  end
end

local function play_at_random()
  local seed = math.floor(numbers.seed or uv.hrtime() % 2 ^ 31)
  local minutes = numbers.minutes or MINUTES
  if minutes == 0 then
    usage_error("--minutes needs more than 0")
  elseif flags.list then
    io.write(schedule.text(schedule.make(seed, minutes)))
    os.exit(0)
  end
  hear_interruptions()
  local kept = random.play(seed, minutes, function(text)
    if not interrupted then
      io.write(text)
    end
  end)
  os.exit(interrupted and 130 or kept and 0 or 1)
end

if flags.random then
  if #wanted > 0 or flags.json then
    usage_error("--random plays no rows, and has no --json")
  end
  play_at_random()
elseif next(numbers) then
  usage_error("--seed and --minutes are those of --random")
end

local chosen, unknown = rows.choose(wanted)
if not chosen then
  usage_error(("there is no row \"%s\"; see scripts/faults --list"):format(unknown))
end

if flags.list then
  for _, row in ipairs(chosen) do
    io.write(table_text.listed(row))
  end
  os.exit(0)
end

local function say(text)
  if not flags.json then
    io.write(text)
  end
end

local began = run.now()
local results, failed = {}, 0
say(table_text.head())
for _, row in ipairs(chosen) do
  for _, case in ipairs(fault.cases(row)) do
    hear_interruptions()
    local result = fault.play(row, case)
    if interrupted then
      os.exit(130)
    end
    results[#results + 1] = result
    failed = failed + ((result.ok or result.skipped) and 0 or 1)
    say(table_text.line(result))
  end
end
say(table_text.foot(results, run.now() - began))

-- An empty list would be an object in JSON.
for _, result in ipairs(results) do
  if result.ok then
    result.wrong, result.subjects.moondog.wrong = nil, nil
  end
end

local function write(name, text)
  local file = assert(io.open(assert(os.getenv("MOONDOG_BUILD")) .. "/" .. name, "w"))
  file:write(text)
  file:close()
end

local seconds = run.now() - began
local report = cjson.encode { results = results, seconds = seconds, failed = failed,
  allowance = fault.ALLOWANCE_SECONDS } .. "\n"
if #wanted == 0 then -- single rows leave the results of the last whole run as they are
  write("faults.json", report)
  write("faults.md", table_text.page(results, seconds))
end
if flags.json then
  io.write(report)
end
os.exit(failed == 0 and 0 or 1)
