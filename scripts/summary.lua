-- Reads the log that ctest leaves, and counts the cases inside the programs that it ran.
-- usage: luajit summary.lua LastTest.log EXIT_CODE_OF_CTEST
-- Prints the figures that tests measured, the number of skipped cases when there are any, and last
-- "PASSED FAILED".

local function read(path)
  local file = io.open(path, "rb")
  if not file then
    return ""
  end
  local text = file:read("*a")
  file:close()
  return text
end

-- cmocka: one summary a group; its lines may be the end of a line that the test itself began.
local function cmocka(output)
  local passed, failed, found = 0, 0, false
  for count in output:gmatch("%[  PASSED  %] (%d+) test") do
    passed, found = passed + count, true
  end
  for count in output:gmatch("%[  FAILED  %] [^\n]-(%d+) test%(s%), listed below") do
    failed, found = failed + count, true
  end
  return found, passed, failed, 0
end

-- busted: one summary at the end; the last one counts, tests of the reporter may print others.
local function busted(output)
  local passed, failed, errors, skipped
  for a, b, c, d in output:gmatch("(%d+) passed, (%d+) failed, (%d+) errors, (%d+) skipped") do
    passed, failed, errors, skipped = a, b, c, d
  end
  if not passed then
    return false, 0, 0, 0
  end
  return true, tonumber(passed), failed + errors, tonumber(skipped)
end

local function count(output, ok)
  local found, passed, failed, skipped = cmocka(output)
  if not found then
    found, passed, failed, skipped = busted(output)
  end
  if not found then
    passed = ok and 1 or 0
  end
  if not ok and failed == 0 then -- it crashed, hung, or failed outside its cases
    failed = 1
  end
  return passed, failed, skipped
end

local total_passed, total_failed, total_skipped = 0, 0, 0
local figures = {}

-- A block begins with "3/14 Testing: unit/log" and ends with "Test Passed." or "Test Failed."
local text = read(arg[1]) .. "\n1/1 Testing: \n"
local from = text:find("%d+/%d+ Testing: [^\n]*\n")
while from do
  local next_from = text:find("\n%d+/%d+ Testing: [^\n]*\n", from + 1)
  if not next_from then
    break
  end
  local block = text:sub(from, next_from)
  local name = block:match("^%d+/%d+ Testing: ([^\n]*)")
  local output, verdict = block:match("^(.*)\n<end of output>\n(.*)$")
  if not output then -- it could not even be started
    output, verdict = "", block
  end
  local passed, failed, skipped = count(output, verdict:find("Test Passed%.") ~= nil)
  total_passed, total_failed = total_passed + passed, total_failed + failed
  total_skipped = total_skipped + skipped
  for figure in output:gmatch("figure  ([^\n]*)") do
    figures[#figures + 1] = ("figure  %s: %s"):format(name, figure)
  end
  from = next_from + 1
end

if tonumber(arg[2]) ~= 0 and total_failed == 0 then -- no test, or ctest itself failed
  total_failed = 1
end
table.sort(figures)
for _, figure in ipairs(figures) do
  print(figure)
end
if total_skipped > 0 then
  print(("%d skipped"):format(total_skipped))
end
print(("%d %d"):format(total_passed, total_failed))
