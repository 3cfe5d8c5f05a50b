-- What the programs of the fault suite have in common (tests/fault/main.lua, tests/fault/random_main.lua): an
-- interruption ends what is played, and what a case that failed has to tell does not get between the results.
local run = require "support.run"
local uv = require "luv"

local M = { interrupted = false }

-- Such a tale goes to standard error. One that was interrupted has nothing to tell.
print = function(...) -- luacheck: ignore 121
  if M.interrupted then
    return
  end
  local words = {}
  for i = 1, select("#", ...) do
    words[i] = tostring((select(i, ...)))
  end
  io.stderr:write(table.concat(words, "\t"), "\n")
end

-- From now on an interruption ends the case that is played, so that what it started is stopped. The end of a case
-- closes these handles, too.
function M.hear_interruptions()
  for _, name in ipairs { "sigint", "sigterm" } do
    uv.new_signal():start(name, run.callback(function()
      M.interrupted = true
      error("interrupted", 0)
    end))
  end
end

function M.usage_error(text)
  io.stderr:write("faults: " .. text .. "\n")
  os.exit(2)
end

return M
