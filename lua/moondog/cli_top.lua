--- What `moondog top` shows: two answers to `status` and the time between them become rates, and these lines of
--- text. Pure: src/cli/top.c asks, draws and reads keys.

local cjson = require "cjson"
local columns = require "moondog.cli_columns"
local words = require "moondog.cli_words"

local M = {}
M.__index = M

local HELP = "q quits  s sorts  arrows scroll"
local ROWS_MAX = 1000

local value = words.value

-- ---- rates ----

--- What a counter has grown by in a second. One that is smaller than it was began anew.
local function rate(now, before, seconds)
  if not before or seconds <= 0 then return 0 end
  return (now >= before and now - before or now) / seconds
end

local CONNECTION_RATES = { in_msgs = "in_rate", out_msgs = "out_rate", in_bytes = "in_bytes_rate",
  out_bytes = "out_bytes_rate" }

local function index_by(list, key_of)
  local index = {}
  for _, one in ipairs(list or {}) do index[key_of(one)] = one end
  return index
end

local function name_of(connection) return connection.name end
local function subject_of(s) return (s.kind or "") .. " " .. s.subject .. " " .. (value(s.queue) or "") end

--- Adds the rates to the connections and subscriptions of `now`.
local function add_rates(now, before, seconds)
  local same = before and before.pid == now.pid
  local connections = index_by(same and value(before.connections), name_of)
  for _, c in ipairs(value(now.connections) or {}) do
    local old = connections[c.name]
    for counter, name in pairs(CONNECTION_RATES) do c[name] = rate(c[counter], old and old[counter], seconds) end
    local subscriptions = index_by(old and old.subscriptions, subject_of)
    for _, s in ipairs(c.subscriptions) do
      local old_one = subscriptions[subject_of(s)]
      s.rate = rate(s.handled, old_one and old_one.handled, seconds)
    end
  end
end

-- ---- texts ----

local harmless, characters = columns.harmless, columns.characters

local function fit(text, width)
  text = columns.cut(harmless(text), width)
  return text .. (" "):rep(width - columns.width(text))
end

local function amount(n)
  if n < 10 and n ~= math.floor(n) then return ("%.1f"):format(n) end
  if n < 10000 then return ("%.0f"):format(n) end
  if n < 1e6 then return ("%.1fk"):format(n / 1e3) end
  if n < 1e9 then return ("%.1fM"):format(n / 1e6) end
  return ("%.1fG"):format(n / 1e9)
end

local function bytes(n)
  if n < 1024 then return ("%.0f"):format(n) end
  for _, unit in ipairs { "K", "M", "G" } do
    n = n / 1024
    if n < 1024 or unit == "G" then return ("%.1f%s"):format(n, unit) end
  end
end

local function latency(seconds)
  if not seconds then return "-" end
  if seconds < 0.001 then return ("%.0fus"):format(seconds * 1e6) end
  if seconds < 1 then return ("%.3gms"):format(seconds * 1e3) end
  return ("%.3gs"):format(seconds)
end

local function age(seconds)
  if not seconds then return "-" end
  if seconds < 100 then return ("%.1fs"):format(seconds) end
  if seconds < 6000 then return ("%dm%02ds"):format(seconds / 60, seconds % 60) end
  return ("%dh%02dm"):format(seconds / 3600, seconds % 3600 / 60)
end

-- ---- tables ----

---@class moondog.cli.TopColumn
---@field [1] string heading
---@field [2] integer width; the first column gets what is left
---@field [3] fun(row: table): string
---@field [4]? integer the smaller, the sooner it is left out on a narrow screen; nil: never

