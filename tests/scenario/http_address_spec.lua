-- Where health is served: addresses, Unix sockets, and what is said when that is not possible.
local http = require "support.http"
local moondog = require "support.moondog"
local network = require "support.network"
local run = require "support.run"
local uv = require "luv"

-- Without NATS: what is tested is only where the HTTP server is.
local IDLE = 'require("moondog").every(1000, function() end)'

local function run_at(address, options)
  local path = moondog.script(IDLE)
  return moondog.start({ "run", path, "--log", "json", "--http", address }, options)
end

describe("--http", function()
  it("with the path of a Unix socket serves there, and removes it at the end", run.case(function()
    local path = run.folder() .. "/health.sock"
    local dog = run_at("unix:" .. path)
    local served = dog:wait_log("^health is served$")
    assert.equals("unix:" .. path, served.http)
    assert.equals(200, (http.get({ path = path }, "/livez")))
    local second = run_at("unix:" .. path)
    second:wait_exit(1, 10)
    assert.matches("cannot listen at unix:.*in use", second:text("stderr"))
    assert.equals(200, (http.get({ path = path }, "/livez")))
    dog:signal("sigterm")
    dog:wait_exit(0, 10)
    assert.is_nil((uv.fs_stat(path)))
  end))

  it("replaces the socket of a process that was killed", run.case(function()
    local path = run.folder() .. "/health.sock"
    local dog = run_at("unix:" .. path)
    dog:wait_log("^health is served$")
    dog:signal("sigkill")
    dog.process:wait_exit(5)
    assert.is_truthy(uv.fs_stat(path), "it was left behind")
    local second = run_at("unix:" .. path)
    second:wait_log("^health is served$")
    assert.equals(200, (http.get({ path = path }, "/livez")))
  end))

  it("does not remove a file that is no socket", run.case(function()
    local path = run.file("precious", "text")
    local dog = run_at("unix:" .. path)
    dog:wait_exit(1, 10)
    assert.matches("cannot listen", dog:text("stderr"))
    assert.equals("file", uv.fs_stat(path).type)
  end))

  it("with a port that is taken says so", run.case(function()
    local address = network.host .. ":" .. network.free_port()
    local dog = run_at(address)
    dog:wait_log("^health is served$")
    local second = run_at(address)
    second:wait_exit(1, 10)
    local text = second:text("stderr")
    assert.is_truthy(text:find("cannot listen at " .. address, 1, true), text)
    assert.matches("ddress already in use", text)
    assert.is_true(dog:running())
  end))

  for _, address in ipairs { "", "x", "70000", "1.2.3:80", "example.org:80", "::1:80", "[::1]",
    "[::1]x:80", "127.0.0.1:", "127.0.0.1:http", "unix:", "unix:/" .. ("x"):rep(200), ":" } do
    it(("with %q is a misuse"):format(address:sub(1, 20)), run.case(function()
      local dog = run_at(address)
      dog:wait_exit(2, 10)
      assert.matches("--http", dog:text("stderr"))
    end))
  end

  it("with an address of no interface says so", run.case(function()
    local dog = run_at("192.0.2.1:18080") -- reserved for documentation
    dog:wait_exit(1, 10)
    assert.matches("cannot listen at 192%.0%.2%.1:18080", dog:text("stderr"))
  end))

  it("with port 0 takes a free one, and says which", run.case(function()
    local dog = run_at(network.host .. ":0")
    local port = tonumber(dog:wait_log("^health is served$").http:match(":(%d+)$"))
    assert.is_true(port > 0)
    assert.equals(200, (http.get(port, "/livez")))
  end))

  it("with a port alone serves on 127.0.0.1", run.case(function()
    local dog = run_at("0")
    local port = dog:wait_log("^health is served$").http:match("^127%.0%.0%.1:(%d+)$")
    assert.equals(200, (http.get({ host = "127.0.0.1", port = tonumber(port) }, "/livez")))
    assert.is_nil((http.get(tonumber(port), "/livez"))) -- not on any other address
  end))

  it("with an IPv6 address serves there", run.case(function()
    local test = uv.new_tcp()
    local has_ipv6 = test:bind("::1", 0)
    test:close()
    if not has_ipv6 then
      print("        this machine has no IPv6")
      return
    end
    local dog = run_at("[::1]:0")
    local port = dog:wait_log("^health is served$").http:match("^%[::1%]:(%d+)$")
    assert.equals(200, (http.get({ host = "::1", port = tonumber(port) }, "/livez")))
  end))
end)
