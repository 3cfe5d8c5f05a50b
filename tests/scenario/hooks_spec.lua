-- F7: whatever a hook or a policy does (raises, takes other arguments, returns nonsense, never
-- returns), the recovery goes on, and the log says what went wrong and where.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

-- $BODY is the hooks' or the policy's code.
local HOOKS = [[
local moondog = require "moondog"
local function bad(...)
  $BODY
end
local c = moondog.connect {
  name = "stubborn", servers = { $URL }, library_reconnect = $LIBRARY,
  reconnect = moondog.backoff { base = 0.05, cap = 0.3 },
  on = { connected = bad, disconnected = bad, reconnected = bad, closed = bad, error = bad,
    probe = bad },
}
c:subscribe("hooked", function(msg) msg:respond(msg.data) end)
]]

local POLICY = [[
local moondog = require "moondog"
local asked = 0
local c = moondog.connect {
  name = "stubborn", servers = { $URL }, library_reconnect = $LIBRARY,
  reconnect = function(ctx)
    asked = asked + 1
    $BODY
  end,
}
c:subscribe("hooked", function(msg) msg:respond(msg.data) end)
c:subscribe("asked", function(msg) msg:respond(tostring(asked)) end)
]]

local function outage(script, body, library)
  local server = nats_server.start()
  local text = script:gsub("%$BODY", function() return body end)
  local dog = moondog.run(text, { URL = server.url, LIBRARY = library })
  dog:wait_log("^connected$")
  server:connect():wait_answer("hooked", "a", 5)
  server:kill()
  server:restart()
  local witness = server:connect()
  assert.equals("b", witness:wait_answer("hooked", "b", 30).data)
  dog:wait_log("^reconnected$", 10)
  return dog, witness
end

describe("hooks that raise", function()
  for name, library in pairs { ["the library"] = true, ["the watchdog"] = false } do
    it("do not stop a recovery by " .. name, run.case(function()
      local dog = outage(HOOKS, 'local t = nil; return t.boom("hook")', library)
      local failed = dog:wait_log("^hook failed$", 5, 2)
      assert.matches("script%d+%.lua:3: attempt to index", failed.error)
      assert.matches("script%d+%.lua", failed.traceback)
      assert.matches("^stubborn%.", failed.name)
    end))
  end

  it("with an error that is no text, or whose text raises, are reported all the same",
    run.case(function()
      local dog = outage(HOOKS, "error({})", false)
      dog:wait_log("^hook failed$", 5)
      dog = outage(HOOKS, 'error(setmetatable({}, { __tostring = function() error("no") end }))',
        false)
      dog:wait_log("^hook failed$", 5)
    end))
end)

describe("hooks with another number of arguments", function()
  it("work, or are reported, and the recovery goes on", run.case(function()
    local dog = outage([[
      local moondog = require "moondog"
      local c = moondog.connect {
        servers = { $URL }, library_reconnect = $LIBRARY,
        reconnect = moondog.backoff { base = 0.05, cap = 0.3 },
        on = {
          connected = function() print("took none") end,
          closed = function(conn, err, more) print("took more " .. err.code .. tostring(more)) end,
          reconnected = function(conn, info, third) return third.field end,
        },
      }
      c:subscribe("hooked", function(msg) msg:respond(msg.data) end)
    ]], "", false)
    dog:wait_log("^took none$", 5)
    dog:wait_log("^took more %a+.*nil$", 5)
    dog:wait_log("^hook failed$", 5)
  end))
end)

describe("hooks that never return", function()
  it("are stopped at their budget", run.case(function()
    local dog = outage(HOOKS, "while true do end", false)
    local failed = dog:wait_log("^hook failed$", 5, 2)
    assert.is_true(failed.over_budget)
    assert.matches("script%d+%.lua:3: .*budget", failed.error)
    assert.matches("script%d+%.lua", failed.traceback)
  end))
end)

describe("a policy", function()
  local bodies = {
    raises = 'error("no idea")',
    ["returns nothing"] = "return nil",
    ["returns a text"] = 'return "soon"',
    ["returns a table"] = "return {}",
    ["returns a negative number"] = "return -1",
    ["returns no number"] = "return 0 / 0",
    ["returns infinity"] = "return math.huge",
    ["never returns"] = "while true do end",
    ["waits"] = "moondog.sleep(100)",
  }
  for what, body in pairs(bodies) do
    it("that " .. what .. " is replaced by the built-in one", run.case(function()
      local dog, witness = outage(POLICY, body, false)
      local failed = dog:wait_log("^policy failed$", 10)
      assert.matches("^stubborn%.", failed.name)
      assert.is_true(tonumber(witness:wait_answer("asked", "", 5).data) >= 1)
      if what == "raises" then
        assert.matches("script%d+%.lua:%d+: no idea", failed.error)
        assert.matches("script%d+%.lua:%d+", failed.traceback)
      end
    end))
  end

  it("that raises does not hold up the library's own reconnecting", run.case(function()
    outage(POLICY, 'error("no idea")', true)
  end))

  it("gets the attempt, the error, its class, the outage and the server", run.case(function()
    local dog = outage(POLICY, [[
      print(("ctx %d %s %s %s %s"):format(ctx.attempt, ctx.class, type(ctx.outage),
        tostring(ctx.server), tostring(ctx.error)))
      return 0.05
    ]], false)
    local entry = dog:wait_log("^ctx ", 5)
    assert.matches("^ctx %d+ network number nats://[%d.:]+ .+", entry.msg)
  end))
end)
