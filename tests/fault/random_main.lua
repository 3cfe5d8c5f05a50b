-- A random run of the fault suite: see scripts/faults --random. Environment: MOONDOG_ROOT, MOONDOG_BUILD. Exit code 0
-- when moondog kept each promise.
local root = assert(os.getenv("MOONDOG_ROOT"), "run it with scripts/faults")
package.path = root .. "/tests/?.lua;" .. package.path

local program = require "support.fault_program"
local random = require "fault.random"
local schedule = require "fault.schedule"
local uv = require "luv"

io.stdout:setvbuf("line")

local MINUTES = 5
local NUMBERS = { ["--seed"] = true, ["--minutes"] = true }

local numbers, as_list = {}, false
local i = 1
while arg[i] do
  if NUMBERS[arg[i]] then
    numbers[arg[i]] = tonumber(arg[i + 1]) or program.usage_error(arg[i] .. " needs a number")
    i = i + 1
  elseif arg[i] == "--list" then
    as_list = true
  else
    program.usage_error(("--random takes no \"%s\": it plays no rows"):format(arg[i]))
  end
  i = i + 1
end

local seed = math.floor(numbers["--seed"] or uv.hrtime() % 2 ^ 31)
local minutes = numbers["--minutes"] or MINUTES
if minutes <= 0 then
  program.usage_error("--minutes needs more than 0")
elseif as_list then
  io.write(schedule.text(schedule.make(seed, minutes)))
  os.exit(0)
end

program.hear_interruptions()
local kept = random.play(seed, minutes, function(text)
  if not program.interrupted then
    io.write(text)
  end
end)
os.exit(program.interrupted and 130 or kept and 0 or 1)
