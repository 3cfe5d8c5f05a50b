-- Subjects from one cluster to another: mapping("orders.*.new", "east.orders.$1.new") returns a function from a subject
-- to its new one. "$1" is what the first * stands for; ">" at the end of both is the rest. A mapping that cannot work
-- is an error of the load.
local function tokens_of(text)
  local list = {}
  for token in (text .. "."):gmatch("([^.]*)%.") do list[#list + 1] = token end
  return list
end

local function check(pattern, target)
  local stars = select(2, pattern:gsub("%*", ""))
  for number in target:gmatch("%$(%d+)") do
    if tonumber(number) < 1 or tonumber(number) > stars then
      error(("\"%s\" has no $%s: \"%s\" has %d wildcards"):format(target, number, pattern, stars), 3)
    end
  end
  if target:find("*", 1, true) then error(("\"%s\": write $1, $2, ... for the wildcards"):format(target), 3) end
  if (pattern:sub(-1) == ">") ~= (target:sub(-1) == ">") then
    error(("\"%s\" and \"%s\": either both end with > or none"):format(pattern, target), 3)
  end
end

return function(pattern, target)
  check(pattern, target)
  local from, to = tokens_of(pattern), tokens_of(target)
  return function(subject)
    local tokens, stars = tokens_of(subject), {}
    for i, token in ipairs(from) do
      if token == "*" then stars[#stars + 1] = tokens[i] end
    end
    local result = {}
    for _, token in ipairs(to) do
      result[#result + 1] = token == ">" and table.concat(tokens, ".", #from)
        or token:gsub("%$(%d+)", function(number) return stars[tonumber(number)] end)
    end
    return table.concat(result, ".")
  end
end
