-- `moondog doctor`: each fault is made with real parts, and has to be named, with a remedy.
local cjson = require "cjson"
local certificates = require "support.certificates"
local jwt = require "support.jwt"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local network = require "support.network"
local nkeys = require "support.nkeys"
local process = require "support.process"
local run = require "support.run"
local scripted_server = require "support.scripted_server"
local uv = require "luv"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { name = "gateway", servers = { $URL }, $OPTIONS }
c:subscribe("orders.*", function() end)
]]

local PATIENT, IMPATIENT = "15", "3" -- seconds; the second where the answer never comes

local function command(code, ...)
  local p = moondog.start { "doctor", ... }
  p:wait_exit(code, 40)
  return p
end

-- Looks at a policy with these options; returns the report and the process.
local function examine(code, url, options, values, timeout)
  values = values or {}
  values.URL = url
  local text = SCRIPT:gsub("%$OPTIONS", function() return options or "" end)
  local path = moondog.script(moondog.fill(text, values))
  local p = command(code, "--json", path, "--timeout", timeout or PATIENT)
  return cjson.decode(p:text("stdout")), p
end

-- The finding of a check whose text matches.
local function find(report, check, pattern)
  for _, f in ipairs(report.findings) do
    if f.check == check and f.what:find(pattern or "") then return f end
  end
  error(("no finding %s with %q in %s"):format(check, pattern or "", cjson.encode(report.findings)), 2)
end

local function expect(report, check, status, pattern)
  local f = find(report, check, pattern)
  assert.equals(status, f.status, f.what)
  if status == "ok" then
    assert.is_nil(f.remedy)
  elseif status ~= "skipped" then
    assert.is_string(f.remedy, f.what)
  end
  return f
end

local function hides(p, secret)
  assert.is_nil(p:text():find(secret, 1, true), "a secret is shown")
end

local function private(path)
  os.execute(("chmod 600 '%s'"):format(path))
  return path
end

