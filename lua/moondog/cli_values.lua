--- What options and arguments of the command line take: text to a value, or nil and the problem. Pure.

local M = {}

local NAME_MAX = 64
local DEFAULT_NAME = "moondog"
local INTEGER_DIGITS = 9

--- A whole number between two bounds.
function M.whole(flag, unit, low, high)
  return function(text)
    local n = #text <= INTEGER_DIGITS and text:match("^%d+$") and tonumber(text)
    if n and n >= low and n <= high then return n end
    return nil, ("option '%s' must be a whole number of %s from %d to %d, not '%s'")
      :format(flag, unit, low, high, text)
  end
end

--- A number of seconds that may have decimals (0.5), with or without its unit (30s).
function M.seconds(flag, high, low)
  return function(text)
    local digits = text:match("^(.-)s?$")
    local plain = digits:match("^%d+%.?%d*$") or digits:match("^%.%d+$")
    local n = plain and #plain <= INTEGER_DIGITS and tonumber(plain)
    if n and n >= (low or 0) and n <= high then return n end
    return nil, ("option '%s' must be a number of seconds from %g to %d, not '%s'"):format(flag, low or 0, high, text)
  end
end

function M.process_name(text)
  if #text <= NAME_MAX and text:match("^[%w_][%w._-]*$") then return text end
  return nil, ("option '--name' must be 1 to %d letters, digits, '_', '-' or '.', and start with a "
    .. "letter, a digit or '_', not '%s'"):format(NAME_MAX, text)
end

function M.policy_file(text)
  if text ~= "" then return text end
  return nil, "argument 'FILE' is empty; give the path of a policy"
end

--- "examples/policies/gateway.lua" is called "gateway".
function M.name_of_file(file)
  local name = file:match("[^/]*$"):gsub("%.lua$", ""):gsub("[^%w._-]", "-"):gsub("^[.-]+", "")
  return name ~= "" and name:sub(1, NAME_MAX) or DEFAULT_NAME
end

return M
