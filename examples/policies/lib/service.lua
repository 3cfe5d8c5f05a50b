-- Errors in answers, as NATS services have them: the headers Nats-Service-Error and Nats-Service-Error-Code, so that
-- every client sees them. The codes are those of HTTP.
local M = {}

local CODES = { timeout = 504, too_many = 429, too_large = 413, invalid_subject = 400 }
local UNAVAILABLE = 503 -- no_responders, disconnected, closed, pending_full, replaced, ...

-- The code for an error of moondog's.
function M.code_of(err)
  return CODES[err.code] or UNAVAILABLE
end

-- Answers with an error. A message that nobody waits for is left alone.
function M.refuse(msg, code, text)
  if not msg.reply then return true end
  text = text:gsub("%c", " ") -- a header is one line
  return msg:respond(text, { ["Nats-Service-Error"] = text, ["Nats-Service-Error-Code"] = tostring(code) })
end

-- The code and the text of an answer that is an error; nil: it is none.
function M.error_of(answer)
  local headers = answer.headers
  local text, code = headers["Nats-Service-Error"], tonumber(headers["Nats-Service-Error-Code"])
  if not text and not code then return nil end
  return code or 500, tostring(text or "an error without words")
end

return M
