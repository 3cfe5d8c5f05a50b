--- The console of `moondog attach` and `moondog repl`: takes lines, asks the process, shows what it answers and
--- what it pushes. The terminal and the socket are those of src/cli/console.c.

local cjson = require "cjson"
local answers = require "moondog.cli_answers"
local console_input = require "moondog.console_input"
local words = require "moondog.cli_words"

local M = {}
M.__index = M

local COMPLETE_MS = 1000
local FIRST_MS = 5000 -- for a process to say how it is
local ARGUMENTS = { log = { "debug", "error", "info", "off", "warn" }, reload = { "previous" }, tap = { "off" } }
local LEVELS = { debug = true, info = true, warn = true, error = true, off = true }
-- What a process logs of a console's own commands says nothing new there.
local OWN_RECORD = "console command"

---@class moondog.cli.ConsoleHost
---@field send fun(verb: string, args: string): integer?, string? args are JSON; the id, or nil and why not
---@field receive fun(ms: integer): string? "message", "timeout", "interrupt" or "closed"; calls console:take
---@field read fun(prompt: string): string, string? "line" and the line, "end", "interrupt", "left"
---@field print fun(text: string) whole lines, above what is being typed
---@field complain fun(text: string) the same, for errors
---@field set_prompt fun(prompt: string)
---@field columns fun(): integer
---@field remember fun(line: string)
---@field terminal boolean whether a person types

---@class moondog.cli.ConsoleOptions
---@field name string what the prompt calls the process
---@field level string of the log records that are shown

local value = words.value

---@param host moondog.cli.ConsoleHost
---@param options moondog.cli.ConsoleOptions
function M.new(host, options)
  return setmetatable({
    host = host, name = options.name, level = options.level,
    input = console_input.new(), answers = {}, begun = {}, unwanted = {}, taps = {}, failed = false,
  }, M)
end

-- ---- asking ----

