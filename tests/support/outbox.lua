-- Files of outboxes as the engine leaves them, and what `moondog outbox` says about them.
local cjson = require "cjson"
local uv = require "luv"
local moondog = require "support.moondog"
local process = require "support.process"
local run = require "support.run"

local M = {}

local maker = assert(uv.fs_realpath(os.getenv("MOONDOG_BUILD") or "build")) .. "/tests/outbox_maker"

local function path_of(name)
  return run.folder() .. "/" .. name
end

-- Waits for the end of a maker, which must end so.
local function expect_end(p, code, signal)
  local got, got_signal = p:wait_exit(30)
  if got ~= code or got_signal ~= signal then
    error(("outbox_maker: exit %d signal %d\n%s"):format(got, got_signal, p:report()), 3)
  end
end

-- Runs SQL on the outbox of this name in the test's folder; makes it when it is not there. Returns
-- its path, and what was printed.
function M.make(name, sql)
  local p = process.start { name = "outbox_maker", file = maker, args = { path_of(name) }, input = sql or "" }
  expect_end(p, 0, 0)
  return path_of(name), p:text("stdout")
end

-- The same by a process that is killed afterwards.
function M.make_and_die(name, sql)
  local p = process.start { name = "outbox_maker", file = maker, args = { path_of(name), "--die" }, input = sql }
  expect_end(p, 0, 9)
  return path_of(name)
end

-- The same by a process that then holds the outbox; returns it and the path.
function M.hold(name, sql)
  local p = process.start { name = "outbox_maker", file = maker, args = { path_of(name), "--hold" }, input = sql or "" }
  p:wait_line("^ready$")
  return p, path_of(name)
end

-- A statement that adds an entry. fields: msg_id, subject, data, headers (as "name\0value\0"),
-- age (s), ttl (s from now), reason: it is set aside.
function M.entry(fields)
  local function blob(bytes)
    return bytes and "x'" .. bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end) .. "'" or "NULL"
  end
  local function text(value)
    return value and "CAST(" .. blob(value) .. " AS TEXT)" or "NULL"
  end
  local now = os.time() * 1000
  return ("INSERT INTO entry (msg_id, subject, headers, data, created, expires, state, reason, set_aside) "
    .. "VALUES (%s, %s, %s, %s, %d, %s, %d, %s, %s);\n"):format(text(fields.msg_id), text(fields.subject or "a"),
    blob(fields.headers), blob(fields.data or ""), now - (fields.age or 0) * 1000,
    fields.ttl and ("%d"):format(now + fields.ttl * 1000) or "NULL", fields.reason and 1 or 0, text(fields.reason),
    fields.reason and ("%d"):format(now) or "NULL")
end

-- Runs `moondog outbox` with these arguments, and expects the exit code. Returns what it printed to
-- standard output and to standard error.
function M.run(code, ...)
  local dog = moondog.start({ "outbox", ... })
  dog:wait_exit(code, 30)
  return dog:text("stdout"), dog:text("stderr")
end

-- The same with --json: the objects.
function M.json(...)
  local list = {}
  for line in M.run(0, ...):gmatch("[^\n]+") do list[#list + 1] = cjson.decode(line) end
  return list
end

return M
