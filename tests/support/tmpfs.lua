-- Small file systems that can be full, in memory, within the test's folder. Only root may make them.
local run = require "support.run"

local M = {}

local FILLER = "/filler"

local function sh(format, ...)
  return os.execute(format:format(...) .. " 2>/dev/null") == 0
end

-- Why there can be none here, or nil.
function M.missing()
  local folder = os.tmpname()
  os.remove(folder)
  local ok = sh("mkdir %s && mount -t tmpfs -o size=1m none %s && umount %s", folder, folder, folder)
  sh("rmdir %s", folder)
  return not ok and "nobody but root may mount a tmpfs" or nil
end

-- One of so many MiB; its path. It goes at the test's end.
function M.mount(name, mib)
  local folder = run.folder() .. "/" .. name
  assert(sh("mkdir %s && mount -t tmpfs -o size=%dm none %s", folder, mib, folder), "no tmpfs at " .. folder)
  run.defer(function()
    assert(sh("umount %s || umount -l %s", folder, folder), "it stays mounted: " .. folder)
  end)
  return folder
end

-- Leaves nothing free.
function M.fill(folder)
  sh("cat /dev/zero > %s%s", folder, FILLER)
end

function M.empty(folder)
  assert(os.remove(folder .. FILLER))
end

function M.grow(folder, mib)
  assert(sh("mount -o remount,size=%dm %s", mib, folder))
end

return M
