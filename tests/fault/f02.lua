-- F2 of the fault suite: what logs in expires. What a row is: tests/support/fault.lua.
local certificates = require "support.certificates"
local jwt = require "support.jwt"
local run = require "support.run"
local scripted_server = require "support.scripted_server"
local uv = require "luv"

local VALID_SECONDS = 10 -- long enough for all to be connected before
local REFUSED_SECONDS = 2

-- ---- JWTs ----

-- A server that all subjects have logged in to, with credentials for so many seconds (nil: for good).
-- Returns it, the issuer, and the subjects' user.
local function log_in(stage, seconds)
  local issuer = jwt.new()
  local server = stage:server(issuer.config)
  local witness, user = issuer:user(), issuer:user(seconds)
  stage:start { urls = { server.url }, creds = jwt.creds(user),
    witness = function() return server:connect { login = jwt.login(witness) } end }
  stage:fault()
  return server, issuer, user
end

local function reload(server, issuer, options)
  issuer:set_account(options)
  server:reload(issuer.config)
end

local function refused(stage)
  stage:wait_silence(1)
  run.pause(REFUSED_SECONDS)
end

local function user_expires(stage)
  local _, issuer = log_in(stage, VALID_SECONDS)
  refused(stage)
  stage:over()
  jwt.creds(issuer:user())
end

-- As a program leaves it that does not write a new file beside the old one, and then ends.
local function half_a_file(stage)
  local server, issuer, user = log_in(stage)
  server:kill()
  local text = assert(io.open(jwt.creds(user))):read("*a")
  run.file("user.creds", text:sub(1, #text / 2))
  server:restart()
  refused(stage)
  stage:over()
  jwt.creds(issuer:user())
end

local function account_expires(stage)
  local server, issuer = log_in(stage)
  reload(server, issuer, { expires = 2 })
  refused(stage)
  stage:over()
  reload(server, issuer)
end

local function user_revoked(stage)
  local server, issuer, user = log_in(stage)
  reload(server, issuer, { revoked = user })
  refused(stage)
  stage:over()
  jwt.creds(issuer:user())
end

local function account_removed(stage)
  local server, issuer = log_in(stage)
  reload(server, issuer, { removed = true })
  refused(stage)
  stage:over()
  reload(server, issuer)
end

-- ---- certificates ----

-- Two servers in a cluster: one with TLS for the subjects, and one for the witness, which speaks none.
-- Returns the first. client: the certificate of the subjects, when the server wants one.
-- options: more of moondog.connect.
local function secure(stage, paths, client, options)
  local servers = stage:cluster(2, function(i)
    local tls = { cert = paths.cert, key = paths.key, verify = client and paths.ca }
    return { no_advertise = true, tls = i == 1 and tls or nil }
  end)
  client = client or {}
  stage:start { urls = { servers[1].url }, tls = { ca = paths.ca, cert = client.cert, key = client.key },
    options = options, witness = function() return servers[2]:connect() end }
  stage:fault()
  return servers[1]
end

-- Nobody has a link any more, and each handshake fails.
local function restart(stage, server)
  server:kill()
  server:restart()
  refused(stage)
end

local function told(stage)
  stage:check(#stage:logs(function(entry) return entry.class == "tls" end) > 0, "no log entry is about TLS")
end

local function server_certificate(stage)
  local paths = certificates.make()
  local server = secure(stage, paths)
  certificates.expire(paths)
  restart(stage, server)
  stage:over()
  certificates.renew(paths, 3600)
  server:reload(server.config)
end

local function client_certificate(stage)
  local paths = certificates.make()
  local client = certificates.make("client", paths)
  certificates.renew(client, VALID_SECONDS)
  local server = secure(stage, paths, client)
  run.wait_until(function() return os.time() > client.valid_until end, VALID_SECONDS + 5, "the end of a certificate")
  restart(stage, server)
  stage:over()
  certificates.renew(client, 3600)
end

local function authority(stage)
  local old, new = certificates.make("old"), certificates.make("new")
  local server = secure(stage, old)
  server.config.tls = { cert = new.cert, key = new.key }
  server:reload(server.config)
  restart(stage, server)
  stage:over()
  assert(uv.fs_copyfile(new.ca, old.ca .. ".part"))
  assert(os.rename(old.ca .. ".part", old.ca))
end

-- Something has the server's place, wants TLS, and never answers the handshake; it keeps what it has
-- accepted when the server is back.
local function handshake_hangs(stage)
  local server = secure(stage, certificates.make(), nil, "watchdog = { timeout = 2, reconnecting = 4 },")
  server:kill()
  local mute = scripted_server.start { port = server.port, info = { tls_required = true }, info_only = true }
  stage:expect(function() return mute.accepted >= 3 end, 10, "all try a handshake")
  stage.dog:wait_log("^link abandoned$", 20)
  stage:over()
  mute.socket:close()
  server:restart()
end

return {
  id = "F2",
  title = "login expires",
  seen = "nats-py #1019 and #193",
  why = "the second refusal closes the client, and a rotated file helps only after a restart",
  promise = "files are read again at each fresh link: a rotated one heals it",
  within = 5,
  patience = 8,
  cases = {
    { name = "the user's JWT", play = user_expires },
    { name = "half a file", play = half_a_file },
    { name = "the account's JWT", play = account_expires },
    { name = "a revoked user", play = user_revoked },
    { name = "a removed account", play = account_removed },
    { name = "server certificate", play = server_certificate, after = told },
    { name = "client certificate", play = client_certificate, after = told },
    { name = "the authority", play = authority, after = told },
    { name = "TLS handshake hangs", play = handshake_hangs },
  },
}
