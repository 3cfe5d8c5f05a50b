-- F29 of the fault suite: a flood for a slow handler. What a row is: tests/support/fault.lua.
local FLOOD = 50000
local CAP = 1000
local GROWTH = 24 * 2 ^ 20

local SCRIPT = [[
local sub = c:subscribe("flood", function()
  local till = moondog.now() + 0.0005
  while moondog.now() < till do end
end, { pending = { messages = $CAP } })
c:subscribe("counts", function(msg)
  local s = sub:stats()
  msg:respond(("%d %d %d"):format(s.handled, s.dropped, s.queued))
end)
]]

return {
  id = "F29",
  title = "a flood for a slow handler",
  why = "memory grows, or the server cuts the slow consumer off",
  promise = "memory is bounded, what is dropped is counted and reported once per burst, the link stays",
  within = 10,
  stock = "stock clients drop, too; who hears of it is up to the program",
  play = function(stage)
    local server = stage:server()
    stage:start { urls = { server.url }, script = SCRIPT, values = { CAP = CAP } }
    local witness = server:connect()
    local payload = ("x"):rep(1000)
    stage:fault()
    for i = 1, FLOOD do
      witness:publish("flood", payload)
      if i % 1000 == 0 then
        witness:flush(20)
      end
    end
    stage:over()
    stage.witness = witness
  end,
  after = function(stage)
    local handled, dropped
    stage:expect(function()
      local queued
      handled, dropped, queued = stage.witness:wait_answer("counts", "", 10).data:match("(%d+) (%d+) (%d+)")
      return queued == "0" and handled + dropped == FLOOD
    end, 60, "each message is handled, or counted as dropped")
    stage:check(tonumber(dropped) > 0, "nothing was dropped: no flood")
    local reports = #stage:logs(function(e) return e.level ~= "info" and (e.error or ""):find("arrive faster") end)
    stage:check(reports >= 1 and reports < 50, "%d reports of drops", reports)
    stage:check(stage.checks:growth() < GROWTH, "memory grew by %d MiB", stage.checks:growth() / 2 ^ 20)
    stage:check(#stage:logs("^closed$") + #stage:logs("^disconnected$") == 0, "the link was lost")
    local lost, sent = stage.traffic:lost("moondog", stage.fault_at)
    stage:check(lost == 0, "%d messages of %d to another subscription were lost", lost, sent)
  end,
}