---@type moondog.cli.TopColumn[]
local CONNECTIONS = {
  { "CONNECTION", 0, function(c) return c.name end },
  { "STATE", 12, function(c) return c.state == "up" and not c.ready and "not ready" or c.state end },
  { "DOWN", 7, function(c) return age(value(c.outage)) end },
  { "LINKS", 6, function(c) return amount(c.links) end, 6 },
  { "WHY", 12, function(c) return c.reason end, 3 },
  { "TRY", 4, function(c) return c.attempt > 0 and amount(c.attempt) or "-" end, 4 },
  { "IN/s", 7, function(c) return amount(c.in_rate) end },
  { "OUT/s", 7, function(c) return amount(c.out_rate) end },
  { "IN B/s", 7, function(c) return bytes(c.in_bytes_rate) end, 1 },
  { "OUT B/s", 8, function(c) return bytes(c.out_bytes_rate) end, 2 },
  { "PENDING", 8, function(c) return bytes(c.pending_bytes) end, 5 },
  { "DROPPED", 8, function(c) return amount(c.dropped + c.pending_dropped) end },
}

---@type moondog.cli.TopColumn[]
local SUBSCRIPTIONS = {
  { "SUBSCRIPTION", 0, function(s) return s.subject end },
  { "QUEUE", 10, function(s) return value(s.queue) or "-" end, 1 },
  { "MSGS/s", 8, function(s) return amount(s.rate) end },
  { "HANDLED", 8, function(s) return amount(s.handled) end, 2 },
  { "p50", 7, function(s) return latency(s.p50) end, 4 },
  { "p99", 7, function(s) return latency(s.p99) end },
  { "ERRORS", 7, function(s) return amount(s.errors) end },
  { "QUEUED", 7, function(s) return amount(s.queued) end },
  { "DROPPED", 8, function(s) return amount(s.dropped) end, 3 },
}

local FIRST_MIN = 16 -- of the first column, as long as others can be left out
local FIRST_LEAST = 4

--- The columns that there is room for, and the width of the first one.
local function choose(all, width)
  local chosen = { unpack(all) }
  while true do
    local left, drop = width, nil
    for i = 2, #chosen do
      left = left - chosen[i][2] - 1
      if chosen[i][4] and (not drop or chosen[i][4] < chosen[drop][4]) then drop = i end
    end
    if left >= FIRST_MIN or not drop then return chosen, math.max(left, FIRST_LEAST) end
    table.remove(chosen, drop)
  end
end

local function row_text(all, width, cell_of)
  local chosen, first = choose(all, width)
  local cells = { fit(cell_of(chosen[1]), first) }
  for i = 2, #chosen do
    local text = fit(cell_of(chosen[i]), chosen[i][2])
    local bare = text:gsub(" +$", "")
    cells[i] = (" "):rep(columns.width(text) - columns.width(bare)) .. bare -- to the right
  end
  return (characters(table.concat(cells, " "), width):gsub(" +$", ""))
end

local function heading(all, width)
  return row_text(all, width, function(column) return column[1] end)
end

-- ---- the view ----

M.sorts = { "rate", "p99", "errors", "queued", "name" }

function M.new()
  return setmetatable({ sort = 1, offset = 0 }, M)
end

--- Takes an answer to `status`.
---@param json string
---@param now number seconds of a clock that only goes on
function M:update(json, now)
  local status = cjson.decode(json)
  add_rates(status, self.status, self.at and now - self.at or 0)
  self.status, self.at, self.trouble = status, now, nil
end

--- There was no answer; what was known stays on the screen.
function M:fail(message)
  self.trouble = message
end

--- The next order of subscriptions.
function M:next_sort()
  self.sort = self.sort % #M.sorts + 1
  self.offset = 0
end

--- By so many rows; back when negative.
function M:scroll(rows)
  self.offset = math.max(0, self.offset + rows)
end

