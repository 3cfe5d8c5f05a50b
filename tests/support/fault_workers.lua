-- Plays cases of the fault suite several at a time, each in one of some processes: most of a case is
-- waiting. What a case starts, its folder and its ports are its own.
local cjson = require "cjson"
local process = require "support.process"
local run = require "support.run"

local M = {}

M.DEADLINE = 3600 -- seconds for all of them
local END_SECONDS = 20 -- for a worker that is told to end to stop what its case has started

-- What a worker does: plays what it is told, line by line, until its input ends. play(index): returns
-- a result.
function M.work(play)
  io.stdout:setvbuf("line")
  for line in io.lines() do
    io.write(cjson.encode(play(tonumber(line))), "\n")
  end
end

-- Returns a function: whether this worker has ended.
local function start_worker(queue, command)
  local worker, index
  local function go_on()
    index = queue.next <= queue.count and queue.next or nil
    if index then
      queue.next = index + 1
      worker:write(index .. "\n")
    else
      worker:end_input()
    end
  end
  worker = process.start { name = "faults", file = command[1], args = { unpack(command, 2) }, input = true,
    patience = END_SECONDS, on_line = function(line, stream)
      if stream == "stderr" then
        io.stderr:write(line, "\n")
        return
      end
      queue.take(index, cjson.decode(line))
      go_on()
    end }
  go_on()
  return function() return worker:has_ended() end
end

-- Plays cases 1 to count with so many workers, each started with this command. take(index, result):
-- called as they end, in any order; not for a case with which its worker ended. In a case of its own
-- (run.case).
function M.play(count, workers, command, take)
  local queue = { next = 1, count = count, take = take }
  local ends = {}
  for i = 1, math.min(workers, count) do
    ends[i] = start_worker(queue, command)
  end
  run.wait_until(function()
    for _, has_ended in ipairs(ends) do
      if not has_ended() then
        return false
      end
    end
    return true
  end, M.DEADLINE, "the end of all cases")
end

return M
