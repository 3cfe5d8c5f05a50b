--- What `moondog doctor` has found, as text for people: the findings as the C side made them, and the last
--- outages explained in words. Pure.

local cjson = require "cjson"
local columns = require "moondog.cli_columns"
local words = require "moondog.cli_words"

local M = {}

local WIDTH = 100
local OUTAGES_SHOWN = 8
local MACHINE = "this machine"

local value, count, duration = words.value, words.count, words.duration

--- The text as lines of at most WIDTH columns; all but the first one indented like what stands before it.
local function wrap(lines, before, text)
  local indent, line = (" "):rep(columns.width(before)), before
  local empty = true
  for word in columns.harmless(text):gmatch("%S+") do
    if not empty and columns.width(line) + 1 + columns.width(word) > WIDTH then
      lines[#lines + 1] = line
      line, empty = indent, true
    end
    line = line .. (empty and "" or " ") .. word
    empty = false
  end
  lines[#lines + 1] = line
end

-- ---- outages in words ----

---@class moondog.cli.Explanation
---@field [1] string what happened
---@field [2] string why it ends a link
---@field [3] string what to look at

--- By why moondog replaced the link.
---@type table<string, moondog.cli.Explanation>
local REASONS = {
  probe = {
    "The link was connected, and deaf: two probes in a row, messages to itself, did not come back.",
    "The library sees nothing of that as long as the socket is open; its own pings take some minutes.",
    "Look for what drops packets without a word (a firewall, NAT, a VPN), and at the load of the server.",
  },
  reconnecting = {
    "The library was reconnecting for longer than watchdog.reconnecting.",
    "It would go on for ever, and can be stuck; a fresh link is made from outside.",
    "Look whether the servers of the list could be reached at that time.",
  },
  hung = {
    "The library did not answer the audit: a thread of it hangs.",
    "A call that hangs inside the library never comes back to be told about.",
    "Look for a server or a proxy that took the connection and then said nothing.",
  },
  requested = {
    "A fresh link was asked for, by the script, an operator, or a reload with other options.",
    "Nothing was wrong with the one before.",
    "There is nothing to look at.",
  },
  lame_duck = {
    "The server said that it would go, and moondog left it for another one of the list.",
    "A link that stays is cut off when the server sends its clients away, in the middle of what they do.",
    "There is nothing to look at.",
  },
}

local FOR_GOOD = "The library takes every error of the server that it does not know as final, and closes the "
  .. "connection for good, even with infinite reconnects."

--- By the error's code, when the library gave up.
---@type table<string, moondog.cli.Explanation>
local CODES = {
  auth_expired = {
    "The credentials expired, and the server ended the connection.",
    "With the same credentials each login is refused, and after two refusals in a row the library gives up.",
    "Look at what renews the credentials: it has to do so before they expire. moondog reads the file at each dial.",
  },
  auth_revoked = {
    "The user was revoked.",
    FOR_GOOD,
    "Look who revoked it, and give it new credentials if it is still wanted.",
  },
  max_connections = {
    "The server had as many clients as it may have.",
    FOR_GOOD,
    "Raise max_connections of the server, or look for clients that do not go away.",
  },
  max_account_connections = {
    "The account had as many connections as it may have.",
    FOR_GOOD,
    "Raise the account's limit, or look for clients that do not go away.",
  },
  max_subscriptions = {
    "There were more subscriptions than the server or the account allows.",
    FOR_GOOD,
    "Raise max_subscriptions, or subscribe to fewer subjects with wildcards.",
  },
  max_payload = {
    "A message was larger than the server takes.",
    FOR_GOOD,
    "Look at max_payload of the server: moondog doctor FILE shows it; and at what publishes messages so large.",
  },
  stale_connection = {
    "Pings were not answered in time.",
    "The library ends such a link, and reconnects.",
    "Look at the network between, and at the load of both machines.",
  },
}

--- By the error's class, when nothing is known of its code.
---@type table<string, moondog.cli.Explanation>
local CLASSES = {
  auth = {
    "The server refused the login.",
    "Two authorization errors in a row, as an auth service that hiccups brings about, and the library gives up "
      .. "for good, even with infinite reconnects.",
    "Look at the server's users and its auth service at that time, and whether the credentials were changed.",
  },
  network = {
    "The connection was cut, or could not be made.",
    "The library reconnects by itself as a rule; it gives up when it has no server left to try.",
    "Look whether the server was restarted, and at the network between.",
  },
  timeout = {
    "There was no answer in time.",
    "What takes the connection and says nothing cannot be told from what is slow.",
    "Look for a server, or a proxy, that hangs.",
  },
  tls = {
    "TLS could not be agreed on.",
    "The library ends a link whose handshake fails.",
    "Look at the certificates: moondog doctor FILE shows who signed them, for which names, and until when.",
  },
  limit = {
    "A limit of the server or of the account was reached.",
    FOR_GOOD,
    "Raise the limit, or use less.",
  },
  protocol = {
    "The server ended the connection with an error.",
    FOR_GOOD,
    "Look at the log of the server at that time.",
  },
}

---@type moondog.cli.Explanation
local LOST = {
  "The link was lost.",
  "The library reconnects by itself as a rule, and did not have to be helped.",
  "Look whether the server was restarted at that time, or what cuts connections in between.",
}

---@return moondog.cli.Explanation
local function explanation(c)
  local e = value(c.error) or {}
  if REASONS[c.reason] then return REASONS[c.reason] end
  if not c.closed then return CODES[e.code] and { CODES[e.code][1], LOST[2], CODES[e.code][3] } or LOST end
  return CODES[e.code] or CLASSES[e.class] or CLASSES.protocol
end

local function what_moondog_did(c)
  local dials = c.dials_failed > 0 and (" after %s that failed"):format(count(c.dials_failed, "dial")) or ""
  if c["end"] == "fresh" then
    return "made a fresh link" .. dials .. ", and put the subscriptions and what waited to be sent back."
  elseif c["end"] == "library" then
    return "left it to the library, which had the link back by itself."
  elseif c["end"] == "stopped" then
    return "stopped trying" .. dials .. ", when the connection was closed."
  elseif c.closed then
    return "is still trying to make a fresh link; "
      .. (c.dials_failed == 0 and "no dial has ended so far." or count(c.dials_failed, "dial") .. " failed so far.")
  end
  return "waits for the library, and makes a fresh link when that takes too long."
end

--- "2026-11-25T09:44:23.123Z" without what nobody reads.
local function time(at)
  return (at:gsub("T", " "):gsub("%.%d+Z$", " UTC"))
end

--- An outage as a heading and the labelled sentences below it.
---@param c table one of the answer to the verb `closures`
---@return string heading
---@return string[][] sentences { label, text }
function M.explain(c)
  local e, said = value(c.error) or {}, explanation(c)
  local outage = value(c.outage)
  local heading = ("%s, %s at %s: %s"):format(time(c.at), c.connection, c.server ~= "" and c.server or "no server",
    outage and "down for " .. duration(outage) or "down until now")
  local happened = said[1]
  if (e.message or "") ~= "" and c.reason ~= "requested" and c.reason ~= "lame_duck" then
    happened = ("%s It was told: %s"):format(happened, e.message)
  end
  local list = { { "happened", happened }, { "why", said[2] }, { "moondog", what_moondog_did(c) } }
  local last = value(c.last_error)
  if last and last.message ~= e.message then
    list[#list + 1] = { "since then", "The last of these dials failed: " .. last.message }
  end
  list[#list + 1] = { "to do", said[3] }
  return heading, list
end

local function closures(lines, list)
  if #list == 0 then return end
  lines[#lines + 1] = ""
  lines[#lines + 1] = "the last outages, the newest first"
  for i = #list, math.max(#list - OUTAGES_SHOWN + 1, 1), -1 do
    local heading, sentences = M.explain(list[i])
    wrap(lines, "  ", heading)
    for _, s in ipairs(sentences) do wrap(lines, ("    %-10s  "):format(s[1]), s[2]) end
  end
  if #list > OUTAGES_SHOWN then
    lines[#lines + 1] = ("  ... %d before these: see --json"):format(#list - OUTAGES_SHOWN)
  end
end

-- ---- findings ----

local function subject(f)
  local names = {}
  for _, key in ipairs { "process", "connection", "server" } do
    if value(f[key]) then names[#names + 1] = key .. " " .. f[key] end
  end
  return #names > 0 and table.concat(names, ", ") or MACHINE
end

local function add_finding(lines, f)
  wrap(lines, ("  %-7s  "):format(f.status), f.check .. ": " .. f.what)
  if value(f.remedy) then wrap(lines, (" "):rep(11) .. "-> ", f.remedy) end
end

local function summary(report)
  if report.problems == 0 and report.warnings == 0 then return "nothing is wrong" end
  return ("%s, %s"):format(count(report.problems, "problem"), count(report.warnings, "warning"))
end

--- The whole report as text.
---@param json string what `moondog doctor --json` prints
---@return string
function M.render(json)
  local report, lines, last = cjson.decode(json), {}, nil
  for _, f in ipairs(report.findings) do
    local about = subject(f)
    if about ~= last then
      if last then lines[#lines + 1] = "" end
      lines[#lines + 1] = columns.harmless(about)
      last = about
    end
    add_finding(lines, f)
  end
  closures(lines, value(report.closures) or {})
  lines[#lines + 1] = ""
  lines[#lines + 1] = summary(report)
  return table.concat(lines, "\n") .. "\n"
end

return M
