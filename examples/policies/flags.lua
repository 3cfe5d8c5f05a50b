-- Feature flags: what they are is declared here, what they are set to is in a bucket of keys, who asks gets an answer
-- at once, from memory. Until the bucket is known a flag has its default; while it is away, what it had last.
--
--   ./scripts/run examples/policies/flags.lua       with a private nats-server when none is reachable
--   NATS_URL=nats://edge:4222 FLAGS_URL=nats://hub:4222 moondog run flags.lua --http 8080
--
-- Try it, with any NATS client. A value is JSON: the value itself, or a table with `value` and, if you like, `percent`
-- (of the users; the others have the default) and `by` (who set it: NATS does not tell, so the log says what is here):
--   nats kv put flags max_items 20
--   nats kv put flags new_checkout '{"value": true, "percent": 25, "by": "ann"}'
--   nats request flags.get.new_checkout user-17        {"value":false,"source":"rollout","revision":2}
--   nats request flags.get user-17                     all of them
local cjson = require "cjson"
local hash = require "lib.hash"
local knob = require "lib.knob"
local moondog = require "moondog"
local patiently = require "lib.patiently"
local service = require "lib.service"

-- What there is. A value of another type, or one that `allowed` refuses, is not taken: the flag keeps what it had.
local FLAGS = {
  new_checkout = { type = "boolean", default = false },
  max_items = { type = "number", default = 10, allowed = function(n) return n >= 1 and n <= 1000 end },
  theme = { type = "string", default = "light", allowed = function(s) return s == "light" or s == "dark" end },
}

local BUCKET = os.getenv("FLAGS_BUCKET") or "flags"
local HISTORY = knob("FLAGS_HISTORY", 20)     -- revisions that the bucket keeps of a flag, when it is made here
local TEXT_MAX = 4096                         -- bytes of a value
local SHARES = 10000                          -- parts that users are divided into: a percentage may have two decimals

cjson.decode_invalid_numbers(false) -- nan and inf

local answers = moondog.metrics.counter("flag_answers", { labels = { "flag", "source" },
  help = "Answers: from the bucket, the rollout (not this user), or the default." })
local changes = moondog.metrics.counter("flag_changes", { labels = { "flag" }, help = "Changes that were taken." })
local refused = moondog.metrics.counter("flag_refused", { labels = { "flag" },
  help = "Values that were not taken: no JSON, another type, not allowed." })
local known = moondog.metrics.gauge("flags_known", { help = "1 when the bucket was read to its end since the start." })

-- Those who ask are here, and are answered whether the bucket can be reached or not: readiness does not wait for it.
local gw = moondog.connect { name = "flags" }
local hub = moondog.connect { name = "hub", servers = os.getenv("FLAGS_URL"), required = false }

-- ---- what is known ----

-- By flag, what was taken from the bucket: { text, revision }. It crosses a reload, so that no flag falls back to its
-- default meanwhile.
moondog.state.entries = {}

local settings = {} -- by flag, what was taken: { value, percent, by, revision }

-- A setting, or nil and why it is not one.
local function parse(flag, text)
  if #text > TEXT_MAX then return nil, ("it is longer than %d bytes"):format(TEXT_MAX) end
  local ok, data = pcall(cjson.decode, text)
  if not ok then return nil, "it is not JSON" end
  local setting = type(data) == "table" and { value = data.value, percent = data.percent, by = data.by }
    or { value = data }
  if type(setting.value) ~= flag.type then
    return nil, ("it is a %s, and has to be a %s"):format(type(setting.value), flag.type)
  end
  if flag.allowed and not flag.allowed(setting.value) then return nil, "that value is not allowed" end
  local percent = setting.percent
  if percent ~= nil and not (type(percent) == "number" and percent >= 0 and percent <= 100) then
    return nil, "percent is a number from 0 to 100"
  end
  return setting
end

local function show(setting)
  if not setting then return "default" end
  return tostring(setting.value) .. (setting.percent and (" for %g %%"):format(setting.percent) or "")
end

-- Takes an entry over; `report`: it is news.
local function apply(name, entry, report)
  local flag, before = FLAGS[name], settings[name]
  if not flag then return end
  local setting, err
  if entry.text then
    setting, err = parse(flag, entry.text)
    if not setting then
      refused:add(1, { flag = name })
      moondog.log.error("flag not taken: it stays as it is", { flag = name, text = entry.text:sub(1, 200),
        revision = entry.revision, stays = show(before), error = err })
      return
    end
    setting.revision = entry.revision
  end
  moondog.state.entries[name] = entry.text and entry or nil
  settings[name] = setting
  if not report or show(before) == show(setting) then return end
  changes:add(1, { flag = name })
  moondog.log.info("flag changed", { flag = name, from = show(before), to = show(setting),
    by = setting and type(setting.by) == "string" and setting.by or "unknown", revision = entry.revision })
end

-- ---- who asks ----

-- The same user has the same answer, whoever is asked; and for another flag others are among the first percents.
local function is_in(name, user, percent)
  return hash(name .. "/" .. user) % SHARES < percent * SHARES / 100
end

local function answer(name, user)
  local flag, setting = FLAGS[name], settings[name]
  local value, source = flag.default, "default"
  if setting and setting.percent and not is_in(name, user, setting.percent) then
    source = "rollout"
  elseif setting then
    value, source = setting.value, "bucket"
  end
  answers:add(1, { flag = name, source = source })
  return { value = value, source = source, revision = setting and setting.revision or nil }
end

gw:subscribe("flags.get.*", function(msg)
  local name = msg.subject:match("[^.]+$")
  if not FLAGS[name] then return service.refuse(msg, 404, ("there is no flag \"%s\""):format(name)) end
  return msg:respond(cjson.encode(answer(name, msg.data)))
end, { queue = "flags" })

gw:subscribe("flags.get", function(msg)
  local all = {}
  for name in pairs(FLAGS) do all[name] = answer(name, msg.data) end
  return msg:respond(cjson.encode(all))
end, { queue = "flags" })

-- ---- the bucket ----

-- One that is there is used as it is: an operator may have given it another history.
local function open_bucket(js)
  local bucket, err = js:key_value(BUCKET)
  if bucket or err.code ~= "bucket_not_found" then return bucket, err end
  return js:create_key_value { bucket = BUCKET, history = HISTORY }
end

moondog.on_start(function(state)
  local before = state.entries
  state.entries = {}
  for name, entry in pairs(before) do apply(name, entry, false) end
  local js = hub:jetstream { wait = true }
  local bucket = patiently(open_bucket, js)
  -- After a reload all of them again: there may be other flags now.
  local watch = patiently(bucket.watch, bucket, ">", function(entry)
    apply(entry.key, { text = entry.operation == "PUT" and entry.value or nil, revision = entry.revision }, true)
  end, { fresh = true })
  patiently(watch.ready, watch)
  known:set(1)
  moondog.log.info("flags are known", { bucket = BUCKET })
end)
