-- A file of host names that only this process and what it starts see, for names whose addresses change:
-- a mount namespace of its own, until the test's end. Only root may have one.
local ffi = require "ffi"
local uv = require "luv"
local run = require "support.run"

local M = {}

ffi.cdef [[
int unshare(int flags);
int setns(int fd, int kind);
]]

local CLONE_NEWNS = 0x20000
local FILE = "/etc/hosts"
local is_own = false -- the file is nobody else's

local function sh(format, ...)
  return os.execute(format:format(...) .. " 2>/dev/null") == 0
end

-- Why there can be none here, or nil.
function M.missing()
  return not sh("unshare --mount mount --bind %s %s", FILE, FILE) and "nobody but root may mount a file of host names"
    or nil
end

-- From now on what names says is known: addresses by names.
function M.say(names)
  assert(is_own, "the file of host names is that of all")
  local lines = { "127.0.0.1 localhost" }
  for name, address in pairs(names) do
    lines[#lines + 1] = address .. " " .. name
  end
  local file = assert(io.open(FILE, "w")) -- the same file: it is the one that is mounted
  file:write(table.concat(lines, "\n"), "\n")
  file:close()
end

-- Leaves the others' file of host names, until the test's end.
function M.own(names)
  local folder = uv.cwd()
  local before = assert(uv.fs_open("/proc/thread-self/ns/mnt", "r", 0))
  local file = run.file("hosts", "")
  assert(ffi.C.unshare(CLONE_NEWNS) == 0, "no mount namespace")
  run.defer(function()
    assert(ffi.C.setns(before, CLONE_NEWNS) == 0, "it does not get back to the mounts of all")
    is_own = false
    uv.fs_close(before)
    assert(uv.chdir(folder)) -- setns() has left it
  end)
  assert(sh("mount --make-rprivate / && mount --bind %s %s", file, FILE), "cannot mount " .. FILE)
  is_own = true
  M.say(names)
end

return M
