--- Values as people read them: as Lua source where there is one, bounded in depth, entries, bytes and work, and
--- without calling anything of the script's but __tostring. Runs in the generation that is looked into, so it
--- keeps the functions that it uses.

local type, tostring, tonumber, next, rawget, pcall = type, tostring, tonumber, next, rawget, pcall
local getmetatable, setmetatable = debug.getmetatable or getmetatable, setmetatable
local getinfo = debug.getinfo
local concat, sort = table.concat, table.sort
local format, byte, find, gsub, match, rep, sub =
    string.format, string.byte, string.find, string.gsub, string.match, string.rep, string.sub
local floor, huge = math.floor, math.huge

local M = {}

jit.off(true, true) -- so that it can be preempted

local DEPTH, ENTRIES, WIDTH = 4, 100, 80
local BYTES_MAX = 16 * 1024
local STRING_MAX = 4096
local LOOKED_AT_MAX = 2000 -- entries of a table that are looked at, so that some of them can be sorted
local WHOLE_MAX = 2 ^ 53

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
    until while]]):gmatch("%a+") do
  KEYWORDS[word] = true
end

-- ---- simple values ----

local UTF8 = { "^[\194-\223][\128-\191]", "^\224[\160-\191][\128-\191]", "^[\225-\236\238\239][\128-\191][\128-\191]",
  "^\237[\128-\159][\128-\191]", "^\240[\144-\191][\128-\191][\128-\191]",
  "^[\241-\243][\128-\191][\128-\191][\128-\191]", "^\244[\128-\143][\128-\191][\128-\191]" }
local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

--- A byte as a decimal escape, which has three digits when one follows.
local function escape(c, next_one)
  return ESCAPES[c] or format(find(next_one, "%d") and "\\%03d" or "\\%d", byte(c))
end

local function utf8_at(s, at)
  for i = 1, #UTF8 do
    local piece = match(s, UTF8[i], at)
    if piece then return piece end
  end
end

