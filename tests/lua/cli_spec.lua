-- The command line: what arguments become, what mistakes are answered with, and that the help pages,
-- the man page and the completions know every command and option.
local root = os.getenv("MOONDOG_ROOT") or "."
package.path = root .. "/lua/?.lua;" .. package.path

local cli = require "moondog.cli"
local commands = require "moondog.cli_commands"

local ENV = { version = "1.2.3", nats = "3.4.1", luajit = "2.1.0", libuv = "1.44.2" }

local function parse(...)
  return cli.parse({ ... }, ENV)
end

--- The one line that a mistake is answered with.
local function usage_error(...)
  local result, code, message = parse(...)
  assert.is_nil(result)
  assert.are.equal(2, code)
  assert.matches("^moondog[^\n]*: [^\n]*; see 'moondog[^\n]* %-%-help'\n$", message)
  return message
end

describe("moondog run", function()
  it("has a default for everything but the file", function()
    assert.are.same({
      command = "run", file = "a/gateway.lua", dev = false, name = "gateway", log = "auto", level = "info",
      budget = 100, load_budget = 1000, memory = 256, drain = 10, stall = 1, supervise = false, wedged = 5,
      watch = false, probation = 0, probation_rate = 10, retire = 30, state = 16,
    }, (parse("run", "a/gateway.lua")))
  end)

  it("takes every option, before and after the file, with a space or an equals sign", function()
    assert.are.same({
      command = "run", file = "x.lua", dev = true, name = "edge-1", log = "json", level = "debug",
      budget = 5, load_budget = 2000, memory = 64, drain = 0.5, http = "unix:/run/x", stall = 2.5, supervise = true,
      wedged = 9,
      watch = true, probation = 30, probation_rate = 50, retire = 2.5, state = 1,
    }, (parse("run", "--watch", "--probation", "30", "--probation-rate=50", "--retire=2.5", "--state=1",
      "--dev", "--name", "edge-1", "--log=json", "--level", "debug", "x.lua", "--budget=5",
      "--load-budget", "2000", "--memory", "64", "--drain", "0.5", "--http", "unix:/run/x",
      "--stall", "2.5", "--supervise", "--wedged", "9")))
  end)

  it("does not restart a process before it counts as stalled", function()
    assert.matches("%-%-wedged' must be at least %-%-stall, which is 3 s, not '2'",
      usage_error("run", "x.lua", "--supervise", "--stall", "3", "--wedged", "2"))
    assert.are.equal(2, parse("run", "x.lua", "--supervise", "--stall", "2", "--wedged", "2").wedged)
    assert.are.equal(2, parse("run", "x.lua", "--stall", "3", "--wedged", "2").wedged) -- nobody restarts it
  end)

  it("takes the last of repeated options", function()
    assert.are.equal("short", parse("run", "--log", "json", "--log", "short", "x.lua").log)
  end)

  it("takes a file that looks like an option after --", function()
    assert.are.equal("--dev", parse("run", "--", "--dev").file)
  end)

  it("is called as its file, as far as that is a name", function()
    assert.are.equal("my-policy", parse("run", "/srv/my policy.lua").name)
    assert.are.equal("hidden", parse("run", ".hidden.lua").name)
    assert.are.equal("moondog", parse("run", ".lua/").name)
    assert.are.equal(64, #parse("run", ("x"):rep(200) .. ".lua").name)
  end)

  it("accepts numbers only within their bounds", function()
    assert.are.equal(1, parse("run", "x", "--budget", "1").budget)
    assert.are.equal(3600000, parse("run", "x", "--load-budget", "3600000").load_budget)
    assert.are.equal(0, parse("run", "x", "--drain", "0").drain)
    assert.are.equal(0.25, parse("run", "x", "--drain", ".25").drain)
    assert.are.equal(30, parse("run", "x", "--probation", "30s").probation)
    for _, bad in ipairs { "0", "-1", "3600001", "1.5", "1e3", "0x10", " 5", "", "nan", "99999999999999999999" } do
      assert.matches("option '--budget' must be a whole number of milliseconds from 1 to 3600000",
        usage_error("run", "x", "--budget=" .. bad), 1, true)
    end
    for _, bad in ipairs { ".", "-1", "86401", "1e3", "inf", "1.2.3" } do
      assert.matches("option '--drain' must be a number of seconds", usage_error("run", "x", "--drain=" .. bad),
        1, true)
    end
    assert.matches("option '--wedged' must be a number of seconds from 0.5 to 3600",
      usage_error("run", "x", "--wedged", "0"), 1, true)
  end)

  it("accepts only names that can be part of a path and of a log line", function()
    for _, bad in ipairs { "", "a/b", "..", "a b", "-x", ("x"):rep(65), "a\nb" } do
      assert.matches("option '--name' must be", usage_error("run", "x", "--name=" .. bad), 1, true)
    end
  end)
end)

describe("moondog check", function()
  it("takes a file and --json", function()
    assert.are.same({ command = "check", file = "x.lua", json = false }, (parse("check", "x.lua")))
    assert.are.same({ command = "check", file = "x.lua", json = true }, (parse("check", "--json", "x.lua")))
  end)

  it("has none of run's options", function()
    assert.matches("moondog check: unknown option '--dev'", usage_error("check", "--dev", "x.lua"), 1, true)
  end)
end)

describe("a mistake on the command line", function()
  it("is answered with one line that names it and the remedy, and with exit code 2", function()
    local cases = {
      { {}, "moondog: a command is required: one of run, check" },
      { { "rnu", "x" }, "moondog: unknown command 'rnu' (did you mean 'run'?)" },
      { { "--bogus" }, "moondog: unknown option '--bogus'" },
      { { "run" }, "moondog run: missing argument 'FILE' (usage: moondog run [OPTIONS] FILE)" },
      { { "run", "" }, "moondog run: argument 'FILE' is empty" },
      { { "run", "a", "b" }, "moondog run: too many arguments (usage: moondog run [OPTIONS] FILE)" },
      { { "run", "x", "--bugdet", "5" }, "moondog run: unknown option '--bugdet' (did you mean '--budget'?)" },
      { { "run", "x", "--budget" }, "moondog run: option '--budget' requires an argument: --budget MS" },
      { { "run", "--dev=yes", "x" }, "moondog run: option '--dev' does not take arguments" },
      { { "run", "x", "--level", "loud" },
        "argument for option '--level' must be one of 'debug', 'info', 'warn', 'error'" },
      { { "run", "--a\nb\27%s", "x" }, "moondog run: unknown option '--a?b?%s'" },
    }
    for _, case in ipairs(cases) do
      assert.matches(case[2], usage_error(unpack(case[1])), 1, true)
    end
  end)
end)

describe("--version", function()
  it("names moondog and what it is built on", function()
    local result, code, printed = parse("--version")
    assert.is_nil(result)
    assert.are.equal(0, code)
    assert.are.equal("moondog 1.2.3 (nats.c 3.4.1, LuaJIT 2.1.0, libuv 1.44.2)\n", printed)
  end)
end)

describe("--help", function()
  it("is a page with every section, for each command", function()
    for _, command in ipairs(commands.commands) do
      local result, code, page = parse(command.name, "--help")
      assert.is_nil(result)
      assert.are.equal(0, code)
      for _, title in ipairs { "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES" } do
        assert.matches("%f[^\n%z]" .. title .. "\n", page)
      end
      for _, option in ipairs(command.options) do
        local flag = (option.short and option.short .. ", " or "") .. option.flag
        assert.matches("\n       " .. flag .. (option.value and " " .. option.value or ""), page, 1, true)
      end
    end
  end)

  it("needs no other argument, and works with -h and without a command", function()
    local _, code, page = parse("-h")
    assert.are.equal(0, code)
    for _, command in ipairs(commands.commands) do assert.matches(command.summary, page, 1, true) end
    assert.matches("NATS_URL", page, 1, true)
    assert.are.equal(page, select(3, parse("--help")))
    assert.are.equal(select(3, parse("run", "-h")), select(3, parse("run", "--budget", "5", "--help")))
  end)

  it("fits a terminal of 80 columns and shows no markup", function()
    for _, page in ipairs { (select(3, parse("--help"))), (select(3, parse("run", "--help"))),
      (select(3, parse("check", "--help"))) } do
      assert.is_nil(page:find("`", 1, true))
      for line in page:gmatch("[^\n]+") do assert.is_true(#line <= 80, line) end
    end
  end)
end)

describe("the man page", function()
  it("has every command and option, and nothing that roff would take for a request", function()
    local page = cli.man(ENV)
    assert.matches('.TH MOONDOG 1 "" "moondog 1.2.3"', page, 1, true)
    for _, command in ipairs(commands.commands) do
      assert.matches(".SS \\fBmoondog " .. command.name .. "\\fR\n", page, 1, true)
      for _, option in ipairs(command.options) do
        assert.matches("\\fB" .. option.flag:gsub("%-", "\\-") .. "\\fR", page, 1, true)
      end
    end
    assert.matches("$NATS_URL", page, 1, true)
    local requests = { TH = true, SH = true, SS = true, TP = true, PP = true, br = true, nh = true, ad = true }
    for line in page:gmatch("[^\n]+") do
      local request = line:match("^[.']([%a]*)")
      assert.is_true(request == nil or requests[request] or line:sub(1, 3) == ".\\\"", line)
    end
  end)
end)

describe("completions", function()
  it("know every option, for each shell", function()
    for _, shell in ipairs { "bash", "zsh", "fish" } do
      local script = assert(cli.completion(shell))
      for _, command in ipairs(commands.commands) do
        for _, option in ipairs(command.options) do
          assert.matches(option.flag:sub(3), script, 1, true)
        end
      end
    end
  end)

  it("are an error for another shell", function()
    local script, err = cli.completion("tcsh")
    assert.is_nil(script)
    assert.matches("tcsh", err, 1, true)
  end)
end)

describe("without argparse", function()
  it("names the package to install", function()
    local loaded, preload = package.loaded.argparse, package.preload.argparse
    package.loaded.argparse = nil
    package.preload.argparse = function() error("module not found") end
    local result, code, message = parse("run", "x.lua")
    package.loaded.argparse, package.preload.argparse = loaded, preload
    assert.is_nil(result)
    assert.are.equal(1, code)
    assert.matches("lua-argparse", message, 1, true)
  end)
end)
