-- The HTTP server of health as clients see it, good ones and bad ones: nothing that they do takes
-- it away from the others, or the process with it.
local cjson = require "cjson"
local health = require "support.health"
local http = require "support.http"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

-- A connection that is silent is closed after 5 s; the rest is a loaded machine.
local SILENT_SECONDS = 10
-- A probe of a service manager waits for a second.
local PROBE_SECONDS = moondog.sanitized() and 4 or 1

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
for i = 1, $SUBSCRIPTIONS do c:subscribe(("x"):rep($LENGTH) .. i, function() end) end
]]

local function start(subscriptions, length)
  local server = nats_server.start()
  local dog = health.run(SCRIPT, { URL = server.url, SUBSCRIPTIONS = subscriptions or 1,
    LENGTH = length or 1 })
  health.wait_status(dog, "/readyz", 200)
  return dog
end

local function probe(dog)
  local begun_at = run.now()
  local status = health.get(dog, "/livez")
  local took = run.now() - begun_at
  assert.equals(200, status)
  assert.is_true(took < PROBE_SECONDS, ("/livez took %.3f s"):format(took))
  return took
end

local PAGES = {
  ["/livez"] = "application/json",
  ["/readyz"] = "application/json",
  ["/status"] = "application/json",
  ["/metrics"] = "text/plain; version=0.0.4; charset=utf-8",
}

