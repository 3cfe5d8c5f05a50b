-- Under a flow of messages a reload loses none, repeats none, and keeps their order: each number
-- comes once, to a handler of some generation, which knows from moondog.state what came before.
local cjson = require "cjson"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local SECONDS = tonumber(os.getenv("MOONDOG_FLOW_SECONDS") or "4")
local RATE = tonumber(os.getenv("MOONDOG_FLOW_RATE") or "20000") -- messages per second
local RELOAD_SECONDS = 0.5

local SCRIPT = [[
local moondog = require "moondog"
local state = moondog.state
state.last, state.wrong, state.generations = 0, 0, 0
local c = moondog.connect { servers = { $URL } }
c:subscribe("numbers", function(msg)
  local n = tonumber(msg.data)
  if n ~= state.last + 1 then state.wrong = state.wrong + 1 end
  state.last = n
end)
c:subscribe("work", function(msg)
  state.worked = (state.worked or 0) + 1
end, { queue = "workers" })
c:subscribe("echo", function(msg) msg:respond(msg.data) end)
c:subscribe("slow", function(msg)
  moondog.sleep(0.02)
  msg:respond(msg.data)
end)
c:subscribe("report", function(msg) msg:respond(require("cjson").encode(state)) end)
for i = 1, 1000 do
  c:subscribe("filler." .. i, function() end)
end
moondog.on_start(function() state.generations = state.generations + 1 end)
]]

-- Publishes so many messages a second, and ten requests each to echo and slow in every batch.
local function flow(witness)
  local batch, sent, asked = RATE / 100, 0, 0
  local answers = witness:subscribe("answers.*", function() end)
  local begun = run.now()
  while run.now() - begun < SECONDS do
    local wanted = math.min((run.now() - begun) * RATE, sent + 10 * batch)
    local out = {}
    while sent < wanted do
      sent = sent + 1
      local n = tostring(sent)
      out[#out + 1] = ("PUB numbers %d\r\n%s\r\nPUB work 1\r\nx\r\n"):format(#n, n)
      if sent % batch == 0 then
        asked = asked + 2
        out[#out + 1] = ("PUB echo answers.%d 1\r\nx\r\nPUB slow answers.%d 1\r\nx\r\n"):format(asked, asked)
      end
    end
    witness:send(table.concat(out))
    run.pause(0.002)
  end
  witness:flush(10)
  return sent, asked, answers
end

describe("reloads in a flow of messages", function()
  it("lose none, repeat none, keep their order, and leave no request without an answer",
    run.case(function()
      local server = nats_server.start()
      local dog = moondog.run(SCRIPT, { URL = server.url })
      dog:wait_log("^connected$")
      local witness = server:connect()
      run.wait_until(function() return server:subscriptions("^report$") == 1 end, 5, "all in place")
      local running, reloads = true, 0
      run.spawn(function()
        while running do
          dog:signal("sighup")
          reloads = reloads + 1
          run.pause(RELOAD_SECONDS)
        end
      end)
      local sent, asked, answers = flow(witness)
      running = false
      run.wait_until(function() return answers.count >= asked end, 10, function()
        return ("%d answers, there are %d"):format(asked, answers.count)
      end)
      local before = #dog:find_logs("^script reloaded$")
      local report
      run.wait_until(function()
        report = cjson.decode(witness:wait_answer("report", "", 5).data)
        return report.last == sent
      end, 10, function() return ("the last number %d, there is %d"):format(sent, report.last) end)
      run.pause(0.1) -- for what should not come
      assert.equals(asked, answers.count)
      assert.equals(0, report.wrong)
      assert.equals(sent, report.worked)
      local done = dog:find_logs("^script reloaded$")
      assert.is_true(report.generations > before) -- the last one may have come after the report
      assert.is_true(#done >= SECONDS / RELOAD_SECONDS - 2)
      assert.equals(0, #dog:find_logs("^reload failed$"))
      local longest = 0
      for _, entry in ipairs(done) do
        assert.same({ 1005, 0, 0 }, { entry.kept, entry.added, entry.removed })
        longest = math.max(longest, entry.swap_ms)
      end
      run.figure("messages, each exactly once and in order", sent)
      run.figure("messages per second", sent / SECONDS)
      run.figure("reloads", #done)
      run.figure("longest swap with 1,005 subscriptions", longest, "ms")
      assert.equals(1, #dog:find_logs("^connected$"))
    end, { deadline = SECONDS + 60 }))
end)
