-- busted's output: one line a test with its time, and what went wrong right below it.
local counts = { success = 0, pending = 0, failure = 0, error = 0 }

local M = {}

function M.failed()
  return counts.success + counts.pending == 0 or counts.failure + counts.error > 0
end

local function make()
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()

  local function test_end(element, _, status)
    status = tostring(status)
    counts[status] = counts[status] + 1
    print(("%-7s %s (%.2f s)"):format(status, handler.getFullName(element), element.duration or 0))
    return nil, true
  end

  local function trouble(element, _, message)
    print("  " .. tostring(message):gsub("\n", "\n  "))
    if element.descriptor ~= "it" then -- the file itself, or a describe block
      counts.error = counts.error + 1
    end
    return nil, true
  end

  local function suite_end()
    print(("%d passed, %d failed, %d errors, %d skipped"):format(counts.success, counts.failure,
      counts.error, counts.pending))
    return nil, true
  end

  busted.subscribe({ "test", "end" }, test_end)
  busted.subscribe({ "failure" }, trouble)
  busted.subscribe({ "error" }, trouble)
  busted.subscribe({ "suite", "end" }, suite_end)
  return handler
end

-- busted calls the module to get its handler.
return setmetatable(M, { __call = make })
