-- What a person gets wrong is answered with one line that names the place and the remedy, exit
-- code 1 (the script) or 2 (the command line), and no traceback of moondog's own.
local moondog = require "support.moondog"
local process = require "support.process"
local run = require "support.run"

-- Runs it with these arguments and returns what it says on stderr.
local function refused(args, code)
  local dog = moondog.start(args)
  dog:wait_exit(code, 15)
  local text = dog:text("stderr")
  assert.equals("", dog:text("stdout"))
  assert.is_nil(text:lower():find("traceback"), text)
  assert.is_nil(text:find("%.c:%d"), text)
  assert.is_nil(text:find("moondog/[%w_]+%.lua:%d"), text)
  return text
end

local function assert_one_line(text)
  assert.is_true(text ~= "" and not text:find("\n"), "not one line: " .. text)
  return text
end

local function refused_script(script, patterns)
  local path = moondog.script(script, "bad.lua")
  for _, command in ipairs { "run", "check" } do
    local text = assert_one_line(refused({ command, path }, 1))
    for _, pattern in ipairs(patterns) do
      assert.matches(pattern, text)
    end
  end
end

describe("a script", function()
  it("that is not there is named", run.case(function()
    for _, command in ipairs { "run", "check" } do
      local text = assert_one_line(refused({ command, "nowhere/gateway.lua" }, 1))
      assert.matches("nowhere/gateway%.lua", text)
    end
  end))

  it("that is a folder, or cannot be read, is named", run.case(function()
    local text = assert_one_line(refused({ "run", run.folder() }, 1))
    assert.matches(run.folder():gsub("%p", "%%%0"), text)
  end))

  it("with a syntax error is refused with its line", run.case(function()
    refused_script("local x = 1\nlocal function end\n", { "bad%.lua:2:", "near" })
  end))

  it("that raises is refused with its line", run.case(function()
    refused_script("\n\nlocal t = nil\nprint(t.x)\n", { "bad%.lua:4:", "index" })
  end))

  it("that is bytecode is refused", run.case(function()
    local path = run.file("bad.lua", string.dump(function() return 1 end))
    assert_one_line(refused({ "run", path }, 1))
  end))
end)

