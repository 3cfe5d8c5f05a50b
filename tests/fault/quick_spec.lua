-- The fault suite itself, and those of its rows that are soon over; all of them: scripts/faults.
local cjson = require "cjson"
local fault = require "support.fault"
local moondog = require "support.moondog"
local process = require "support.process"
local rows = require "fault.rows"
local run = require "support.run"
local table_text = require "support.fault_table"

local WITH = { moondog = true, nats_c = true }
-- Rows, and the case of it when there are several.
local QUICK = { { "F1", "password changed" }, { "F1", "callout refuses" }, { "F3", "an unknown text" },
  { "F6" }, { "F10" }, { "F17" }, { "F27" }, { "F30", "that raises" } }

local function row_of(id)
  return assert(rows.choose { id })[1]
end

local function play(id, name)
  local row = row_of(id)
  for _, case in ipairs(fault.cases(row)) do
    if case.name == name then
      return fault.play(row, case, WITH)
    end
  end
  error(("%s has no case %s"):format(id, tostring(name)))
end

describe("a fault", function()
  for _, entry in ipairs(QUICK) do
    it(("is survived as promised: %s %s"):format(entry[1], entry[2] or ""), function()
      local result = play(entry[1], entry[2])
      if result.skipped then
        return print(("%s %s is skipped: %s"):format(entry[1], entry[2], result.skipped))
      end
      print((table_text.line(result):gsub("\n", "")))
      assert.same({}, result.wrong)
      assert.is_true(result.ok)
      assert.is_number(result.subjects.moondog.deaf)
      if entry[1] == "F1" then
        assert.equals("closed", result.subjects.nats_c.word)
        assert.is_nil(result.subjects.nats_c.deaf)
      end
    end)
  end
end)

describe("the suite", function()
  -- The script closes the connection for good: what no promise survives.
  local hopeless = { id = "F0", title = "hopeless", why = "-", promise = "-", within = -7, patience = 1,
    play = function(stage)
      local server = stage:server()
      stage:start { urls = { server.url }, script = 'c:subscribe("leave", function() c:close() end)\n' }
      stage:fault()
      server:connect():publish("leave", "")
    end }

  it("sees when moondog does not come back", function()
    local result = fault.play(hopeless, fault.cases(hopeless)[1], { moondog = true })
    assert.is_false(result.ok)
    local text = table.concat(result.wrong, "\n")
    assert.matches("it is deaf", text)
    assert.matches("2: the servers have 0 links", text)
    assert.equals("deaf", result.subjects.moondog.word)
    assert.matches("FAILED\n$", table_text.line(result))
    assert.matches("it is deaf", table_text.page({ result }, 1))
  end)

  it("sees a link too many", function()
    local row = { id = "F0", title = "two", why = "-", promise = "-", within = 1, play = function(stage)
      local server = stage:server()
      stage:start { urls = { server.url }, script = 'moondog.connect { name = "other", servers = { $URL } }\n',
        values = { URL = server.url } }
      stage:fault()
      run.wait_until(function() return #stage.checks.wrong > 0 end, 20, "a finding")
      stage:over()
    end }
    local result = fault.play(row, fault.cases(row)[1], { moondog = true })
    assert.equals(1, #result.wrong)
    assert.matches("^2: 2 links or dials at a time, 1 are allowed", result.wrong[1])
  end)

  it("has a table of 120 columns, and says what its rows are", function()
    for _, line in ipairs { table_text.head(), table_text.foot({}, 1) } do
      for one in line:gmatch("[^\n]+") do
        assert.is_true(#one <= 120, one)
      end
    end
    for _, row in ipairs(rows.all()) do
      for _, case in ipairs(fault.cases(row)) do
        local absent = { absent = "no reason" }
        local line = table_text.line { id = row.id, title = row.title, case = case.name, ok = true,
          subjects = { moondog = { word = "fresh", deaf = 1000, lost = 99999 }, nats_c = absent, nats_js = absent } }
        assert.is_true(#line <= 121, line)
        assert.is_nil(line:find("...", 1, true), "a title that is too long: " .. line)
      end
      for _, key in ipairs { "id", "title", "why", "promise" } do
        assert.is_string(row[key], tostring(row.id) .. " has no " .. key)
      end
      assert.is_number(row.within)
      assert.matches("^F%d+", table_text.listed(row))
    end
  end)

  it("has a page that tells of these rows, and of no others", function()
    local file = assert(io.open(moondog.root .. "/tests/fault/faults.md"))
    local page = file:read("*a")
    file:close()
    local hint = "; make it anew: scripts/faults --page"
    local count = 0
    for _, row in ipairs(rows.all()) do
      assert.is_truthy(page:find(table_text.section(row), 1, true), row.id .. " is told otherwise" .. hint)
      for _, case in ipairs(fault.cases(row)) do
        count = count + 1
        assert.is_truthy(page:find("\n| " .. (case.name or "") .. " |", 1, true), row.id .. " lacks a case" .. hint)
      end
    end
    local _, told = page:gsub("| ok |\n", "")
    assert.equals(count, told, "cases that were ok" .. hint)
  end)

  it("is run by a script, which knows its rows", run.case(function()
    local script = moondog.root .. "/scripts/faults"
    local list = process.start { name = "faults", file = script, args = { "--list", "F1" } }
    assert.equals(0, (list:wait_exit(20)))
    assert.matches("^F1 +%a", list:text("stdout"))
    local unknown = process.start { name = "faults", file = script, args = { "F22" } }
    assert.equals(2, (unknown:wait_exit(20)))
    assert.matches("no row \"F22\"", unknown:text("stderr"))
    local json = process.start { name = "faults", file = script, args = { "--json", "F30" } }
    assert.equals(0, (json:wait_exit(60)), json:report())
    local told = cjson.decode(json:text("stdout"))
    assert.equals(3, #told.results)
    assert.equals(0, told.failed)
  end))
end)
