-- Logs: one event is one line in each format, levels are kept, and secrets never appear.
local cjson = require "cjson"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { name = "logger", servers = { $URL } }
c:subscribe("log", function(msg)
  moondog.log.debug("at debug")
  moondog.log.info("at info", { key = "two words", number = 7, yes = true })
  moondog.log.warn("at warn", { quote = 'say "hi"' })
  moondog.log.error("at error", { lines = "one\ntwo\27[31m" })
  print("printed", 1, nil)
  msg:respond("ok")
end)
]]

local function log_all(...)
  local server = nats_server.start()
  local path = moondog.script(moondog.fill(SCRIPT, { URL = server.url }))
  local dog = moondog.start { "run", path, ... }
  server:connect():wait_answer("log", "", 10)
  dog:signal("sigterm")
  dog:wait_exit(0)
  return dog, dog:text("stderr")
end

local function count(text, plain)
  local found, from = 0, 1
  while true do
    local _, stop = text:find(plain, from, true)
    if not stop then
      return found
    end
    found, from = found + 1, stop + 1
  end
end

describe("a log", function()
  it("is JSON with --log json", run.case(function()
    local dog = log_all("--log", "json")
    for _, line in ipairs(dog.process.lines) do
      if line.stream == "stderr" then
        local entry = cjson.decode(line.text)
        assert.is_string(entry.time)
        assert.is_string(entry.level)
        assert.is_string(entry.msg)
      end
    end
    local info = dog:find_logs("^at info$")[1]
    assert.equals("info", info.level)
    assert.equals("two words", info.key)
    assert.equals(7, info.number)
    assert.is_true(info.yes)
    assert.equals('say "hi"', dog:find_logs("^at warn$")[1].quote)
    assert.equals("one\ntwo\27[31m", dog:find_logs("^at error$")[1].lines)
    assert.equals("printed\t1\tnil", dog:find_logs("^printed")[1].msg)
    assert.equals("logger", dog:find_logs("^connected$")[1].connection)
    assert.equals(0, #dog:find_logs("^at debug$"))
  end))

  it("is logfmt when it does not go to a terminal", run.case(function()
    local _, text = log_all()
    assert.matches('level=info msg="at info"[^\n]* key="two words"', text)
    assert.matches('msg="?connected"?[^\n]* connection="?logger', text)
    assert.is_nil(text:find("\27", 1, true), "a control byte got through")
    assert.equals(1, count(text, "at error"))
    for line in text:gmatch("[^\n]+") do
      assert.matches("^time=", line)
    end
  end))

  it("is short when that is asked for", run.case(function()
    local _, text = log_all("--log", "short")
    assert.matches("INFO +at info", text)
    assert.is_nil(text:find("\27", 1, true), "colours without a terminal")
  end))

  it("has the levels that are asked for", run.case(function()
    local dog = log_all("--log", "json", "--level", "debug")
    assert.equals(1, #dog:find_logs("^at debug$"))
    dog = log_all("--log", "json", "--level", "error")
    assert.equals(1, #dog:find_logs("^at error$"))
    assert.equals(0, #dog:find_logs("^at warn$") + #dog:find_logs("^connected$"))
  end))
end)

describe("the level of the log", function()
  local TALKER = [[
    local moondog = require "moondog"
    local c = moondog.connect { servers = { $URL } }
    c:subscribe("say", function(msg)
      moondog.log.debug("debugged " .. msg.data)
      moondog.log.info("informed " .. msg.data)
      msg:respond("said")
    end)
    c:subscribe("level", function(msg) msg:respond(moondog.log.level(msg.data ~= "" and msg.data or nil)) end)
  ]]

  it("changes while it runs: by a command, and by the script", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run(TALKER, { URL = server.url }, { args = { "--name", "talker" } })
    dog:wait_log("^connected$")
    local witness = server:connect()
    local function say(what) witness:wait_answer("say", what, 5) end
    local function level(name) return witness:wait_answer("level", name, 5).data end
    local function command(name, says)
      local set = moondog.start { "log", "--set-level", name, "talker" }
      set:wait_exit(0)
      assert.equals(says, set:text("stdout"))
    end
    say("one")
    command("debug", "the log's level is debug now, after info")
    say("two")
    command("debug", "the log's level is debug")
    assert.equals("debug", level(""))
    assert.equals("error", level("error"))
    say("three")
    assert.equals("info", level("info"))
    say("four")
    dog:wait_log("^informed four$")
    local seen = {}
    for _, entry in ipairs(dog:find_logs("ed %a+$")) do
      if entry.msg:find("^debugged") or entry.msg:find("^informed") then seen[#seen + 1] = entry.msg end
    end
    assert.same({ "informed one", "debugged two", "informed two", "informed four" }, seen)
    assert.equals(1, #dog:find_logs("^log level changed$"))
  end))

  it("has names, and another one is refused", run.case(function()
    moondog.start({ "log", "--set-level", "loud", "x" }):wait_exit(2)
    local dog = moondog.start { "check", moondog.script('require("moondog").log.level("loud")') }
    dog:wait_exit(1)
    assert.matches('script%d+%.lua:1: unknown log level "loud"', dog:text("stderr"))
  end))
end)

describe("a burst of failures", function()
  it("is logged by its first ones and a summary of the others", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run([[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      c:subscribe("fail", function() error("broken") end)
    ]], { URL = server.url })
    dog:wait_log("^connected$")
    local witness = server:connect()
    for _ = 1, 300 do witness:publish("fail", "") end
    local summary = dog:wait_log("^failures not logged one by one$", 15)
    assert.equals("handler", summary.kind)
    assert.equals("fail", summary.name)
    local loud = #dog:find_logs("^handler failed$")
    assert.is_true(loud >= 5 and loud < 20)
    assert.equals(300, summary.errors)
    assert.equals(300, summary.count + loud)
  end))
end)

describe("a dial that fails", function()
  it("is logged with its server, its error and what comes next", run.case(function()
    local server = nats_server.start { user = "u", password = "p" }
    local dog = moondog.run([[
      local moondog = require "moondog"
      moondog.connect { servers = { $URL }, user = "u", password = "wrong",
        reconnect = function() return 0.125 end }
    ]], { URL = server.url })
    local failed = dog:wait_log("^dial failed$", 10)
    assert.equals("auth", failed.class)
    assert.matches("Authorization Violation", failed.error)
    assert.equals(server.url, failed.server)
    assert.equals(1, failed.attempt)
    assert.equals(0.125, failed.next_dial_in)
  end))
end)

describe("secrets", function()
  local SECRET = "hush-hush-4711"
  local LOGIN = [[
    local moondog = require "moondog"
    local c = moondog.connect { servers = { $URL }, $LOGIN
      on = { closed = function(_, err) print(tostring(err)) end } }
    moondog.every(0.05, function()
      local s = c:status()
      print(s.server, tostring(s.error), tostring(c))
    end)
  ]]
  local logins = {
    ["of the option password"] = 'user = "u", password = $SECRET,',
    ["of the option token"] = "token = $SECRET,",
    ["of a token function"] = "token = function() return $SECRET end,",
    ["of the URL"] = "",
  }
  for what, login in pairs(logins) do
    it(what .. " never appear, accepted or refused", run.case(function()
      for _, password in ipairs { SECRET, "another" } do
        local with_token = what:find("token")
        local function login_with(secret)
          return with_token and { token = secret } or { user = "u", password = secret }
        end
        local server = nats_server.start(login_with(password))
        local url = server.url
        if what == "of the URL" then
          url = url:gsub("//", "//u:" .. SECRET .. "@")
        end
        local text = LOGIN:gsub("%$LOGIN", function() return login end)
        local dog = moondog.run(text, { URL = url, SECRET = SECRET },
          { args = { "--level", "debug" } })
        if password == SECRET then
          dog:wait_log("^connected$")
          server:reload(login_with("changed"))
          dog:wait_log("^closed$", 15)
        end
        dog:wait_log("^dial failed$", 15)
        dog:wait_log("\tAuthorization Violation\t", 5)
        dog:signal("sigterm")
        dog:wait_exit(0)
        assert.is_nil(dog:text():find(SECRET, 1, true))
      end
    end))
  end
end)
