-- The program under test: runs a script with it, reads its log, looks at it through /proc.
local cjson = require "cjson"
local uv = require "luv"
local process = require "support.process"
local run = require "support.run"

local M = {}
M.__index = M

local build = os.getenv("MOONDOG_BUILD") or "build"
local root = os.getenv("MOONDOG_ROOT") or "."
local scripts = 0

-- An absolute path: tests run programs in other folders.
local function absolute(path)
  return assert(uv.fs_realpath(path), "not there: " .. path)
end

M.root = absolute(root)
M.build = absolute(build)

function M.program()
  return absolute(build) .. "/moondog"
end

-- What the build was sanitized with, or nil. Memory and time are not comparable then.
function M.sanitized()
  local file = io.open(build .. "/CMakeCache.txt")
  if not file then
    return nil
  end
  local value = file:read("*a"):match("\nMOONDOG_SANITIZE:%w+=([^\n]+)")
  file:close()
  return value
end

-- What a program is compiled and linked with that is linked with moondog: a sanitizer wants all of it.
function M.compiler_flags()
  return M.sanitized() and "-fsanitize=" .. M.sanitized() or ""
end

-- What a sanitizer or an assertion says before the program dies.
local BREAKAGES = { "ERROR: %w+Sanitizer", "WARNING: ThreadSanitizer", ": runtime error: ",
  "Assertion.*failed" }
local EXPECTED_SIGNALS = { [0] = true, [2] = true, [9] = true, [15] = true }

local function crash_report(self)
  local exit = self.process.exit
  local broken = not EXPECTED_SIGNALS[exit.signal] and "signal " .. exit.signal
  for _, line in ipairs(self.process.lines) do
    for _, pattern in ipairs(BREAKAGES) do
      if line.stream == "stderr" and line.text:find(pattern) then
        broken = broken or line.text
      end
    end
  end
  if broken then
    error(("moondog broke: %s\n%s"):format(broken, self.process:report()), 0)
  end
end

-- Ends it as an operator would: SIGTERM, and once more when it drains for long. One that hangs for
-- good, as a test wanted it to, is killed: options.rude.
local function finish(self)
  local p = self.process
  if not p.exit and self.rude then
    uv.kill(p.pid, "sigkill")
    run.wait_until(function() return p.exit end, 5, "the end of moondog after SIGKILL")
  elseif not p.exit then
    uv.kill(p.pid, "sigcont")
    for _ = 1, 2 do
      if not p.exit then
        uv.kill(p.pid, "sigterm")
        pcall(run.wait_until, function() return p.exit end, 1.5, "an end")
      end
    end
    if not p.exit then
      uv.kill(p.pid, "sigkill")
      run.wait_until(function() return p.exit end, 5, "the end of moondog after SIGKILL")
      error("moondog did not end after two SIGTERMs\n" .. p:report(), 0)
    end
  end
  crash_report(self)
end

-- Starts the program with these arguments. options: under (a command before the program's, as a list),
-- env, cwd, input, rude (it will hang: it is
-- killed at the test's end, and need not end by itself).
function M.start(args, options)
  options = options or {}
  local self = setmetatable({ logs = {}, rude = options.rude }, M)
  local env = { NATS_URL = false, NO_COLOR = false, XDG_RUNTIME_DIR = run.folder() }
  for key, value in pairs(options.env or {}) do
    env[key] = value
  end
  local command = { unpack(options.under or {}) }
  for _, word in ipairs { M.program(), unpack(args) } do
    command[#command + 1] = word
  end
  self.process = process.start { name = "moondog", file = command[1], args = { unpack(command, 2) }, env = env,
    cwd = options.cwd or run.folder(), input = options.input,
    on_line = function(line)
      if line:sub(1, 1) == "{" then
        local ok, entry = pcall(cjson.decode, line)
        if ok then
          entry.at = run.now()
          table.insert(self.logs, entry)
        end
      end
    end }
  self.pid = self.process.pid
  run.defer(function() finish(self) end)
  return self
end

-- Writes a script into the test's folder and returns its path.
function M.script(text, name)
  scripts = scripts + 1
  return run.file(name or ("script%d.lua"):format(scripts), text)
end

-- Runs a script's text with JSON logs. `values` fills $NAME in it: numbers and strings are
-- written as Lua literals. options: args (more of them), and those of start().
function M.run(text, values, options)
  options = options or {}
  local path = M.script(M.fill(text, values))
  local args = { "run", path, "--log", "json" }
  for _, arg in ipairs(options.args or {}) do
    args[#args + 1] = arg
  end
  local self = M.start(args, options)
  self.script_path = path
  return self
end

-- Replaces the script of M.run().
function M:rewrite(text, values)
  run.file(self.script_path:match("[^/]+$"), M.fill(text, values))
end

-- Asks for a reload and waits for what comes of it: the log entry of "script reloaded" or of
-- "reload failed". `text` (nil: as it is) replaces the script before.
function M:reload(text, values)
  if text then
    self:rewrite(text, values)
  end
  local function over(entry)
    return entry.msg == "script reloaded" or entry.msg == "reload failed"
  end
  local before = #self:find_logs(over)
  self:signal("sighup")
  return self:wait_log(over, 20, before + 1)
end

function M.fill(text, values)
  return (text:gsub("%$([%u_]+)", function(name)
    local value = (values or {})[name]
    assert(value ~= nil, "no value for $" .. name)
    return type(value) == "string" and ("%q"):format(value) or tostring(value)
  end))
end

-- wanted: a Lua pattern for msg, or a function of the entry.
local function takes(wanted, entry)
  if type(wanted) == "function" then
    return wanted(entry)
  end
  return type(entry.msg) == "string" and entry.msg:find(wanted) ~= nil
end

function M:find_logs(wanted)
  local found = {}
  for index, entry in ipairs(self.logs) do
    if takes(wanted, entry) then
      entry.index = index
      found[#found + 1] = entry
    end
  end
  return found
end

-- Waits for the `nth` (1) log entry of that kind and returns it; entry.at is when it came.
function M:wait_log(wanted, deadline, nth)
  nth = nth or 1
  return run.wait_until(function()
    local found = self:find_logs(wanted)
    if found[nth] then
      return found[nth]
    end
    if self.process.exit then
      error("moondog ended early\n" .. self.process:report(), 0)
    end
  end, deadline or 10, function()
    return ("%d log entries %s, there are %d"):format(nth,
      type(wanted) == "string" and ("%q"):format(wanted) or "wanted", #self:find_logs(wanted))
  end)
end

function M:signal(name)
  self.process:signal(name)
end

-- Waits for the end and compares the exit code.
function M:wait_exit(code, deadline)
  local got, signal = self.process:wait_exit(deadline)
  if got ~= code or signal ~= 0 then
    error(("exit code %d signal %d, expected %d\n%s"):format(got, signal, code,
      self.process:report()), 2)
  end
end

function M:running()
  return self.process.exit == nil
end

for _, name in ipairs { "rss", "threads", "fds", "cpu", "text", "report" } do
  M[name] = function(self, ...)
    return self.process[name](self.process, ...)
  end
end

return M
