--- Numbers and values of JSON as people read them. Pure.

local cjson = require "cjson"

local M = {}

--- nil for what JSON calls null.
function M.value(x)
  if x ~= nil and x ~= cjson.null then return x end
end

--- "1 dial", "2 dials".
---@param n integer
---@param one string
---@param many? string when it is not `one` and an s
function M.count(n, one, many)
  return ("%d %s"):format(n, n == 1 and one or many or one .. "s")
end

function M.bytes(n)
  if n < 1024 then return n .. " B" end
  if n < 1024 ^ 2 then return ("%.1f KiB"):format(n / 1024) end
  return ("%.1f MiB"):format(n / 1024 ^ 2)
end

--- "3.2 s", "4 min 10 s", "2 h 5 min".
function M.duration(seconds)
  if seconds < 60 then return ("%.1f s"):format(seconds) end
  if seconds < 3600 then return ("%d min %d s"):format(seconds / 60, seconds % 60) end
  return ("%d h %d min"):format(seconds / 3600, seconds % 3600 / 60)
end

return M
