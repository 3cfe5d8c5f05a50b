-- `moondog check` runs the declarations and connects to nothing.
local cjson = require "cjson"
local moondog = require "support.moondog"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { name = "gateway", servers = { $URL },
  user = "u", password = "hush-hush" }
c:subscribe("orders.*", function() end, { queue = "workers" })
c:subscribe("audit.>", function() end)
moondog.every(0.01, function() error("must not run") end)
moondog.on_start(function() error("must not run") end)
]]

local function check(text, values, ...)
  local path = moondog.script(moondog.fill(text, values), "checked.lua")
  return moondog.start { "check", path, ... }
end

describe("moondog check", function()
  it("prints connections and subscriptions, and dials nobody", run.case(function()
    local server = scripted_server.start()
    local dog = check(SCRIPT, { URL = server.url })
    dog:wait_exit(0)
    local text = dog:text("stdout")
    for _, word in ipairs { "gateway", server.url, "orders.*", "workers", "audit.>" } do
      assert.is_truthy(text:find(word, 1, true), word .. " is missing in " .. text)
    end
    assert.is_nil(dog:text():find("hush-hush", 1, true))
    assert.is_nil(dog:text():find("must not run", 1, true))
    assert.equals(0, server.accepted)
  end))

  it("prints the same as JSON", run.case(function()
    local server = scripted_server.start()
    local dog = check(SCRIPT, { URL = server.url }, "--json")
    dog:wait_exit(0)
    local report = cjson.decode(dog:text("stdout"))
    assert.is_true(report.ok)
    assert.equals("gateway", report.connections[1].name)
    assert.matches("checked%.lua:2", report.connections[1].place)
    assert.equals("orders.*", report.connections[1].subscriptions[1].subject)
    assert.equals("workers", report.connections[1].subscriptions[1].queue)
    assert.equals("audit.>", report.connections[1].subscriptions[2].subject)
  end))

  it("finds what is probably a mistake", run.case(function()
    local dog = check([[
      local c = require "moondog".connect {}
      c:subscribe("twice", function() end)
      c:subscribe("twice", function() end)
    ]])
    dog:wait_exit(1)
    assert.matches("twice", dog:text("stdout"):match("problem[^\n]*"))
    dog = check("local x = 1")
    dog:wait_exit(1)
    assert.matches("problem[^\n]*connect", dog:text("stdout"))
  end))

  it("exits 1 with the place of an error", run.case(function()
    local dog = check("local x =\n")
    dog:wait_exit(1)
    assert.matches("checked%.lua:%d", dog:text("stderr"))
    assert.equals("", dog:text("stdout"))
  end))
end)
