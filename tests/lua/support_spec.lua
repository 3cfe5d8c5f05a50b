-- The tests' own tools: what they say must be true, or no scenario means anything.
local certificates = require "support.certificates"
local jwt = require "support.jwt"
local nats_client = require "support.nats_client"
local nats_server = require "support.nats_server"
local nkeys = require "support.nkeys"
local process = require "support.process"
local protocol = require "support.protocol"
local proxy = require "support.proxy"
local run = require "support.run"
local scripted_server = require "support.scripted_server"
local uv = require "luv"

describe("the harness", function()
  it("reports a failed assertion of the body with its place", function()
    local case = run.case(function()
      run.pause(0.01)
      assert.equals(1, 2)
    end)
    local ok, err = pcall(case)
    assert.is_false(ok)
    assert.matches("support_spec%.lua:%d+", err)
  end)

  it("reports an error of a callback", function()
    local ok, err = pcall(run.case(function()
      local timer = uv.new_timer()
      timer:start(1, 0, run.callback(function() error("in a timer") end))
      run.pause(5)
    end))
    assert.is_false(ok)
    assert.matches("in a timer", err)
  end)

  it("ends a test at its deadline and still cleans up", function()
    local cleaned, after = false, false
    local ok, err = pcall(run.case(function()
      run.defer(function()
        run.pause(0.2)
        cleaned = true
      end)
      run.pause(0.15)
      after = true
    end, { deadline = 0.1 }))
    assert.is_false(ok)
    assert.matches("longer than 0%.1 s", err)
    assert.is_true(cleaned)
    assert.is_false(after)
  end)

  it("names what a wait was for", function()
    local ok, err = pcall(run.case(function()
      run.wait_until(function() return false end, 0.05, "a miracle")
    end))
    assert.is_false(ok)
    assert.matches("a miracle", err)
  end)

  it("stops its processes and removes its folder, also after a failure", function()
    local pid, folder
    local ok = pcall(run.case(function()
      folder = run.folder()
      run.file("x", "y")
      pid = process.start { file = "/bin/sleep", args = { "600" } }.pid
      uv.kill(pid, "sigstop")
      error("stop here")
    end))
    assert.is_false(ok)
    assert.is_nil(uv.fs_stat("/proc/" .. pid))
    assert.is_nil(uv.fs_stat(folder))
  end)

  it("collects lines, exit codes and figures of a process", run.case(function()
    local p = process.start { file = "/bin/sh",
      args = { "-c", "echo one; echo two >&2; printf end; exit 3" } }
    assert.equals(3, (p:wait_exit(5)))
    assert.equals("one\nend", p:text("stdout"))
    assert.equals("two", p:text("stderr"))
    local q = process.start { file = "/bin/sleep", args = { "600" } }
    run.wait_until(function() return q:rss() > 0 end, 5, "memory")
    assert.equals(1, q:threads())
    assert.is_true(q:fds() >= 3)
    assert.is_true(q:cpu() >= 0)
  end))
end)

