-- `moondog outbox`: what it shows of an outbox, and what it changes.
local cjson = require "cjson"
local moondog = require "support.moondog"
local outbox = require "support.outbox"
local process = require "support.process"
local run = require "support.run"

local null = cjson.null
local entry = outbox.entry

local THREE = entry { msg_id = "m1", subject = "orders.new", data = "one", age = 7200 }
  .. entry { msg_id = "m2", subject = "orders.paid", data = "two", headers = "A\0b\0A\0c\0", reason = "wrong stream" }
  .. entry { msg_id = "m3", subject = "prices", data = "three!" }

local function ids(list)
  local found = {}
  for i, e in ipairs(list) do found[i] = e.id end
  return found
end

describe("moondog outbox FILE", function()
  it("says how much waits, how old it is, and what is first", run.case(function()
    local path = outbox.make("a.db", THREE .. "INSERT INTO meta VALUES ('last_stream', 'ORDERS'), ('last_seq', 41)")
    local text = outbox.run(0, path)
    assert.equals(path .. ": ", text:sub(1, #path + 2))
    assert.matches("^[%d.]+ KiB on the disk; no process holds it\n", text:sub(#path + 3))
    assert.matches("waiting    2 entries, 9 B, the oldest is 2 h 0 min old\n", text, 1, true)
    assert.matches("set aside  1 entry, 11 B, the oldest is ", text, 1, true)
    assert.matches("number 41 of the stream ORDERS", text, 1, true)
    assert.matches("\n1 +2 h 0 min +3 B +waiting +orders.new", text)
    assert.matches("\n2 +%S+ s +11 B +set%-aside +orders.paid +wrong stream", text)
    local s = outbox.json(path, "--json", "--limit", "1")[1]
    assert.same({ path, 2, 9, 0, 1 },
      { s.file, s.waiting.count, s.waiting.bytes, s.waiting.expired, s.set_aside.count })
    assert.same({ "ORDERS", 41, false, null }, { s.last_stream, s.last_seq, s.held, s.pid })
    assert.same({ 1 }, ids(s.entries))
    assert.matches("... 1 more: see list", outbox.run(0, path, "-n", "2"), 1, true)
  end))

  it("is short about an empty one", run.case(function()
    local path = outbox.make("a.db")
    local text = outbox.run(0, path)
    assert.matches("waiting    0 entries\n  set aside  0 entries$", text)
    assert.equals(null, outbox.json(path, "--json")[1].waiting.oldest)
    assert.equals("", (outbox.run(0, path, "list")))
    assert.equals("", (outbox.run(0, path, "export")))
    assert.equals("nothing is set aside", (outbox.run(0, path, "requeue", "--all")))
  end))
end)

describe("moondog outbox FILE list and count", function()
  it("choose by state, subject and number", run.case(function()
    local path = outbox.make("a.db", THREE)
    local function listed(...) return ids(outbox.json(path, "list", "--json", ...)) end
    assert.same({ 1, 2, 3 }, listed())
    assert.same({ 1, 3 }, listed("--state", "waiting"))
    assert.same({ 2 }, listed("--state", "set-aside"))
    assert.same({ 1, 2 }, listed("--subject", "orders.*"))
    assert.same({ 1 }, listed("--subject", "orders.>", "--state", "waiting"))
    assert.same({ 1, 2 }, listed("--limit", "2"))
    assert.same({}, listed("--limit", "0"))
    assert.equals("waiting    2\nset-aside  1", (outbox.run(0, path, "count")))
    assert.same({ { waiting = 1, set_aside = 1 } }, outbox.json(path, "count", "--json", "--subject", "orders.*"))
    assert.matches("empty token", select(2, outbox.run(2, path, "list", "--subject", "a..b")), 1, true)
  end))

  it("show what an entry is, and let no subject move the cursor", run.case(function()
    local long = ("x"):rep(3000)
    local path = outbox.make("a.db", entry { msg_id = "m", subject = "a\27[2J.\255", data = "x", reason = long })
    local text = outbox.run(0, path, "list")
    assert.matches("a?[2J.?", text, 1, true)
    assert.is_true(#text < 600)
    local one = outbox.json(path, "list", "--json")[1]
    assert.same({ 1, "m", "set-aside", 1, long }, { one.id, one.msg_id, one.state, one.bytes, one.reason })
    assert.is_true(one.created > 1e12 and one.age >= 0)
  end))
end)

describe("moondog outbox FILE export", function()
  it("loses nothing, whatever bytes there are", run.case(function()
    local bytes = {}
    for i = 0, 255 do bytes[i + 1] = string.char(i) end
    bytes = table.concat(bytes)
    local path = outbox.make("a.db",
      entry { msg_id = "m1", subject = "s", data = "with \0 a zero, ü", headers = "A\0b\0A\0\0" }
      .. entry { msg_id = "m2", data = bytes, headers = "A\0\255\0", ttl = 60 }
      .. entry { msg_id = "m3", data = "", headers = "no end", reason = "why \254" })
    local one, two, three = unpack(outbox.json(path, "export"))
    assert.same({ 1, "m1", "s", "with \0 a zero, ü", "waiting", null, null, null, nil },
      { one.id, one.msg_id, one.subject, one.data, one.state, one.expires, one.reason, one.set_aside, one.base64 })
    assert.same({ { "A", "b" }, { "A", "" } }, one.headers)
    assert.same({ "headers", "data" }, two.base64)
    assert.same({ "QQD/AA==", 344 }, { two.headers, #two.data })
    assert.same({ "AAECAwQFBgcI", "/P3+/w==" }, { two.data:sub(1, 12), two.data:sub(-8) })
    assert.is_true(two.expires > two.created)
    assert.same({ "headers", "reason" }, three.base64)
    assert.same({ "", "set-aside" }, { three.data, three.state })
  end))

  it("writes a file that is new, for this user alone", run.case(function()
    local path = outbox.make("a.db", THREE)
    local out = run.folder() .. "/out.jsonl"
    assert.equals("2 entries exported to " .. out, (outbox.run(0, path, "export", "--state", "waiting", "-o", out)))
    local lines = {}
    for line in io.lines(out) do lines[#lines + 1] = cjson.decode(line).data end
    assert.same({ "one", "three!" }, lines)
    local mode = process.start { file = "/usr/bin/stat", args = { "-c", "%a", out } }
    mode:wait_exit()
    assert.equals("600", mode:text())
    assert.matches("is there already", select(2, outbox.run(1, path, "export", "-o", path)), 1, true)
    assert.matches("cannot write", select(2, outbox.run(1, path, "export", "-o", "/nowhere/x")), 1, true)
    assert.same({ 1, 2, 3 }, ids(outbox.json(path, "list", "--json"))) -- as it was
  end))
end)

describe("moondog outbox FILE requeue", function()
  local FOUR = THREE .. entry { msg_id = "m4", reason = "no", ttl = -5 } .. entry { msg_id = "m5", reason = "no" }

  local function states(path)
    local found = {}
    for i, e in ipairs(outbox.json(path, "list", "--json")) do
      found[i] = ("%d %s %s"):format(e.id, e.msg_id, e.state)
    end
    return found
  end

  it("puts all that was set aside behind the others, in order", run.case(function()
    local path = outbox.make("a.db", FOUR .. "DELETE FROM entry WHERE msg_id = 'm5'")
    local text = outbox.run(0, path, "requeue", "--all")
    assert.matches("2 entries wait again, behind all others: their ids are 6 to 7 now", text, 1, true)
    assert.matches("1 of them expired meanwhile", text, 1, true)
    assert.same({ "1 m1 waiting", "3 m3 waiting", "6 m2 waiting", "7 m4 waiting" }, states(path))
    local moved = outbox.json(path, "export")[3]
    assert.same({ "two", null, null, { { "A", "b" }, { "A", "c" } } },
      { moved.data, moved.reason, moved.set_aside, moved.headers })
    -- Ids are never used twice, those that were given here neither.
    outbox.make("a.db", "DELETE FROM entry WHERE id > 5;" .. entry { msg_id = "m6" })
    assert.same({ "1 m1 waiting", "3 m3 waiting", "8 m6 waiting" }, states(path))
  end))

  it("takes some of them, or changes nothing", run.case(function()
    local path = outbox.make("a.db", FOUR)
    local before = states(path)
    assert.matches("entry 1 is not set aside", select(2, outbox.run(1, path, "requeue", "2", "1")), 1, true)
    assert.matches("has no entry 99; nothing was changed", select(2, outbox.run(1, path, "requeue", "2", "99")),
      1, true)
    assert.same(before, states(path))
    assert.same({ { requeued = 2, first_id = 6, last_id = 7, expired = 0 } },
      outbox.json(path, "requeue", "5", "2", "5", "--json"))
    assert.same({ "1 m1 waiting", "3 m3 waiting", "4 m4 set-aside", "6 m2 waiting", "7 m5 waiting" }, states(path))
  end))
end)

describe("moondog outbox FILE delete", function()
  it("removes what it is told, with --yes", run.case(function()
    local path = outbox.make("a.db", THREE)
    assert.matches("add --yes", select(2, outbox.run(2, path, "delete", "1")), 1, true)
    assert.matches("has no entry 9;", select(2, outbox.run(1, path, "delete", "1", "9", "--yes")), 1, true)
    assert.same({ 1, 2, 3 }, ids(outbox.json(path, "list", "--json")))
    assert.equals("1 entry deleted", (outbox.run(0, path, "delete", "3", "3", "--yes")))
    assert.same({ { deleted = 1 } }, outbox.json(path, "delete", "--set-aside", "--yes", "--json"))
    assert.same({ 1 }, ids(outbox.json(path, "list", "--json")))
  end))
end)

describe("standard output that takes nothing", function()
  it("is said once", run.case(function()
    local path = outbox.make("a.db", THREE)
    for _, action in ipairs { "", "list", "list --json", "count", "export" } do
      local p = process.start { file = "/bin/bash",
        args = { "-c", ("'%s' outbox '%s' %s > /dev/full"):format(moondog.program(), path, action) } }
      assert.equals(1, (p:wait_exit(10)))
      assert.equals("moondog: cannot write to standard output: No space left on device", p:text("stderr"))
    end
  end))
end)

describe("options that do not go together", function()
  it("are refused with what is wrong", run.case(function()
    for said, args in pairs {
      ["list does not take option '--yes'"] = { "list", "--yes" },
      ["count does not take option '--limit'"] = { "count", "-n", "4" },
      ["summary does not take option '--state'"] = { "--state", "all" },
      ["list takes no ID"] = { "list", "4" },
      ["requeue needs the ids of entries, or --all"] = { "requeue" },
      ["or --all, not both"] = { "requeue", "4", "--all" },
      ["or --set-aside, not both"] = { "delete", "4", "--set-aside", "--yes" },
      ["must be the number of an entry"] = { "requeue", "4x" },
      ["argument 'ACTION' must be one of"] = { "lst" },
    } do
      assert.matches(said, select(2, outbox.run(2, "x.db", unpack(args))), 1, true)
    end
  end))
end)

describe("an outbox of many entries", function()
  local MANY = 100000
  local SOME = [[
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
    INSERT INTO entry (msg_id, subject, data, created) SELECT 'm' || i, 'a', zeroblob(300), 1 FROM n]]

  it("is read in portions, to whoever reads", run.case(function()
    local path = outbox.make("a.db", ([[
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
      INSERT INTO entry (msg_id, subject, data, created, state)
      SELECT 'm' || i, 'orders.' || (i %% 10), CAST(hex(zeroblob(300)) AS BLOB), 1, i %% 5 = 0 FROM n]]):format(MANY))
    local count, peak, dog = 0, 0, nil
    dog = process.start { name = "moondog", file = moondog.program(), args = { "outbox", path, "export" },
      on_line = function()
        count = count + 1
        if count % 10000 == 0 then
          local read, rss = pcall(function() return dog:rss() end)
          peak = read and math.max(peak, rss) or peak
        end
        dog.lines = {}
      end }
    assert.equals(0, (dog:wait_exit(60)))
    assert.equals(MANY, count)
    run.figure("resident memory at an export of 100,000 entries, 60 MB", peak / 2 ^ 20, "MiB")
    if not moondog.sanitized() then assert.is_true(peak > 0 and peak < 48 * 2 ^ 20, peak) end
    assert.same({ { waiting = 80000, set_aside = 20000 } }, outbox.json(path, "count", "--json"))
    assert.equals(MANY / 10, #outbox.json(path, "list", "--json", "--subject", "orders.7"))
    local begun = run.now()
    assert.matches("80000 entries", outbox.run(0, path), 1, true)
    run.figure("summary of 100,000 entries, with the look for damage", run.now() - begun, "s")
    assert.matches("20000 entries wait again, behind all others: their ids are 100001 to 120000 now",
      outbox.run(0, path, "requeue", "--all"), 1, true)
  end, { deadline = 120 }))

  it("keeps no process from tidying up its log, however slowly it is read", run.case(function()
    local holder, path = outbox.hold("a.db", SOME)
    local go = run.folder() .. "/go"
    local reader = process.start { file = "/bin/bash", args = { "-c", ([=[
      '%s' outbox '%s' export | {
        read -r line
        echo begun
        until [[ -e %s || ! -d %s ]]; do sleep 0.02; done
        wc -l
      }]=]):format(moondog.program(), path, go, run.folder()) } }
    reader:wait_line("^begun$")
    -- The first row says whether somebody was in the way.
    assert.equals("0", (select(2, outbox.make("a.db", "DELETE FROM entry WHERE id > 19000;"
      .. "PRAGMA wal_checkpoint(TRUNCATE)"))))
    run.file("go", "")
    assert.equals(0, (reader:wait_exit(30)))
    assert.equals("begun\n18999", reader:text("stdout"))
    holder:signal("sigkill")
  end))

  it("may be left in the middle, as head does", run.case(function()
    local path = outbox.make("a.db", SOME)
    for _, args in ipairs { "export", "list", "list --json" } do
      local command = ("'%s' outbox '%s' %s | head -n 3; echo ${PIPESTATUS[0]}"):format(moondog.program(), path, args)
      local p = process.start { file = "/bin/bash", args = { "-c", command } }
      assert.equals(0, (p:wait_exit(30)))
      assert.equals("", p:text("stderr"))
      assert.matches("\n1$", p:text("stdout"))
    end
  end))
end)
