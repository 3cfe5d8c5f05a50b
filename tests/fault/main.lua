-- Runs the fault suite and prints its table: see scripts/faults. Environment: MOONDOG_ROOT,
-- MOONDOG_BUILD. Exit code 0 when moondog kept each promise.
local root = assert(os.getenv("MOONDOG_ROOT"), "run it with scripts/faults")
package.path = root .. "/tests/?.lua;" .. package.path

local cjson = require "cjson"
local fault = require "support.fault"
local program = require "support.fault_program"
local rows = require "fault.rows"
local table_text = require "support.fault_table"
local run = require "support.run"
local workers = require "support.fault_workers"

io.stdout:setvbuf("line")

local as_json, as_list, as_page, as_worker, jobs, wanted = false, false, false, false, 3, {}
for _, word in ipairs(arg) do
  if word == "--json" then
    as_json = true
  elseif word == "--list" then
    as_list = true
  elseif word == "--page" then
    as_page = true
  elseif word == "--worker" then -- one of those that play several at a time
    as_worker = true
  elseif word:find("^%-%-jobs=") then
    jobs = tonumber(word:match("=(.*)"))
  else
    wanted[#wanted + 1] = word
  end
end

local chosen, unknown = rows.choose(wanted)
if not chosen then
  program.usage_error(("there is no row \"%s\"; see scripts/faults --list"):format(unknown))
end

if as_list then
  for _, row in ipairs(chosen) do
    io.write(table_text.listed(row))
  end
  os.exit(0)
end

local function say(text)
  if not as_json then
    io.write(text)
  end
end

local plays = {} -- { row, case }, in the order of the table
for _, row in ipairs(chosen) do
  for _, case in ipairs(fault.cases(row)) do
    plays[#plays + 1] = { row = row, case = case }
  end
end

if as_worker then
  workers.work(function(index)
    program.hear_interruptions()
    local result = fault.play(plays[index].row, plays[index].case)
    if program.interrupted then
      os.exit(130)
    end
    return result
  end)
  os.exit(0)
end

local began = run.now()
local results, shown, failed = {}, 0, 0

-- Lines come in the table's order, each as soon as those before it are there.
local function take(index, result)
  results[index] = result
  while results[shown + 1] do
    shown = shown + 1
    failed = failed + ((results[shown].ok or results[shown].skipped) and 0 or 1)
    say(table_text.line(results[shown]))
  end
end

say(table_text.head())
local whole, err = pcall(run.case(function()
  program.hear_interruptions()
  workers.play(#plays, jobs, { "luajit", arg[0], "--worker", unpack(wanted) }, take)
end, { deadline = workers.DEADLINE }))
if program.interrupted then
  os.exit(130)
end
for index, play in ipairs(plays) do
  if not results[index] then
    take(index, fault.unplayed(play.row, play.case, whole and "the process that played it has ended" or tostring(err)))
  end
end
say(table_text.foot(results, run.now() - began))

-- An empty list would be an object in JSON.
for _, result in ipairs(results) do
  if result.ok then
    result.wrong, result.subjects.moondog.wrong = nil, nil
  end
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

local seconds = run.now() - began
local report = cjson.encode { results = results, seconds = seconds, failed = failed,
  allowance = fault.ALLOWANCE_SECONDS } .. "\n"
if #wanted == 0 then -- single rows leave the results of the last whole run as they are
  local build = assert(os.getenv("MOONDOG_BUILD"))
  write(build .. "/faults.json", report)
  write(build .. "/faults.md", table_text.page(results, seconds))
  if as_page then
    write(root .. "/tests/fault/faults.md", table_text.page(results, seconds))
  end
end
if as_json then
  io.write(report)
end
os.exit(failed == 0 and 0 or 1)
