--- The Lua side of jetstream_fuzz.c. Called with what C gives lua/moondog/jetstream.lua (JSON and error objects), and
--- with the input; returns the function that plays one.
local host, input = ...
local moondog = require "moondog"

-- ---- a connection, and the rest of what C gives ----

local now = 0

local function signal()
  return { wait = function(_, seconds) now = now + (seconds or 1) end, set = function() end }
end

--- What stands for a server: an answer, JSON of any data, JSON with what a good one has, or no answer.
local GOOD = {
  '{"config":{"name":"KV_a","max_msgs_per_subject":1},"state":{"last_seq":7},"created":"x","total":1}',
  '{"message":{"subject":"$KV.a.b","seq":3,"data":"YWJj","hdrs":"TkFUUy8xLjANCkE6IEINCg0K"}}',
  '{"stream":"S","seq":9}', '{"error":{"code":404,"err_code":10059,"description":"stream not found"}}',
  '{"config":{"name":"c","ack_wait":1},"num_pending":1,"num_ack_pending":0,"delivered":{"stream_seq":1},'
    .. '"ack_floor":{"stream_seq":1}}',
}

local function body()
  local kind = input.below(4)
  if kind == 0 then return input.text() end
  if kind == 1 then return GOOD[input.below(#GOOD) + 1] end
  return host.encode(input.answer()) or ""
end

local function headers()
  local h = {}
  for _ = 1, input.below(3) do
    h[({ "Status", "Nats-Sequence", "Nats-Subject", "Nats-Time-Stamp", "KV-Operation" })[input.below(5) + 1]] =
      input.text()
  end
  return h
end

local function request()
  if input.below(16) == 0 then return nil, host.error("timeout", host.TIMEOUT, "no answer") end
  return { data = body(), headers = headers() }
end

local connection = { request = request, publish = function() return true end }

host.NONE, host.PROTOCOL, host.TIMEOUT, host.NETWORK = 0, 7, 3, 2
host.signal = signal
host.link = function() return 1 end
host.over = function() return false end
host.ending = function() return false end
host.breathe = function() end

-- ---- what is called ----

local open = host.load("moondog.jetstream", host)
local server = host.consumer_server

--- The number of a place in a stream, as consumers keep it.
local function ledger()
  local position = 0
  return {
    position = function(_, n) position = n or position return position end,
    floor = function() return position + 1 end,
    note_floor = function(_, n) position = n end,
    same_stream = function(_, created) return type(created) == "string" end,
    restart = function() position = 0 end, acks_all = function() end, ack_wait = function(_, s) return s end,
  }
end

local function establish(js)
  local config, pull = host.read_consumer(1, { name = "c" })
  local c = { js = js, impatient = js, connection = connection, stream = "S", name = "c", config = config, pull = pull,
    ordered = input.below(2) == 0, bind = input.below(2) == 0, made = input.below(2) == 0, restarts = 0, received = 0,
    recreated = 0, sequences = {}, acks = true, own_name = input.below(2) == 0, ledger = ledger() }
  return server.establish(c)
end

local CALLS = {
  function(js) return js:account() end,
  function(js) return js:stream_info("S") end,
  function(js) return js:streams() end,
  function(js) return js:add_stream { name = "S", subjects = { "a" } } end,
  function(js) return js:purge_stream("S") end,
  function(js) return js:delete_stream("S") end,
  function(js) return js:get_message("S", 1) end,
  function(js) return js:publish("a", "b") end,
  function(js) return js:consumer_info("S", "c") end,
  function(js) return js:consumers("S") end,
  function(js) return js:add_consumer("S", { name = "c" }) end,
  function(js) return js:delete_consumer("S", "c") end,
  function(js) return js:key_values() end,
  function(js) return js:create_key_value { bucket = "a", limit_marker_ttl = 1 } end,
  function(js)
    local kv, err = js:key_value("a")
    if not kv then return nil, err end
    local calls = {
      function() return kv:get("b") end, function() return kv:get("b", { revision = 2 }) end,
      function() return kv:status() end, function() return kv:put("b", "c") end,
      function() return kv:create("b", "c") end, function() return kv:delete("b") end,
    }
    return calls[input.below(#calls) + 1]()
  end,
  establish,
}

local function check(ok, value, err)
  if not ok then error(value, 0) end
  if value == nil and (err == nil or type(err.code) ~= "string" or type(err.message) ~= "string") then
    error("nil without an error: " .. tostring(err), 0)
  end
end

return function()
  now = 0
  local js, err = open(connection, { timeout = 1 })
  if not js then
    check(true, js, err)
    return
  end
  check(xpcall(CALLS[input.below(#CALLS) + 1], function(e)
    return tostring(e) .. "\n" .. debug.traceback()
  end, js))
  moondog.log.debug("played")
end
