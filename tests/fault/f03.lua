-- F3 of the fault suite: -ERR. What a row is: tests/support/fault.lua.
local TEXTS = {
  { "maximum connections", "maximum connections exceeded" },
  { "account expired", "Account Authentication Expired" },
  { "user revoked", "User Authentication Revoked" },
  { "payload violation", "Maximum Payload Violation" },
  { "an unknown text", "The moon is in the wrong phase" },
  { "the link left open", "maximum subscriptions exceeded", false },
}

local function play(text, hang_up)
  return function(stage)
    local server = stage:scripted()
    stage:start { urls = { server.url } }
    stage:fault()
    for _, client in ipairs(stage:subject_clients(server)) do
      client:error(text, hang_up)
    end
    stage:over()
  end
end

local cases = {}
for i, entry in ipairs(TEXTS) do
  local text = entry[2]
  cases[i] = { name = entry[1], play = play(text, entry[3]), after = function(stage)
    local told = stage:logs(function(e) return (e.error or ""):lower():find(text:lower(), 1, true) ~= nil end)
    stage:check(#told > 0, "the log has nothing with %q", text)
  end }
end

return {
  id = "F3",
  title = "-ERR",
  seen = "nats.c #999; nats-server #8441 sends the wrong text",
  why = "nats.c closes for good at each error of the server that it does not know",
  promise = "it is logged with the server's text, and there is a fresh link",
  within = 5,
  cases = cases,
}
