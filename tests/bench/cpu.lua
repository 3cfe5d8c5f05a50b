-- Nanoseconds of CPU that a process has used, user and system, also in threads that have ended.
local ffi = require "ffi"

ffi.cdef [[
typedef struct { long seconds, nanoseconds; } bench_time;
int clock_getcpuclockid(int pid, int *clock);
int clock_gettime(int clock, bench_time *time);
]]

return function(pid)
  local clock, time = ffi.new "int[1]", ffi.new "bench_time"
  assert(ffi.C.clock_getcpuclockid(pid, clock) == 0, "no such process")
  assert(ffi.C.clock_gettime(clock[0], time) == 0, "its CPU cannot be read")
  return tonumber(time.seconds) * 1e9 + tonumber(time.nanoseconds)
end
