-- Times as the server says them: "2026-11-27T04:50:45.195317Z".
local M = {}

local DAY = 86400

-- Seconds of the day.
function M.parse(text)
  local hours, minutes, seconds = text:match("T(%d+):(%d+):([%d.]+)")
  return hours * 3600 + minutes * 60 + seconds
end

-- Seconds from one time to another one of the same day or the next; both in seconds of anything that begins with a day.
function M.between(from, to)
  return (to - from) % DAY
end

return M
