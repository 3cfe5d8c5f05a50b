-- A work queue: jobs are taken from a stream, several at a time; what fails comes again later, and what fails always is
-- put aside where an operator finds it. Run as many of it as there is work: they share one durable consumer.
--
--   ./scripts/run examples/policies/worker.lua       with a private nats-server when none is reachable
--   NATS_URL=nats://a:4222 moondog run worker.lua --drain 60 --retire 60 --http 8080
--
-- A job on jobs.<kind> is given to the service work.<kind> as a request. Try it, with any NATS client:
--   nats reply work.mail done
--   nats publish jobs.mail "to ann"
--   nats stream view JOBS_DEAD
--
-- SIGTERM takes no new job and lets those that have begun finish, for --drain seconds; a reload lets them finish for
-- --retire seconds. Both have to be longer than WORKER_TIMEOUT, or a job that is cut off is handled a second time.
local knob = require "lib.knob"
local moondog = require "moondog"
local patiently = require "lib.patiently"
local service = require "lib.service"

local STREAM, SUBJECTS = "JOBS", "jobs.>"
local DEAD_STREAM, DEAD_PREFIX = "JOBS_DEAD", "dead." -- of the subject that the job had
local DEAD_AGE = 30 * 86400                           -- seconds that it is kept there
local CONSUMER = "workers"

local CONCURRENT = knob("WORKER_CONCURRENT", 4)        -- jobs at a time, of this process
local TIMEOUT = knob("WORKER_TIMEOUT", 30)             -- seconds, of one job
local ACK_WAIT = knob("WORKER_ACK_WAIT", 30)           -- seconds without a word, until another worker gets the job
local DELIVERIES = knob("WORKER_DELIVERIES", 8)        -- tries, then it is dead
local RETRY_BASE = knob("WORKER_RETRY_BASE", 5)        -- seconds before the second try; it doubles
local RETRY_CAP = knob("WORKER_RETRY_CAP", 300)        -- seconds, at most


local results = moondog.metrics.counter("jobs", { labels = { "result" },
  help = "Deliveries: done, retried, dead (put aside)." })
local seconds = moondog.metrics.histogram("job_seconds", { help = "Time of a job's work.",
  buckets = { 0.01, 0.1, 1, 10, 60, 600 } })
local running = moondog.metrics.gauge("jobs_running", { help = "Jobs at work." })

local gw = moondog.connect { name = "worker" }

-- ---- what is done with a job ----

local jobs = {} -- messages of those at work
local unloaded = false

local function show_running()
  local count = 0
  for _ in pairs(jobs) do count = count + 1 end
  running:set(count)
end

-- While a job works, the server is told that it is not lost. This is a task and no timer: a timer ends when another
-- generation takes over, and the jobs that this one has begun go on.
local function keep_jobs()
  while moondog.sleep(ACK_WAIT / 3) and not (unloaded and next(jobs) == nil) do
    for msg in pairs(jobs) do
      if not pcall(msg.in_progress, msg) then jobs[msg] = nil end -- its handler was ended, by its time budget
    end
    show_running()
  end
end

moondog.on_unload(function() unloaded = true end)

-- true; or nil, what went wrong, and whether another try is of no use.
local function work(msg)
  local kind = msg.subject:match("^[^.]+%.(.+)$")
  local answer, err = gw:request("work." .. kind, msg.data, { timeout = TIMEOUT, headers = msg.headers })
  if not answer then return nil, err.message end
  local code, text = service.error_of(answer)
  if not code then return true end
  return nil, text, code >= 400 and code < 500 and code ~= 429
end

-- ---- what becomes of it ----

local function retry(msg, meta, why)
  local delay = math.min(RETRY_CAP, RETRY_BASE * 2 ^ (meta.deliveries - 1))
  delay = delay * (0.75 + math.random() / 2) -- what has failed together does not come again together
  moondog.log.warn("job failed, comes again", { subject = msg.subject, job = meta.seq, deliveries = meta.deliveries,
    after = delay, error = why })
  results:add(1, { result = "retried" })
  return msg:nak(delay)
end

-- A copy, with what is known about it; only then the job goes. Without the copy it comes again, and is copied then.
local function bury(js, msg, meta, why)
  local headers = {}
  for name, value in pairs(msg.headers) do
    if not name:find("^Nats%-") then headers[name] = value end -- they are meant for the stream that it was in
  end
  headers["Dead-Reason"] = why:gsub("%c", " ")
  headers["Dead-Stream"], headers["Dead-Sequence"] = meta.stream, tostring(meta.seq)
  headers["Dead-Deliveries"] = tostring(meta.deliveries)
  local ok, err = js:publish(DEAD_PREFIX .. msg.subject, msg.data, { headers = headers,
    msg_id = ("%s-%d-%.3f"):format(meta.stream, meta.seq, meta.time) }) -- one copy, whatever is tried again
  if not ok then return retry(msg, meta, "it cannot be put aside: " .. err.message) end
  moondog.log.error("job is dead", { subject = msg.subject, job = meta.seq, deliveries = meta.deliveries,
    error = why })
  results:add(1, { result = "dead" })
  return msg:term()
end

local function handle(js, msg)
  local meta = msg:metadata()
  -- It has had its tries and nobody said how the last one went: it may be what kills the workers.
  if meta.deliveries > DELIVERIES then return bury(js, msg, meta, "its worker was lost, or took too long") end
  local begun = moondog.now()
  jobs[msg] = true
  show_running()
  local fine, ok, why, hopeless = pcall(work, msg)
  jobs[msg] = nil
  show_running()
  seconds:observe(moondog.now() - begun)
  if not fine then ok, why, hopeless = nil, tostring(ok), false end
  if ok then
    results:add(1, { result = "done" })
    return msg:ack()
  end
  if hopeless or meta.deliveries >= DELIVERIES then return bury(js, msg, meta, why) end
  return retry(msg, meta, why)
end

-- ---- the stream, and who reads it ----

-- One that is there is left as it is: an operator may have given it other limits.
local function ensure_stream(js, config)
  local info, err = js:stream_info(config.name)
  if info or err.code ~= "stream_not_found" then return info, err end
  return js:add_stream(config)
end

moondog.on_start(function()
  local js = gw:jetstream { wait = true }
  patiently(ensure_stream, js, { name = STREAM, subjects = { SUBJECTS }, retention = "workqueue" })
  patiently(ensure_stream, js, { name = DEAD_STREAM, subjects = { DEAD_PREFIX .. SUBJECTS }, max_age = DEAD_AGE })
  -- How often it is delivered is counted here and not by max_deliver: then the server would just forget it.
  -- No more are asked for than `batch`, those that are at work among them: none waits here for another one to end.
  local consumer = patiently(js.consumer, js, STREAM, { durable = CONSUMER, ack_wait = ACK_WAIT, batch = CONCURRENT })
  moondog.spawn(keep_jobs)
  patiently(consumer.consume, consumer, function(msg) return handle(js, msg) end)
  moondog.log.info("takes jobs", { stream = STREAM, concurrent = CONCURRENT })
end)