describe("moondog doctor FILE", function()
  it("finds nothing wrong where nothing is", run.case(function()
    local server = nats_server.start { user = "u", password = "hush-hush" }
    local report, p = examine(0, server.url, 'user = "u", password = "hush-hush"')
    assert.is_true(report.ok)
    assert.equals(0, report.problems)
    expect(report, "tcp", "ok")
    expect(report, "info", "ok", "wants a login")
    expect(report, "login", "ok", "1048576 bytes")
    expect(report, "round_trip", "ok", "ms")
    expect(report, "jetstream", "ok", "no JetStream")
    local f = expect(report, "credentials", "ok", "user u with a password")
    assert.equals("gateway", f.connection)
    assert.equals(server.url, find(report, "tcp").server)
    expect(report, "process", "skipped", "no moondog")
    hides(p, "hush-hush")
    assert.equals(0, server:subscriptions("orders")) -- nothing of the policy is put to work
  end))

  it("says the same as text, with the remedies", run.case(function()
    local port = network.free_port()
    local path = moondog.script(moondog.fill(SCRIPT:gsub("%$OPTIONS", ""), { URL = network.url(port) }))
    local text = command(1, path, "--timeout", PATIENT):text("stdout")
    assert.matches("connection gateway, server " .. network.url(port), text, 1, true)
    assert.matches("problem  tcp: it cannot be reached: [^\n]*Connection refused", text)
    assert.matches("%-> nothing listens there", text)
    assert.matches("1 problem, %d warnings?\n?$", text)
  end))

  it("names a login that is refused, and shows no password", run.case(function()
    local server = nats_server.start { user = "u", password = "right" }
    local report, p = examine(1, server.url, 'user = "u", password = "wrong-one"')
    expect(report, "login", "problem", "Authorization Violation")
    hides(p, "wrong-one")
    report, p = examine(1, (server.url:gsub("//", "//u:other-one@")))
    expect(report, "login", "problem")
    hides(p, "other-one")
  end))

  it("names a host that does not exist", run.case(function()
    expect(examine(1, "nats://no-such-host.invalid:4222"), "dns", "problem", "no%-such%-host")
  end))

  it("names a server that says nothing, and one that stops talking", run.case(function()
    local silent = scripted_server.start { silent = true }
    expect(examine(1, silent.url, "", {}, IMPATIENT), "info", "problem", "says nothing for 3000 ms")
    local half = scripted_server.start { info_only = true }
    local report = examine(1, half.url, "", {}, IMPATIENT)
    expect(report, "info", "ok", "2.9.10")
    expect(report, "login", "problem", "not done after %d+ ms")
  end))

  it("names what is no NATS server", run.case(function()
    local http = scripted_server.start { on_connect = function(client)
      client:send("HTTP/1.1 400 Bad Request\r\n\r\n")
      return true
    end }
    expect(examine(1, http.url), "info", "problem", 'begins with "HTTP/1.1 400')
  end))

  it("looks at each server of the list", run.case(function()
    local server = nats_server.start()
    local path = moondog.script(moondog.fill([[
      require "moondog".connect { name = "two", servers = { $GOOD, $BAD } }
    ]], { GOOD = server.url, BAD = network.url(network.free_port()) }))
    local report = cjson.decode(command(1, "--json", path, "--timeout", PATIENT):text("stdout"))
    expect(report, "login", "ok")
    expect(report, "tcp", "problem", "refused")
    assert.equals(1, report.problems)
  end))

  it("warns of servers that are told of and cannot be reached", run.case(function()
    local gone = ("%s:%d"):format(network.host, network.free_port())
    local server
    server = scripted_server.start { info = { connect_urls = { gone } }, on_op = function(_, op)
      if op.verb == "PUB" and op.args[1] == "$JS.API.INFO" then
        server:publish(op.args[2], cjson.encode { streams = 0 })
        return true
      end
    end }
    expect(examine(0, server.url), "discovered", "warning", gone)
  end))

  it("refuses a policy that cannot be loaded", run.case(function()
    local path = moondog.script("local x =\n")
    local report = cjson.decode(command(1, "--json", path):text("stdout"))
    expect(report, "script", "problem", "script%d+%.lua:%d")
  end))

  it("warns of a low limit of descriptors", run.case(function()
    local server = nats_server.start()
    local path = moondog.script(moondog.fill(SCRIPT:gsub("%$OPTIONS", ""), { URL = server.url }))
    local p = process.start { file = "/bin/sh", env = { XDG_RUNTIME_DIR = run.folder() },
      args = { "-c", ("ulimit -n 200; exec '%s' doctor --json '%s'"):format(moondog.program(), path) } }
    p:wait_exit(20)
    local f = expect(cjson.decode(p:text("stdout")), "descriptors", "warning", "200")
    assert.matches("LimitNOFILE", f.remedy)
  end))
end)

describe("moondog doctor, of TLS,", function()
  it("knows who signed a certificate, for whom, and until when", run.case(function()
    local paths, other = certificates.make("right"), certificates.make("other")
    local server = nats_server.start { tls = paths }
    local report = examine(0, server.url, "tls = { ca = $CA }", { CA = paths.ca })
    expect(report, "tls", "ok", "TLSv1")
    expect(report, "certificate", "warning", "of the server %(test%-server%) expires in %d days?")
    expect(report, "login", "ok")
    report = examine(1, server.url, "tls = { ca = $CA }", { CA = other.ca })
    expect(report, "tls", "problem", "not trusted")
    report = examine(1, server.url, 'tls = { ca = $CA, hostname = "elsewhere.example" }', { CA = paths.ca })
    expect(report, "tls", "problem", "not for the name elsewhere%.example")
    report = examine(0, server.url, "tls = { insecure = true }")
    expect(report, "tls", "warning", "trusts any certificate")
  end))

  it("names a certificate that has expired", run.case(function()
    local paths = certificates.make()
    certificates.expire(paths)
    local server = nats_server.start { tls = paths }
    local report = examine(1, server.url, "tls = { ca = $CA }", { CA = paths.ca })
    expect(report, "certificate", "problem", "expired %d+ days ago, at 2021%-01%-01")
    expect(report, "login", "problem")
  end))

  it("looks at the files of the connection", run.case(function()
    local paths, other = certificates.make("right"), certificates.make("other")
    local server = nats_server.start { tls = paths }
    local report = examine(1, server.url, "tls = { ca = $CA, cert = $CERT, key = $KEY }",
      { CA = paths.ca, CERT = paths.cert, KEY = private(other.key) })
    expect(report, "tls", "problem", "the private key .* is not taken")
    report = examine(0, server.url, "tls = { ca = $CA, cert = $CERT, key = $KEY }",
      { CA = paths.ca, CERT = paths.cert, KEY = private(paths.key) })
    expect(report, "certificate", "warning", "of the client")
    report = examine(1, server.url, "tls = { ca = $CA }", { CA = run.folder() .. "/missing.pem" })
    expect(report, "script", "problem", "missing%.pem cannot be read")
  end))

  it("names a server without it", run.case(function()
    local server = nats_server.start()
    expect(examine(1, server.url, "tls = true"), "tls", "problem", "the server has none")
  end))
end)

