-- A real Prometheus scrapes moondog through an outage, and its answers are what happened.
local cjson = require "cjson"
local health = require "support.health"
local http = require "support.http"
local nats_server = require "support.nats_server"
local network = require "support.network"
local process = require "support.process"
local run = require "support.run"

local PROGRAM = "/usr/bin/prometheus"
local SCRAPE = "250ms"

local SCRIPT = [[
local moondog = require "moondog"
local jobs = moondog.metrics.counter("jobs", { help = "Jobs that were done.", labels = { "kind" } })
local c = moondog.connect {
  name = "gateway", servers = { $URL }, user = "game", password = "right",
  reconnect = moondog.backoff { base = 0.05, cap = 0.2, auth_base = 0.1 },
}
c:subscribe("job.*", function(msg)
  jobs:add(1, { kind = msg.subject:match("%a+$") })
  msg:respond("done")
end, { queue = "workers" })
]]

local function users(password)
  return { users = { { user = "witness", password = "w" },
    { user = "game", password = password } } }
end

local Prometheus = {}
Prometheus.__index = Prometheus

local function start(target)
  assert(io.open(PROGRAM), PROGRAM .. " is not there: scripts/deps --test"):close()
  local self = setmetatable({ port = network.free_port() }, Prometheus)
  local config = run.file("prometheus.yml", ([[
global:
  scrape_interval: %s
  scrape_timeout: %s
scrape_configs:
  - job_name: moondog
    static_configs:
      - targets: ["%s:%d"]
]]):format(SCRAPE, SCRAPE, network.host, target))
  self.process = process.start { name = "prometheus", file = PROGRAM, cwd = run.folder(),
    args = { "--config.file=" .. config, "--storage.tsdb.path=" .. run.folder() .. "/tsdb",
      "--log.level=warn",
      ("--web.listen-address=%s:%d"):format(network.host, self.port) } }
  self.process.rude = true -- what it has on disk goes with the test's folder
  run.wait_until(function()
    assert(not self.process.exit, "prometheus ended early")
    return http.get(self.port, "/-/ready") == 200
  end, 30, "a Prometheus that is ready")
  return self
end

function Prometheus:api(path)
  local status, body = http.get(self.port, "/api/v1/" .. path)
  assert(status == 200, ("%s: %s %s"):format(path, tostring(status), tostring(body)))
  return cjson.decode(body).data
end

