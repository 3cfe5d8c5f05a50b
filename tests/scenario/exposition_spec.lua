-- What Prometheus would refuse of a page, it does not get: no series comes twice.
local http = require "support.http"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local network = require "support.network"
local run = require "support.run"

describe("the page of metrics", function()
  it("has each series once, also when names are no text", run.case(function()
    local server, port = nats_server.start(), network.free_port()
    local dog = moondog.run([[
      local moondog = require "moondog"
      local c = moondog.connect { name = "c", servers = { $URL } }
      for _, subject in ipairs { "x.\255", "x.\254", "go" } do c:subscribe(subject, function() error("no") end) end
      moondog.every(0.05, function() c:publish("x.\255", "") c:publish("x.\254", "") end)
    ]], { URL = server.url }, { args = { "--http", network.host .. ":" .. port } })
    dog:wait_log("^connected$")
    local page
    run.wait_until(function()
      page = select(2, http.get(port, "/metrics"))
      return tonumber(page:match('moondog_lua_errors_total{kind="handler",name="x%.%?"} (%d+)') or 0) > 1
    end, 5, "errors of both")
    local seen = {}
    for line in page:gmatch("[^\n]+") do
      local series = line:match("^([^#].*) [^ ]+$")
      if series then
        assert.is_nil(seen[series], series)
        seen[series] = true
      end
    end
  end))
end)
