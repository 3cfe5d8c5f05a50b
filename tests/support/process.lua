-- A child process: its output as lines, its end, signals, and what /proc says of it. It is
-- stopped at the test's end by its own pid, and dies with the test process (setpriv).
local uv = require "luv"
local run = require "support.run"

local M = {}
M.__index = M

local SETPRIV = "/usr/bin/setpriv"
local TERM_SECONDS = 4
local TICKS = 100 -- USER_HZ
local LINES_SHOWN = 120

-- Cuts a stream into lines and hands each over.
local function line_reader(pipe, take)
  local rest = ""
  pipe:read_start(run.callback(function(err, chunk)
    assert(not err, err)
    if not chunk then
      if rest ~= "" then
        take(rest)
      end
      if not pipe:is_closing() then
        pipe:close()
      end
      return
    end
    rest = rest .. chunk
    local from = 1
    while true do
      local stop = rest:find("\n", from, true)
      if not stop then
        break
      end
      take(rest:sub(from, stop - 1))
      from = stop + 1
    end
    rest = rest:sub(from)
  end))
end

local function environment(extra)
  local merged = uv.os_environ()
  for key, value in pairs(extra or {}) do
    merged[key] = value or nil
  end
  local list = {}
  for key, value in pairs(merged) do
    list[#list + 1] = key .. "=" .. value
  end
  return list
end

-- options: file, args, env (table; false removes), cwd, name (for reports), input (text for
-- stdin; true: it stays open for write()), on_line(line, stream), patience (seconds to end after
-- SIGTERM; then it is killed).
function M.start(options)
  local self = setmetatable({ lines = {}, name = options.name or options.file,
    patience = options.patience or TERM_SECONDS }, M)
  local file, args = options.file, { unpack(options.args or {}) }
  if uv.fs_stat(SETPRIV) then
    args = { "--pdeathsig", "KILL", file, unpack(args) }
    file = SETPRIV
  end
  local stdin = options.input and uv.new_pipe(false) or nil
  local stdout, stderr = uv.new_pipe(false), uv.new_pipe(false)
  self.started_at = run.now()
  local handle, pid = uv.spawn(file, {
    args = args,
    env = environment(options.env),
    cwd = options.cwd,
    stdio = { stdin, stdout, stderr },
  }, run.callback(function(code, signal)
    self.exit = { code = code, signal = signal, at = run.now() }
    self.handle:close()
  end))
  assert(handle, ("cannot start %s: %s"):format(file, tostring(pid)))
  self.handle, self.pid = handle, pid
  for name, pipe in pairs { stdout = stdout, stderr = stderr } do
    line_reader(pipe, function(line)
      self.lines[#self.lines + 1] = { stream = name, text = line, at = run.now() }
      if options.on_line then
        options.on_line(line, name)
      end
    end)
  end
  self.stdin = stdin
  if type(options.input) == "string" then
    self:write(options.input)
    self:end_input()
  end
  self.pipes = { stdout, stderr }
  run.defer(function() self:finish() end)
  run.on_failure(function() return self:report() end)
  return self
end

-- A process that ended takes nothing more, and that is no error: its end is.
function M:write(text)
  self.stdin:write(text)
end

function M:end_input()
  local stdin = self.stdin
  if not stdin:is_closing() then
    stdin:shutdown(function()
      if not stdin:is_closing() then
        stdin:close()
      end
    end)
  end
end

function M:report()
  local out = { ("---- %s, pid %d, %s"):format(self.name, self.pid, self.exit
    and ("exit %d signal %d"):format(self.exit.code, self.exit.signal) or "running") }
  for i = math.max(1, #self.lines - LINES_SHOWN), #self.lines do
    local line = self.lines[i]
    out[#out + 1] = ("%8.3f %s"):format(line.at - self.started_at, line.text)
  end
  return table.concat(out, "\n")
end

-- All lines of a stream ("stdout", "stderr"; nil: both) as one text.
function M:text(stream)
  local out = {}
  for _, line in ipairs(self.lines) do
    if not stream or line.stream == stream then
      out[#out + 1] = line.text
    end
  end
  return table.concat(out, "\n")
end

-- name: "sigterm", "sigkill", "sigstop", "sigcont", "sighup", ...
function M:signal(name)
  assert(not self.exit, self.name .. " is no longer running")
  assert(uv.kill(self.pid, name))
end

-- Also its output has ended.
function M:has_ended()
  return self.exit ~= nil and self.pipes[1]:is_closing() and self.pipes[2]:is_closing()
end

-- Waits for the end, also of the output; returns the exit code and the signal.
function M:wait_exit(deadline)
  run.wait_until(function() return self:has_ended() end, deadline or 10, "the end of " .. self.name)
  return self.exit.code, self.exit.signal
end

-- The first line that matches the Lua pattern.
function M:wait_line(pattern, deadline)
  return run.wait_until(function()
    for _, line in ipairs(self.lines) do
      if line.text:find(pattern) then
        return line.text
      end
    end
    assert(not self.exit, self.name .. " ended early")
  end, deadline or 10, ("a line of %s with %q"):format(self.name, pattern))
end

-- Stops it whatever it does; nothing happens when it has ended.
function M:finish()
  local function ended() return self.exit end
  if self.exit then
    return
  end
  uv.kill(self.pid, "sigcont")
  uv.kill(self.pid, self.rude and "sigkill" or "sigterm")
  if not pcall(run.wait_until, ended, self.patience, "an end") then
    uv.kill(self.pid, "sigkill")
    run.wait_until(ended, TERM_SECONDS, "the end of " .. self.name .. " after SIGKILL")
  end
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local function status_number(pid, field)
  return tonumber(read(("/proc/%d/status"):format(pid)):match(field .. ":%s*(%d+)"))
end

-- Resident memory in bytes.
function M:rss()
  return status_number(self.pid, "VmRSS") * 1024
end

function M:threads()
  return status_number(self.pid, "Threads")
end

function M:fds()
  local count = 0
  local entries = assert(uv.fs_scandir(("/proc/%d/fd"):format(self.pid)))
  while uv.fs_scandir_next(entries) do
    count = count + 1
  end
  return count
end

-- Seconds of CPU time used so far.
function M:cpu()
  local stat = read(("/proc/%d/stat"):format(self.pid)):match("%)%s(.*)$")
  local fields = {}
  for field in stat:gmatch("%S+") do
    fields[#fields + 1] = field
  end
  return (tonumber(fields[12]) + tonumber(fields[13])) / TICKS
end

return M