describe("the protocol reader", function()
  it("takes operations however they are cut", function()
    local stream = "PING\r\nPUB a.b 3\r\na\r\n\r\n"
      .. "HPUB s r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n-ERR 'x y'\r\n"
    for size = 1, #stream do
      local ops = {}
      local read = protocol.reader(function(op) ops[#ops + 1] = op end)
      for from = 1, #stream, size do
        read(stream:sub(from, from + size - 1))
      end
      assert.equals(4, #ops)
      assert.equals("a\r\n", ops[2].data)
      assert.equals("hi", ops[3].data)
      assert.equals("-ERR 'x y'", ops[4].line)
    end
  end)

  it("matches subjects as a server does", function()
    assert.is_true(protocol.matches("a.*.c", "a.b.c"))
    assert.is_true(protocol.matches("a.>", "a.b.c"))
    assert.is_false(protocol.matches("a.>", "a"))
    assert.is_false(protocol.matches("a.*", "a.b.c"))
    assert.is_false(protocol.matches("a.b.c", "a.b"))
  end)
end)

describe("the witness and a real server", function()
  it("publish, subscribe and request with headers", run.case(function()
    local server = nats_server.start()
    local one, two = server:connect(), server:connect()
    local sub = one:subscribe("t.*")
    one:flush()
    two:publish("t.x", "hello", { headers = { k = "v" }, reply = "back" })
    run.wait_until(function() return sub.messages[1] end, 5, "the message")
    assert.equals("hello", sub.messages[1].data)
    assert.equals("v", sub.messages[1].headers.k)
    assert.equals("back", sub.messages[1].reply)
    one:subscribe("echo", function(msg) one:publish(msg.reply, msg.data .. "!") end)
    one:flush()
    assert.equals("hi!", two:request("echo", "hi").data)
    local _, err = two:request("nobody", "hi")
    assert.equals("no responders", err)
  end))

  it("log in with a password and with a token, and are refused without", run.case(function()
    local server = nats_server.start { user = "u", password = "right" }
    assert.is_true(server:accepts { user = "u", password = "right" })
    local ok, err = server:accepts { user = "u", password = "wrong" }
    assert.is_false(ok)
    assert.equals("Authorization Violation", err)
    local with_token = nats_server.start { token = "secret" }
    assert.is_true(with_token:accepts { token = "secret" })
    assert.is_false((with_token:accepts { token = "other" }))
  end))

  it("a reload has taken effect when it returns", run.case(function()
    local server = nats_server.start { user = "u", password = "one" }
    local client = server:connect()
    server:reload { user = "u", password = "two" }
    assert.is_false((server:accepts { user = "u", password = "one" }))
    run.wait_until(function() return client.closed end, 5, "the old login's end")
    server:reload { user = "u", password = "one" }
    assert.is_true((server:accepts { user = "u", password = "one" }))
  end))

  it("survive kill and restart, stop and cont, and are counted", run.case(function()
    local server = nats_server.start()
    local client = server:connect { name = "counted" }
    client:subscribe("c.1")
    client:flush()
    assert.equals(1, #server:clients("^counted$"))
    assert.equals(1, server:subscriptions("^c%.1$"))
    server:stop()
    local before = client.pongs
    client:send("PING\r\n")
    run.holds(function() return client.pongs == before end, 0.2, "a stopped server is silent")
    server:cont()
    run.wait_until(function() return client.pongs > before end, 5, "PONG after SIGCONT")
    server:kill()
    run.wait_until(function() return client.closed end, 5, "the end of the link")
    server:restart()
    server:connect():flush()
  end))

  it("log in with an nkey and with a JWT, until it expires", run.case(function()
    local key = nkeys.new("user")
    local server = nats_server.start { users = { { nkey = key.public } } }
    local function login(info)
      return { nkey = key.public, sig = key:sign(info.nonce) }
    end
    server:connect({ login = login }):flush()
    assert.is_false((server:accepts {}))
    local issuer = jwt.new()
    server = nats_server.start(issuer.config)
    server:connect({ login = jwt.login(issuer:user()) }):flush()
    local client = server:connect { login = jwt.login(issuer:user(2)) }
    run.wait_until(function() return client.closed end, 10, "the expiry")
    assert.equals("User Authentication Expired", client.closed)
  end))

  it("want TLS when they have a certificate", run.case(function()
    local paths = certificates.make()
    local server = nats_server.start { tls = paths }
    local p = process.start { file = "/usr/bin/openssl",
      args = { "verify", "-CAfile", paths.ca, paths.cert } }
    assert.equals(0, (p:wait_exit(5)))
    local client, err, attempt = nats_client.try_connect { port = server.port }
    assert.is_nil(client)
    assert.is_string(err)
    assert.is_true(attempt.info.tls_required)
  end))
end)

describe("the scripted server", function()
  it("is an honest broker when left alone", run.case(function()
    local server = scripted_server.start()
    local client = nats_client.connect { port = server.port }
    local sub = client:subscribe("a.>")
    client:publish("a.b", "one", { reply = "r", headers = { k = "v" } })
    client:flush()
    assert.equals("one", sub.messages[1].data)
    assert.equals("r", sub.messages[1].reply)
    assert.equals("v", sub.messages[1].headers.k)
    assert.equals(1, server:subscriptions("^a%.>$"))
    client:close()
    run.wait_until(function() return server:count() == 0 end, 5, "no client")
  end))

  it("says nothing, says INFO only, says errors, hangs up", run.case(function()
    local silent = scripted_server.start { silent = true }
    local _, err = nats_client.try_connect { port = silent.port, timeout = 0.3 }
    assert.matches("an answer of the server", err)
    local server = scripted_server.start()
    local client = nats_client.connect { port = server.port }
    server:error("maximum connections exceeded")
    run.wait_until(function() return client.closed end, 5, "the end")
    assert.equals("maximum connections exceeded", client.closed)
    client = nats_client.connect { port = server.port }
    server.last:reset()
    run.wait_until(function() return client.closed end, 5, "the end")
    assert.equals("ECONNRESET", client.closed)
    server.options.close_after = 20
    _, err = nats_client.try_connect { port = server.port }
    assert.equals("EOF", err)
    server.options.close_after = nil
    server.options.no_pong = true
    client = nats_client.connect { port = server.port }
    assert.is_false((pcall(client.flush, client, 0.2)))
    server.options.on_op = function(c, op)
      if op.verb == "CONNECT" then
        c:error("Authorization Violation")
        return true
      end
    end
    _, err = nats_client.try_connect { port = server.port }
    assert.equals("Authorization Violation", err)
  end))
end)

describe("the proxy", function()
  it("forwards, delays, swallows, pauses and resets", run.case(function()
    local server = nats_server.start()
    local way = proxy.start(server)
    local client = server:connect { port = way.port }
    client:flush()
    assert.equals(1, way:count())
    way:latency(0.1)
    local start = run.now()
    client:flush()
    assert.is_true(run.now() - start >= 0.19)
    way:latency(0)
    way:pause()
    assert.is_false((pcall(client.flush, client, 0.2)))
    way:resume()
    client:flush()
    way:blackhole("up")
    assert.is_false((pcall(client.flush, client, 0.2)))
    assert.is_nil(client.closed)
    way:heal()
    client = server:connect { port = way.port }
    client:flush()
    way:blackhole("both", { existing = true })
    assert.is_false((pcall(client.flush, client, 0.2)))
    server:connect({ port = way.port }):flush()
    way:lock()
    way:reset()
    run.wait_until(function() return client.closed end, 5, "the end")
    assert.equals("ECONNRESET", client.closed)
    local _, err = nats_client.try_connect { port = way.port }
    assert.equals("ECONNRESET", err)
    way:unlock()
    server:connect({ port = way.port }):flush()
  end))

  it("keeps the order of bytes when the delay changes", run.case(function()
    local server = nats_server.start()
    local way = proxy.start(server)
    local client, observer = server:connect { port = way.port }, server:connect()
    local sub = observer:subscribe("n")
    observer:flush()
    for i, delay in ipairs { 0.3, 0.1, 0.01, 0 } do
      way:latency(delay)
      client:publish("n", tostring(i))
      run.pause(0.02) -- so that it is a chunk of its own
    end
    run.wait_until(function() return #sub.messages == 4 end, 5, "four messages")
    for i, msg in ipairs(sub.messages) do
      assert.equals(tostring(i), msg.data)
    end
  end))

  it("leaves swallowed links as they are when only new ones are healed", run.case(function()
    local server = nats_server.start()
    local way = proxy.start(server)
    local client = server:connect { port = way.port }
    way:blackhole("both")
    way:heal { new_only = true }
    server:connect({ port = way.port }):flush()
    assert.is_false((pcall(client.flush, client, 0.2)))
    assert.is_nil(client.closed)
    way:end_swallowed()
    run.wait_until(function() return client.closed end, 5, "the end")
  end))
end)
