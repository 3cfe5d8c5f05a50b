--- What `moondog outbox` tells, as text for people. Pure.

local cjson = require "cjson"
local columns = require "moondog.cli_columns"
local words = require "moondog.cli_words"

local M = {}

local WIDTH_OF_SUBJECT = 40
local WIDTH_OF_REASON = 120
local ROW = "%-8s  %-14s  %-10s  %-9s  %s"

local value, count, bytes, duration = words.value, words.count, words.bytes, words.duration

-- ---- entries ----

--- Columns are as wide as they are: nobody knows what comes.
local function row(entry)
  local subject = columns.cut(columns.harmless(entry.subject), WIDTH_OF_SUBJECT)
  local reason = value(entry.reason)
  if reason then
    subject = subject .. (" "):rep(WIDTH_OF_SUBJECT - columns.width(subject)) .. "  "
      .. columns.cut(columns.harmless(reason), WIDTH_OF_REASON)
  end
  return ROW:format(("%d"):format(entry.id), duration(entry.age), bytes(entry.bytes), entry.state, subject)
end

--- One portion of a list.
---@return string[]
function M.list(r)
  local lines = {}
  if r.first then
    lines[1] = ROW:format("ID", "AGE", "SIZE", "STATE", ("%-" .. WIDTH_OF_SUBJECT .. "s  REASON"):format("SUBJECT"))
  end
  for _, entry in ipairs(r.entries) do lines[#lines + 1] = row(entry) end
  return lines
end

-- ---- the summary ----

local function held(r)
  if value(r.held) == nil then return "it cannot be told whether a process holds it" end
  if not r.held then return "no process holds it" end
  return value(r.pid) and ("pid %d holds it"):format(r.pid) or "a process holds it"
end

local function state(name, s)
  local text = ("%-9s  %s"):format(name, count(s.count, "entry", "entries"))
  if s.count > 0 then text = ("%s, %s, the oldest is %s old"):format(text, bytes(s.bytes), duration(s.oldest)) end
  if s.expired > 0 then text = ("%s, %d expired"):format(text, s.expired) end
  return text
end

---@return string[]
function M.summary(r)
  local lines = {
    ("%s: %s on the disk; %s"):format(r.file, bytes(r.size), held(r)),
    "  " .. state("waiting", r.waiting),
    "  " .. state("set aside", r.set_aside),
  }
  if value(r.last_stream) and value(r.last_seq) then
    lines[#lines + 1] = ("  the last one that was acknowledged is number %d of the stream %s"):format(r.last_seq,
      r.last_stream)
  end
  if #r.entries > 0 then lines[#lines + 1] = "" end
  for _, line in ipairs(#r.entries > 0 and M.list { first = true, entries = r.entries } or {}) do
    lines[#lines + 1] = line
  end
  local more = r.waiting.count + r.set_aside.count - #r.entries
  if #r.entries > 0 and more > 0 then lines[#lines + 1] = ("... %d more: see list"):format(more) end
  return lines
end

---@return string[]
function M.count(r)
  return { ("waiting    %d"):format(r.waiting), ("set-aside  %d"):format(r.set_aside) }
end

-- ---- what was done ----

---@return string[]
function M.export(r)
  return { ("%s exported to %s"):format(count(r.exported, "entry", "entries"), r.file) }
end

---@return string[]
function M.requeue(r)
  if r.requeued == 0 then return { "nothing is set aside" } end
  local lines = { r.requeued == 1 and ("1 entry waits again, behind all others: its id is %d now"):format(r.first_id)
    or ("%d entries wait again, behind all others: their ids are %d to %d now"):format(r.requeued, r.first_id,
      r.last_id) }
  if r.expired > 0 then
    lines[2] = ("%d of them expired meanwhile, and will be removed, not sent: export them to keep them")
      :format(r.expired)
  end
  return lines
end

---@return string[]
function M.delete(r)
  return { count(r.deleted, "entry", "entries") .. " deleted" }
end

--- The answer of an action, as lines of text.
---@param action string
---@param json string
---@return string
function M.render(action, json)
  local lines = M[action](cjson.decode(json))
  for i, line in ipairs(lines) do lines[i] = columns.harmless(line) end
  return #lines > 0 and table.concat(lines, "\n") .. "\n" or ""
end

return M