local function quote(s)
  local cut = #s > STRING_MAX and sub(s, 1, STRING_MAX) or s
  local out, at = {}, 1
  while at <= #cut do
    local piece = match(cut, "^[%w !#$%%&'()*+,./:;<=>?@%[%]^_`{|}~-]+", at) or utf8_at(cut, at)
    if piece then
      out[#out + 1] = piece
      at = at + #piece
    else
      out[#out + 1] = escape(sub(cut, at, at), sub(cut, at + 1, at + 1))
      at = at + 1
    end
  end
  local text = '"' .. concat(out) .. '"'
  return #s > STRING_MAX and format("%s ... %d bytes", text, #s) or text
end

local function number(n)
  if n ~= n then return "nan" end
  if n == huge then return "inf" end
  if n == -huge then return "-inf" end
  if n == 0 then return 1 / n < 0 and "-0" or "0" end
  if n == floor(n) and n > -WHOLE_MAX and n < WHOLE_MAX then return format("%d", n) end
  for digits = 14, 16 do
    local short = format("%." .. digits .. "g", n)
    if tonumber(short) == n then return short end
  end
  return format("%.17g", n)
end

--- What its __tostring says, or nil.
local function described(value)
  local meta = getmetatable(value)
  if type(meta) ~= "table" or rawget(meta, "__tostring") == nil then return nil end
  local ok, text = pcall(tostring, value)
  if not ok then return "(its __tostring fails: " .. (type(text) == "string" and text or type(text)) .. ")" end
  return type(text) == "string" and sub(text, 1, STRING_MAX) or nil
end

local function opaque(value)
  local kind = type(value)
  if kind == "function" then
    local info = getinfo(value, "S")
    if info and info.what ~= "C" then return format("function: %s:%d", info.short_src, info.linedefined) end
    return "function: builtin"
  end
  local ok, text = pcall(tostring, value)
  return ok and type(text) == "string" and text or kind
end

-- ---- tables ----

local function is_name(key)
  return type(key) == "string" and find(key, "^[%a_][%w_]*$") and not KEYWORDS[key] and #key < 200
end

local RANK = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local ra, rb = RANK[type(a)] or 4, RANK[type(b)] or 4
  if ra ~= rb then return ra < rb end
  if ra <= 2 then return a < b end
  if ra == 3 then return a and not b end
  return false
end

--- The keys outside of the array part, sorted as far as they were looked at, and whether there are more.
local function other_keys(t, array)
  local keys, count = {}, 0
  for key in next, t do
    local index = type(key) == "number" and key >= 1 and key <= array and key == floor(key)
    if not index then
      count = count + 1
      if count > LOOKED_AT_MAX then return keys, true end
      keys[count] = key
    end
  end
  sort(keys, before)
  return keys, false
end

local function array_length(t, most)
  local n = 0
  while n < most and rawget(t, n + 1) ~= nil do n = n + 1 end
  return n
end

local render

local function entry(state, key, value, depth)
  local name = key
  if not is_name(key) then name = "[" .. render(state, key, state.depth) .. "]" end
  return name .. " = " .. render(state, value, depth)
end

--- "... 12 more", when there are.
local function remark(left, unknown)
  if unknown then return format("... more than %d more", left) end
  return format("... %d more", left)
end

local function parts_of(state, t, depth)
  local array = array_length(t, LOOKED_AT_MAX)
  local keys, unknown = other_keys(t, array)
  local parts, total = {}, array + #keys
  unknown = unknown or array == LOOKED_AT_MAX
  if total == 0 then return parts end
  if depth >= state.depth then
    if total == 1 then return { "... 1 entry" } end
    return { format("... %s%d entries", unknown and "more than " or "", total) }
  end
  local shown = 0
  for i = 1, array do
    if shown == state.entries or state.left <= 0 then break end
    shown = shown + 1
    parts[shown] = render(state, rawget(t, i), depth + 1)
  end
  for i = 1, #keys do
    if shown == state.entries or state.left <= 0 then break end
    shown = shown + 1
    parts[shown] = entry(state, keys[i], rawget(t, keys[i]), depth + 1)
  end
  if shown < total or unknown then parts[shown + 1] = remark(total - shown, unknown) end
  return parts
end

local function lay_out(state, parts, depth)
  if #parts == 0 then return "{}" end
  local length, rows = 2 * depth + 4, false
  for i = 1, #parts do
    length = length + #parts[i] + 2
    rows = rows or find(parts[i], "\n", 1, true)
  end
  if not rows and length <= state.width then return "{ " .. concat(parts, ", ") .. " }" end
  local margin = rep("  ", depth + 1)
  return "{\n" .. margin .. concat(parts, ",\n" .. margin) .. "\n" .. rep("  ", depth) .. "}"
end

local function render_table(state, t, depth)
  if state.open[t] then return "<cycle>" end
  state.open[t] = true
  local text = lay_out(state, parts_of(state, t, depth), depth)
  state.open[t] = nil
  local meta = getmetatable(t)
  local name = type(meta) == "table" and rawget(meta, "__name")
  return type(name) == "string" and name .. " " .. text or text
end

function render(state, value, depth)
  local kind = type(value)
  local text
  if kind == "string" then
    text = quote(value)
  elseif kind == "number" then
    text = number(value)
  elseif kind == "nil" or kind == "boolean" then
    text = tostring(value)
  else
    text = described(value)
    if not text and kind == "table" then return render_table(state, value, depth) end
    text = text or opaque(value)
  end
  state.left = state.left - #text
  return text
end

--- The value as text. Bounded: 16 KiB, and what `options` says.
---@param value any
---@param options? { width?: integer, depth?: integer, entries?: integer }
---@return string
function M.pretty(value, options)
  options = options or {}
  local state = { width = options.width or WIDTH, depth = options.depth or DEPTH,
    entries = options.entries or ENTRIES, left = BYTES_MAX, open = setmetatable({}, { __mode = "k" }) }
  local text = render(state, value, 0)
  if #text <= BYTES_MAX then return text end
  local cut = gsub(sub(text, 1, BYTES_MAX), "[\192-\255]?[\128-\191]*$", "")
  return cut .. "\n... cut: the whole text would be longer"
end

-- ---- plain data ----

local NODES_MAX, PLAIN_DEPTH_MAX, PLAIN_BYTES_MAX = 10000, 32, 64 * 1024

local function copy(state, value, depth)
  local kind = type(value)
  state.nodes = state.nodes + 1
  if state.nodes > state.nodes_max or depth > PLAIN_DEPTH_MAX then return nil, "it is too large" end
  if kind == "string" then
    state.bytes = state.bytes + #value
    if state.bytes > state.bytes_max then return nil, "it is too large" end
    return value
  elseif kind == "number" then
    if value ~= value or value == huge or value == -huge then return nil, "a number is not finite" end
    return value
  elseif kind == "boolean" then
    return value
  elseif kind ~= "table" then
    return nil, "there is a " .. kind
  end
  if state.open[value] then return nil, "there is a cycle" end
  state.open[value] = true
  local out, array, count = {}, array_length(value, state.nodes_max + 1), 0
  for key, item in next, value do
    count = count + 1
    if array == 0 and type(key) ~= "string" then return nil, "a key is a " .. type(key) end
    if array == 0 then state.bytes = state.bytes + #key end
    if state.bytes > state.bytes_max then return nil, "it is too large" end
    if array > 0 and count > array then return nil, "an array has other keys" end
    local plain, why = copy(state, item, depth + 1)
    if plain == nil then return nil, why end
    out[key] = plain
  end
  state.open[value] = nil
  return out
end

--- A copy of plain data: numbers, strings, booleans, and tables of them that are arrays or have strings as keys.
--- Nil and why not, when it is none, or too large to be sent. Nil is plain, too.
---@param value any
---@param left? { nodes: integer, bytes: integer } what several copies may have together; it is counted down
function M.plain(value, left)
  local state = { nodes = 0, bytes = 0, open = {}, nodes_max = left and left.nodes or NODES_MAX,
    bytes_max = left and left.bytes or PLAIN_BYTES_MAX }
  local plain, why = copy(state, value, 0)
  if left then left.nodes, left.bytes = left.nodes - state.nodes, left.bytes - state.bytes end
  return plain, why
end

return M
