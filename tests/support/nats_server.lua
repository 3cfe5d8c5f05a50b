-- A real nats-server on a free port, with a generated configuration.
--
-- The configuration a test gives: user and password, or token, or users (a list as in the
-- server's own file: { user, password, permissions } or { nkey }); auth_timeout; auth_callout (of
-- auth_callout.lua); tls (certificates.make(), and verify: the authority of the clients' certificates;
-- the witness speaks plain TCP and cannot log in then); anything else goes into the server's file as it
-- is (max_connections, ping_interval, max_payload, ...).
local cjson = require "cjson"
local uv = require "luv"
local http = require "support.http"
local nats_client = require "support.nats_client"
local network = require "support.network"
local process = require "support.process"
local run = require "support.run"

local M = {}
M.__index = M

local READY_SECONDS = 10
local NEWER = 2010
local ROOT = os.getenv("MOONDOG_ROOT") or "."
local counter = 0

local function program()
  for _, path in ipairs { os.getenv("NATS_SERVER") or "", "/usr/sbin/nats-server",
    "/usr/bin/nats-server", "/usr/local/bin/nats-server" } do
    if uv.fs_access(path, "X") then
      return path
    end
  end
  error("no nats-server; install Debian's package nats-server, or set NATS_SERVER")
end

-- One that is new enough for the auth callout (2.10): its path. nil: there is none, and why.
function M.newer_program()
  for _, path in ipairs { program(), ("%s/build/nats-server-newer/usr/sbin/nats-server"):format(ROOT) } do
    local pipe = io.popen(("'%s' --version 2>/dev/null"):format(path))
    local major, minor = pipe:read("*a"):match("v(%d+)%.(%d+)")
    pipe:close()
    if major and tonumber(major) * 1000 + tonumber(minor) >= NEWER then
      return path
    end
  end
  return nil, "nats-server is older than 2.10 (scripts/deps --newer-server)"
end

local function write_configuration(self)
  local out = { listen = network.host .. ":" .. self.port,
    http = network.host .. ":" .. self.http_port, server_name = self.name }
  for key, value in pairs(self.config) do
    out[key] = value
  end
  local auth = { user = out.user, password = out.password, token = out.token, users = out.users,
    timeout = out.auth_timeout, auth_callout = out.auth_callout }
  out.user, out.password, out.token, out.users, out.auth_timeout, out.auth_callout = nil, nil, nil, nil, nil, nil
  if next(auth) then
    out.authorization = auth
  end
  if out.tls then
    out.tls = { cert_file = out.tls.cert, key_file = out.tls.key, timeout = 5,
      ca_file = out.tls.verify, verify = out.tls.verify ~= nil }
  end
  -- JSON is a part of the server's own notation, but for the escaped slash.
  self.file = run.file(self.name .. ".conf", (cjson.encode(out):gsub("\\/", "/")))
end

-- Credentials for the witness, or nil when it has none (nkeys only).
local function witness_of(config)
  local first = config.users and config.users[1] or {}
  return { user = config.user or first.user, password = config.password or first.password,
    token = config.token }
end

local function launch(self)
  self.process = process.start { name = self.name, file = self.program, args = { "-c", self.file } }
  self.process.rude = true
  -- "Listening" comes before the port is open; INFO is the real answer.
  run.wait_until(function()
    if self.process.exit then
      error(self.process:report())
    end
    local _, _, attempt = nats_client.try_connect { port = self.port, user = "x", password = "x" }
    attempt:close()
    return attempt.info
  end, READY_SECONDS, "INFO of nats-server")
end

-- options: port; program (a path).
function M.start(config, options)
  counter = counter + 1
  local self = setmetatable({ config = config or {}, host = network.host, name = "nats" .. counter,
    port = options and options.port or network.free_port(), http_port = network.free_port(),
    program = options and options.program or program() }, M)
  self.url = network.url(self.port)
  write_configuration(self)
  launch(self)
  return self
end

-- As the server says it, "2.10.27" for example.
function M:version()
  local _, _, attempt = nats_client.try_connect { port = self.port, user = "x", password = "x" }
  attempt:close()
  return attempt.info.version
end

-- A witness with this server's own credentials.
function M:connect(options)
  local merged = witness_of(self.config)
  merged.port = self.port
  for key, value in pairs(options or {}) do
    merged[key] = value
  end
  return nats_client.connect(merged)
end

-- Whether a login with these credentials is accepted now; the reason when not.
function M:accepts(options)
  local client, err = nats_client.try_connect { port = self.port, user = options.user,
    password = options.password, token = options.token }
  if client then
    client:close()
  end
  return client ~= nil, err
end

-- Replaces the configuration while the server runs, and waits until logins behave accordingly.
function M:reload(config)
  local before, after = witness_of(self.config), witness_of(config)
  self.config = config
  write_configuration(self)
  local function reloads()
    local _, count = self.process:text():gsub("Reloaded server configuration", "")
    return count
  end
  local seen = reloads()
  self.process:signal("sighup")
  run.wait_until(function() return reloads() > seen end, 5, "a reload of nats-server")
  self.reloaded_at = run.now()
  if config.tls or config.operator then -- nobody logs in without a handshake, or a JWT
    return
  end
  run.wait_until(function() return self:accepts(after) end, 5, "a login with the new configuration")
  if before.user ~= after.user or before.password ~= after.password
    or before.token ~= after.token then
    run.wait_until(function() return not self:accepts(before) end, 5, "a refusal of the old login")
  end
end

function M:kill()
  self.process:signal("sigkill")
  self.process:wait_exit(5)
end

function M:stop()
  self.process:signal("sigstop")
  run.wait_until(function()
    local file = assert(io.open("/proc/" .. self.process.pid .. "/stat"))
    local state = file:read("*a"):match("%)%s(%a)")
    file:close()
    return state == "T"
  end, 5, "a stopped nats-server")
end

function M:cont()
  self.process:signal("sigcont")
end

-- What it has on the disk is put aside, after kill().
function M:forget()
  local folder = self.config.jetstream.store_dir
  assert(self.process.exit, "still running")
  assert(os.rename(folder, ("%s.before-%d"):format(folder, uv.hrtime())))
end

-- A new process on the same port, after kill().
function M:restart()
  assert(self.process.exit, "still running")
  launch(self)
end

-- The server's own view: a monitoring page as a table ("connz?subs=1", "varz", "subsz").
function M:monitor(page)
  local status, body = http.get(self.http_port, "/" .. page)
  assert(status == 200, ("%s: %s %s"):format(page, tostring(status), tostring(body)))
  return cjson.decode(body)
end

-- Its connections whose name matches the Lua pattern (nil: those that are no witness), with their
-- subscriptions in subscriptions_list.
function M:clients(name)
  local found = {}
  for _, client in ipairs(self:monitor("connz?subs=1&limit=100000").connections) do
    local own = client.name or ""
    if name and own:find(name) or not name and own ~= "witness" then
      found[#found + 1] = client
    end
  end
  return found
end

-- How many subscriptions of those clients have a subject that matches the Lua pattern.
function M:subscriptions(pattern)
  local count = 0
  for _, client in ipairs(self:clients()) do
    for _, subject in ipairs(client.subscriptions_list or {}) do
      if subject:find(pattern) then
        count = count + 1
      end
    end
  end
  return count
end

return M
