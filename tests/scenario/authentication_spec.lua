-- Every way to log in that moondog.connect knows, against a real server.
local certificates = require "support.certificates"
local jwt = require "support.jwt"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local nkeys = require "support.nkeys"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect {
  name = "guest", servers = { $URL },
  on = { connected = function(c)
    print("answered " .. assert(c:request("secured", "itself")).data)
  end },
  $OPTIONS
}
c:subscribe("secured", function(msg) msg:respond(msg.data) end)
]]

local function login(server, options, values)
  values = values or {}
  values.URL = values.URL or server.url
  return moondog.run((SCRIPT:gsub("%$OPTIONS", function() return options end)), values)
end

local function works(server, dog, witness)
  dog:wait_log("^connected$")
  assert.equals("x", (witness or server:connect()):wait_answer("secured", "x", 5).data)
end

local WITNESS = { user = "witness", password = "w" }

describe("a login", function()
  it("with user and password works", run.case(function()
    local server = nats_server.start { user = "u", password = "p" }
    works(server, login(server, 'user = "u", password = "p"'))
  end))

  it("with user and password in the URL works", run.case(function()
    local server = nats_server.start { user = "u", password = "p" }
    works(server, login(server, "", { URL = server.url:gsub("//", "//u:p@") }))
  end))

  it("with $NATS_URL works", run.case(function()
    local server = nats_server.start()
    local path = moondog.script('local c = require "moondog".connect {}\n'
      .. 'c:subscribe("secured", function(msg) msg:respond(msg.data) end)\n')
    works(server, moondog.start({ "run", path, "--log", "json" },
      { env = { NATS_URL = server.url } }))
  end))

  it("with a token works", run.case(function()
    local server = nats_server.start { token = "t" }
    works(server, login(server, 'token = "t"'))
  end))

  it("with an nkey works", run.case(function()
    local key = nkeys.new("user")
    local server = nats_server.start { users = { WITNESS, { nkey = key.public } } }
    works(server, login(server, "nkey_seed_file = $FILE", { FILE = run.file("u.nk", key.seed) }))
  end))

  it("with a credentials file works", run.case(function()
    local issuer = jwt.new()
    local server = nats_server.start(issuer.config)
    local dog = login(server, "creds = $FILE", { FILE = jwt.creds(issuer:user()) })
    works(server, dog, server:connect { login = jwt.login(issuer:user()) })
  end))

  it("shows the connection's name to the server", run.case(function()
    local server = nats_server.start()
    login(server, ""):wait_log("^connected$")
    assert.equals(1, #server:clients("^guest$"))
  end))
end)

describe("TLS", function()
  it("works with the right authority", run.case(function()
    local paths = certificates.make()
    local server = nats_server.start { tls = paths }
    login(server, "tls = { ca = $CA }", { CA = paths.ca }):wait_log("^answered itself$")
    assert.is_string(server:clients("^guest$")[1].tls_version)
  end))

  it("is refused with the wrong authority, and heals with a new certificate", run.case(function()
    local paths, other = certificates.make("right"), certificates.make("other")
    local server = nats_server.start { tls = other }
    local dog = login(server, "tls = { ca = $CA }, reconnect = moondog.backoff { cap = 0.3 }",
      { CA = paths.ca })
    local failed = dog:wait_log("^dial failed$")
    assert.equals("tls", failed.class)
    server:reload { tls = paths }
    dog:wait_log("^answered itself$", 15)
  end))

  it("checks the host's name unless told otherwise", run.case(function()
    local paths = certificates.make()
    local server = nats_server.start { tls = paths }
    local dog = login(server, 'tls = { ca = $CA, hostname = "elsewhere.example" }',
      { CA = paths.ca })
    assert.equals("tls", dog:wait_log("^dial failed$").class)
    login(server, "tls = { insecure = true }"):wait_log("^answered itself$")
  end))
end)
