-- The text of `moondog doctor`: findings under what they are about, and outages in words.
local root = os.getenv("MOONDOG_ROOT") or "."
package.path = root .. "/lua/?.lua;" .. package.path

local cjson = require "cjson"
local doctor = require "moondog.cli_doctor"

local function closure(fields)
  local c = { at = "2026-11-25T09:44:23.123Z", connection = "gateway", server = "nats://a:4222", closed = true,
    reason = "closed", error = { code = "auth_failed", class = "auth", message = "Authorization Violation" },
    outage = 4.5, ["end"] = "fresh", dials_failed = 3 }
  for key, value in pairs(fields or {}) do c[key] = value end
  return c
end

local function words(fields)
  local heading, sentences = doctor.explain(closure(fields))
  local text = {}
  for _, s in ipairs(sentences) do text[#text + 1] = s[1] .. ": " .. s[2] end
  return table.concat(text, "\n"), heading
end

local function render(findings, closures)
  local report = { ok = true, problems = 0, warnings = 0, findings = findings, closures = closures or cjson.null }
  for _, f in ipairs(findings) do
    if f.status == "problem" then report.problems = report.problems + 1 end
    if f.status == "warning" then report.warnings = report.warnings + 1 end
  end
  return doctor.render(cjson.encode(report))
end

describe("an outage", function()
  it("is explained by what the library gave up for, and how it ended", function()
    local text, heading = words()
    assert.are.equal("2026-11-25 09:44:23 UTC, gateway at nats://a:4222: down for 4.5 s", heading)
    assert.matches("happened: The server refused the login. It was told: Authorization Violation", text, 1, true)
    assert.matches("why: Two authorization errors in a row", text, 1, true)
    assert.matches("moondog: made a fresh link after 3 dials that failed", text, 1, true)
    assert.matches("to do: Look at the server's users", text, 1, true)
  end)

  it("that goes on says what is being done", function()
    local text, heading = words { outage = cjson.null, ["end"] = cjson.null, dials_failed = 1,
      last_error = { code = "no_server", class = "network", message = "Connection refused" } }
    assert.matches("down until now", heading, 1, true)
    assert.matches("still trying to make a fresh link; 1 dial failed so far", text, 1, true)
    assert.matches("The last of these dials failed: Connection refused", text, 1, true)
    assert.matches("no dial has ended so far", words { outage = cjson.null, ["end"] = cjson.null, dials_failed = 0 },
      1, true)
  end)

  it("that the library ended by itself needed no help", function()
    local text = words { closed = false, reason = "none", ["end"] = "library", dials_failed = 0,
      error = { code = "disconnected", class = "network", message = "gone" } }
    assert.matches("moondog: left it to the library", text, 1, true)
    assert.matches("to do: Look whether the server was restarted", text, 1, true)
  end)

  it("has words for every reason, class and code", function()
    for _, reason in ipairs { "probe", "reconnecting", "hung", "requested", "lame_duck" } do
      assert.is_nil((words { reason = reason }):find("refused the login", 1, true))
    end
    for _, class in ipairs { "none", "auth", "network", "timeout", "stale", "tls", "limit", "protocol" } do
      local text = words { error = { code = "unheard_of", class = class, message = "m" } }
      for _, label in ipairs { "happened", "why", "moondog", "to do" } do
        assert.matches(label .. ": %w", text)
      end
    end
    assert.matches("expired", words { error = { code = "auth_expired", class = "auth", message = "m" } }, 1, true)
    assert.matches("max_connections", words { error = { code = "max_connections", class = "limit", message = "m" } },
      1, true)
    assert.is_nil((words { reason = "requested" }):find("It was told", 1, true))
  end)
end)

describe("the text of a report", function()
  it("groups findings by what they are about, with remedies", function()
    local text = render {
      { check = "clock", status = "ok", what = "right" },
      { check = "tcp", status = "problem", what = "refused", remedy = "start it", connection = "gw",
        server = "nats://a:1" },
      { check = "dns", status = "ok", what = "a", connection = "gw", server = "nats://b:1" },
    }
    assert.are.equal([[
this machine
  ok       clock: right

connection gw, server nats://a:1
  problem  tcp: refused
           -> start it

connection gw, server nats://b:1
  ok       dns: a

1 problem, 0 warnings
]], text)
  end)

  it("says when nothing is wrong", function()
    assert.matches("\nnothing is wrong\n$", render { { check = "clock", status = "ok", what = "right" } })
  end)

  it("fits a terminal, and lets no name move its cursor", function()
    local text = render({ { check = "x", status = "warning", what = ("long "):rep(100), remedy = "a\27[2Jb" } },
      { closure { connection = "g\27w" } })
    for line in text:gmatch("[^\n]+") do assert.is_true(#line <= 100, line) end
    assert.is_nil(text:find("\27", 1, true))
    assert.matches("%-> a%?%[2Jb", text)
  end)

  it("has the newest outages, and says that there are more", function()
    local list = {}
    for i = 1, 12 do list[i] = closure { connection = "c" .. i } end
    local text = render({}, list)
    assert.is_true(text:find("c12 at", 1, true) < text:find("c5 at", 1, true))
    assert.is_nil(text:find("c4 at", 1, true))
    assert.matches("... 4 before these: see --json", text, 1, true)
  end)
end)
