-- A policy of examples/policies, run as an operator runs it: the file itself, its knobs in the environment, its health
-- at dog.http.
local moondog = require "support.moondog"
local network = require "support.network"

local M = {}

M.folder = moondog.root .. "/examples/policies"

-- options: env, args (more of them).
function M.start(name, options)
  options = options or {}
  local port = network.free_port()
  local dog = moondog.start({ "run", ("%s/%s.lua"):format(M.folder, name), "--log", "json", "--http",
    network.host .. ":" .. port, unpack(options.args or {}) }, { env = options.env })
  dog.http = port
  dog:wait_log("^health is served$")
  return dog
end

-- A module of examples/policies/lib, for a test of its own.
function M.module(name)
  return dofile(("%s/lib/%s.lua"):format(M.folder, name))
end

return M
