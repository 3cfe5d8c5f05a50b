-- The examples do what their comments say.
local js_script = require "support.js_script"
local moondog = require "support.moondog"
local run = require "support.run"
local uv = require "luv"

local FOLDER = moondog.root .. "/examples/policies"
local ORDERS = FOLDER .. "/orders.lua"

describe("the shop that loses no order", function()
  it("takes orders while there is no server, and sells each once", run.case(function()
    local lua, witness, server = js_script.start() -- which puts prices into the bucket
    local outbox = run.folder() .. "/orders.outbox"
    local dog = moondog.start({ "run", ORDERS, "--log", "json" }, { env = { NATS_URL = server.url,
      ORDERS_OUTBOX = outbox } })
    assert.equals("taken", witness:wait_answer("shop.order", "apple", 10).data)
    assert.equals("taken", witness:wait_answer("shop.order", "pear", 10).data)
    run.wait_until(function() return (lua 'return js.key_value and js:key_value("prices") ~= nil') end, 10,
      "a bucket of prices")
    lua 'assert(js:key_value("prices"):put("apple", 3))'
    lua 'assert(js:key_value("prices"):put("pear", 4))'
    local sold = {}
    for i = 1, 2 do
      local entry = dog:wait_log("^sold$", 20, i)
      sold[entry.what] = entry.price
    end
    assert.same({ apple = 3, pear = 4 }, sold)
    witness:close()
    server:kill()
    server:restart()
    witness = server:connect()
    assert.equals("taken", witness:wait_answer("shop.order", "apple", 20).data)
    assert.equals(3, dog:wait_log("^sold$", 20, 3).order)
    dog:signal("sigterm")
    dog:wait_exit(0)
    assert.equals(3, #dog:find_logs("^sold$"))
  end))
end)

-- All that can be run; their modules are in the folder lib.
local function policies()
  local found = {}
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(FOLDER)) do
    if name:find("%.lua$") then found[#found + 1] = name end
  end
  table.sort(found)
  assert(#found > 0, "no policies in " .. FOLDER)
  return found
end

describe("an example", function()
  for _, name in ipairs(policies()) do
    it(("is taken by moondog check: %s"):format(name), run.case(function()
      local dog = moondog.start { "check", FOLDER .. "/" .. name }
      dog:wait_exit(0)
    end))
  end
end)
