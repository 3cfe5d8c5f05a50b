-- What it costs to be looked at: scripts/bench metrics.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local uv = require "luv"
local cpu = require "bench.cpu"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local network = require "support.network"
local process = require "support.process"
local results = require "bench.results"
local run = require "support.run"
local turns = require "bench.turns"

local MESSAGES = results.brief and 20000 or 1500000 -- a phase
local COUNTED = 200000  -- under callgrind
local BATCH = 500
local ROUNDS = results.brief and 1 or 6
local SCRAPE_SECONDS = 1

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { name = "gateway", servers = { $URL } }
local count = 0
for i = 1, 99 do c:subscribe("idle." .. i, function() end) end -- they are scraped, too
c:subscribe("flow", function() count = count + 1 end)
c:subscribe("count", function(msg) msg:respond(tostring(count)) end)
]]

-- After `sent` messages, `count` more: how many there were then, and the CPU of one in nanoseconds.
local function measure(dog, witness, count, sent)
  local batch = ("PUB flow 64\r\n" .. ("x"):rep(64) .. "\r\n"):rep(BATCH)
  local before = dog and cpu(dog.pid)
  for i = 1, count / BATCH do
    witness:send(batch)
    if i % 10 == 0 then witness:flush(10) end
  end
  sent = sent + count
  run.wait_until(function()
    return tonumber(witness:wait_answer("count", "", 10).data) == sent
  end, 60, "all messages")
  return sent, dog and (cpu(dog.pid) - before) / count
end

-- A page that nobody waits for.
local function ask(port, page, done)
  local socket = uv.new_tcp()
  socket:connect(network.host, port, run.callback(function(err)
    assert(not err, err)
    socket:write(("GET %s HTTP/1.0\r\n\r\n"):format(page))
    socket:read_start(run.callback(function(_, chunk)
      if not chunk then
        socket:close()
        done()
      end
    end))
  end))
end

-- Asks for all pages again and again until it is closed.
local function scrape(port)
  local timer, pages = uv.new_timer(), 0
  timer:start(0, SCRAPE_SECONDS * 1000, run.callback(function()
    for _, page in ipairs { "/metrics", "/readyz", "/livez" } do
      ask(port, page, function() pages = pages + 1 end)
    end
  end))
  return function()
    timer:close()
    return pages
  end
end

local function compare_cpu(found, sides)
  local server = nats_server.start()
  local port = network.free_port()
  local dog = moondog.run(SCRIPT, { URL = server.url }, { args = { "--http", network.host .. ":" .. port } })
  dog:wait_log("^connected$")
  local witness = server:connect()
  local sent = 0
  local got = turns.play(sides, { "cpu" }, ROUNDS, function(side)
    local stop = side.name == "watched" and scrape(port) or function() return 0 end
    local used
    sent, used = measure(dog, witness, MESSAGES, sent)
    return { cpu = used, pages = stop() }
  end)
  found:add(("each page asked for every %g s"):format(SCRAPE_SECONDS), got.cpu,
    { { "cpu", "ns CPU each", "%.0f", ratio = true }, { "pages", "", "%.0f" } })
end

-- What counts and measures in the way of each message.
local COUNTING = { latency_wants = true, latency_add = true, histogram_add = true }

-- Instructions do not depend on what else the machine does.
local function count_instructions(found)
  local server = nats_server.start()
  local out = run.folder() .. "/callgrind.out"
  local script = moondog.script(moondog.fill(SCRIPT, { URL = server.url }))
  local dog = process.start { name = "valgrind", file = "/usr/bin/valgrind",
    args = { "--tool=callgrind", "--callgrind-out-file=" .. out, moondog.program(), "run", script,
      "--budget", "60000", "--stall", "120" },
    env = { XDG_RUNTIME_DIR = run.folder(), NATS_URL = false } }
  local witness = server:connect()
  witness:wait_answer("count", "", 60)
  measure(nil, witness, COUNTED, 0)
  dog:signal("sigterm")
  dog:wait_exit(60)
  local pipe = assert(io.popen("callgrind_annotate --threshold=100 --show=Ir '" .. out .. "' 2>/dev/null"))
  local all, counting = nil, 0
  for line in pipe:lines() do
    local number, what = line:match("^%s*([%d,]+) %(%s*[%d.]+%%%)%s+(.*)$")
    number = number and tonumber((number:gsub(",", "")))
    if number and what:find("PROGRAM TOTALS") then
      all = number
    elseif number and COUNTING[what:match(":([%w_]+) ") or ""] then
      counting = counting + number
    end
  end
  pipe:close()
  found:add("instructions of a message, with the start of the program", { { unwatched = { all = all / COUNTED,
    counting = counting / COUNTED, share = 100 * counting / all } } }, { { "all", "", "%.0f" },
    { "counting", "to count and time", "%.1f" }, { "share", "%", "%.2f" } })
end

results.run(function()
  local sides = { { name = "watched" }, { name = "unwatched" } }
  local found = results.new("metrics", "CPU of a message in a process with 100 subscriptions", sides)
  compare_cpu(found, sides)
  if results.brief then
    found:leave_out("instructions", "that takes longer than --brief is to")
  elseif uv.fs_access("/usr/bin/valgrind", "X") then
    count_instructions(found)
  else
    found:leave_out("instructions", "Debian's package valgrind is not installed")
  end
  found:finish()
end, 300)
