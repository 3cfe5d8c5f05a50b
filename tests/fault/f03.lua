-- F3 of the fault suite: -ERR. What a row is: tests/support/fault.lua.
local cjson = require "cjson"
local cells = require "support.fault_cells"
local server_errors = require "support.server_errors"

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

-- ---- every text, at every point ----

local function info_line(client)
  return "INFO " .. cjson.encode(client.server.info) .. "\r\n"
end

local function write(client, bytes, hang_up)
  if hang_up then
    client.socket:write(bytes, function() client:close() end)
  else
    client:send(bytes)
  end
end

-- Each makes the place in a step where the line comes. told: the library hands its text on.
local POINTS = {
  ["instead of INFO"] = { dial = true, step = function(line, hang_up)
    return { greet = function(client)
      write(client, line, hang_up)
      return true
    end }
  end },
  ["in one piece with INFO"] = { dial = true, step = function(line, hang_up)
    return { greet = function(client)
      write(client, info_line(client) .. line, hang_up)
      return true
    end }
  end },
  ["instead of PONG"] = { dial = true, told = true, step = function(line, hang_up)
    return { answer = function(client) write(client, line, hang_up) end }
  end },
  ["idle"] = { told = true, step = function(line, hang_up)
    return { live = function(client) write(client, line, hang_up) end }
  end },
  ["while it publishes"] = { told = true, noisy = true, step = function(line, hang_up)
    return { at = "PUB", live = function(client) write(client, line, hang_up) end }
  end },
}

-- Nothing is known of what stands where a payload should: once is enough, a probe has to find it.
local function in_a_message(line, hang_up)
  return { live = function(client)
    local sid = next(client.subs)
    write(client, ("MSG cell %s 2000\r\nbegin"):format(sid) .. line, hang_up)
  end }
end

-- Once, twice in a row, and in turn with a good link; hung up, and left open.
local function steps_at(point, line, text)
  local steps = {}
  for _, hang_up in ipairs { true, false } do
    for _, pattern in ipairs { "once", "twice", "in turn" } do
      local lines = not point.dial and pattern == "twice" and line .. line or line
      local step = point.step(lines, hang_up)
      step.title = ("%s, %s"):format(pattern, hang_up and "hung up" or "left open")
      step.text = point.told and text or nil
      if point.dial then
        step.dials = ({ once = { true }, twice = { true, true }, ["in turn"] = { true, false, true } })[pattern]
      else
        step.times = pattern == "in turn" and 2 or 1
      end
      steps[#steps + 1] = step
    end
  end
  return steps
end

-- A live link that is stale is one that nats.c replaces without a word.
local function is_silent(point, text)
  return not point.dial and text == "Stale Connection"
end

local function every_text(list)
  for _, text in ipairs(server_errors) do
    local line = "-ERR '" .. text .. "'\r\n"
    for name, point in pairs(POINTS) do
      list[#list + 1] = { title = ("%q %s"):format(text, name), noisy = point.noisy,
        steps = steps_at(point, line, not is_silent(point, text) and text or nil) }
    end
    list[#list + 1] = { title = ("%q in a message"):format(text),
      steps = { in_a_message(line, true), in_a_message(line, false) } }
  end
  return list
end

-- Lines that no nats-server writes; text: what the log must have of them, where anything.
local ODD_LINES = {
  { line = "-err 'lower case'\r\n", text = "lower case" },
  { line = "-ERR 'UPPER CASE'\r\n", text = "UPPER CASE" },
  { line = "-ERR without quotes\r\n", text = "without quotes" },
  { line = "-ERR 'half a quote\r\n", text = "half a quote" },
  { line = "-ERR \"other quotes\"\r\n", text = "other quotes" },
  { line = "-ERR '" .. ("long "):rep(1000) .. "'\r\n", text = ("long "):rep(30) },
  { line = "-ERR ''\r\n" },
  { line = "-ERR \r\n" },
  { line = "-ERR\r\n" },
  { line = "-ERR 'x'\r\n" },
  { line = "-ERR 'a NUL \0 byte'\r\n", text = "a NUL" },
  { line = "-ERR 'no UTF-8 \255\254\192\r\n", text = "no UTF-8" },
  { line = "-ERR '" .. ("\227\131\169"):rep(100) .. "'\r\n" }, -- it is cut inside of a character
  { line = "-ERR 'an escape \27[2J \194\155 and a tab\t'\r\n", text = "an escape" },
  { line = "-ERR 'a format %s%n%x'\r\n", text = "a format %s%n%x" },
  { line = "-ERR 'json \" \\ } {'\r\n", text = "json \" \\ } {" },
  { line = "-ERR 'a bare newline'\n", text = "a bare newline" },
}

local function every_line(list)
  for _, odd in ipairs(ODD_LINES) do
    for name, point in pairs(POINTS) do
      list[#list + 1] = { title = ("%q %s"):format(odd.line:sub(1, 40), name), noisy = point.noisy,
        steps = steps_at(point, odd.line, odd.text) }
    end
  end
  return list
end

local function matrix(name, make)
  local function play_all(stage)
    stage.grid = cells.start(stage, make {}, { dial = 4 })
    stage:fault()
    stage.grid:finish(60)
  end
  cases[#cases + 1] = { name = name, play = play_all, after = function(stage) stage.grid:check() end,
    stock = "hundreds of connections of one program, each with errors of its own" }
end

matrix("every text, everywhere", every_text)
matrix("lines that are odd", every_line)

return {
  id = "F3",
  title = "-ERR",
  seen = "nats.c #999; nats-server #8441 sends the wrong text",
  why = "nats.c closes for good at each error of the server that it does not know",
  promise = "it is logged with the server's text, and there is a fresh link",
  within = 5,
  cases = cases,
}
