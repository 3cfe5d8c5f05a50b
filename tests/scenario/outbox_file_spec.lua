-- The file that `moondog outbox` looks into: one that a process holds, one that was killed has left,
-- one that is something else, one that is damaged. Reading changes none of them.
local uv = require "luv"
local moondog = require "support.moondog"
local outbox = require "support.outbox"
local process = require "support.process"
local run = require "support.run"

local READING = { {}, { "list" }, { "count" }, { "export" } }
local TWO = outbox.entry { msg_id = "m1", data = "one" } .. outbox.entry { msg_id = "m2", data = "two", reason = "no" }

local function bytes_of(path)
  local file = io.open(path, "rb")
  local bytes = file and file:read("*a")
  if file then file:close() end
  return bytes
end

local function write(path, bytes)
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  file:close()
  return path
end

-- All that reads says this, exits 1, and leaves everything as it was; so does what would change it.
local function expect_refused(path, said)
  local before = bytes_of(path)
  local all = { { "requeue", "--all" }, { "delete", "1", "--yes" }, unpack(READING) }
  for _, args in ipairs(all) do
    local printed, err = outbox.run(1, path, unpack(args))
    assert.equals("", printed)
    assert.matches(said, err, 1, true)
    assert.matches("^moondog: [^\n]+$", err)
  end
  assert.equals(before, bytes_of(path))
  assert.is_nil(uv.fs_stat(path .. ".lock"))
end

describe("what is no outbox", function()
  it("is said so, and not made one", run.case(function()
    local folder = run.folder()
    expect_refused(folder .. "/none.db", "No such file or directory; it is made when a script with moondog.outbox runs")
    assert.is_nil(uv.fs_stat(folder .. "/none.db"))
    expect_refused(folder .. "/", "is not an outbox: it is no file")
    expect_refused(write(folder .. "/empty", ""), "or not yet one: it is empty")
    expect_refused(write(folder .. "/text", ("some text\n"):rep(500)), "it is no database of SQLite")
    expect_refused(outbox.make("other.db", "PRAGMA application_id = 7"), "another program's database")
    expect_refused(outbox.make("nothing.db", "PRAGMA application_id = 0; PRAGMA user_version = 0"),
      "or not yet one: it does not say what it is")
    expect_refused(outbox.make("newer.db", "PRAGMA user_version = 2"),
      "has the schema 2, and this moondog knows 1; use the moondog that it was made with")
  end))
end)

describe("a damaged outbox", function()
  local MANY = [[WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
    INSERT INTO entry (msg_id, subject, data, created, state) SELECT 'm' || i, 'a', zeroblob(300), 1, 1 FROM n]]

  it("is found by the summary, and entries before the damage are exported", run.case(function()
    local whole = bytes_of(outbox.make("whole.db", MANY))
    local page = 4096
    local bad = write(run.folder() .. "/bad.db",
      whole:sub(1, 60 * page) .. ("\255"):rep(page) .. whole:sub(61 * page + 1))
    local _, err = outbox.run(1, bad)
    assert.matches("it is damaged: stop the process, copy the file", err, 1, true)
    local printed
    printed, err = outbox.run(1, bad, "export")
    assert.matches('"msg_id":"m1",', printed, 1, true)
    assert.matches("malformed; it is damaged", err, 1, true)
    local out = run.folder() .. "/out.jsonl"
    outbox.run(1, bad, "export", "-o", out)
    assert.is_nil(uv.fs_stat(out)) -- what is not all of it is not taken for all of it
    local before = bytes_of(bad)
    assert.matches("damaged", select(2, outbox.run(1, bad, "requeue", "--all")), 1, true)
    assert.equals(before, bytes_of(bad))
  end))

  it("may be cut off, or have lost a table", run.case(function()
    local whole = bytes_of(outbox.make("whole.db", MANY))
    local _, err = outbox.run(1, write(run.folder() .. "/cut.db", whole:sub(1, 100 * 1024)))
    assert.matches("it is damaged", err, 1, true)
    _, err = outbox.run(1, outbox.make("no_table.db", "DROP TABLE entry"), "list")
    assert.matches("no such table: entry; it is damaged", err, 1, true)
  end))
end)

