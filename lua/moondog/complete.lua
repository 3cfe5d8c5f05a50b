--- What can stand at the end of a piece of Lua. Looks at values, but calls nothing: of metamethods only an __index
--- that is a table counts. Runs in the generation that is looked into, so it keeps the functions that it uses.

local type, rawget, next, tonumber = type, rawget, next, tonumber
local getmetatable = debug.getmetatable or getmetatable
local sort = table.sort
local find, match, sub = string.find, string.match, string.sub
local string_library = string

local M = {}

jit.off(true, true) -- so that it can be preempted

local ITEMS_MAX, LOOKED_AT_MAX, INDEX_DEPTH_MAX, TEXT_MAX = 200, 10000, 16, 64 * 1024
-- Of a chain of fields: what its patterns take grows with the square of it, and cannot be preempted.
local CHAIN_MAX = 512

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
    until while]]):gmatch("%a+") do
  KEYWORDS[word] = true
end

-- ---- the text ----

--- The text without what stands inside of strings and comments before its end: nil when the end itself does.
local function code_at_end(text)
  local at, start = 1, 1
  while true do
    local stop = find(text, "[\"'%[%-]", at)
    if not stop then return sub(text, start) end
    local c = sub(text, stop, stop)
    local level = match(text, "^%-%-%[(=*)%[", stop) or match(text, "^%[(=*)%[", stop)
    if level then
      local _, closed = find(text, "]" .. level .. "]", stop, true)
      if not closed then return nil end
      at = closed + 1
    elseif find(text, "^%-%-", stop) then
      local line = find(text, "\n", stop, true)
      if not line then return nil end
      at, start = line, line
    elseif c == '"' or c == "'" then
      at = stop + 1
      repeat
        local close = find(text, "[\\" .. c .. "\n]", at)
        if not close then return nil end
        local found = sub(text, close, close)
        at = found == "\\" and close + 2 or close + 1
      until found ~= "\\"
    else
      at = stop + 1
    end
  end
end

--- Reads the chain of fields at the end: the keys, from the last to the first, each a name, a string or a number;
--- what separates the last name (".", ":" or ""); the name as far as it is typed. Nil: nothing can be completed.
local function read_chain(code)
  local typed = match(code, "[%a_][%w_]*$") or ""
  local before = sub(code, 1, #code - #typed)
  if find(before, "[%w_]$") then return nil end -- 12ab
  local rest, separator = match(before, "^(.-)%s*([.:])%s*$")
  if not separator then return {}, "", typed end
  if separator == "." and find(rest, "%.$") then return {}, "", typed end -- behind a concatenation
  if find(rest, "[.:]$") then return nil end -- a label
  local keys = {}
  while true do
    local head, name = match(rest, "^(.-)([%a_][%w_]*)$")
    if name then
      keys[#keys + 1] = name
      if KEYWORDS[name] then return nil end
      local further, dot = match(head, "^(.-)%s*([.:])%s*$")
      if not dot or find(further, "[.:]$") then
        return not find(head, "[%w_]$") and keys or nil, separator, typed
      end
      if dot == ":" then return nil end
      rest = further
    else
      local behind, quoted, key = match(rest, "^(.-)%[%s*([\"'])([^\"'\\%]]*)%2%s*%]$")
      if not behind then
        behind, key = match(rest, "^(.-)%[%s*(%d+)%s*%]$")
        quoted = nil
        key = tonumber(key)
      end
      if not behind then
        if separator == ":" and find(rest, "[\"']%s*%)$") then return { string_library }, separator, typed end
        return nil
      end
      keys[#keys + 1] = quoted and { key } or { key }
      rest = behind
    end
  end
end

-- ---- the values ----

local function plain_get(value, key)
  for _ = 1, INDEX_DEPTH_MAX do
    if type(value) == "table" then
      local found = rawget(value, key)
      if found ~= nil then return found end
    end
    local meta = getmetatable(value)
    value = type(meta) == "table" and rawget(meta, "__index")
    if type(value) ~= "table" then return nil end
  end
end

local function lookup(scopes, name)
  for i = 1, #scopes do
    local value = rawget(scopes[i], name)
    if value ~= nil then return value end
  end
end

local function resolve(keys, options)
  if keys[#keys] == string_library then return "" end
  local value = lookup(options.scopes, keys[#keys])
  for i = #keys - 1, 1, -1 do
    local key = keys[i]
    if type(key) == "table" then key = key[1] end
    value = plain_get(value, key)
  end
  return value
end

--- The tables in which the fields of a value are.
local function tables_of(value, options)
  local list = {}
  if type(value) == "userdata" then
    list[1] = options.methods_of and options.methods_of(value)
    return list
  end
  for _ = 1, INDEX_DEPTH_MAX do
    if type(value) == "table" then list[#list + 1] = value end
    local meta = getmetatable(value)
    value = type(meta) == "table" and rawget(meta, "__index")
    if type(value) ~= "table" then break end
  end
  return list
end

local function add(found, t, typed, functions_only)
  local looked_at = 0
  for key, value in next, t do
    looked_at = looked_at + 1
    if looked_at > LOOKED_AT_MAX then return end
    if type(key) == "string" and sub(key, 1, #typed) == typed and find(key, "^[%a_][%w_]*$")
        and not KEYWORDS[key] and (not functions_only or type(value) == "function") then
      found[key] = true
    end
  end
end

local function before(a, b)
  local private_a, private_b = sub(a, 1, 1) == "_", sub(b, 1, 1) == "_"
  if private_a ~= private_b then return private_b end
  return a < b
end

--- What can stand at the end of the text.
---@param text string up to the cursor
---@param options { scopes: table[], methods_of?: fun(value: userdata): table?, max?: integer }
---@return integer from how many bytes of the text stay
---@return string[] items sorted, private ones last
---@return boolean more there are more than `max` (200)
function M.complete(text, options)
  if #text > TEXT_MAX then return #text, {}, false end
  local code = code_at_end(text)
  local keys, separator, typed
  if code then keys, separator, typed = read_chain(sub(code, -CHAIN_MAX)) end
  if not keys then return #text, {}, false end
  local found = {}
  if separator == "" then
    for i = 1, #options.scopes do add(found, options.scopes[i], typed, false) end
    for word in next, KEYWORDS do
      if sub(word, 1, #typed) == typed then found[word] = true end
    end
  else
    local tables = tables_of(resolve(keys, options), options)
    for i = 1, #tables do add(found, tables[i], typed, separator == ":") end
  end
  local items = {}
  for name in next, found do items[#items + 1] = name end
  sort(items, before)
  local max = options.max or ITEMS_MAX
  local more = #items > max
  for i = #items, max + 1, -1 do items[i] = nil end
  return #text - #typed, items, more
end

return M