describe("moondog doctor, of credentials,", function()
  it("knows when a JWT expires", run.case(function()
    local issuer = jwt.new()
    local server = nats_server.start(issuer.config)
    local function look(code, seconds)
      local user = issuer:user(seconds)
      local report, p = examine(code, server.url, "creds = $FILE", { FILE = private(jwt.creds(user)) })
      hides(p, user.key.seed)
      hides(p, user.jwt)
      return report
    end
    local report = look(0)
    expect(report, "expiry", "ok", "does not expire")
    expect(report, "nkey", "ok", "U%w+")
    expect(report, "login", "ok")
    expect(look(0, 30 * 86400), "expiry", "ok", "valid until")
    expect(look(0, 3 * 86400 + 60), "expiry", "warning", "expires in 3 days")
    report = look(1, -7200)
    expect(report, "expiry", "problem", "expired 2 hours ago")
    expect(report, "login", "problem")
  end))

  it("knows a seed that belongs to another user, and a JWT that is none", run.case(function()
    local issuer = jwt.new()
    local server = nats_server.start(issuer.config)
    local user = issuer:user()
    user.key = nkeys.new("user")
    local path = private(jwt.creds(user))
    expect(examine(1, server.url, "creds = $FILE", { FILE = path }), "nkey", "problem", "not that of its JWT")
    path = private(run.file("broken.creds", "eyJ.no.\n" .. user.key.seed .. "\n"))
    expect(examine(1, server.url, "creds = $FILE", { FILE = path }), "jwt", "problem", "broken%.creds")
  end))

  it("looks at the files", run.case(function()
    local key = nkeys.new("user")
    local server = nats_server.start { users = { { user = "w", password = "w" }, { nkey = key.public } } }
    local path = run.file("u.nk", key.seed)
    os.execute(("chmod 644 '%s'"):format(path))
    local report, p = examine(0, server.url, "nkey_seed_file = $FILE", { FILE = path })
    expect(report, "file", "warning", "mode 644")
    expect(report, "nkey", "ok", key.public)
    expect(report, "login", "ok")
    hides(p, key.seed)
    report = examine(1, server.url, "nkey_seed_file = $FILE", { FILE = run.folder() .. "/none.nk" })
    expect(report, "script", "problem", "none%.nk cannot be read")
    path = private(run.file("bad.nk", "SUABC"))
    expect(examine(1, server.url, "nkey_seed_file = $FILE", { FILE = path }), "nkey", "problem", "no good")
  end))

  -- nats.c before 3.8 takes it for an empty text, and sends none.
  it("asks again when a signature may have been left out, which begins with a zero byte", run.case(function()
    local key, refused = nkeys.new("user"), 0
    local function nonce(unlucky)
      local number, text = 0
      repeat
        number = number + 1
        text = ("nonce-%d"):format(number)
      until (nkeys.from_base64url(key:sign(text)):byte() == 0) == unlucky
      return text
    end
    local server = scripted_server.start { info = { auth_required = true, nonce = nonce(true) } }
    function server.options.on_op(client, op)
      if op.verb ~= "CONNECT" then return false end
      local connect = cjson.decode(op.line:sub(9))
      if connect.sig == key:sign(server.info.nonce) then return false end
      refused, server.info.nonce = refused + 1, nonce(false)
      client:error("Authorization Violation")
      return true
    end
    local path = private(run.file("u.nk", key.seed))
    expect(examine(0, server.url, "nkey_seed_file = $FILE", { FILE = path }), "login", "ok")
    assert.is_true(refused <= 1)
  end))

  it("asks a token function, within its budget", run.case(function()
    local server = nats_server.start { token = "t0ken-text" }
    local report, p = examine(0, server.url, 'token = function() return "t0ken-text" end')
    expect(report, "credentials", "ok", "gives a token")
    expect(report, "login", "ok")
    hides(p, "t0ken-text")
    report = examine(1, server.url, 'token = function() error("the vault is closed") end')
    expect(report, "credentials", "problem", "the vault is closed")
    expect(report, "login", "skipped")
    report = examine(1, server.url, "token = function() while true do end end")
    expect(report, "credentials", "problem", "time budget of 100 ms")
  end))
end)

