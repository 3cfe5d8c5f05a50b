-- The harness of a scenario. A test's body is a coroutine on the libuv loop: it waits for
-- conditions with deadlines, never blocks, and what it started is stopped when it ends, however
-- it ends.
--
--   it("comes back", run.case(function()
--     local server = nats_server.start()
--     run.wait_until(function() return server:connections() == 1 end, 5, "one connection")
--   end))
local ffi = require "ffi"
local uv = require "luv"

local M = {}

-- A write to a link that was reset is an error of that write, not the end of the tests.
local SIGPIPE, SIG_IGN = 13, 1
ffi.cdef "void (*signal(int number, void (*handler)(int)))(int);"
ffi.C.signal(SIGPIPE, ffi.cast("void (*)(int)", SIG_IGN))

local POLL_MS = 5
local CLEANUP_SECONDS = 20
local scope -- of the running test

local function fail(err)
  if scope and scope.failure == nil then
    scope.failure = err
    uv.stop()
  end
end

-- An error as text that begins with the place in the spec, so that a reader finds it.
local function describe(err, co)
  local trace = co and debug.traceback(co) or debug.traceback("", 2)
  local place = trace:match("([^%s]+_spec%.lua:%d+)") or ""
  local text = type(err) == "table" and tostring(err.message or err) or tostring(err)
  if not text:find(place, 1, true) then
    text = place .. ": " .. text
  end
  return text, trace
end

-- Resumes a coroutine, unless the part of the test that it belongs to is over, or has failed: a late loop
-- runs timers together that were to be apart.
local function resume(co, ...)
  if not scope or scope.part[co] ~= scope.parts or scope.failure ~= nil then
    return
  end
  local ok, err = coroutine.resume(co, ...)
  if not ok then
    local text, trace = describe(err, co)
    fail(text .. "\n" .. trace)
  end
end

-- Starts a coroutine on the loop; an error in it fails the test.
function M.spawn(f, ...)
  local co = coroutine.create(f)
  scope.part[co] = scope.parts
  resume(co, ...)
end

-- Wraps a callback of libuv: an error in it fails the test and not the process.
function M.callback(f)
  return function(...)
    local ok, err = xpcall(f, function(e)
      local text, trace = describe(e)
      return text .. "\n" .. trace
    end, ...)
    if not ok then
      fail(err)
    end
  end
end

-- Seconds of a monotonic clock.
function M.now()
  return uv.hrtime() / 1e9
end

-- Lets the loop run for so long. Only for faults that last a time, never to wait for an effect.
function M.pause(seconds)
  local co = assert(coroutine.running(), "waits only inside run.case or run.spawn")
  local timer = uv.new_timer()
  timer:start(math.ceil(seconds * 1000), 0, function()
    timer:close()
    resume(co)
  end)
  coroutine.yield()
end

-- Polls until predicate() is true and returns its value; raises after `deadline` seconds. `what`
-- says what was expected: a text, or a function that makes one.
function M.wait_until(predicate, deadline, what)
  local limit = M.now() + deadline
  while true do
    local value = predicate()
    if value then
      return value
    end
    if M.now() > limit then
      error(("after %g s still not: %s"):format(deadline,
        type(what) == "function" and what() or what or "the condition"), 2)
    end
    M.pause(POLL_MS / 1000)
  end
end

-- The condition must hold for so long: for what must not happen.
function M.holds(predicate, seconds, what)
  local limit = M.now() + seconds
  while M.now() < limit do
    if not predicate() then
      error("did not hold: " .. what, 2)
    end
    M.pause(POLL_MS / 1000)
  end
end

-- f runs when the test ends, the last one first, also after a failure. It may wait.
function M.defer(f)
  table.insert(scope.cleanup, f)
end

-- f returns a text to be shown when the test fails (logs of a process).
function M.on_failure(f)
  table.insert(scope.reports, f)
end

-- A measured figure, for the reader of the test's output. Figures are not asserted tightly: a
-- loaded machine must not fail a test.
function M.figure(name, value, unit)
  print(("figure  %s: %.4g %s"):format(name, value, unit or ""))
end

-- This test's own temporary folder; removed at its end.
function M.folder()
  if not scope.folder then
    scope.folder = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/moondog-test-XXXXXX"))
  end
  return scope.folder
end

-- Writes a file in the test's folder (atomically) and returns its path.
function M.file(name, text)
  local path = M.folder() .. "/" .. name
  local part = path .. ".part"
  local handle = assert(io.open(part, "w"))
  handle:write(text)
  handle:close()
  assert(os.rename(part, path))
  return path
end

local function remove(path)
  local entries = uv.fs_scandir(path)
  while entries do
    local name, kind = uv.fs_scandir_next(entries)
    if not name then
      break
    end
    local child = path .. "/" .. name
    if kind == "directory" then
      remove(child)
    else
      uv.fs_unlink(child)
    end
  end
  uv.fs_rmdir(path)
end

-- Runs f as a coroutine until it ends, fails, or `deadline` seconds are over.
local function drive(f, deadline, what)
  local done = false
  scope.parts = scope.parts + 1
  local timer = uv.new_timer()
  timer:start(math.ceil(deadline * 1000), 0, function()
    fail(("%s took longer than %g s"):format(what, deadline))
  end)
  M.spawn(function()
    f()
    done = true
    uv.stop()
  end)
  while not done and scope.failure == nil do
    uv.run()
  end
  if not timer:is_closing() then
    timer:close()
  end
end

local function cleanup()
  local failure = scope.failure
  while #scope.cleanup > 0 do
    scope.failure = nil
    local f = table.remove(scope.cleanup)
    drive(f, CLEANUP_SECONDS, "the clean-up")
    failure = failure or scope.failure
  end
  uv.walk(function(handle)
    if not handle:is_closing() then
      handle:close()
    end
  end)
  uv.run()
  if scope.folder then
    remove(scope.folder)
  end
  return failure
end

local function print_reports()
  for _, report in ipairs(scope.reports) do
    local ok, text = pcall(report)
    print(ok and text or "no report: " .. tostring(text))
  end
end

-- Makes a test's body of f. options.deadline: seconds for all of it, 60 when absent.
function M.case(f, options)
  return function()
    scope = { cleanup = {}, reports = {}, part = {}, parts = 0 }
    drive(f, options and options.deadline or 60, "the test")
    local failed_before = scope.failure ~= nil
    if failed_before then
      print_reports()
    end
    local failure = cleanup()
    if failure and not failed_before then
      print_reports()
    end
    scope = nil
    if failure then
      error(failure, 0)
    end
  end
end

return M
