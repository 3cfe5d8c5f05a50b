-- What benches make of their figures.
local M = {}

-- nil when there is none.
function M.median(list)
  local sorted = { unpack(list) }
  table.sort(sorted)
  return sorted[math.ceil(#sorted / 2)]
end

return M
