-- Where the work for a message is: scripts/bench instructions. Instructions that a process executes for one message of
-- 64 bytes into one subscription, as valgrind's callgrind counts them: of moondog with a handler that counts, and of
-- nats.c with a callback that does. A machine that is busy does not change them; what the kernel does is not in them.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local nats_server = require "support.nats_server"
local payload = require "bench.payload"
local peers = require "bench.peers"
local results = require "bench.results"
local run = require "support.run"

local FEW, MANY = 5000, results.brief and 10000 or 50000 -- messages; what they differ in is due to messages
local RATE = 10000                                        -- a second: valgrind is slow
local PATIENCE = 60
local SHOWN = 12 -- functions

-- What a function is part of, by the object that it is in.
local PARTS = {
  { "libnats", "nats.c: its parser, its threads, its lists" },
  { "libc", "the C library: memory, locks" },
  { "libluajit", "LuaJIT" },
  { "libuv", "libuv" },
  { "moondog", "moondog" },
}

local function part_of(object)
  for _, part in ipairs(PARTS) do
    if object:find(part[1], 1, true) then return part[2] end
  end
  return "other"
end

-- Instructions by function and object: { ["name [object]"] = count }.
local function read_counts(path)
  local pipe = assert(io.popen(("callgrind_annotate --threshold=100 --show-percs=no '%s' 2>&1"):format(path)))
  local counts = {}
  for line in pipe:lines() do
    local count, name, object = line:match("^%s*([%d,]+)%s+%S-:(.-) %[(.-)%]")
    if count then
      local key = ("%s [%s]"):format(name, object:match("[^/]*$"))
      counts[key] = (counts[key] or 0) + tonumber((count:gsub(",", "")))
    end
  end
  pipe:close()
  return counts
end

-- Counts of a process that has received so many messages.
local function measure(server, witness, sender, name, count)
  local out = ("%s/%s.%d"):format(run.folder(), name:gsub("%W", "_"), count)
  local kinds = peers.kinds({}, { name })
  local peer = peers.start(server, witness, kinds[1], "", { "valgrind", "--tool=callgrind", "-q",
    "--callgrind-out-file=" .. out })
  peer:order("subscribe", { subject = "to." .. peer.word })
  sender:order("offer", { count = count, value = RATE, subject = "to." .. peer.word, data = payload(64) })
  run.wait_until(function() return peer:order("received").count == count end, PATIENCE, "all messages")
  peer:stop()
  return read_counts(out)
end

local function differences(few, many)
  local list = {}
  for key, count in pairs(many) do
    local each = (count - (few[key] or 0)) / (MANY - FEW)
    if each >= 0.5 then list[#list + 1] = { key = key, each = each } end
  end
  table.sort(list, function(a, b) return a.each > b.each end)
  return list
end

local function sums(list)
  local by_part = { all = 0 }
  for _, one in ipairs(list) do
    local part = part_of(one.key:match("%[(.*)%]$"))
    by_part[part] = (by_part[part] or 0) + one.each
    by_part.all = by_part.all + one.each
  end
  return by_part
end

results.run(function()
  local server = nats_server.start()
  local witness = server:connect()
  local sender = peers.start_sender(server, witness)
  local names, lists, found_sums = { { name = "moondog" }, { name = "nats.c" } }, {}, {}
  local found = results.new("instructions", "Instructions for a message of 64 bytes, without the kernel's", names)
  for _, kind in ipairs(names) do
    lists[kind.name] = differences(measure(server, witness, sender, kind.name, FEW),
      measure(server, witness, sender, kind.name, MANY))
    found_sums[kind.name] = sums(lists[kind.name])
  end
  local rows = { { "all", "all" } }
  for _, part in ipairs(PARTS) do rows[#rows + 1] = { part[2], part[2] } end
  rows[#rows + 1] = { "other", "other" }
  for _, row in ipairs(rows) do
    local round = {}
    for name, by_part in pairs(found_sums) do round[name] = { Ir = by_part[row[1]] or 0 } end
    found:add(row[2], { round }, { { "Ir", "instructions", "%.0f", ratio = row[1] == "all" } })
  end
  results.note("\nmoondog's, function by function:")
  for i = 1, math.min(SHOWN, #lists.moondog) do
    results.note("  %6.0f  %s", lists.moondog[i].each, lists.moondog[i].key)
  end
  found:finish { server = server:version() }
end, 600)