-- The value of a query that gives one series at most, or nil; and the series' labels.
function Prometheus:query(text)
  local quoted = text:gsub("[^%w_]", function(c) return ("%%%02X"):format(c:byte()) end)
  local result = self:api("query?query=" .. quoted).result
  assert(#result <= 1, text .. " gives more than one series: " .. cjson.encode(result))
  return result[1] and tonumber(result[1].value[2]), result[1] and result[1].metric
end

-- Waits until a query gives this value, or one for which a function is true.
function Prometheus:wait(text, wanted, deadline)
  local value
  return run.wait_until(function()
    value = self:query(text)
    if type(wanted) == "function" then
      return value and wanted(value) and value
    end
    return value == wanted and value
  end, deadline or 15, function()
    return ("%s as wanted (%s); it is %s"):format(text, tostring(wanted), tostring(value))
  end)
end

local function positive(value)
  return value > 0
end

describe("Prometheus", function()
  it("knows of an outage, how long it lasted, and that it was one", run.case(function()
    local server = nats_server.start(users "right")
    local dog = health.run(SCRIPT, { URL = server.url })
    health.wait_status(dog, "/readyz", 200)
    local prometheus = start(dog.http)
    prometheus:wait('moondog_connection_ready{connection="gateway"}', 1)
    prometheus:wait('moondog_connection_outages_total{connection="gateway"}', 0)
    local target = prometheus:api("targets").activeTargets[1]
    assert.equals("up", target.health)
    assert.equals("", target.lastError)

    local begun_at = run.now()
    server:reload(users "changed")
    prometheus:wait('moondog_connection_ready{connection="gateway"}', 0)
    prometheus:wait('moondog_connection_outage_age_seconds{connection="gateway"}', positive)
    prometheus:wait("moondog_connections_ready", 0)
    server:reload(users "right")
    prometheus:wait('moondog_connection_ready{connection="gateway"}', 1)
    local lasted = run.now() - begun_at

    prometheus:wait('moondog_connection_outages_total{connection="gateway"}', 1)
    assert.equals(1, (prometheus:query(
      'max_over_time(moondog_connection_outages_total{connection="gateway"}[10m])')))
    assert.equals(1, (prometheus:query(
      'changes(moondog_connection_outages_total{connection="gateway"}[10m])')))
    assert.equals(0, (prometheus:query(
      'resets(moondog_connection_outages_total{connection="gateway"}[10m])')))
    local age = prometheus:query(
      'max_over_time(moondog_connection_outage_age_seconds{connection="gateway"}[10m])')
    assert.is_true(age > 0 and age < lasted, age .. " of " .. lasted)
    prometheus:wait('moondog_connection_outage_age_seconds{connection="gateway"}', 0)
    prometheus:wait('moondog_connection_outage_seconds_count{connection="gateway"}', 1)
    local seconds = prometheus:query(
      'moondog_connection_outage_seconds_sum{connection="gateway"}')
    assert.is_true(seconds >= age - 0.05 and seconds < lasted, seconds .. " of " .. lasted)
    assert.is_true(prometheus:query(
      'moondog_connection_dials_total{outcome="failed",class="auth"}') >= 1)
    -- Every scrape has worked, also those in the outage.
    assert.equals(1, (prometheus:query('min_over_time(up{job="moondog"}[10m])')))
  end))

  it("adds up what the script counts, by its labels", run.case(function()
    local server = nats_server.start(users "right")
    local dog = health.run(SCRIPT, { URL = server.url })
    health.wait_status(dog, "/readyz", 200)
    local prometheus = start(dog.http)
    local witness = server:connect()
    for _ = 1, 5 do
      witness:wait_answer("job.small", "", 5)
    end
    witness:wait_answer("job.large", "", 5)
    prometheus:wait("sum(jobs_total)", 6)
    assert.equals(5, (prometheus:query('jobs_total{kind="small"}')))
    prometheus:wait('moondog_subscription_handled_total{subject="job.*",queue="workers"}', 6)
    prometheus:wait("histogram_quantile(0.5, moondog_subscription_handler_seconds_bucket)",
      function(median) return median > 0 and median < 1 end)
    -- The counters go on after a reload: no reset is seen.
    assert.equals("script reloaded", dog:reload().msg)
    witness:wait_answer("job.large", "", 5)
    prometheus:wait('jobs_total{kind="large"}', 2)
    prometheus:wait("moondog_generation", 2)
    assert.equals(0, (prometheus:query("max(resets(jobs_total[10m]))")))
    assert.equals(0, (prometheus:query("max(resets(moondog_subscription_handled_total[10m]))")))

    local metadata = prometheus:api("metadata")
    assert.equals("Jobs that were done.", metadata.jobs_total[1].help)
    assert.equals("histogram", metadata.moondog_connection_outage_seconds[1].type)
    assert.equals("counter", metadata.moondog_connection_outages_total[1].type)
  end))

  it("sees a process that hangs, and that it does", run.case(function()
    local server = nats_server.start(users "right")
    local dog = health.run(SCRIPT .. health.STUCK .. [[
      c:subscribe("stuck", function() stuck() end)
    ]], { URL = server.url }, { rude = true })
    health.wait_status(dog, "/readyz", 200)
    local prometheus = start(dog.http)
    prometheus:wait("moondog_loop_stalled", 0)
    server:connect():publish("stuck", "")
    prometheus:wait("moondog_loop_stalled", 1)
    prometheus:wait("moondog_snapshot_age_seconds", function(age) return age > 1.5 end)
    assert.equals(1, (prometheus:query("moondog_loop_stalls_total")))
    assert.equals(1, (prometheus:query('min_over_time(up{job="moondog"}[10m])')))
  end))
end)
