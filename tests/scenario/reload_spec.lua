-- A script is replaced while it runs: what asks for it, what crosses, what is refused.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local BASE = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
c:subscribe("who", function(msg) msg:respond($WHO) end)
]]

local function start(text, values, options)
  local server = nats_server.start()
  values = values or {}
  values.URL = server.url
  local dog = moondog.run(text, values, options)
  dog:wait_log("^connected$")
  local witness = server:connect()
  return dog, witness, server, values
end

local function who(witness)
  return witness:wait_answer("who", "", 5).data
end

describe("a reload", function()
  it("puts the new script to work on SIGHUP and keeps the link", run.case(function()
    local dog, witness, server = start(BASE, { WHO = "one" })
    assert.equals("one", who(witness))
    local entry = dog:reload(BASE, { URL = server.url, WHO = "two" })
    assert.equals("script reloaded", entry.msg)
    assert.equals(2, entry.generation)
    assert.same({ 1, 0, 0 }, { entry.kept, entry.added, entry.removed })
    assert.equals("two", who(witness))
    assert.equals(1, #dog:find_logs("^connected$"))
    assert.equals(1, #server:clients())
  end))

  it("adds and removes subscriptions", run.case(function()
    local dog, witness, server = start(BASE .. 'c:subscribe("old", function() end)', { WHO = "one" })
    run.wait_until(function() return server:subscriptions("^old$") == 1 end, 5, "the old one")
    local entry = dog:reload(BASE .. 'c:subscribe("new.*", function(m) m:respond("new") end)',
      { URL = server.url, WHO = "two" })
    assert.same({ 1, 1, 1 }, { entry.kept, entry.added, entry.removed })
    assert.equals("new", witness:wait_answer("new.x", "", 5).data)
    run.wait_until(function() return server:subscriptions("^old$") == 0 end, 5, "it is gone")
  end))

  it("adds and removes connections", run.case(function()
    local dog, witness, server = start(BASE .. 'moondog.connect { name = "old", servers = { $URL } }',
      { WHO = "one" })
    run.wait_until(function() return #server:clients("^old$") == 1 end, 5, "the old one")
    dog:reload(BASE .. 'moondog.connect { name = "new", servers = { $URL } }',
      { URL = server.url, WHO = "two" })
    run.wait_until(function()
      return #server:clients("^old$") == 0 and #server:clients("^new$") == 1
    end, 5, "one for the other")
    assert.equals("two", who(witness))
  end))

  it("is asked for by the script itself, which goes on with its number", run.case(function()
    local dog, witness, server = start(BASE .. [[
      c:subscribe("again", function(msg) print("number", moondog.reload()) end)
    ]], { WHO = "one" })
    dog:rewrite(BASE, { URL = server.url, WHO = "two" })
    witness:publish("again", "")
    dog:wait_log("^number\t2$", 5)
    assert.equals("two", who(witness))
  end))

  it("that the script asks for and that fails is an error of it", run.case(function()
    local dog, witness = start(BASE .. [[
      c:subscribe("again", function(msg)
        local number, err = moondog.reload()
        print("number", number, err.code)
      end)
    ]], { WHO = "one" })
    dog:rewrite("x = = 1")
    witness:publish("again", "")
    dog:wait_log("^number\tnil\tsyntax$", 5)
    assert.equals("one", who(witness))
  end))

  it("takes modules along", run.case(function()
    run.file("answer.lua", 'return "one"')
    local text = [[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      local answer = require "answer"
      c:subscribe("who", function(msg) msg:respond(answer) end)
    ]]
    local dog, witness = start(text)
    assert.equals("one", who(witness))
    run.file("answer.lua", 'return "two"')
    assert.equals("one", who(witness))
    dog:reload()
    assert.equals("two", who(witness))
  end))

  it("hands each of several handlers of a subject to its own successor", run.case(function()
    local text = BASE .. [[
      for i = 1, 5 do
        c:subscribe("many", function(msg) msg:respond($WHO .. i) end, { name = "n" .. i })
      end]]
    local dog, witness, server = start(text, { WHO = "one" })
    witness:wait_answer("who", "", 5)
    local function answers(name)
      local sub = witness:subscribe("reply." .. name)
      witness:publish("many", "", { reply = "reply." .. name })
      run.wait_until(function() return #sub.messages == 5 end, 5, "five answers")
      local list = {}
      for i, msg in ipairs(sub.messages) do list[i] = msg.data end
      return table.concat(list, " ")
    end
    local before = answers("one")
    local entry = dog:reload(text, { URL = server.url, WHO = "two" })
    assert.same({ 6, 0, 0 }, { entry.kept, entry.added, entry.removed })
    -- The server delivers to its subscriptions in one order, which shows who has which.
    assert.equals(before:gsub("one", "two"), answers("two"))
  end))

  it("that waits when the runtime stops is answered", run.case(function()
    local dog, witness, server = start(BASE .. [[
      c:subscribe("again", function(msg) print("asking") print("answer", (select(2, moondog.reload())).code) end)
    ]], { WHO = "one" })
    dog:rewrite(BASE .. "local stop = os.clock() + 0.4 while os.clock() < stop do end",
      { URL = server.url, WHO = "two" })
    witness:publish("again", "")
    witness:publish("again", "")
    dog:wait_log("^asking$", 5, 2)
    dog:signal("sigterm")
    dog:wait_exit(0, 5)
    assert.equals(2, #dog:find_logs("^answer\tstopping$"))
  end))

  it("ends timers, hooks and loops of the generation before", run.case(function()
    local dog, _, server = start(BASE .. [[
      moondog.every(0.01, function() print("tick old") end)
      moondog.on_unload(function() print("unload old") end)
    ]], { WHO = "one" })
    dog:wait_log("^tick old$")
    dog:reload(BASE .. 'moondog.every(0.01, function() print("tick new") end)',
      { URL = server.url, WHO = "two" })
    dog:wait_log("^unload old$")
    local ticks = #dog:find_logs("^tick old$")
    dog:wait_log("^tick new$", 5, 5)
    assert.equals(ticks, #dog:find_logs("^tick old$"))
  end))
end)

describe("--watch", function()
  local WATCH = { args = { "--watch" } }

  it("reloads when the script is replaced by a rename", run.case(function()
    local dog, witness, server = start(BASE, { WHO = "one" }, WATCH)
    dog:rewrite(BASE, { URL = server.url, WHO = "two" })
    dog:wait_log("^script reloaded$", 5)
    assert.equals("two", who(witness))
  end))

  it("reloads when the script is written in place, in pieces", run.case(function()
    local dog, witness, server = start(BASE, { WHO = "one" }, WATCH)
    local file = assert(io.open(dog.script_path, "w"))
    local text = moondog.fill(BASE, { URL = server.url, WHO = "two" })
    for piece in text:gmatch(".[^\n]*\n?") do
      file:write(piece)
      file:flush()
    end
    file:close()
    dog:wait_log("^script reloaded$", 5)
    assert.equals("two", who(witness))
  end))

  it("reloads when a module changes, also one that did not compile", run.case(function()
    run.file("answer.lua", 'return "one"')
    local dog, witness = start([[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      local answer = require "answer"
      c:subscribe("who", function(msg) msg:respond(answer) end)
    ]], {}, WATCH)
    run.file("answer.lua", "return = ")
    dog:wait_log("^reload failed$", 5)
    assert.equals("one", who(witness))
    run.file("answer.lua", 'return "two"')
    dog:wait_log("^script reloaded$", 5)
    assert.equals("two", who(witness))
  end))

  -- The script in a folder of its own, which is exchanged.
  local function start_in(folder, real)
    local server = nats_server.start()
    local root = run.folder()
    local function put(name, answer)
      assert(os.execute(("mkdir -p %s/%s"):format(root, name)) == 0)
      run.file(name .. "/policy.lua", moondog.fill(BASE, { URL = server.url, WHO = answer }))
    end
    put(real, "one")
    if real ~= folder then
      assert(os.execute(("ln -s %s/policy.lua %s/policy.lua"):format(real, root)) == 0)
      folder = "."
    end
    local dog = moondog.start { "run", ("%s/%s/policy.lua"):format(root, folder), "--log", "json", "--watch" }
    dog:wait_log("^connected$")
    return dog, server:connect(), put, root
  end

  it("reloads when the folder of the script is exchanged", run.case(function()
    local dog, witness, put, root = start_in("policies", "policies")
    put("fresh", "two")
    assert(os.rename(root .. "/policies", root .. "/old"))
    assert(os.rename(root .. "/fresh", root .. "/policies"))
    dog:wait_log("^script reloaded$", 5)
    assert.equals("two", who(witness))
    run.file("policies/policy.lua", "x = = 1") -- the new folder is watched
    dog:wait_log("^reload failed$", 5)
  end))

  it("reloads when a link that the script is reached through is exchanged", run.case(function()
    local dog, witness, put, root = start_in(".", "data1")
    put("data2", "two")
    assert(os.execute(("ln -s data2/policy.lua %s/next && mv -T %s/next %s/policy.lua"):format(root, root, root))
      == 0)
    dog:wait_log("^script reloaded$", 5)
    assert.equals("two", who(witness))
  end))

  it("does not take a text again that was taken back, because of another file", run.case(function()
    local dog, witness, server = start(BASE, { WHO = "one" },
      { args = { "--watch", "--level", "debug", "--name", "gateway" } })
    dog:reload(BASE, { URL = server.url, WHO = "two" })
    moondog.start({ "reload", "--previous", "gateway" }):wait_exit(0, 10)
    local unchanged = #dog:find_logs("^script unchanged$")
    run.file("other.txt", "something else")
    dog:wait_log("^script unchanged$", 5, unchanged + 1)
    assert.equals("one", who(witness))
  end))

  it("leaves a script alone whose text is the same", run.case(function()
    local dog, witness, server = start(BASE, { WHO = "one" }, { args = { "--watch", "--level", "debug" } })
    dog:rewrite(BASE, { URL = server.url, WHO = "one" })
    dog:wait_log("^script unchanged$", 5)
    assert.equals(0, #dog:find_logs("^script reloaded$"))
    assert.equals("one", who(witness))
  end))
end)

describe("moondog.state", function()
  it("crosses as it is, and the version tells what to migrate", run.case(function()
    local dog, _, server = start(BASE .. [[
      local s = moondog.state
      s.version = 1
      moondog.on_start(function(state, old) print("first", state == s, old) end)
      s.text, s.number, s.yes, s.no = "a\0b\255", 0.1, true, false
      s.list, s.deep = { 1, 2, { 3 } }, { [true] = { x = { y = "z" } }, [1.5] = "k" }
    ]], { WHO = "one" })
    dog:wait_log("^first\ttrue\tnil$")
    dog:reload(BASE .. [[
      local s = moondog.state
      s.version, s.fresh, s.number = 2, "declared", "covered"
      moondog.on_start(function(state, old)
        print("second", state == s, old, state.version, state.fresh, state.number)
        print("plain", state.text == "a\0b\255", state.yes, state.no, state.list[3][1],
          state.deep[true].x.y, state.deep[1.5])
      end)
    ]], { URL = server.url, WHO = "two" })
    dog:wait_log("^second\ttrue\t1\t2\tdeclared\t0.1$", 5)
    dog:wait_log("^plain\ttrue\ttrue\tfalse\t3\tz\tk$", 5)
  end))

  for what, case in pairs {
    ["a function"] = { "s.a = { b = { function() end } }", "moondog.state.a.b[1] is a function" },
    ["a connection"] = { "s.c = c", "moondog.state.c is a userdata" },
    ["a cycle"] = { "s.loop = { up = s }", "moondog.state.loop.up is a table that contains itself" },
    ["a metatable"] = { "s.m = setmetatable({}, {})", "moondog.state.m is a table with a metatable" },
    ["a key that is a table"] = { "s[{}] = 1", "is a key that is a table" },
    ["something too large"] = { 's.big = ("x"):rep(2 * 2 ^ 20)', "raise --state" },
    ["no table"] = { "moondog.state = 5", "moondog.state is a number" },
    ["too deep a nest"] = { "local t = s; for i = 1, 200 do t.d = {}; t = t.d end", "too deeply" },
  } do
    it("with " .. what .. " refuses the reload", run.case(function()
      local dog, witness, server = start(BASE ..
        'c:subscribe("spoil", function(msg) local s = moondog.state; ' .. case[1]
        .. '; msg:respond("ok") end)', { WHO = "one" }, { args = { "--state", "1" } })
      witness:wait_answer("spoil", "", 5)
      local entry = dog:reload(BASE, { URL = server.url, WHO = "two" })
      assert.equals("reload failed", entry.msg)
      assert.is_truthy(entry.error:find(case[2], 1, true), entry.error)
      assert.equals("one", who(witness))
    end))
  end
end)

describe("the running generation goes on when the new one", function()
  for what, case in pairs {
    ["has a syntax error"] = { "local x =\n= 1", ":2: unexpected symbol" },
    ["raises at its top level"] = { "local x\nx.y = 1", ":2: attempt to index" },
    ["spins at its top level"] = { "while true do end", "time budget of 300 ms" },
    ["spins in pcall at its top level"] = { "while true do pcall(function() while true do end end) end",
      "time budget of 300 ms" },
    ["needs too much memory at its top level"] =
      { "t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end", "--memory" },
    ["has an unknown option"] = { 'require("moondog").connect { sevrers = {} }',
      'unknown option "sevrers"' },
    ["wants to wait at its top level"] = { 'require("moondog").sleep(1)', "while it is loaded" },
    ["requires a module that is not there"] = { 'require "not.there"', "not/there.lua" },
    ["is half written"] = { BASE:sub(1, #BASE - 20), ":3:" },
    ["declares a state that is no table"] = { 'require("moondog").state = 5', "has to stay a table" },
    ["is bytecode"] = { "\27LJ", "bytecode" },
  } do
    it(what, run.case(function()
      local dog, witness, server = start(BASE, { WHO = "one" },
        { args = { "--load-budget", "300", "--memory", "16" } })
      local entry = dog:reload(case[1], { URL = server.url, WHO = "two" })
      assert.equals("reload failed", entry.msg)
      assert.is_truthy(entry.error:find(case[2], 1, true), entry.error)
      assert.equals("one", who(witness))
      assert.equals("script reloaded", dog:reload(BASE, { URL = server.url, WHO = "three" }).msg)
      assert.equals("three", who(witness))
    end))
  end

  it("has no room for the state", run.case(function()
    local text = BASE .. 'moondog.state.large = ("x"):rep($LARGE)'
    local dog, witness, server = start(text, { WHO = "one", LARGE = 12e6 }, { args = { "--memory", "32" } })
    local entry = dog:reload(BASE .. 'KEEP = {} for i = 1, 24 do KEEP[i] = ("y"):rep(1e6) .. i end',
      { URL = server.url, WHO = "two" })
    assert.equals("reload failed", entry.msg)
    assert.matches("does not fit", entry.error)
    assert.equals("one", who(witness))
    assert.equals("script reloaded", dog:reload(BASE, { URL = server.url, WHO = "three" }).msg)
    assert.equals("three", who(witness))
  end))

  it("is not there any more", run.case(function()
    local dog, witness = start(BASE, { WHO = "one" })
    assert(os.remove(dog.script_path))
    local entry = dog:reload()
    assert.equals("reload failed", entry.msg)
    assert.matches("cannot read the script", entry.error)
    assert.equals("one", who(witness))
  end))

  it("hangs in C at its top level", run.case(function()
    local dog, witness, server = start(BASE, { WHO = "one" }, { args = { "--load-budget", "100" } })
    local entry = dog:reload('local s = ("a"):rep(5000) s:find(("a-"):rep(60) .. "b")')
    assert.equals("reload failed", entry.msg)
    assert.equals("hanging", entry.code)
    assert.equals("one", who(witness))
    assert.equals("script reloaded", dog:reload(BASE, { URL = server.url, WHO = "two" }).msg)
    assert.equals("two", who(witness))
  end))
end)
