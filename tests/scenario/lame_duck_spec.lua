-- F23: a server says that it will go. Another one of the list is asked before it sends its clients away,
-- when there is one.
local cjson = require "cjson"
local moondog = require "support.moondog"
local network = require "support.network"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect {
  servers = $SERVERS, watchdog = { probe = 0.1, lame_duck = $LAME_DUCK },
  on = { lame_duck = function() moondog.log.info("told") end },
}
c:subscribe("heard", function(msg) msg:respond("yes") end)
c:subscribe("links", function(msg) msg:respond(("%d %s"):format(c:stats().links, c:status().reason)) end)
]]

local function announce(server)
  local info = {}
  for key, value in pairs(server.info) do
    info[key] = value
  end
  info.ldm = true
  for client in pairs(server.clients) do
    client:send("INFO " .. cjson.encode(info) .. "\r\n")
  end
end

local function start(servers, seconds)
  local dog = moondog.run(SCRIPT, { SERVERS = table.concat(servers, ","), LAME_DUCK = seconds })
  dog:wait_log("^connected$", 20)
  return dog
end

-- It has been told, and some probes later it is where it was.
local function stays(server, dog)
  announce(server)
  dog:wait_log("^told$", 10)
  local client = server.last
  local probes = #client.ops
  run.wait_until(function() return #client.ops > probes + 10 end, 10, "probes")
  assert.is_false(client.closed == true)
  assert.equals(0, #dog:find_logs("^closed$"))
end

describe("a lame duck", function()
  it("is left for another server of the list, and not asked again", run.case(function()
    local first, second = scripted_server.start(), scripted_server.start()
    local dog = start({ first.url, second.url }, 0.2)
    assert.equals(1, first:count())
    announce(first)
    local closed = dog:wait_log("^closed$", 10)
    assert.equals("lame_duck", closed.reason)
    assert.equals("info", closed.level)
    assert.equals("lame_duck", dog:wait_log("^reconnected$", 10).reason)
    run.wait_until(function() return first:count() == 0 end, 10, "no link at the lame duck")
    run.wait_until(function() return second:subscriptions("^heard$") == 1 end, 10, "its subscriptions")
    assert.equals(1, first.accepted)
    run.wait_until(function() return second:count() == 1 end, 10, "one link: the look has ended")
  end))

  it("is passed over wherever it is in the list", run.case(function()
    local first, second = scripted_server.start(), scripted_server.start()
    local dog = start({ first.url, first.url, "nats://u:p@127.0.0.1:" .. first.port, second.url }, 0.2)
    announce(first)
    dog:wait_log("^reconnected$", 10)
    assert.equals(1, first.accepted)
    run.wait_until(function() return second:count() == 1 end, 10, "one link: the look has ended")
  end))

  it("is left when another server can be reached, and not before", run.case(function()
    local first, port = scripted_server.start(), network.free_port()
    local dog = start({ first.url, network.url(port) }, 0.2)
    stays(first, dog)
    local second = scripted_server.start { port = port }
    dog:wait_log("^reconnected$", 10)
    assert.equals(1, #dog:find_logs("^closed$"))
    assert.equals(0, #dog:find_logs("^dial failed$"))
    run.wait_until(function() return second:count() == 1 end, 10, "one link: the look has ended")
  end))

  it("that is the only server is not left", run.case(function()
    local server = scripted_server.start()
    stays(server, start({ server.url }, 0.2))
  end))

  it("is not left when the script does not want that", run.case(function()
    local first, second = scripted_server.start(), scripted_server.start()
    stays(first, start({ first.url, second.url }, 0))
    assert.equals(0, second.accepted)
  end))
end)
