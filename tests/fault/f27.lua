-- F27 of the fault suite: one permission is withdrawn. What a row is: tests/support/fault.lua.
local health = require "support.health"

local function users(subjects)
  return { users = {
    { user = "witness", password = "w" },
    { user = "game", password = "g", permissions = { subscribe = subjects, publish = { ">" } } },
  } }
end

return {
  id = "F27",
  title = "one permission is withdrawn",
  why = "the subscription is dead, and nothing says so",
  promise = "it is named in the log and by /readyz, it comes back with the permission; the link and the rest stay",
  within = 5,
  play = function(stage)
    local all = { "echo.>", "_INBOX.>", "orders" }
    local server = stage:server(users(all))
    stage:start { urls = { server.url }, user = "game", password = "g",
      options = "watchdog = { interval = 1 },",
      script = 'c:subscribe("orders", function(msg) msg:respond("taken") end)\n' }
    local witness = server:connect()
    witness:wait_answer("orders", "", 10)
    stage:fault()
    server:reload(users { "echo.>", "_INBOX.>" })
    stage:expect(function()
      return #stage:logs(function(e) return (e.error or ""):find("orders", 1, true) end) > 0
    end, 10, "the log names the subject")
    stage:expect(function()
      local status, body = health.get(stage.dog, "/readyz")
      local reason = status == 503 and health.reason_of(body, "moondog")
      return reason and reason.reason:find("orders", 1, true)
    end, 10, "/readyz names the subject")
    stage:over()
    server:reload(users(all))
    stage.server = server
  end,
  after = function(stage)
    stage:expect(function() return stage.server:subscriptions("^orders$") == 1 end, 15, "the subscription is back")
    local witness = stage.server:connect()
    stage:check(witness:wait_answer("orders", "", 10).data == "taken", "orders are not taken")
    stage:check(#stage:logs("^closed$") + #stage:logs("^disconnected$") == 0, "the link was lost")
    local lost, sent = stage.traffic:lost("moondog", stage.fault_at)
    stage:check(lost == 0, "%d messages of %d were lost", lost, sent)
  end,
}