describe("moondog doctor, of an account,", function()
  it("knows how much of its JetStream is used", run.case(function()
    local server = nats_server.start {
      jetstream = { store_dir = run.folder() .. "/js" },
      accounts = {
        A = { jetstream = { max_streams = 5 }, users = { { user = "a", password = "a" } } },
        B = { users = { { user = "b", password = "b" } } },
      },
    }
    local witness = server:connect { user = "a", password = "a" }
    local function make(from, to)
      for i = from, to do
        local answer = witness:request("$JS.API.STREAM.CREATE.S" .. i,
          cjson.encode { name = "S" .. i, subjects = { "s" .. i }, storage = "memory" })
        assert.is_nil(cjson.decode(answer.data).error)
      end
    end
    local function look(code, user)
      return examine(code, server.url, "user = $USER, password = $USER", { USER = user })
    end
    make(1, 1)
    expect(look(0, "a"), "jetstream", "ok", "1 streams of 5")
    make(2, 4)
    expect(look(0, "a"), "jetstream", "warning", "4 streams are used, of 5 %(80 %%%)")
    make(5, 5)
    expect(look(1, "a"), "jetstream", "problem", "5 streams are used, of 5 %(100 %%%)")
    expect(look(0, "b"), "jetstream", "ok", "not enabled for this account")
  end))

  it("says when it may not ask", run.case(function()
    local server = nats_server.start { users = {
      { user = "u", password = "p", permissions = { publish = { "only.this" } } } } }
    expect(examine(0, server.url, 'user = "u", password = "p"'), "jetstream", "skipped",
      "Permissions Violation")
    server = nats_server.start { users = {
      { user = "u", password = "p", permissions = { subscribe = { "only.this" } } } } }
    expect(examine(0, server.url, 'user = "u", password = "p"'), "inbox", "warning", "_INBOX")
  end))
end)

local RUNNING = [[
local moondog = require "moondog"
local c = moondog.connect { name = "gateway", servers = { $URL }, user = "u", password = $PASSWORD,
  reconnect = moondog.backoff { base = 0.05, cap = 0.2, auth_base = 0.1 } }
c:subscribe("orders.*", function() end)
]]