describe("an outbox that a process holds", function()
  it("is read all the same, and not changed", run.case(function()
    local holder, path = outbox.hold("a.db", TWO)
    assert.matches(("pid %d holds it"):format(holder.pid), outbox.run(0, path), 1, true)
    local s = outbox.json(path, "--json")[1]
    assert.same({ true, holder.pid, 1, 1 }, { s.held, s.pid, s.waiting.count, s.set_aside.count })
    for _, args in ipairs(READING) do outbox.run(0, path, unpack(args)) end
    local before = outbox.run(0, path, "export")
    for _, args in ipairs { { "requeue", "--all" }, { "delete", "1", "--yes" } } do
      local _, err = outbox.run(1, path, unpack(args))
      assert.matches(("is held by pid %d, which forwards it: stop it first"):format(holder.pid), err, 1, true)
    end
    assert.equals(before, (outbox.run(0, path, "export")))
    outbox.make("a.db", outbox.entry { msg_id = "m3" }) -- what comes meanwhile is seen
    assert.equals(3, #outbox.json(path, "list", "--json"))
    holder:signal("sigkill")
    holder:wait_exit()
    assert.matches("no process holds it", outbox.run(0, path), 1, true)
    assert.matches("1 entry waits again", outbox.run(0, path, "requeue", "2"), 1, true)
  end))

  it("is the same by another name", run.case(function()
    local _, path = outbox.hold("a.db", TWO)
    local name = run.folder() .. "/link"
    assert(uv.fs_symlink(path, name))
    assert.matches("is held by pid", select(2, outbox.run(1, name, "requeue", "--all")), 1, true)
    assert.is_true(outbox.json(name, "--json")[1].held)
    assert.is_nil(uv.fs_stat(name .. ".lock"))
  end))
end)

describe("an outbox whose process was killed", function()
  it("is read with what was not yet in the database, and left as it is", run.case(function()
    local path = outbox.make_and_die("a.db", TWO)
    local database, log = bytes_of(path), bytes_of(path .. "-wal")
    assert.is_true(#log > 0)
    for _, args in ipairs(READING) do outbox.run(0, path, unpack(args)) end
    assert.equals(2, #outbox.json(path, "list", "--json"))
    uv.fs_unlink(path .. "-shm") -- as in a copy
    assert.equals(2, #outbox.json(path, "list", "--json"))
    assert.equals(database, bytes_of(path))
    assert.equals(log, bytes_of(path .. "-wal"))
    assert.equals("1 entry deleted", (outbox.run(0, path, "delete", "2", "--yes")))
    assert.equals(1, #outbox.json(path, "list", "--json"))
  end))
end)

-- Whom nothing is forbidden does this as somebody else.
local function run_as_other(...)
  local file, args = moondog.program(), { "outbox", ... }
  if uv.getuid() == 0 then
    args = { "--reuid", "65534", "--clear-groups", file, unpack(args) }
    file = "/usr/bin/setpriv"
  end
  local p = process.start { name = "moondog", file = file, args = args }
  return p:wait_exit(), p
end

describe("an outbox where nothing may be written", function()
  it("is read, or said why not", run.case(function()
    local folder = run.folder() .. "/read only?#%41"
    assert(uv.fs_chmod(run.folder(), tonumber("755", 8)))
    assert(uv.fs_mkdir(folder, tonumber("755", 8)))
    local path, killed = folder .. "/a.db", folder .. "/killed.db"
    write(path, bytes_of(outbox.make("a.db", TWO)))
    outbox.make_and_die("b.db", TWO)
    write(killed, bytes_of(run.folder() .. "/b.db"))
    write(killed .. "-wal", bytes_of(run.folder() .. "/b.db-wal"))
    assert(uv.fs_chmod(folder, tonumber("555", 8)))
    run.defer(function() uv.fs_chmod(folder, tonumber("755", 8)) end)
    local code, p = run_as_other(path, "count")
    assert.equals("waiting    1\nset-aside  1", p:text("stdout"))
    assert.equals(0, code)
    code, p = run_as_other(killed, "count")
    assert.equals(1, code)
    assert.matches("look into it as the user whom it belongs to, or copy it with its -wal", p:text("stderr"), 1, true)
    assert(uv.fs_chmod(path, 0))
    code, p = run_as_other(path, "count")
    assert.equals(1, code)
    assert.matches("Permission denied; do this as the user whom it belongs to", p:text("stderr"), 1, true)
  end))
end)