describe("an option of moondog.connect", function()
  local cases = {
    ["that is unknown"] = { 'nmae = "x"', { "nmae", "name" } },
    ["of the wrong type"] = { "user = 42", { "user", "string" } },
    ["out of its range"] = { "ping_interval = -1", { "ping_interval" } },
    ["that is an unknown hook"] = { "on = { conected = print }", { "conected", "connected" } },
    ["that is no hook"] = { "on = { connected = 1 }", { '"on%.connected"', "function" } },
    ["of the wrong type in a table of its own"] = { "tls = { cert = 5 }", { '"tls%.cert"', "string" } },
    ["of the watchdog that is unknown"] =
      { "watchdog = { timeuot = 1 }", { "timeuot", "timeout" } },
    ["of the backoff that is unknown"] =
      { 'reconnect = moondog.backoff { jitter = "lots" }', { "lots", "full" } },
    ["that needs another one"] = { 'password = "x"', { "password", "user" } },
  }
  for what, case in pairs(cases) do
    it(what .. " is refused with its line", run.case(function()
      local patterns = { "bad%.lua:2:" }
      for _, pattern in ipairs(case[2]) do
        patterns[#patterns + 1] = pattern
      end
      refused_script('local moondog = require "moondog"\nmoondog.connect { ' .. case[1] .. " }\n",
        patterns)
    end))
  end

  for _, url in ipairs { "http://127.0.0.1:4222", "nats://", "nats://host:port",
    "nats://host:99999", "nats://a b:4222", "nats://127.0.0.1:4222/path" } do
    it("with the URL " .. url .. " is refused with its line", run.case(function()
      refused_script(('local moondog = require "moondog"\nmoondog.connect { servers = { %q } }\n')
        :format(url), { "bad%.lua:2:", "URL", "nats://host:4222" })
    end))
  end

  for _, option in ipairs { "creds", "nkey_seed_file" } do
    it("with an unreadable " .. option .. " is refused with the path", run.case(function()
      refused_script(('local moondog = require "moondog"\nmoondog.connect { %s = "/nowhere/x" }\n')
        :format(option), { "bad%.lua:2:", option, "/nowhere/x" })
    end))
  end

  it("with an unreadable certificate is refused with the path", run.case(function()
    refused_script('local moondog = require "moondog"\n'
      .. 'moondog.connect { tls = { ca = "/nowhere/ca.pem" } }\n',
      { "bad%.lua:2:", "ca", "/nowhere/ca%.pem" })
  end))

  it("never shows a password in its message", run.case(function()
    local path = moondog.script('require "moondog".connect { servers = '
      .. '{ "nats://user:hush-hush@host:port" } }\n')
    assert.is_nil(refused({ "run", path }, 1):find("hush-hush", 1, true))
  end))

  it("never shows a part of a password where the URL ends too early", run.case(function()
    local path = moondog.script('require "moondog".connect {}\n')
    for _, url in ipairs { "nats://user:hush,hush@host:4222", "nats://user:hush hush@host", "user:hush" } do
      local dog = moondog.start({ "run", path }, { env = { NATS_URL = url } })
      dog:wait_exit(1, 15)
      local text = assert_one_line(dog:text("stderr"))
      assert.is_nil(text:find("hush", 1, true), text)
      assert.matches("%$NATS_URL", text)
    end
  end))
end)

describe("a module that is not there", function()
  it("is named in one line", run.case(function()
    refused_script('require "not.there"\n', { "bad%.lua:1:", "not%.there", "not/there%.lua" })
  end))
end)

describe("a call", function()
  local cases = {
    ['c:subscribe("a b", print)'] = { "subject" },
    ['c:subscribe("a..b", print)'] = { "subject" },
    ['c:subscribe("a", "print")'] = { "function" },
    ['c:subscribe("a", print, { quue = "x" })'] = { "quue", "queue" },
    ["moondog.every(-1, print)"] = {},
    ["moondog.every(1)"] = { "function" },
    ['c:publish("a", "b")'] = { "on_start" },
    ['c:request("a", "b")'] = { "on_start" },
    ["moondog.sleep(1)"] = { "on_start" },
  }
  for call, patterns in pairs(cases) do
    it(call .. " at the top level is refused with its line", run.case(function()
      table.insert(patterns, "bad%.lua:3:")
      refused_script('local moondog = require "moondog"\nlocal c = moondog.connect {}\n' .. call
        .. "\n", patterns)
    end))
  end
end)

describe("the command line", function()
  local cases = {
    ["without a command"] = {},
    ["with an unknown command"] = { "fly" },
    ["with an unknown option"] = { "run", "--colour", "x.lua" },
    ["without the script"] = { "run" },
    ["with an option that has no value"] = { "run", "x.lua", "--log" },
    ["with an unknown log format"] = { "run", "x.lua", "--log", "xml" },
    ["with an unknown log level"] = { "run", "x.lua", "--level", "loud" },
    ["with a number that is none"] = { "run", "x.lua", "--memory", "much" },
    ["with a negative number"] = { "run", "x.lua", "--memory", "-5" },
    ["with two scripts"] = { "run", "x.lua", "y.lua" },
  }
  -- The word of the command line that the answer has to name.
  local named = {
    ["with an unknown command"] = "fly",
    ["with an unknown option"] = "--colour",
    ["with an option that has no value"] = "--log",
    ["with an unknown log format"] = "--log",
    ["with an unknown log level"] = "--level",
    ["with a number that is none"] = "--memory",
    ["with a negative number"] = "-5",
  }
  for what, args in pairs(cases) do
    it(what .. " is refused with exit code 2", run.case(function()
      local text = refused(args, 2)
      assert.is_truthy(text:find(named[what] or "moondog", 1, true), text)
    end))
  end

  it("explains itself", run.case(function()
    for _, args in ipairs { { "--help" }, { "run", "--help" }, { "check", "--help" } } do
      local dog = moondog.start(args)
      dog:wait_exit(0)
      assert.matches("[Uu]sage", dog:text("stdout"))
      assert.equals("", dog:text("stderr"))
    end
    local dog = moondog.start { "--version" }
    dog:wait_exit(0)
    assert.matches("%d+%.%d+%.%d+", dog:text("stdout"))
  end))
end)

describe("a standard descriptor", function()
  local POLICY = 'require "moondog".connect {}\n'

  local function shell(command)
    local p = process.start { name = "sh", file = "/bin/sh",
      args = { "-c", command:gsub("%$M", moondog.program()):gsub("%$P", moondog.script(POLICY)) } }
    local code, signal = p:wait_exit(15)
    assert.equals(0, signal)
    return code, p:text()
  end

  it("that is closed does not matter", run.case(function()
    assert.equals(0, (shell "$M check $P <&- >&- 2>&-"))
    assert.equals(0, (shell "$M check $P 2>&-"))
    assert.equals(1, (shell "$M run nowhere.lua <&- >&- 2>&-"))
  end))

  it("that cannot be written to is a failure", run.case(function()
    local code, text = shell "$M check $P >/dev/full"
    assert.equals(1, code)
    assert.matches("cannot write to standard output", text)
  end))
end)
