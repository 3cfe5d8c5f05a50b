-- The fault suite's results as text, 120 columns wide at most.
local fault = require "support.fault"
local subjects = require "support.fault_subjects"

local M = {}

local WIDTH = 120
local TITLE = 34

-- What became of one subject: a word, seconds of deafness, messages lost.
local function cell(result, row_skipped)
  if row_skipped or not result or result.absent then
    return ("%-7s %8s %5s"):format("-", "", "")
  end
  local deaf
  if result.deaf then
    deaf = ("%.1f s"):format(result.deaf)
  elseif result.given_up then
    deaf = "for ever"
  else
    deaf = ("> %.0f s"):format(result.waited)
  end
  return ("%-7s %8s %5d"):format(result.word, deaf, result.lost)
end

local function titled(result)
  local text = result.case and ("%s: %s"):format(result.title, result.case) or result.title
  return #text > TITLE and text:sub(1, TITLE - 3) .. "..." or text
end

function M.head()
  local line = ("%-4s %-" .. TITLE .. "s  %-22s  %-22s  %-22s  %s"):format("", "fault",
    "nats.c  deaf for  lost", "nats.js deaf for  lost", "moondog deaf for  lost", "verdict")
  return line .. "\n" .. ("-"):rep(#line) .. "\n"
end

function M.line(result)
  local verdict = result.skipped and "skipped" or result.ok and "ok" or "FAILED"
  return ("%-4s %-" .. TITLE .. "s  %s  %s  %s  %s\n"):format(result.id, titled(result),
    cell(result.subjects.nats_c, result.skipped), cell(result.subjects.nats_js, result.skipped),
    cell(result.subjects.moondog, result.skipped), verdict)
end

-- Breaks a text into lines of the table's width, behind an indentation.
local function wrapped(text, indent)
  local lines, line = {}, ""
  for word in text:gmatch("%S+") do
    if #line + #word + 1 > WIDTH - indent then
      lines[#lines + 1] = line
      line = word
    else
      line = line == "" and word or line .. " " .. word
    end
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n" .. (" "):rep(indent))
end

-- Why stock clients do not play rows; each reason once for a row.
local function absences(results)
  local out, told = {}, {}
  for _, result in ipairs(results) do
    for _, name in ipairs(subjects.names) do
      local why = result.subjects[name] and result.subjects[name].absent
      if why and not told[result.id .. why] then
        told[result.id .. why] = true
        out[#out + 1] = ("%-4s - %s"):format(result.id, wrapped(why, 7))
      end
    end
    if result.skipped then
      out[#out + 1] = ("%-4s skipped: %s"):format(result.id, wrapped(result.skipped, 7))
    end
  end
  return out
end

function M.foot(results, seconds)
  local out = { "" }
  for _, line in ipairs(absences(results)) do
    out[#out + 1] = line
  end
  local failed, skipped = 0, 0
  for _, result in ipairs(results) do
    skipped = skipped + (result.skipped and 1 or 0)
    if not result.ok and not result.skipped then
      failed = failed + 1
      out[#out + 1] = ("%s %s FAILED; promised: %s"):format(result.id, titled(result), result.promise)
      for _, text in ipairs(result.wrong) do
        out[#out + 1] = "       " .. wrapped(text, 7)
      end
    end
  end
  out[#out + 1] = wrapped(("deaf for: from the end of the cause, or from its beginning where it stays, until a "
    .. "message passes both ways. lost: requests without an answer, of 20 a second. fresh: a new link; back: the "
    .. "library reconnected; kept: the link stayed. moondog's promises are allowed %g s more, for the machine's load.")
    :format(fault.ALLOWANCE_SECONDS), 0)
  out[#out + 1] = ("%d faults in %.0f s: %d ok, %d failed, %d skipped"):format(#results, seconds,
    #results - failed - skipped, failed, skipped)
  return table.concat(out, "\n") .. "\n"
end

-- What became of a subject, in words for the page.
local function told(result)
  if not result or result.absent then
    return "-"
  end
  local deaf = result.deaf and ("%.1f s deaf"):format(result.deaf)
    or result.given_up and "deaf for ever" or ("deaf for more than %.0f s"):format(result.waited)
  return ("%s, %s, %d lost"):format(result.word, deaf, result.lost)
end

local INTRODUCTION = [[
# The fault suite

How real programs lost their NATS connections, or kept some that no longer carried anything, and what moondog does
about each. This page is made by `scripts/faults --page`: it played all of it, with real servers, real sockets and a
stock client of nats.c and of nats.js beside moondog, with the options that a careful user gives them (reconnects
without end).

What has to hold in each of them, and is checked in each:

1. A connection is never without a live link, a dial, or one that is scheduled, unless the script closed it.
2. At most one dial and one link of it are there at a time, and no zombie is left at a server.
3. What an outbox acknowledged is in the stream or still in the outbox, once.
4. `/readyz` does not say ready for longer than 10 s while nothing passes, and says so when it does.
5. It is back within the time that is promised, and %g s more for the load of the machine.
6. Threads, descriptors and memory are what they were.

Each client is sent requests all the time, 20 a second. *deaf*: from the end of the cause, or from its beginning where
it stays, until one passes both ways. *lost*: those without an answer, from the beginning of the fault on. *fresh*:
moondog made a new link; *back*: the library reconnected; *kept*: the link stayed; *closed*, *ended*: it has given up.

%d cases in %.0f s.
]]

-- What does not depend on how it went: a test compares the page with it.
function M.section(row)
  local why = row.why:sub(1, 1):upper() .. row.why:sub(2)
  local out = { ("## %s: %s"):format(row.id, row.title), "",
    row.seen and ("%s. Seen in %s."):format(why, row.seen) or why .. "." }
  for _, line in ipairs { "", ("Moondog: %s. Within %g s."):format(row.promise, row.within), "",
    "| case | nats.c | nats.js | moondog | verdict |", "|---|---|---|---|---|" } do
    out[#out + 1] = line
  end
  return table.concat(out, "\n") .. "\n"
end

-- The results as a page of Markdown.
function M.page(results, seconds)
  local out, row = { INTRODUCTION:format(fault.ALLOWANCE_SECONDS, #results, seconds) }, nil
  for _, result in ipairs(results) do
    if result.id ~= row then
      row = result.id
      out[#out + 1] = "\n" .. M.section(result)
    end
    out[#out + 1] = ("| %s | %s | %s | %s | %s |\n"):format(result.case or "", told(result.subjects.nats_c),
      told(result.subjects.nats_js), told(result.subjects.moondog),
      result.skipped and "skipped: " .. result.skipped or result.ok and "ok" or table.concat(result.wrong, "; "))
  end
  return table.concat(out)
end

-- A row as --list shows it.
function M.listed(row)
  local cases = {}
  for _, case in ipairs(fault.cases(row)) do
    cases[#cases + 1] = case.name
  end
  local title = #cases > 0 and ("%s (%s)"):format(row.title, table.concat(cases, ", ")) or row.title
  return ("%-4s %s\n     %s\n     moondog: %s\n"):format(row.id, wrapped(title, 5), wrapped(row.why, 5),
    wrapped(row.promise, 14))
end

return M
