-- F2: credentials are read again at every fresh link, so a rotated file heals a connection
-- without a restart.
local certificates = require "support.certificates"
local jwt = require "support.jwt"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local nkeys = require "support.nkeys"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local function token()
  local file = assert(io.open($FILE))
  local text = file:read("*l")
  file:close()
  return text
end
local c = moondog.connect {
  servers = { $URL }, token = token,
  reconnect = moondog.backoff { base = 0.05, cap = 0.3, auth_base = 0.1 },
}
c:subscribe("rotated", function(msg) msg:respond(msg.data) end)
]]

describe("a token from a function", function()
  it("is asked for at every dial: wrong first, right later", run.case(function()
    local server = nats_server.start { token = "right-token" }
    local path = run.file("token", "wrong-token\n")
    local dog = moondog.run(SCRIPT, { URL = server.url, FILE = path })
    local failed = dog:wait_log("^dial failed$")
    assert.equals("auth", failed.class)
    assert.is_true(dog:running())
    run.file("token", "right-token\n")
    local changed_at = run.now()
    dog:wait_log("^connected$", 15)
    run.figure("from the new file to connected", run.now() - changed_at, "s")
    assert.equals("x", server:connect():wait_answer("rotated", "x", 5).data)
    assert.is_nil(dog:text():find("right-token", 1, true))
    assert.is_nil(dog:text():find("wrong-token", 1, true))
  end))

  it("heals a live connection after the server's token was changed", run.case(function()
    local server = nats_server.start { token = "first-token" }
    local path = run.file("token", "first-token\n")
    local dog = moondog.run(SCRIPT, { URL = server.url, FILE = path })
    dog:wait_log("^connected$")
    server:reload { token = "second-token" }
    dog:wait_log("^closed$", 15)
    dog:wait_log("^dial failed$", 15)
    run.file("token", "second-token\n")
    local back = dog:wait_log("^reconnected$", 15)
    assert.is_true(back.fresh)
    assert.equals("x", server:connect():wait_answer("rotated", "x", 5).data)
  end))

  it("that fails is reported, and works again when it does", run.case(function()
    local server = nats_server.start { token = "right-token" }
    local dog = moondog.run(SCRIPT, { URL = server.url, FILE = run.folder() .. "/token" })
    local failed = dog:wait_log("^token failed$")
    assert.matches("token: No such file", failed.error)
    assert.matches("script%d+%.lua:%d+", failed.traceback)
    run.file("token", "right-token\n")
    dog:wait_log("^connected$", 15)
  end))
end)

local FILES = [[
local moondog = require "moondog"
local c = moondog.connect {
  servers = { $URL }, $OPTION = $FILE,
  reconnect = moondog.backoff { base = 0.05, cap = 0.3, auth_base = 0.1 },
}
c:subscribe("rotated", function(msg) msg:respond(msg.data) end)
]]

local function run_with_file(option, values)
  return moondog.run((FILES:gsub("%$OPTION", option)), values)
end

describe("an nkey seed file", function()
  it("is read again at every dial", run.case(function()
    local key, other = nkeys.new("user"), nkeys.new("user")
    local server = nats_server.start { users = {
      { user = "witness", password = "w" }, { nkey = key.public } } }
    local path = run.file("user.nk", other.seed .. "\n")
    local dog = run_with_file("nkey_seed_file", { URL = server.url, FILE = path })
    assert.equals("auth", dog:wait_log("^dial failed$").class)
    run.file("user.nk", key.seed .. "\n")
    dog:wait_log("^connected$", 15)
    assert.equals("x", server:connect():wait_answer("rotated", "x", 5).data)
    assert.is_nil(dog:text():find(key.seed, 1, true))
  end))
end)

describe("a credentials file", function()
  it("that expires heals with a rotated one", run.case(function()
    local issuer = jwt.new()
    local server = nats_server.start(issuer.config)
    local path = jwt.creds(issuer:user(3))
    local dog = run_with_file("creds", { URL = server.url, FILE = path })
    dog:wait_log("^connected$")
    dog:wait_log("^closed$", 15)
    dog:wait_log(function(entry)
      return entry.msg == "dial failed" and entry.class == "auth"
    end, 15)
    local fresh = issuer:user()
    jwt.creds(fresh)
    local rotated_at = run.now()
    -- The server may have let the expired one in once more, in the second of its expiry.
    local back = dog:wait_log(function(entry)
      return entry.msg == "reconnected" and entry.at > rotated_at
    end, 15)
    run.figure("from the rotated file to the fresh link", back.at - rotated_at, "s")
    local witness = server:connect { login = jwt.login(issuer:user()) }
    assert.equals("x", witness:wait_answer("rotated", "x", 5).data)
    assert.is_nil(dog:text():find(fresh.key.seed, 1, true))
    assert.is_nil(dog:text():find(fresh.jwt, 1, true))
  end))

  it("that is gone for a while is a failed dial and no more", run.case(function()
    local issuer = jwt.new()
    local server = nats_server.start(issuer.config)
    local user = issuer:user()
    local path = jwt.creds(user)
    local dog = run_with_file("creds", { URL = server.url, FILE = path })
    dog:wait_log("^connected$")
    os.remove(path)
    server:kill()
    server:restart()
    dog:wait_log("^disconnected$", 10)
    jwt.creds(user)
    dog:wait_log("^reconnected$", 20)
  end))
end)

local TLS = [[
local moondog = require "moondog"
local c = moondog.connect {
  servers = { $URL }, tls = { ca = $CA, cert = $CERT, key = $KEY },
  reconnect = moondog.backoff { base = 0.05, cap = 0.3 },
}
c:subscribe("rotated", function(msg) msg:respond(msg.data) end)
]]

local function serves(paths, clients)
  return { cert = paths.cert, key = paths.key, verify = clients.ca }
end

-- The library reads these files once for a link, and would try with them for a minute.
describe("the files of TLS", function()
  it("are read again when the library cannot trust the server any more", run.case(function()
    local old, new = certificates.make("old"), certificates.make("new")
    local server = nats_server.start { tls = { cert = old.cert, key = old.key } }
    local dog = moondog.run(TLS, { URL = server.url, CA = old.ca, CERT = old.cert, KEY = old.key })
    dog:wait_log("^connected$")
    server:reload { tls = { cert = new.cert, key = new.key } }
    server:kill()
    server:restart()
    assert.equals("tls", dog:wait_log("^closed$", 15).class)
    assert.equals("tls", dog:wait_log("^dial failed$", 15).class)
    assert(os.rename(new.ca, old.ca))
    assert.is_true(dog:wait_log("^reconnected$", 15).fresh)
  end))

  it("are read again when they have changed and the server refused the old ones", run.case(function()
    local paths, stranger = certificates.make(), certificates.make("stranger")
    local client = certificates.make("client", paths)
    local server = nats_server.start { tls = serves(paths, paths) }
    local dog = moondog.run(TLS, { URL = server.url, CA = paths.ca, CERT = client.cert, KEY = client.key })
    dog:wait_log("^connected$")
    server:reload { tls = serves(paths, stranger) }
    server:kill()
    server:restart()
    dog:wait_log("^disconnected$", 15)
    assert(os.rename(stranger.key, client.key))
    assert(os.rename(stranger.cert, client.cert))
    assert.equals("tls", dog:wait_log("^closed$", 15).class)
    assert.is_true(dog:wait_log("^reconnected$", 15).fresh)
  end))
end)
