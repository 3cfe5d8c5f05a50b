-- The reference (lua/meta/moondog.lua), the README and the runtime say the same.
local moondog = require "support.moondog"
local run = require "support.run"

local ROOT = assert(os.getenv("MOONDOG_ROOT"))

local function read(path)
  local file = assert(io.open(ROOT .. "/" .. path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local META = read("lua/meta/moondog.lua")

local function sorted(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return list
end

-- The fields that the reference gives a class.
local function fields_of(class)
  local set = {}
  local text = META:match("%-%-%-@class " .. class:gsub("%p", "%%%0") .. "\n(.-)\n\n")
  assert(text, class .. " is not in the reference")
  for name in text:gmatch("%-%-%-@field ([%w_]+)") do set[name] = true end
  return sorted(set)
end

-- The functions of the reference, as "log.info" or "connection:publish".
local function annotated_functions()
  local list = {}
  for name in META:gmatch("\nfunction ([%w_.:]+)%(") do list[#list + 1] = name end
  return list
end

-- The functions that the core registers.
local function registered_functions()
  local set = {}
  for _, file in ipairs { "api_connection", "api_subscription", "api_module", "api_timer", "api_metrics", "api_outbox",
    "message", "message_ack" } do
    for name in read("src/script/" .. file .. ".c"):gmatch('{"([%w_]+)",%s*[%w_]+}') do set[name] = true end
  end
  return sorted(set)
end

-- What the runtime says there is, when it is asked for an option that resembles none.
local function options_of(call)
  local path = moondog.script('local moondog = require "moondog"\n' .. call:gsub("%$UNKNOWN", "qqqqqqqqqqqq = 1"))
  local dog = moondog.start { "check", path }
  dog:wait_exit(1)
  local list = dog:text():match('unknown option "qqqqqqqqqqqq" of [^:]+: there are ([%w_, ]+)')
  assert(list, "no list of options in " .. dog:text())
  local set = {}
  for name in list:gmatch("[%w_]+") do set[name] = true end
  return sorted(set)
end

describe("The reference", function()
  for class, call in pairs {
    ["moondog.connect_options"] = "moondog.connect { $UNKNOWN }",
    ["moondog.hooks"] = "moondog.connect { on = { $UNKNOWN } }",
    ["moondog.tls"] = "moondog.connect { tls = { $UNKNOWN } }",
    ["moondog.watchdog"] = "moondog.connect { watchdog = { $UNKNOWN } }",
    ["moondog.backoff_options"] = "moondog.backoff { $UNKNOWN }",
    ["moondog.metric_options"] = 'moondog.metrics.counter("a", { $UNKNOWN })',
    ["moondog.histogram_options"] = 'moondog.metrics.histogram("a", { $UNKNOWN })',
    ["moondog.outbox_options"] = "moondog.outbox { $UNKNOWN }",
    ["moondog.subscribe_options"] =
      'moondog.connect {}:subscribe("a", function() end, { $UNKNOWN })',
  } do
    it("has the options of " .. class, run.case(function()
      assert.same(options_of(call), fields_of(class))
    end))
  end

  it("has every function that the core registers", function()
    local known = {}
    for _, name in ipairs(annotated_functions()) do known[name:match("[%w_]+$")] = true end
    local names = registered_functions()
    assert.is_true(#names > 20)
    for _, name in ipairs(names) do
      assert.is_true(known[name], name .. " is registered and not in lua/meta/moondog.lua")
    end
  end)

  -- What a class has: the modules that give it, and what they call it.
  for class, modules in pairs {
    jetstream = { jetstream = "JetStream", jetstream_publish = "M", jetstream_consumers = "M", kv = "M" },
    consumer = { consumer = "Consumer" },
    publication = { jetstream_publish = "Publication" },
    key_value = { kv = "KeyValue", kv_watch = "M" },
    watch = { kv_watch = "Watch" },
  } do
    it(("has the functions of a %s, and no other"):format(class), function()
      local there, described = {}, {}
      for module, owner in pairs(modules) do
        for name in read("lua/moondog/" .. module .. ".lua"):gmatch("\nfunction " .. owner .. ":([%w_]+)%(") do
          there[name] = true
        end
      end
      for name in META:gmatch("\nfunction " .. class .. ":([%w_]+)%(") do described[name] = true end
      assert.same(sorted(described), sorted(there))
      assert.is_true(#sorted(there) > 1)
    end)
  end

  it("has no function that a script does not find", run.case(function()
    local lines = {
      'local moondog = require "moondog"',
      "local log, connection = moondog.log, moondog.connect {}",
      'local subscription = connection:subscribe("a", function() end)',
      "local timer = moondog.after(1, function() end)",
      'local outbox = moondog.outbox { path = "never.db", connection = connection }',
      'local metrics, metric = moondog.metrics, moondog.metrics.gauge("level")',
    }
    for _, name in ipairs(annotated_functions()) do
      -- There is no message before one has arrived, and no JetStream without a server: other scenarios.
      if not name:find("^message") and not name:find("^jetstream") and not name:find("^consumer")
        and not name:find("^publication") and not name:find("^key_value") and not name:find("^watch") then
        lines[#lines + 1] = ("assert(%s, %q)"):format(name:gsub(":", "."), name .. " is missing")
      end
    end
    assert.is_true(#lines > 25)
    local dog = moondog.start { "check", moondog.script(table.concat(lines, "\n")) }
    dog:wait_exit(0)
    assert.equals("", dog:text("stderr"))
  end))
end)

describe("The README", function()
  it("has a first policy that moondog takes", run.case(function()
    local policy = read("README.md"):match("```lua\n(.-)```")
    local dog = moondog.start { "check", moondog.script(policy) }
    dog:wait_exit(0)
    assert.equals("", dog:text("stderr"))
  end))

  it("names tests, files and commands that there are", function()
    local text = read("README.md")
    local count = 0
    for row in text:gmatch("\n|[^\n]*| ([^|\n]*) |") do
      for name in row:gmatch("`([%w_]+)`") do
        read("tests/scenario/" .. name .. "_spec.lua")
        count = count + 1
      end
    end
    for path in text:gmatch("%]%(([%w_./]+)%)") do read(path) end
    for path in text:gmatch("%./(scripts/%w+)") do read(path) end
    assert.is_true(count > 10)
  end)
end)