--- JSON cannot carry bytes that are no UTF-8; inside quotes, which is where they belong, Lua has its own way to
--- write them.
local function escape_bytes(code)
  if not code:find("[\128-\255]") then return code end
  local out, at = {}, 1
  local patterns = { "^[\194-\223][\128-\191]", "^[\224-\239][\128-\191][\128-\191]",
    "^[\240-\244][\128-\191][\128-\191][\128-\191]", "^[%z\1-\127]+" }
  while at <= #code do
    local piece
    for _, pattern in ipairs(patterns) do
      piece = piece or code:match(pattern, at)
    end
    out[#out + 1] = piece or ("\\%03d"):format(code:byte(at))
    at = at + (piece and #piece or 1)
  end
  return table.concat(out)
end

function M:send(verb, args)
  local id, err = self.host.send(verb, args and cjson.encode(args) or "{}")
  if not id then self.host.complain(err) end
  return id
end

--- Waits for the answer to a request; Ctrl-C cancels it. Returns the answer, or nil when there is none to come.
function M:wait(id)
  local interrupts = 0
  while id and not self.answers[id] do
    local event = self.host.receive(-1)
    if event == "closed" then return nil end
    if event == "interrupt" then
      interrupts = interrupts + 1
      if interrupts == 1 then
        local cancel = self:send("cancel", { id = id })
        if cancel then self.unwanted[cancel] = true end
      else
        self.host.complain("it does not answer: its loop may be stuck; going on without it")
        self.unwanted[id] = true
        return nil
      end
    end
  end
  local answer = id and self.answers[id]
  if answer then self.answers[id] = nil end
  return answer
end

--- Whether there are frames of functions; where an error is raised at the prompt, the message says as much.
local function tells_more(trace)
  for frame in trace:gmatch("\n\t([^\n]*)") do
    if not frame:find("^%[C%]") and not frame:find("in main chunk$") then return true end
  end
  return false
end

function M:complain_answer(answer)
  local err = answer.error
  self.failed = true
  if err.code == "cancelled" then return self.host.complain("cancelled") end
  self.host.complain(err.message)
  local trace = value(err.traceback)
  if trace and tells_more(trace) then self.host.complain(trace) end
end

--- Ends a request that gets events; its own answer is not waited for.
function M:cancel(id)
  self.unwanted[id] = true
  self:ask("cancel", { id = id })
end

--- The result of a verb, or nil: then it was said why.
function M:ask(verb, args)
  local answer = self:wait(self:send(verb, args))
  if not answer then
    self.failed = true
    return nil
  end
  if answer.ok then return answer.result end
  self:complain_answer(answer)
end

-- ---- what comes by itself ----

local function describe_message(m)
  local arrow = m.dir == "in" and "<-" or "->"
  local reply = value(m.reply) and " (reply " .. m.reply .. ")" or ""
  local data = ("%q"):format(value(m.data) or ""):gsub("\\\n", "\\n"):gsub("[%c\127]", "?")
  local more = #(value(m.data) or "") < m.bytes and (" ... %d bytes"):format(m.bytes) or ""
  return ("%s %s %s%s: %s%s"):format(arrow, m.connection, m.subject, reply, data, more)
end

function M:on_state(state)
  local before = self.state
  self.state = state
  if before and before.generation ~= state.generation and state.generation > 0 then
    local gone = self.used and "; what was defined here went with the one before" or ""
    if self.used or not self.reloading then
      self.host.print(("-- generation %d is at work%s"):format(state.generation, gone))
    end
    self.used = false
  end
  self.host.set_prompt(self:prompt())
end

--- One frame. `line` is what a log record looks like.
---@param text string
---@param line? string
function M:take(text, line)
  local message = cjson.decode(text)
  local id, event, data = message.id, message.event, message.data
  if not event then
    if not self.unwanted[id] then self.answers[id] = message end
    self.unwanted[id] = nil
  elseif event == "log" then
    if id == self.log_id and data.msg ~= OWN_RECORD then self.host.print(line) end
  elseif event == "state" then
    self:on_state(data)
  elseif event == "begun" then
    self.begun[id] = true
  elseif event == "print" then
    self.host.print(data.text)
  elseif event == "message" then
    self.host.print(describe_message(data))
  elseif event == "dropped" then
    self.host.print(("-- %d more, which were too many to show"):format(data.count))
  end
end

-- ---- the prompt ----

function M:prompt()
  local s = self.state
  local text = self.name
  if s then
    local state = s.worst
    if s.stopping then
      state = "stopping"
    elseif s.worst ~= "up" and s.connections > 1 then
      state = ("%d of %d up, %s"):format(s.up, s.connections, s.worst)
    elseif s.worst == "up" and s.up < s.connections then
      state = "not ready"
    end
    if state ~= "none" then text = ("%s [%s]"):format(text, state) end
  end
  if self.input:depth() > 0 or self.pending then return (" "):rep(#text - 1) .. ".. " end
  return text .. "> "
end

-- ---- dot commands ----

local commands = {}

commands.help = { "", "this list", function(self)
  local lines = {
    "Lua runs in the process: an expression prints its value, which `_` is then.",
    "It may wait. Connections are there by their names, or as conns[\"a-name\"]. Tab completes.",
    "Subscriptions, timers and connections that are made here stay until the script is reloaded.",
  }
  local names = {}
  for name in pairs(commands) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    lines[#lines + 1] = ("  %-18s %s"):format("." .. name .. " " .. commands[name][1], commands[name][2])
  end
  lines[#lines + 1] = "Ctrl-C ends what was begun, and taps; Ctrl-D leaves."
  self.host.print(table.concat(lines, "\n"))
end }

--- Commands that show a part of the status.
local function show(part)
  return function(self)
    local status = self:ask("status")
    if status then self.host.print(table.concat(answers[part](status, self.host.columns()), "\n")) end
  end
end

commands.conns = { "", "the connections", show "connections" }
commands.subs = { "", "the subscriptions", show "subscriptions" }
commands.gen = { "", "the generation of the script, and reloads", show "generation" }

commands.errors = { "[N]", "the last failures of the script, with tracebacks", function(self, argument)
  local result = self:ask("errors")
  if result then
    self.host.print(table.concat(answers.errors(result, tonumber(argument) or 5), "\n"))
  end
end }

commands.reload = { "[previous]", "loads the script again, or the text before", function(self, argument)
  if argument ~= "" and argument ~= "previous" then
    self.failed = true
    return self.host.complain(".reload, or .reload previous")
  end
  self.reloading = true
  local result = self:ask("reload", { previous = argument == "previous" })
  self.reloading = false
  if result then self.host.print(table.concat(answers.reload(result), "\n")) end
end }

function M:end_taps()
  local count = #self.taps
  for _, id in ipairs(self.taps) do self:cancel(id) end
  self.taps = {}
  self.host.print(count == 1 and "1 tap ended" or count .. " taps ended")
end

commands.tap = { "SUBJECT|off", "shows what passes through the runtime", function(self, argument)
  if argument == "" or argument == "off" then
    self:end_taps()
    return
  end
  local id = self:send("tap", { subject = argument })
  while id and not self.begun[id] and not self.answers[id] do
    if self.host.receive(-1) ~= "message" then return self:cancel(id) end
  end
  if not id then return end
  self.begun[id] = nil
  if self.answers[id] then
    self:complain_answer(self.answers[id])
    self.answers[id] = nil
    return
  end
  self.taps[#self.taps + 1] = id
  self.host.print(".tap off, or Ctrl-C, ends it")
end }

function M:follow_log(level)
  if self.log_id then self:cancel(self.log_id) end
  self.log_id = nil
  if level ~= "off" then self.log_id = self:send("log", { follow = true, recent = 0, level = level }) end
  self.level = level
end

commands.log = { "LEVEL|off", "shows log records of this level and above", function(self, argument)
  if not LEVELS[argument] then
    self.failed = true
    return self.host.complain("there are the levels debug, info, warn, error, and off; it is " .. self.level)
  end
  self:follow_log(argument)
end }

commands.quit = { "", "leaves, as Ctrl-D does", function(self) self.left = true end }

function M:command(line)
  local name, argument = line:match("^%s*%.(%a*)%s*(.-)%s*$")
  local command = commands[name]
  if command then return command[3](self, argument) end
  self.failed = true
  self.host.complain(("there is no .%s; .help lists what there is"):format(name or ""))
end

-- ---- completion ----

--- Called by the terminal: how many bytes of the text stay, and what can stand behind them.
---@param text string up to the cursor
---@return integer from
---@return string[] items
function M:complete(text)
  local command, typed = text:match("^%s*%.(%a+)%s+(%a*)$")
  if not self.pending and command then
    local items = {}
    for _, word in ipairs(ARGUMENTS[command] or {}) do
      if word:sub(1, #typed) == typed then items[#items + 1] = word end
    end
    return #text - #typed, items
  end
  if not self.pending and text:find("^%s*%.%a*$") then
    local from = text:find("%.")
    local items = {}
    for name in pairs(commands) do
      if ("." .. name):sub(1, #text - from + 1) == text:sub(from) then items[#items + 1] = "." .. name end
    end
    table.sort(items)
    return from - 1, items
  end
  local before = self.pending and self.input:text() .. "\n" or ""
  local id = self:send("complete", { text = escape_bytes(before .. text) })
  local deadline = COMPLETE_MS
  while id and not self.answers[id] do
    if self.host.receive(deadline) ~= "message" then
      self.unwanted[id] = true
      return #text, {}
    end
  end
  if not id then return #text, {} end
  local answer = self.answers[id]
  self.answers[id] = nil
  if not answer.ok then return #text, {} end
  local from = answer.result.from - #before
  if from < 0 then return #text, {} end
  return from, answer.result.items
end

-- ---- lines ----

function M:evaluate(code)
  self.used = true
  local result = self:ask("eval", { code = escape_bytes(code), name = "console", width = self.host.columns() })
  if not result then return end
  for _, v in ipairs(result.values) do self.host.print(v.text) end
  local more = result.count - #result.values
  if more > 0 then self.host.print(("... %d more values"):format(more)) end
end

function M:line(line)
  if line:find("%S") then self.host.remember(line) end
  self.failed = false
  local state = self.input:add(line)
  local text, err = self.input:text(), self.input.error
  self.pending = state == "incomplete"
  if self.pending then return end
  self.input:reset()
  if state == "command" then
    self:command(line)
  elseif state == "error" then
    self.failed = true
    self.host.complain(err)
  elseif text:find("%S") then
    self:evaluate(text)
  end
end

function M:interrupt()
  self.input:reset()
  self.pending = false
  if #self.taps > 0 then self:end_taps() end
end

--- Until it is left. Returns the exit code.
function M:run()
  if not self:send("watch") then return 1 end
  while not self.state do
    local event = self.host.receive(FIRST_MS)
    if event == "timeout" then self.host.complain("no answer in time: is its loop stuck?") end
    if event ~= "message" then return 1 end
  end
  if self.host.terminal then
    self.host.print(("%s, generation %d. .help says what there is; Ctrl-D leaves."):format(self.name,
      self.state.generation))
  end
  self:follow_log(self.host.terminal and self.level or "off")
  while not self.left do
    local event, line = self.host.read(self:prompt())
    if event == "line" then
      self:line(line)
    elseif event == "interrupt" then
      self:interrupt()
    elseif event == "left" then
      self.host.complain("the process has ended, or closed this console")
      return 1
    elseif self.pending and self.host.terminal then
      self:interrupt()
    else
      break
    end
  end
  if self.pending then
    self.host.complain("the last statement is not complete")
    return 1
  end
  return self.failed and not self.host.terminal and 1 or 0
end

return M
