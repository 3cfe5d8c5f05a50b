-- tests/support/terminal_probe.c in a terminal: what the specs of src/cli/terminal.h start, and what
-- they find out about it. All its files are in the test's folder.
local uv = require "luv"
local run = require "support.run"
local terminal = require "support.terminal"

local M = {}

M.file = assert(uv.fs_realpath(os.getenv("MOONDOG_BUILD") or "build")) .. "/tests/terminal_probe"

function M.history_path()
  return run.folder() .. "/state/moondog/history"
end

function M.log_path()
  return run.folder() .. "/log"
end

function M.read_file(path)
  local file = io.open(path, "rb")
  local text = file and file:read("*a") or ""
  if file then
    file:close()
  end
  return text
end

local function fifo()
  return run.folder() .. "/fifo"
end

-- Starts it in a terminal and waits for its prompt. options: columns, rows, env, history (path).
function M.start(options)
  options = options or {}
  if not uv.fs_stat(fifo()) then
    assert(os.execute("mkfifo '" .. fifo() .. "'") == 0)
  end
  local t = terminal.start { file = M.file, columns = options.columns, rows = options.rows,
    env = options.env, args = { "--fifo", fifo(), "--log", M.log_path(),
      "--history", options.history or M.history_path() } }
  t:wait_screen("probe>")
  return t
end

-- Something arrives while it reads a line.
function M.arrive(text)
  local file = assert(io.open(fifo(), "w"))
  file:write(text)
  file:close()
end

-- The lines that it got, byte by byte.
function M.lines()
  return M.read_file(M.log_path())
end

function M.wait_lines(text, deadline)
  run.wait_until(function() return M.lines() == text end, deadline or 10, function()
    return ("the lines %q, there are %q"):format(text:sub(1, 400), M.lines():sub(1, 400))
  end)
end

return M
