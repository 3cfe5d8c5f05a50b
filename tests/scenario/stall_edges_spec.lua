-- Stalls at the edges: before the loop has turned, while the process is stopped, in functions that are freed when they
-- end.
local cjson = require "cjson"
local uv = require "luv"
local http = require "support.http"
local moondog = require "support.moondog"
local network = require "support.network"
local run = require "support.run"

-- Hangs in C for ages.
local AGES = '(("a"):rep(100000) .. "b"):find(".-.-.-.-.-.-c")'
-- In C for longer than the least time that is a stall, on a fast machine; some seconds on a slow one.
local A_WHILE = '(("a"):rep(1100) .. "b"):find(".-.-c")'

local function start(text, args)
  local port = network.free_port()
  local options = { args = { "--http", network.host .. ":" .. port } }
  for _, arg in ipairs(args or {}) do table.insert(options.args, arg) end
  return moondog.run(text, {}, options), port
end

local function livez(port)
  local status, body = http.get(port, "/livez")
  return status, body and cjson.decode(body)
end

local function kill(dog)
  dog:signal("sigkill")
  dog.process:wait_exit(10)
end

describe("a loop that does not turn", function()
  it("because of on_start, in the process's first moment, is named", run.case(function()
    local dog, port = start('local moondog = require "moondog"\nmoondog.on_start(function() ' .. AGES .. " end)")
    local stalled = dog:wait_log("^loop stalled$", 10)
    assert.equals("on_start", stalled.kind)
    assert.matches("script%d+%.lua:2$", stalled.place)
    local status, body = livez(port)
    assert.equals(503, status)
    assert.matches("script%d+%.lua:2$", body.loop.place)
    kill(dog)
  end))

  it("because the top level does not end, is noticed", run.case(function()
    local dog, port = start(AGES, { "--load-budget", "100" })
    assert.equals("top level", dog:wait_log("^loop stalled$", 10).kind)
    assert.equals(503, (livez(port)))
    kill(dog)
  end))

  -- The loop is nearly always inside a function of the script when the process is stopped.
  it("because the process was stopped, is not blamed for it", run.case(function()
    local dog, port = start([[
      local moondog = require "moondog"
      moondog.every(0.001, function()
        local t = os.clock() + 0.02
        while os.clock() < t do end
      end)
    ]], { "--budget", "1000" })
    dog:wait_log("^script loaded$")
    for _ = 1, 3 do
      uv.kill(dog.pid, "sigstop")
      run.pause(1.5)
      uv.kill(dog.pid, "sigcont")
      assert.equals(200, (livez(port)))
    end
    assert.equals(0, #dog:find_logs("^loop stalled$"))
    assert.equals(0, #dog:find_logs("^timer failed$")) -- nor the function
  end))

  -- Sanitizers see what is wrong here.
  it("is described until the function ends, and not read after that", run.case(function()
    local dog, port = start([[
      local moondog = require "moondog"
      moondog.after(0.1, function() moondog.spawn(function() ]] .. A_WHILE .. [[ end) end)
    ]], { "--stall", "0.1", "--name", "busy" })
    dog:wait_log("^loop stalled$", 10)
    repeat livez(port) until #dog:find_logs("^loop turns again$") > 0
    local eval = moondog.start({ "eval", A_WHILE, "busy" })
    dog:wait_log("^loop stalled$", 10, 2)
    repeat livez(port) until #dog:find_logs("^loop turns again$") > 1
    eval.process:wait_exit(10)
  end))
end)
