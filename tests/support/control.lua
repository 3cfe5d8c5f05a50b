-- A client of the control socket, for what no command sends.
local cjson = require "cjson"
local run = require "support.run"
local uv = require "luv"

local M = {}
M.__index = M

function M.path(name)
  return run.folder() .. "/moondog/" .. name .. ".sock"
end

local function take(self, chunk)
  self.bytes = self.bytes .. chunk
  while #self.bytes >= 4 do
    local a, b, c, d = self.bytes:byte(1, 4)
    local length = ((a * 256 + b) * 256 + c) * 256 + d
    if #self.bytes < 4 + length then return end
    table.insert(self.frames, cjson.decode(self.bytes:sub(5, 4 + length)))
    self.bytes = self.bytes:sub(5 + length)
  end
end

function M.connect(path)
  local self = setmetatable({ socket = uv.new_pipe(), frames = {}, bytes = "", last_id = 1000 }, M)
  local connected
  self.socket:connect(path, run.callback(function(err) connected = err or true end))
  run.wait_until(function() return connected end, 5, "a connection to the control socket")
  assert(connected == true, connected)
  self:read()
  return self
end

function M:read()
  self.socket:read_start(run.callback(function(err, chunk)
    if chunk then return take(self, chunk) end
    self.closed = err or "EOF"
  end))
end

function M:raw(bytes)
  self.socket:write(bytes)
end

-- A frame of this text.
function M:send(text)
  local n = #text
  self:raw(string.char(0, math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256) .. text)
end

-- The nth frame that comes.
function M:frame(nth)
  return run.wait_until(function() return self.frames[nth] end, 5, "frame " .. nth)
end

-- Begins a request and returns its id.
function M:begin(verb, args)
  self.last_id = self.last_id + 1
  self:send(cjson.encode { id = self.last_id, verb = verb, args = args })
  return self.last_id
end

local function find(self, wanted)
  for _, frame in ipairs(self.frames) do
    if wanted(frame) then return frame end
  end
end

-- The answer to a request.
function M:answer(id, deadline)
  return run.wait_until(function()
    return find(self, function(frame) return frame.id == id and frame.ok ~= nil end)
  end, deadline or 15, "the answer to request " .. tostring(id))
end

-- The data of the events of a request, in order.
function M:events(id, name)
  local list = {}
  for _, frame in ipairs(self.frames) do
    if frame.id == id and frame.event == name then list[#list + 1] = frame.data end
  end
  return list
end

-- Waits for an event for which `wanted` (nil: any) is true.
function M:wait_event(id, name, wanted, deadline)
  return run.wait_until(function()
    for _, data in ipairs(self:events(id, name)) do
      if not wanted or wanted(data) then return data end
    end
  end, deadline or 5, ("an event %s of request %d"):format(name, id))
end

-- A request and its answer.
function M:ask(verb, args, deadline)
  return self:answer(self:begin(verb, args), deadline)
end

-- Evaluates code: the texts of its values, or nil and the error.
function M:eval(code, deadline)
  local answer = self:ask("eval", { code = code }, deadline)
  if not answer.ok then return nil, answer.error end
  local texts = {}
  for i, value in ipairs(answer.result.values) do texts[i] = value.text end
  return table.concat(texts, ", "), answer.result
end

return M