describe("a page of health", function()
  it("has a type, a length, and is not to be cached", run.case(function()
    local dog = start()
    for page, content_type in pairs(PAGES) do
      local answer = assert(http.request(dog.http, page))
      assert.equals(200, answer.status)
      assert.equals(content_type, answer.headers["content-type"])
      assert.equals(#answer.body, tonumber(answer.headers["content-length"]))
      assert.equals("no-store", answer.headers["cache-control"])
      if content_type == "application/json" then
        assert.equals("table", type(cjson.decode(answer.body)))
      end
    end
  end))

  it("is found with a query behind its path", run.case(function()
    local dog = start()
    assert.equals(200, (http.get(dog.http, "/livez?verbose=1")))
    assert.equals(404, (http.get(dog.http, "/livez/")))
  end))

  it("answers HEAD like GET, without the body", run.case(function()
    local dog = start()
    local client = assert(http.open(dog.http))
    for page, content_type in pairs(PAGES) do
      client:ask(page, { method = "HEAD" })
      local answer = assert(client:answer())
      assert.equals(200, answer.status)
      assert.equals(content_type, answer.headers["content-type"])
      assert.is_true(tonumber(answer.headers["content-length"]) > 10)
    end
    client:ask("/livez") -- a body of before would be taken for this answer
    assert.is_true(cjson.decode(assert(client:answer()).body).live)
    client:close()
  end))

  it("that is not there is a 404 that says what there is", run.case(function()
    local dog = start()
    for _, path in ipairs { "/", "/healthz", "/metrics/x", "/../etc/passwd", "/%00", "*" } do
      local answer = assert(http.request(dog.http, path))
      assert.equals(404, answer.status, path)
      assert.matches("/livez", answer.body)
    end
  end))

  it("takes no other method, and says which ones", run.case(function()
    local dog = start()
    for _, method in ipairs { "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW" } do
      local answer = assert(http.request(dog.http, "/livez", { method = method,
        body = method ~= "OPTIONS" and "x" or nil }))
      assert.equals(405, answer.status, method)
      assert.equals("GET, HEAD", answer.headers.allow)
    end
    assert.equals(404, http.request(dog.http, "/x", { method = "POST", body = "x" }).status)
    local answer = http.request(dog.http, "/livez", { method = "POST", body = ("x"):rep(1e6) })
    assert.is_true(answer == nil or answer.status == 405)
    probe(dog)
  end))
end)

describe("a connection to the health server", function()
  it("is kept for more requests", run.case(function()
    local dog = start()
    local client = assert(http.open(dog.http))
    for _ = 1, 3 do
      for page in pairs(PAGES) do
        client:ask(page)
        assert.equals(200, assert(client:answer()).status)
      end
    end
    client:ask("/livez") -- two at once
    client:ask("/nothing")
    assert.equals(200, assert(client:answer()).status)
    assert.equals(404, assert(client:answer()).status)
    assert.is_nil(client.over)
    client:close()
  end))

  it("is closed when the client asks for that, or speaks HTTP/1.0", run.case(function()
    local dog = start()
    for _, options in ipairs { { version = "1.0" }, { headers = { Connection = "close" } } } do
      local client = assert(http.open(dog.http))
      client:ask("/livez", options)
      assert.equals(200, assert(client:answer()).status)
      client:wait_closed(2)
      client:close()
    end
  end))

  it("that says nothing, or stops in the middle of a line, is closed", run.case(function()
    local dog = start()
    local begun_at = run.now()
    local clients = {}
    for i, bytes in ipairs { "", "GET /li", "GET /livez HTTP/1.1\r\nHos",
      "POST /livez HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc" } do
      clients[i] = assert(http.open(dog.http))
      if bytes ~= "" then
        clients[i]:send(bytes)
      end
    end
    probe(dog)
    for _, client in ipairs(clients) do
      client:wait_closed(SILENT_SECONDS)
      client:close()
    end
    run.figure("a silent connection was closed after", run.now() - begun_at, "s")
    probe(dog)
  end))

  it("with a megabyte of headers is refused, and the server lives", run.case(function()
    local dog = start()
    local rss = dog:rss()
    local one = ("X-Header: %s\r\n"):format(("x"):rep(1000))
    for _, flood in ipairs {
      one:rep(1000),
      "X-Long: " .. ("x"):rep(2 ^ 20) .. "\r\n",
    } do
      local client = assert(http.open(dog.http))
      client:send("GET /livez HTTP/1.1\r\nHost: x\r\n" .. flood .. "\r\n")
      local answer = client:answer(SILENT_SECONDS)
      assert.is_true(answer == nil or answer.status >= 400 and answer.status < 500,
        answer and answer.head)
      assert.is_true(answer ~= nil or client.over ~= nil, "neither an answer nor an end")
      client:close()
    end
    local long = http.request(dog.http, "/" .. ("x"):rep(2 ^ 20), { deadline = SILENT_SECONDS })
    assert.is_true(long == nil or long.status >= 400 and long.status < 500)
    probe(dog)
    if not moondog.sanitized() then
      assert.is_true(dog:rss() - rss < 8 * 2 ^ 20)
    end
  end))

  it("with nonsense is refused, and the server lives", run.case(function()
    local dog = start()
    for _, bytes in ipairs { "\0\1\2\3\r\n\r\n", "GET\r\n\r\n", "GET /livez\r\n\r\n",
      "GET /livez HTTP/9.9\r\n\r\n", "\22\3\1\2\0\1\0\1\252\3\3" .. ("x"):rep(300) .. "\r\n\r\n",
      "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
      "GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n\r\n",
      ("\r\n"):rep(5000) } do
      local client = assert(http.open(dog.http))
      client:send(bytes)
      client:answer(0.2) -- whatever it is
      client:close()
      probe(dog)
    end
  end))
end)

describe("many connections", function()
  it("of idle clients do not keep a probe out, and are bounded", run.case(function()
    local dog = start()
    local before = dog:fds()
    local clients, connected, refused = {}, 0, 0
    for i = 1, 1000 do
      clients[i] = http.begin(dog.http)
    end
    run.wait_until(function()
      connected, refused = 0, 0
      for _, client in ipairs(clients) do
        connected = connected + (client.connected and 1 or 0)
        refused = refused + (client.over and not client.connected and 1 or 0)
      end
      return connected + refused == #clients
    end, 10, function() return ("1000 connections: %d and %d"):format(connected, refused) end)
    local worst, most = 0, 0
    for _ = 1, 50 do
      worst = math.max(worst, probe(dog))
      most = math.max(most, dog:fds())
    end
    run.figure("the slowest /livez among 1,000 idle connections", worst * 1000, "ms")
    run.figure("descriptors more than before", most - before)
    assert.is_true(most - before < 150, ("%d descriptors more"):format(most - before))
    for _, client in ipairs(clients) do
      client:close()
    end
    run.wait_until(function() return dog:fds() <= before + 2 end, SILENT_SECONDS,
      "the descriptors of before")
  end))

  it("that come while the process gets no time do not keep a probe out", run.case(function()
    local dog = start()
    local clients = {}
    dog:signal("sigstop")
    for i = 1, 600 do
      clients[i] = http.begin(dog.http)
    end
    run.wait_until(function()
      for _, client in ipairs(clients) do
        if not client.connected then
          return false
        end
      end
      return true
    end, 10, "600 connections that the kernel keeps")
    local late = assert(http.open(dog.http))
    late:ask("/livez")
    dog:signal("sigcont")
    assert.equals(200, late:answer(PROBE_SECONDS).status)
    late:close()
    for _, client in ipairs(clients) do
      client:close()
    end
  end))

  it("of clients that do not read a large answer do not keep a probe out", run.case(function()
    -- An answer that does not fit into the buffers of the kernel, which are some megabytes.
    local dog = start(1000, 400)
    local before, rss = dog:fds(), dog:rss()
    local clients = {}
    for i = 1, moondog.sanitized() and 2 or 10 do -- under sanitizers one takes a second
      clients[i] = assert(http.open { port = dog.http, receive_buffer = 65536 })
      clients[i]:stop_reading()
      clients[i]:ask("/metrics")
    end
    run.wait_until(function() return dog:fds() > before end, 10, "them to be taken")
    for _ = 1, 20 do
      probe(dog)
    end
    local asked_at = run.now()
    local status, text = health.get(dog, "/metrics")
    assert.equals(200, status)
    assert.is_true(#text > 6 * 2 ^ 20, #text .. " bytes")
    run.figure(("/metrics of %.1f MiB"):format(#text / 2 ^ 20), (run.now() - asked_at) * 1000, "ms")
    local grown = (dog:rss() - rss) / 2 ^ 20
    run.figure("memory for 10 answers that nobody reads", grown, "MiB")
    if not moondog.sanitized() then
      assert.is_true(grown < 60, grown .. " MiB")
    end
    -- They are given up, and what was kept for them with them.
    run.wait_until(function() return dog:fds() <= before end, SILENT_SECONDS + 5,
      "the descriptors of before")
    for _, client in ipairs(clients) do
      client:read_on()
      client:wait_closed(20)
      assert.is_true(client.received < #text,
        ("%d of %d bytes came"):format(client.received, #text))
      client:close()
    end
  end))

  it("of clients that ask all the time get their answers", run.case(function()
    local dog = start()
    local answers, over = 0, 0
    local WORKERS, EACH = 20, 50
    for _ = 1, WORKERS do
      run.spawn(function()
        local client = assert(http.open(dog.http))
        for i = 1, EACH do
          client:ask(({ "/livez", "/readyz", "/metrics", "/status" })[i % 4 + 1])
          assert.equals(200, assert(client:answer()).status)
          answers = answers + 1
        end
        client:close()
        over = over + 1
      end)
    end
    run.wait_until(function() return over == WORKERS end, 30, "all answers")
    assert.equals(WORKERS * EACH, answers)
  end))
end)

describe("health", function()
  it("is served by each of two processes for itself", run.case(function()
    local server = nats_server.start()
    local dogs = {}
    for i = 1, 2 do
      dogs[i] = health.run(SCRIPT, { URL = server.url, SUBSCRIPTIONS = i, LENGTH = 1 },
        { args = { "--name", "dog" .. i } })
    end
    for i, dog in ipairs(dogs) do
      health.wait_status(dog, "/readyz", 200)
      local _, status = health.get(dog, "/status")
      assert.equals("dog" .. i, status.name)
      assert.equals(dog.pid, status.pid)
      assert.equals(i, health.metric(dog, "moondog_connection_subscriptions"))
    end
    dogs[1]:signal("sigterm")
    dogs[1]:wait_exit(0, 10)
    probe(dogs[2])
    assert.is_nil((http.get(dogs[1].http, "/livez")))
  end))
end)

describe("readiness at the end", function()
  it("is withdrawn while the script's handlers finish, and liveness is not", run.case(function()
    local server = nats_server.start()
    local dog = health.run([[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      c:subscribe("slow", function() moondog.sleep(1.5) end)
      c:subscribe("echo", function(msg) msg:respond(msg.data) end)
    ]], { URL = server.url })
    health.wait_status(dog, "/readyz", 200)
    local witness = server:connect()
    witness:wait_answer("echo", "", 5)
    witness:publish("slow", "")
    health.wait_metric(dog, "moondog_subscription_handled_total", { subject = "slow" }, 1)
    dog:signal("sigterm")
    local body = health.wait_status(dog, "/readyz", 503, 1)
    assert.matches("the runtime stops", body.reasons[1].reason)
    assert.equals(200, (health.get(dog, "/livez")))
    local _, status = health.get(dog, "/status")
    assert.equals("stopping", status.state)
    dog:wait_exit(0, 10)
  end))
end)
