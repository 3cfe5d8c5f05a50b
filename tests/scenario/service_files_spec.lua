-- The files for service managers: systemd takes the unit, and the probes mean what they should.
local process = require "support.process"
local run = require "support.run"
local moondog = require "support.moondog"

local FOLDER = moondog.root .. "/examples/service/"

local function read(name)
  local file = assert(io.open(FOLDER .. name))
  local text = file:read("*a")
  file:close()
  return text
end

local function analyze(args)
  local p = process.start { name = "systemd-analyze", file = "/usr/bin/systemd-analyze", args = args,
    env = { SYSTEMD_COLORS = "0", SYSTEMD_PAGER = "cat" } }
  local code = p:wait_exit(30)
  return code, p:text()
end

-- The unit as it is installed, with programs that are there.
local function unit()
  local text = read("moondog@.service"):gsub("/usr/bin/moondog", moondog.program())
  return run.file("moondog@.service", text)
end

describe("The unit for systemd", function()
  it("is verified without a remark", run.case(function()
    local path = unit():gsub("@%.", "@gateway.")
    run.file("moondog@gateway.service", assert(io.open(unit())):read("*a"))
    local code, text = analyze { "verify", "--man=no", path }
    assert.equals("", text)
    assert.equals(0, code)
  end))

  it("is hardened", run.case(function()
    local code, text = analyze { "security", "--offline=true", "--threshold=20", unit() }
    assert.equals(0, code, text)
    assert.matches("Overall exposure level for moondog@", text)
  end))

  it("names options that moondog has", run.case(function()
    local dog = moondog.start { "run", "--help" }
    dog:wait_exit(0)
    local help, count = dog:text("stdout"), 0
    for option in read("moondog@.service"):match("ExecStart=([^\n]*)"):gmatch("(%-%-[%w-]+)") do
      assert.is_truthy(help:find(option, 1, true), option)
      count = count + 1
    end
    assert.is_true(count >= 4)
  end))
end)

describe("The probes for Kubernetes", function()
  it("ask for pages that there are, and restart only for /livez", function()
    local text = read("kubernetes.yaml")
    assert.matches("livenessProbe:%s+httpGet: { path: /livez,", text)
    assert.matches("startupProbe:%s+httpGet: { path: /livez,", text)
    assert.matches("readinessProbe:%s+httpGet: { path: /readyz,", text)
  end)
end)
