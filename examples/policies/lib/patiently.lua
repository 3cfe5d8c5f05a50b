-- Calls f(...) again and again until it gives something, and gives that back: the server may come later than the
-- script, and JetStream later than the server.
local moondog = require "moondog"

local PAUSE = 1 -- seconds

return function(f, ...)
  local result, err = f(...)
  while not result do
    moondog.log.warn("not yet", { error = err.message })
    moondog.sleep(PAUSE)
    result, err = f(...)
  end
  return result
end
