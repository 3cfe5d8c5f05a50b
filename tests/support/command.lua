-- Programs that do their work and end, for tests of what is built and installed.
local process = require "support.process"

local M = {}

-- Runs a program, which has to succeed within so many seconds (60), and returns what it prints on stdout. options:
-- those of process.start(), and deadline.
function M.run(file, args, options)
  options = options or {}
  local p = process.start { file = file, args = args, env = options.env, cwd = options.cwd }
  local code, signal = p:wait_exit(options.deadline or 60)
  if code ~= 0 or signal ~= 0 then
    error(("exit code %d signal %d\n%s"):format(code, signal, p:report()), 2)
  end
  return p:text("stdout"), p:text("stderr")
end

-- The same for a piece of shell; $1, $2, ... are the further arguments.
function M.shell(text, ...)
  return M.run("/bin/sh", { "-eu", "-c", text, "sh", ... })
end

return M
