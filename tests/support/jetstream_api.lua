-- What tests ask a server's JetStream itself.
local cjson = require "cjson"
local run = require "support.run"

local M = {}

-- One request of the API. It is asked again while it is refused: a cluster that has just begun has no room yet.
function M.api(server, name, body)
  local client = server:connect()
  local said
  local answer = run.wait_until(function()
    local got = cjson.decode(client:wait_answer("$JS.API." .. name, body and cjson.encode(body) or "", 20).data)
    said = got.error and got.error.description
    return not said and got
  end, 30, function() return name .. " is carried out: " .. tostring(said) end)
  client:close()
  return answer
end

function M.add_stream(server, name, subjects, replicas)
  return M.api(server, "STREAM.CREATE." .. name, { name = name, subjects = subjects, storage = "file",
    retention = "limits", max_consumers = -1, max_msgs = -1, max_bytes = -1, num_replicas = replicas or 1 })
end

-- How many messages the stream has of each subject: a table.
function M.subjects(server, name)
  return M.api(server, "STREAM.INFO." .. name, { subjects_filter = ">" }).state.subjects or {}
end

-- The consumers of a stream: a list of their names.
function M.consumers(server, name)
  local list = M.api(server, "CONSUMER.NAMES." .. name).consumers
  return type(list) == "table" and list or {}
end

return M
