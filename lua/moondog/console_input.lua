--- The lines of a statement as they are typed or pasted, until it is complete. The compiler decides that, but it is
--- only asked where the text could end: a table of 10,000 lines is not compiled 10,000 times.

local M = {}
M.__index = M

local BYTES_MAX = 512 * 1024 -- of a statement: what a process takes
local SHORT_BYTES = 2048     -- of a text that is compiled at each line, so that a mistake is told early

local OPENERS = { ["function"] = true, ["do"] = true, ["if"] = true, ["repeat"] = true }
local CLOSERS = { ["end"] = true, ["until"] = true }
local BRACKETS = { ["("] = 1, ["["] = 1, ["{"] = 1, [")"] = -1, ["]"] = -1, ["}"] = -1 }

function M.new()
  return setmetatable({}, M):reset()
end

--- Forgets all lines.
function M:reset()
  self.lines, self.bytes, self.blocks = {}, 0, 0
  self.long, self.quote, self.error = nil, nil, nil -- inside of a long bracket, of a string that goes on
  return self
end

function M:text()
  return table.concat(self.lines, "\n")
end

--- How many blocks and brackets are open.
function M:depth()
  return math.max(self.blocks, (self.long or self.quote) and 1 or 0)
end

--- Where the string that `quote` has begun ends; nil: it goes on in the next line, or is not finished.
local function end_of_string(line, at, quote)
  while true do
    local stop = line:find("[\\" .. quote .. "]", at)
    if not stop then return nil, false end
    if line:sub(stop, stop) == quote then return stop + 1 end
    if stop == #line then return nil, true end
    at = stop + 2
  end
end

--- What follows a token that changes nothing.
local function after_plain(line, at)
  return line:match("^%d[%w.]*()", at) or at + 1
end

--- Counts what the line opens and closes.
function M:scan(line)
  local at = 1
  while at <= #line do
    if self.long then
      local _, stop = line:find(self.long, at, true)
      if not stop then return end
      self.long, at = nil, stop + 1
    elseif self.quote then
      local stop, goes_on = end_of_string(line, at, self.quote)
      if not stop then
        if not goes_on then self.quote = nil end
        return
      end
      self.quote, at = nil, stop
    else
      local c = line:sub(at, at)
      local level, behind = line:match("^%-%-%[(=*)%[()", at)
      if not level then level, behind = line:match("^%[(=*)%[()", at) end
      local word, after_word = line:match("^([%a_][%w_]*)()", at)
      if level then
        self.long, at = "]" .. level .. "]", behind
      elseif line:find("^%-%-", at) then
        return
      elseif c == '"' or c == "'" then
        self.quote, at = c, at + 1
      elseif word then
        self.blocks = self.blocks + (OPENERS[word] and 1 or CLOSERS[word] and -1 or 0)
        at = after_word
      else
        self.blocks = self.blocks + (BRACKETS[c] or 0)
        at = after_plain(line, at)
      end
    end
  end
end

--- "complete", "incomplete", or "error" and the message.
local function compile(text)
  local expression = text:match("^=(.*)") or text
  local chunk, err = load("return " .. expression .. "\n", "=console", "t")
  if chunk then return "complete" end
  if err:find("near '<eof>'$") then return "incomplete" end
  chunk, err = load(text .. "\n", "=console", "t")
  if chunk then return "complete" end
  if err:find("near '<eof>'$") then return "incomplete" end
  return "error", err
end

--- Adds a line. "complete": text() can be run. "incomplete": more lines are to come. "error": the message is in
--- `error`. "command": a line for the console itself, which begins with a dot.
---@param line string
---@return "complete"|"incomplete"|"error"|"command"
function M:add(line)
  if #self.lines == 0 and line:find("^%s*%.%a") then return "command" end
  self.lines[#self.lines + 1] = line
  self.bytes = self.bytes + #line + 1
  if self.bytes > BYTES_MAX then
    self.error = ("a statement has at most %d bytes"):format(BYTES_MAX)
    return "error"
  end
  self:scan(line)
  if self:depth() > 0 and self.bytes > SHORT_BYTES then return "incomplete" end
  local state
  state, self.error = compile(self:text())
  return state
end

return M
