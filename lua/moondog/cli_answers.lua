--- What a running process answers, as text for people. The answers come as JSON.

local cjson = require "cjson"
local columns = require "moondog.cli_columns"
local words = require "moondog.cli_words"

local M = {}

--- What a supervised process was started with.
local BEGAN_WITH = { file = "the script's file", same = "the script that it had",
  last_good = "the last good script" }

local REST_OF_ROW = 58 -- columns behind the subject

local value, count, bytes, duration = words.value, words.count, words.bytes, words.duration

local function append(lines, more)
  for _, line in ipairs(more) do lines[#lines + 1] = line end
end

function M.reload(r)
  local s, c = r.subscriptions, r.connections
  local lines = {
    ("generation %d is at work"):format(r.generation),
    ("subscriptions: %d kept, %d added, %d removed"):format(s.kept, s.added, s.removed),
    ("connections: %d kept, %d added, %d removed"):format(c.kept, c.added, c.removed),
  }
  if c.redialled > 0 then
    lines[#lines + 1] = count(c.redialled, "connection") .. " kept with new options: a new link is dialled"
  end
  return lines
end

--- "host, queue workers": one of the script's has no kind.
local function kind(s)
  local queue = value(s.queue) and "queue " .. s.queue
  if s.kind ~= "host" then return queue or "" end
  return queue and "host, " .. queue or "host"
end

local function subscriptions(c)
  local rows = {}
  for _, s in ipairs(c.subscriptions) do
    rows[#rows + 1] = { s.subject, kind(s), s.handled .. " handled",
      s.errors .. " errors", s.dropped .. " dropped", s.queued .. " queued" }
  end
  return rows
end

local function connection(c)
  local state = c.state .. (c.ready and "" or ", not ready")
  if value(c.outage) then state = state .. ", down for " .. duration(c.outage) end
  if c.attempt > 0 then state = state .. ", attempt " .. c.attempt end
  local lines = {
    ("connection %s: %s"):format(c.name, state),
    ("  %s, %s, %d in, %d out, %s pending, %d dropped"):format(c.server ~= "" and c.server or "no server",
      count(c.links, "link"), c.in_msgs, c.out_msgs, bytes(c.pending_bytes), c.dropped),
  }
  if value(c.error) and not c.ready then
    lines[#lines + 1] = ("  error (%s): %s"):format(c.error.class, c.error.message)
  end
  if value(c.successor) then
    lines[#lines + 1] = ("  new options: %s, attempt %d, %s"):format(c.successor.state, c.successor.attempt,
      c.successor.error)
  end
  return lines
end

function M.generation(r)
  local g, reloads, lines = value(r.generation), r.reloads, {}
  if g then
    lines[#lines + 1] = ("generation %d: %s, %s, loaded at %s"):format(g.number, g.path, g.hash:sub(1, 12),
      g.loaded_at)
    lines[#lines + 1] = ("  %s, %d handled, %s, %s, %s retiring"):format(bytes(g.memory), g.handled,
      count(g.errors, "error"), count(g.waiting, "waiting task"), count(reloads.retiring, "generation"))
  end
  if value(reloads.last_error) and not (g and reloads.last_error.at < g.loaded_at) then
    lines[#lines + 1] = ("last reload that failed, at %s: %s"):format(reloads.last_error.at,
      reloads.last_error.message)
  end
  return lines
end

local function outbox(o)
  local text = ("outbox %s: %s, %s waiting (%s)"):format(o.path, o.state, o.waiting, bytes(o.bytes))
  if o.waiting > 0 then text = text .. (", the first for %s"):format(duration(o.oldest)) end
  if o.set_aside > 0 then
    text = text .. (", %d set aside: see moondog outbox %s"):format(o.set_aside, o.path)
  end
  local err = value(o.error)
  return err and err ~= "" and { text, "  " .. (type(err) == "table" and err.message or err) } or { text }
end

function M.status(r)
  local lines = {
    ("%s (pid %d, moondog %s) has been %s for %s"):format(r.name, r.pid, r.version, r.state, duration(r.uptime)),
  }
  local last = value(r.supervisor) and value(r.supervisor.last)
  if last then
    lines[#lines + 1] = ("restarted %s by its supervisor, at %s, with %s: %s"):format(
      count(r.supervisor.restarts, "time"), last.at, BEGAN_WITH[last.script] or last.script, last.reason)
  end
  if last and r.supervisor.fallback then
    lines[#lines + 1] = "an older script is at work, until moondog reload takes the file again"
  end
  if r.loop.stalls > 0 then
    lines[#lines + 1] = ("the loop was stuck %s, for %.1f s in all"):format(count(r.loop.stalls, "time"),
      r.loop.stalled_seconds)
  end
  append(lines, M.generation(r))
  for _, c in ipairs(value(r.connections) or {}) do
    append(lines, connection(c))
    append(lines, columns.lines(subscriptions(c), "  "))
  end
  local host = value(r.host)
  local waiting = host and host.messages and host.messages.waiting or 0
  if waiting > 0 then
    lines[#lines + 1] = ("%s of the host waiting for a connection that no script declares, or that is closed"):format(
      count(waiting, "subscription"))
  end
  for _, o in ipairs(value(r.outboxes) or {}) do append(lines, outbox(o)) end
  return lines
end

function M.connections(r)
  local lines = {}
  for _, c in ipairs(value(r.connections) or {}) do append(lines, connection(c)) end
  return #lines > 0 and lines or { "there are no connections" }
end

---@param r table
---@param width? integer of the screen
function M.subscriptions(r, width)
  local rows, omitted = {}, 0
  for _, c in ipairs(value(r.connections) or {}) do
    for _, row in ipairs(subscriptions(c)) do
      if #r.connections > 1 then row[1] = c.name .. ": " .. row[1] end
      rows[#rows + 1] = row
    end
    if c.subscriptions_total > #c.subscriptions then
      omitted = omitted + c.subscriptions_total - #c.subscriptions
    end
  end
  local lines = columns.lines(rows, "", width and math.max(width - REST_OF_ROW, 20))
  if omitted > 0 then lines[#lines + 1] = ("... %d more are not listed"):format(omitted) end
  return #lines > 0 and lines or { "there are no subscriptions" }
end

--- The last `most` of them, the newest last.
---@param r table
---@param most integer
function M.errors(r, most)
  local lines = {}
  for i = math.max(#r.errors - most + 1, 1), #r.errors do
    local e = r.errors[i]
    lines[#lines + 1] = ("%s %s %s, generation %d: %s"):format(e.at, e.kind, e.name, e.generation, e.error)
    for line in e.traceback:gmatch("\n([^\n]*)") do lines[#lines + 1] = "  " .. line:gsub("\t", "  ") end
  end
  lines[#lines + 1] = count(r.total, "failure") .. " in all"
  return lines
end

--- Strings as they are: what prints them is often a shell.
function M.eval(r)
  local lines = {}
  for i, v in ipairs(r.values) do
    lines[i] = v.type == "string" and value(v.value) or v.text
  end
  if r.count > #r.values then lines[#lines + 1] = ("... %d more"):format(r.count - #r.values) end
  return lines
end

function M.level(r)
  return { r.level == r.before and ("the log's level is %s"):format(r.level)
    or ("the log's level is %s now, after %s"):format(r.level, r.before) }
end

function M.stop(r)
  return { ("pid %d drains and ends"):format(r.pid) }
end

--- The answer to a verb, as lines of text.
---@param verb string
---@param json string what "result" was
---@return string
function M.render(verb, json)
  local lines = M[verb](cjson.decode(json))
  for i, line in ipairs(lines) do lines[i] = verb == "eval" and line or columns.harmless(line) end
  return #lines > 0 and table.concat(lines, "\n") .. "\n" or ""
end

return M
