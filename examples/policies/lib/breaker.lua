-- A circuit breaker as a pure function of (state, event, now): no clock, no I/O, nothing of moondog. The state is plain
-- data, so that it can be kept in moondog.state, and is never changed: each step returns the next one.
--
--   local state = breaker.new()
--   local ticket, wait
--   state, ticket, wait = breaker.step(config, state, { kind = "ask" }, now)
--   if ticket then
--     -- make the call, then say how it went
--     state = breaker.step(config, state, { kind = "success", ticket = ticket }, now)   -- or "failure"
--   else
--     -- it is refused; `wait` seconds from now it may not be
--   end
--
-- closed: calls are made. It opens after `consecutive` failures in a row, or when of at least `calls` in the last
-- `window` seconds the share `rate` has failed.
-- open: calls are refused, for `open` seconds.
-- half_open: one call at a time is let through as a probe. `probes` successes in a row close it, a failure opens it.
-- A probe that nobody tells about for `probe` seconds is forgotten (a reload may have ended it): the next call is one.
local M = {}

local SLICES = 10 -- of the window: how finely it slides

-- What is counted since the last change: a call that has begun before tells nothing about what is now, and its ticket
-- is that of another epoch.
local function enter(state, name, now)
  return { name = name, since = now, epoch = state.epoch + 1, slices = {}, row = 0, good = 0 }
end

function M.new()
  return { name = "closed", since = 0, epoch = 1, slices = {}, row = 0, good = 0 }
end

local function copy(state, changes)
  local result = {}
  for key, value in pairs(state) do result[key] = value end
  for key, value in pairs(changes) do result[key] = value end
  return result
end

-- The slices that are still in the window, with one more call in the last of them.
local function count(config, slices, failed, now)
  local number, oldest = math.floor(now / config.window * SLICES), math.floor((now / config.window - 1) * SLICES) + 1
  local kept = {}
  for _, slice in ipairs(slices) do
    if slice.number >= oldest then kept[#kept + 1] = slice end
  end
  local last = kept[#kept]
  if not last or last.number ~= number then
    last = { number = number, calls = 0, failures = 0 }
    kept[#kept + 1] = last
  end
  kept[#kept] = { number = last.number, calls = last.calls + 1, failures = last.failures + (failed and 1 or 0) }
  return kept
end

local function is_too_much(config, state)
  local calls, failures = 0, 0
  for _, slice in ipairs(state.slices) do
    calls, failures = calls + slice.calls, failures + slice.failures
  end
  return state.row >= config.consecutive or (calls >= config.calls and failures / calls >= config.rate)
end

local function on_ask(config, state, now)
  if state.name == "closed" then return state, state.epoch end
  if state.name == "open" then
    local left = state.since + config.open - now
    if left > 0 then return state, nil, left end
    state = enter(state, "half_open", now)
  elseif state.probe_until and now < state.probe_until then
    return state, nil, state.probe_until - now
  elseif state.probe_until then -- a late answer of the one that is forgotten is of an epoch before
    state = copy(state, { epoch = state.epoch + 1 })
  end
  return copy(state, { probe_until = now + config.probe }), state.epoch
end

local function on_result(config, state, failed, now)
  if state.name == "half_open" then
    if failed then return enter(state, "open", now) end
    local good = state.good + 1
    if good >= config.probes then return enter(state, "closed", now) end
    local result = copy(state, { good = good, epoch = state.epoch + 1 })
    result.probe_until = nil
    return result
  end
  local result = copy(state, { slices = count(config, state.slices, failed, now), row = failed and state.row + 1 or 0 })
  return is_too_much(config, result) and enter(result, "open", now) or result
end

-- event: { kind = "ask" }, or { kind = "success" or "failure", ticket = what "ask" returned }. Returns the next state;
-- for "ask" also a ticket, or nil and the seconds after which asking again may help.
function M.step(config, state, event, now)
  if event.kind == "ask" then return on_ask(config, state, now) end
  if event.ticket ~= state.epoch then return state end -- of a call from before the last change
  return on_result(config, state, event.kind == "failure", now)
end

return M
