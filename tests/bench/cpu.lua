-- Nanoseconds of CPU that a process has used: finer than the ticks of /proc/PID/stat. Of threads
-- that have ended nothing is known.
local uv = require "luv"

return function(pid)
  local total = 0
  local tasks = assert(uv.fs_scandir(("/proc/%d/task"):format(pid)))
  for name in function() return uv.fs_scandir_next(tasks) end do
    local file = io.open(("/proc/%d/task/%s/schedstat"):format(pid, name))
    total = total + (file and file:read("*n") or 0)
    if file then file:close() end
  end
  return total
end
