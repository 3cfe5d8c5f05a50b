-- A script that runs the code it is sent, with a context of JetStream: for scenarios that try its functions.
local cjson = require "cjson"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local M = {}

-- Answers with what the code returned: { ok, values... }.
M.script = [[
local moondog = require "moondog"
local cjson = require "cjson"
local c = moondog.connect { servers = { $URL } }
local function plain(x)
  return type(x) == "userdata" and { code = x.code, class = x.class, message = x.message } or x
end
c:subscribe("run", function(msg)
  local f = assert(load("local moondog, c, js = ... " .. msg.data))
  local function finish(ok, a, b)
    msg:respond(cjson.encode { ok, plain(a) == nil and cjson.null or plain(a), plain(b) })
  end
  local js, err = c:jetstream()
  finish(pcall(f, moondog, c, js or err))
end)
]]

-- What runs code: lua(code) returns up to two values, and raises what the code raised.
function M.runner(witness, deadline)
  return function(code)
    local answer = cjson.decode(witness:wait_answer("run", code, deadline or 10).data)
    if not answer[1] then error(answer[2], 2) end
    return answer[2] ~= cjson.null and answer[2] or nil, answer[3]
  end
end

-- config: of nats-server; jetstream: more of its section "jetstream".
function M.start(config, jetstream)
  if not config then
    config = { jetstream = { store_dir = run.folder() .. "/js" } }
    for key, value in pairs(jetstream or {}) do config.jetstream[key] = value end
  end
  local server = nats_server.start(config)
  local dog = moondog.run(M.script, { URL = server.url })
  dog:wait_log("^connected$")
  local witness = server:connect()
  return M.runner(witness), witness, server, dog
end

-- A misuse is an error that says this, of the line of the script that has it. `before`: the line
-- before that. run_code: as of start().
function M.assert_misuse(run_code, code, text, before)
  local ok, err = pcall(run_code, (before or "") .. "\n" .. code)
  assert(not ok, code .. " is taken")
  for _, wanted in ipairs { text, ":2: " } do
    assert(tostring(err):find(wanted, 1, true), tostring(err))
  end
end

return M
