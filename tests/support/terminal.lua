-- A program in a real terminal, which is tmux: types, pastes, resizes, and looks at the screen.
-- The tmux server is the test's own child, with a socket in the test's folder; it is stopped at
-- the test's end, and the program in it hears SIGHUP.
--
--   local t = terminal.start { file = "/bin/cat", columns = 40, rows = 10 }
--   t:type("hello\n")
--   t:wait_screen("hello")
local uv = require "luv"
local process = require "support.process"
local run = require "support.run"

local M = {}
M.__index = M

local COMMAND_SECONDS = 20
local PANE = "moondog:0.0"
local servers = 0

-- An executable in PATH.
local function find_program(name)
  for folder in (os.getenv("PATH") or "/usr/bin:/bin"):gmatch("[^:]+") do
    if uv.fs_access(folder .. "/" .. name, "X") then
      return folder .. "/" .. name
    end
  end
  error(name .. " is not installed: scripts/deps --test", 0)
end

-- Runs a tmux command and returns what it prints; nil and that when it fails.
local function try(self, ...)
  local pipes = { uv.new_pipe(false), uv.new_pipe(false) }
  local out, open, code = {}, #pipes, nil
  local handle
  handle = assert(uv.spawn(self.tmux, {
    args = { "-u", "-S", self.socket, ... },
    stdio = { nil, pipes[1], pipes[2] },
  }, function(status)
    code = status
    handle:close()
  end))
  for _, pipe in ipairs(pipes) do
    pipe:read_start(function(_, chunk)
      if chunk then
        out[#out + 1] = chunk
      else
        open = open - 1
        pipe:close()
      end
    end)
  end
  run.wait_until(function() return code and open == 0 end, COMMAND_SECONDS, "an answer of tmux")
  local text = table.concat(out)
  if code ~= 0 then
    return nil, text
  end
  return text
end

local function command(self, ...)
  local text, err = try(self, ...)
  return text or error(("tmux %s: %s"):format((...), err), 0)
end

local function start_server(self)
  servers = servers + 1
  self.socket = ("%s/tmux%d.sock"):format(run.folder(), servers)
  self.server = process.start { name = "tmux", file = self.tmux,
    args = { "-u", "-S", self.socket, "-f", "/dev/null", "-D" },
    env = { TMUX = false, TMUX_PANE = false, TMUX_TMPDIR = run.folder(), LC_ALL = "C.UTF-8" } }
  -- The socket is there before anybody listens at it.
  run.wait_until(function() return try(self, "show-options", "-g") end, COMMAND_SECONDS, "tmux")
  local settings = { status = "off", ["remain-on-exit"] = "on", ["remain-on-exit-format"] = "",
    ["escape-time"] = "0", ["history-limit"] = "50000", ["default-terminal"] = "tmux-256color" }
  for name, value in pairs(settings) do
    command(self, "set-option", "-g", name, value)
  end
end

-- The program is started by env, so that it sees exactly the variables that it should.
local function command_line(options)
  local folder = run.folder()
  local env = { TMUX = false, TMUX_PANE = false, TMPDIR = folder, XDG_RUNTIME_DIR = folder,
    XDG_STATE_HOME = folder .. "/state", HOME = folder }
  for key, value in pairs(options.env or {}) do
    env[key] = value
  end
  local line = { "env" }
  for key, value in pairs(env) do
    if not value then
      line[#line + 1] = "-u"
      line[#line + 1] = key
    end
  end
  for key, value in pairs(env) do
    if value then
      line[#line + 1] = key .. "=" .. value
    end
  end
  line[#line + 1] = options.file
  for _, arg in ipairs(options.args or {}) do
    line[#line + 1] = arg
  end
  return line
end

-- options: file, args, env (table; false removes), cwd, columns (80), rows (24).
function M.start(options)
  local self = setmetatable({ tmux = find_program("tmux"), name = options.file }, M)
  start_server(self)
  command(self, "new-session", "-d", "-s", "moondog", "-x", tostring(options.columns or 80),
    "-y", tostring(options.rows or 24), "-c", options.cwd or run.folder(), "--",
    unpack(command_line(options)))
  self.pid = tonumber(self:display("#{pane_pid}"))
  run.on_failure(function() return self:report() end)
  return self
end

-- A format of tmux, filled in.
function M:display(format)
  return (command(self, "display-message", "-p", "-t", PANE, format):gsub("\n$", ""))
end

-- Types text as keys.
function M:type(text)
  command(self, "send-keys", "-t", PANE, "-l", "--", text)
end

-- Presses keys by tmux's names: "C-c", "Enter", "Tab", "Left", "BSpace", "M-b".
function M:key(...)
  command(self, "send-keys", "-t", PANE, ...)
end

-- Sends bytes as they are: bytes("c3 28").
function M:bytes(hex)
  local list = {}
  for byte in hex:gmatch("%x%x") do
    list[#list + 1] = byte
  end
  command(self, "send-keys", "-t", PANE, "-H", unpack(list))
end

-- Pastes text. options.bracketed: with the marks around it, if the program has asked for them.
function M:paste(text, options)
  local path = run.file("paste", text)
  command(self, "load-buffer", "-b", "paste", path)
  local args = { "paste-buffer", "-d", "-b", "paste", "-t", PANE }
  if options and options.bracketed then
    args[#args + 1] = "-p"
  end
  command(self, unpack(args))
end

local function size_of(tty)
  local pipe = io.popen("stty -F " .. tty .. " size")
  local size = pipe:read("*a")
  pipe:close()
  return size
end

-- Returns when the program can see the new size, and so before it sees a key that is pressed after
-- that. (tmux takes up to 250 ms to tell it.)
function M:resize(columns, rows)
  command(self, "resize-window", "-t", "moondog", "-x", tostring(columns), "-y", tostring(rows))
  local tty, wanted = self:display("#{pane_tty}"), ("%d %d\n"):format(rows, columns)
  run.wait_until(function() return size_of(tty) == wanted end, 10, "the size of the terminal")
end

local function lines_of(text)
  local lines = {}
  for line in text:gmatch("([^\n]*)\n") do
    lines[#lines + 1] = line
  end
  while lines[#lines] == "" do
    lines[#lines] = nil
  end
  return lines
end

-- The rows of the screen without the empty ones at the end.
function M:screen()
  self.seen = lines_of(command(self, "capture-pane", "-p", "-t", PANE))
  return self.seen
end

-- The same with all that has scrolled away.
function M:history()
  return lines_of(command(self, "capture-pane", "-p", "-S", "-", "-t", PANE))
end

-- Column and row of the cursor, from 0.
function M:cursor()
  local x, y = self:display("#{cursor_x} #{cursor_y}"):match("(%d+) (%d+)")
  return tonumber(x), tonumber(y)
end

-- Waits until the screen's text matches a Lua pattern, or a function of its rows returns true.
-- Returns the rows.
function M:wait_screen(wanted, deadline)
  local rows
  return run.wait_until(function()
    rows = self:screen()
    local fits
    if type(wanted) == "function" then
      fits = wanted(rows)
    else
      fits = table.concat(rows, "\n"):find(wanted)
    end
    return fits and rows
  end, deadline or 10, function()
    return ("a screen %s, there is\n%s"):format(type(wanted) == "string"
      and ("with %q"):format(wanted) or "as wanted", table.concat(rows or {}, "\n"))
  end)
end

-- Waits until these are the screen's last rows, from the first to the last one.
function M:wait_rows(wanted, deadline)
  return run.wait_until(function()
    local rows = self:screen()
    for i = 1, #wanted do
      if rows[#rows - #wanted + i] ~= wanted[i] then
        return false
      end
    end
    return rows
  end, deadline or 10, function()
    return ("the rows\n%s\nthere are\n%s"):format(table.concat(wanted, "\n"),
      table.concat(self:screen(), "\n"))
  end)
end

function M:wait_cursor(column, row, deadline)
  local x, y
  run.wait_until(function()
    x, y = self:cursor()
    return x == column and (row == nil or y == row)
  end, deadline or 10, function()
    return ("the cursor in column %d, row %s; it is at %d, %d"):format(column, tostring(row), x, y)
  end)
end

-- Waits for the program's end; returns its exit code and the signal (0: none).
function M:wait_exit(deadline)
  local code, signal
  run.wait_until(function()
    local dead
    dead, code, signal = self:display(
      "#{pane_dead},#{pane_dead_status},#{pane_dead_signal}"):match("^(%d),(%d*),(%d*)$")
    if dead == "1" and code .. signal ~= "" then
      return true
    end
    uv.kill(self.server.pid, "sigchld") -- tmux 3.3 may miss the one of a child that ends at once
  end, deadline or 10, "the end of " .. self.name)
  return tonumber(code), tonumber(signal) or 0
end

-- What was last seen.
function M:report()
  return ("---- the terminal of %s\n%s"):format(self.name, table.concat(self.seen or {}, "\n"))
end

-- Ends the terminal and what runs in it; also done at the test's end.
function M:stop()
  self.server:finish()
end

return M