describe("moondog doctor of a process", function()
  it("explains its closures, while they last and afterwards", run.case(function()
    local server = nats_server.start { user = "u", password = "first-word" }
    local dog = moondog.run(RUNNING, { URL = server.url, PASSWORD = "first-word" }, { args = { "--name", "gateway" } })
    dog:wait_log("^connected$")
    local report = cjson.decode(command(0, "--json"):text("stdout"))
    expect(report, "connection", "ok", "up and ready, with 1 subscription at")
    expect(report, "closures", "ok", "no link was lost")
    expect(report, "descriptors", "ok", "descriptors are open")
    assert.same({}, report.closures)

    server:reload { user = "u", password = "second-word" }
    dog:wait_log("^closed$", 15)
    dog:wait_log("^dial failed$", 15)
    report = cjson.decode(command(1, "--json", "--name", "gateway"):text("stdout"))
    local f = expect(report, "connection", "problem", "not ready")
    assert.equals("gateway", f.process)
    local closure = report.closures[1]
    assert.equals(1, #report.closures)
    assert.equals("gateway", closure.connection)
    assert.equals(server.url, closure.server)
    assert.equals("auth", closure.error.class)
    assert.is_true(closure.closed)
    assert.equals(cjson.null, closure["end"])
    local text = command(1):text("stdout")
    assert.matches("down until now", text)
    assert.matches("still trying to make a fresh link", text)

    dog:reload(RUNNING, { URL = server.url, PASSWORD = "second-word" })
    dog:wait_log("^connected$", 15, 2)
    run.wait_until(function()
      report = cjson.decode(command(0, "--json"):text("stdout"))
      return report.closures[1]["end"] ~= cjson.null
    end, 10, "the end of the outage")
    expect(report, "closures", "ok", "1 link was lost, 1 within the last hour")
  end))

  it("tells a fresh link from what the library did by itself", run.case(function()
    local server = nats_server.start { user = "u", password = "first-word" }
    local dog = moondog.run(RUNNING, { URL = server.url, PASSWORD = "first-word" }, { args = { "--name", "gateway" } })
    dog:wait_log("^connected$")
    server:kill()
    dog:wait_log("^disconnected$", 10)
    server:restart()
    dog:wait_log("^reconnected$", 15)
    local first = dog:find_logs("^reconnected$")[1]
    local report = cjson.decode(command(0, "--json"):text("stdout"))
    assert.equals(first.fresh and "fresh" or "library", report.closures[1]["end"])
    assert.is_number(report.closures[1].outage)
    server:reload { user = "u", password = "second-word" }
    dog:wait_log("^dial failed$", 15)
    server:reload { user = "u", password = "first-word" }
    dog:wait_log("^reconnected$", 15, 2)
    local p = command(0)
    local text = p:text("stdout")
    assert.matches("The server refused the login", text)
    assert.matches("made a fresh link after %d+ dials? that failed", text)
    hides(p, "first-word")
  end))

  it("names the limits that are near, and what fails", run.case(function()
    local dog = moondog.run([[
      local moondog = require "moondog"
      local c = moondog.connect { name = "gateway", servers = { $URL }, pending = { bytes = 4000 } }
      moondog.on_start(function()
        for _ = 1, 200 do c:publish("a", "x") end
        error("on purpose")
      end)
    ]], { URL = network.url(network.free_port()) }, { args = { "--name", "gateway" } })
    dog:wait_log("^on_start failed$")
    dog:wait_log("^dial failed$")
    local report = cjson.decode(command(1, "--json"):text("stdout"))
    expect(report, "pending", "warning", "bytes wait to be sent, of 4000")
    expect(report, "pending", "warning", "publishes were refused")
    expect(report, "script", "warning", "failures of functions of the script since [^ ]*: 1$")
    expect(report, "connection", "problem", "not ready")
    local again = cjson.decode(command(1, "--json", "--control", run.folder() .. "/moondog/gateway.sock")
      :text("stdout"))
    assert.equals("gateway", find(again, "process").process)
  end))

  it("tells that it was started again, and that its loop stood still", run.case(function()
    local server = nats_server.start()
    -- A call into C, which no budget can stop: it ends by itself after a while.
    local dog = moondog.run([[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      c:subscribe("hold", function() (("a"):rep(tonumber($COUNT)) .. "b"):find(".-.-.-c") end)
    ]], { URL = server.url, COUNT = 320 },
      { args = { "--name", "gateway", "--supervise", "--stall", "0.05", "--wedged", "60" } })
    local first = dog:wait_log("^child started$", 20).child
    dog:wait_log("^connected$")
    uv.kill(first, "sigkill")
    dog:wait_log("^child started$", 20, 2)
    dog:wait_log("^connected$", 20, 2)
    server:connect():publish("hold", "")
    dog:wait_log("^loop stalled$", 20)
    local report = cjson.decode(command(0, "--json", "--timeout", PATIENT):text("stdout"))
    expect(report, "restarts", "warning", "restarts so far: 1, the last one at 20")
    expect(report, "loop", "warning", "stalls so far: %d+")
  end))

  it("needs one that runs, unless it has a file", run.case(function()
    local report = cjson.decode(command(1, "--json"):text("stdout"))
    expect(report, "process", "problem", "no moondog")
    local text = command(1, "--name", "absent"):text("stdout")
    assert.matches('no moondog of yours runs as "absent"', text, 1, true)
    report = cjson.decode(command(1, "--json", "--control", run.folder() .. "/none.sock"):text("stdout"))
    expect(report, "process", "problem", "nothing answers at .*none%.sock")
  end))

  it("refuses a timeout that is none", run.case(function()
    assert.matches("option '--timeout' must be", command(2, "--timeout", "0"):text("stderr"), 1, true)
  end))
end)
