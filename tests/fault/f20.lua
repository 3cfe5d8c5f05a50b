-- F20 of the fault suite: 98 MiB published without a link. What a row is: tests/support/fault.lua.
local health = require "support.health"
local run = require "support.run"

local KIB = 100000 -- published while there is no link: 98 MiB
local CAP = 8 * 2 ^ 20
local GROWTH = 32 * 2 ^ 20 -- the buffer, and what an allocator keeps beside it

-- Numbered messages of 1 KiB, in portions, as long as there is no link.
local SCRIPT = [[
local number, accepted, refused, code = 0, {}, 0, nil
local timer
local function portion()
  for _ = 1, 1000 do
    number = number + 1
    local ok, err = c:publish("late", ("%07d"):format(number) .. ("x"):rep(1017))
    if ok then
      accepted[#accepted + 1] = number
    else
      refused, code = refused + 1, err.code
    end
  end
  if number >= $KIB then
    timer:cancel()
    moondog.log.info("published", { accepted = #accepted, refused = refused, code = code,
      first = accepted[1], last = accepted[#accepted] })
  end
end
c:subscribe("go", function() timer = timer or moondog.every(0.01, portion) end)
]]

return {
  id = "F20",
  title = "98 MiB published without a link",
  seen = "nats.java #1135, nats.go #1163",
  why = "pending buffers grow without bound until the process dies",
  promise = "8 MiB are kept by default and sent in order, the publisher is told of the rest, gauges show it",
  within = 5,
  stock = "what a stock client keeps, and whether its publisher hears of the rest, is not measured here",
  play = function(stage)
    local server = stage:server()
    local way = stage:proxy(server)
    stage:start { urls = { way.url }, script = SCRIPT, values = { KIB = KIB } }
    local witness = server:connect()
    stage.late = witness:subscribe("late")
    witness:flush()
    stage:fault()
    witness:publish("go", "")
    witness:flush()
    way:lock()
    way:reset()
    stage.report = stage.dog:wait_log("^published$", 60)
    stage.pending = health.metric(stage.dog, "moondog_connection_pending_bytes")
    run.pause(1)
    stage:over()
    way:unlock()
  end,
  after = function(stage)
    local report = stage.report
    stage:check(report.refused > 0 and report.code == "pending_full", "the publisher was not told: %s",
      tostring(report.code))
    stage:check(stage.pending > CAP / 2 and stage.pending <= CAP, "%d bytes are pending", stage.pending)
    stage:check(stage.checks:growth() < GROWTH, "memory grew by %d MiB", stage.checks:growth() / 2 ^ 20)
    -- Some may have been on their way when the link was cut: those are the only ones to be missing.
    local newest, disorder = 0, 0
    stage:expect(function()
      local last = stage.late.messages[#stage.late.messages]
      return last and tonumber(last.data:sub(1, 7)) == report.last
    end, 20, "the last message that was taken arrives")
    for _, msg in ipairs(stage.late.messages) do
      local number = tonumber(msg.data:sub(1, 7))
      disorder = disorder + (number > newest and 0 or 1)
      newest = number
    end
    stage:check(disorder == 0, "%d messages are out of order, or came twice", disorder)
  end,
}