local function subscriptions_of(status)
  local list, omitted, several = {}, 0, #(value(status.connections) or {}) > 1
  for _, c in ipairs(value(status.connections) or {}) do
    omitted = omitted + math.max(c.subscriptions_total - #c.subscriptions, 0)
    for _, s in ipairs(c.subscriptions) do
      local delay = value(s.latency)
      s.p50, s.p99 = delay and delay.p50, delay and delay.p99
      list[#list + 1] = s
      if several then s.subject = c.name .. ": " .. s.subject end
    end
  end
  return list, omitted
end

local function sorted(list, by)
  local before = {}
  for i, s in ipairs(list) do before[s] = i end
  table.sort(list, function(a, b)
    local x, y = a[by] or -1, b[by] or -1
    if by == "name" then x, y = b.subject, a.subject end
    if x ~= y then return x > y end
    return before[a] < before[b]
  end)
  return list
end

local function head(status)
  local g, r = value(status.generation), status.reloads
  local lines = {
    { ("%s (pid %d, moondog %s), %s for %s"):format(harmless(status.name), status.pid, status.version, status.state,
      age(status.uptime)), "title" },
  }
  if g then
    lines[2] = { ("generation %d: %s, loaded at %s; reloads: %d, %d failed; retiring: %d"):format(g.number,
      harmless(g.path), g.loaded_at, r.done, r.failed, r.retiring) }
    lines[3] = { ("memory: %s, peak %s; handled: %s, errors: %s; waiting tasks: %s"):format(bytes(g.memory),
      bytes(math.max(g.memory, g.memory_peak)), amount(g.handled), amount(g.errors), amount(g.waiting)),
      g.errors > 0 and "warn" or nil }
  end
  if value(r.last_error) and not (g and r.last_error.at < g.loaded_at) then
    lines[#lines + 1] = { "last reload that failed: " .. harmless(r.last_error.message), "bad" }
  end
  return lines
end

--- What is shown, as a list of lines: { text, style }. Styles are "title", "head", "good", "warn", "bad"; nil: plain.
---@param width integer
---@param height? integer nil: all lines
function M:lines(width, height)
  local lines = {}
  if self.trouble then lines[1] = { characters(harmless(self.trouble), width), "bad" } end
  if not self.status then return lines end
  local function add(text, style) lines[#lines + 1] = { characters(text, width), style } end
  for _, line in ipairs(head(self.status)) do add(line[1], line[2]) end
  add("")
  add(heading(CONNECTIONS, width), "head")
  local connections = value(self.status.connections) or {}
  local shown = height and math.max(1, math.min(#connections, math.floor(height / 3))) or #connections
  for i = 1, math.min(shown, #connections) do
    local c = connections[i]
    add(row_text(CONNECTIONS, width, function(column) return column[3](c) end),
      c.ready and "good" or c.state == "stopped" and "warn" or "bad")
    if value(c.error) and not c.ready then add("  " .. harmless(c.error.message), "bad") end
  end
  if shown < #connections then add(("... %d more"):format(#connections - shown)) end
  local list, omitted = self:subscriptions()
  add("")
  add(heading(SUBSCRIPTIONS, width), "head")
  local room = height and math.max(height - #lines - 1, 1) or ROWS_MAX
  self.offset = math.min(self.offset, math.max(#list - room, 0))
  for i = self.offset + 1, math.min(self.offset + room, #list) do
    local s = list[i]
    add(row_text(SUBSCRIPTIONS, width, function(column) return column[3](s) end),
      s.errors > 0 and "warn" or nil)
  end
  if height then
    while #lines < height - 1 do add("") end
    local seen = math.min(self.offset + room, #list)
    add(("%s   by %s, %d to %d of %d%s"):format(HELP, M.sorts[self.sort], math.min(self.offset + 1, #list), seen, #list,
      omitted > 0 and (", %d not listed"):format(omitted) or ""), "head")
  elseif omitted > 0 then
    add(("... %d more subscriptions are not listed"):format(omitted))
  end
  return lines
end

--- The subscriptions in order, and how many the process did not list.
function M:subscriptions()
  if self.listed ~= self.status then
    self.list, self.omitted = subscriptions_of(self.status)
    self.listed = self.status
  end
  return sorted(self.list, M.sorts[self.sort]), self.omitted
end

--- The status with the rates, as one line of JSON.
function M:json()
  return cjson.encode(self.status)
end

return M
