--- Texts in columns, for terminals: widths in characters, names that do no harm.

local M = {}

--- What a process calls its things must not move the cursor, or more.
---@param text string
---@return string
function M.harmless(text)
  return (text:gsub("[%c\127]", "?"):gsub("\194[\128-\159]", "?"))
end

--- How many columns a text takes, as far as one a character is right.
---@param text string
---@return integer
function M.width(text)
  return select(2, text:gsub("[^\128-\191]", ""))
end

--- The first `count` characters; negative: the last ones.
---@param text string
---@param count integer
---@return string
function M.characters(text, count)
  local list = {}
  for c in text:gmatch("[%z\1-\127\192-\255][\128-\191]*") do list[#list + 1] = c end
  if count < 0 then return table.concat(list, "", math.max(#list + count + 1, 1)) end
  return table.concat(list, "", 1, math.min(count, #list))
end

--- Cut in the middle, where it is wider: both ends of a subject tell something.
---@param text string
---@param width integer
---@return string
function M.cut(text, width)
  if M.width(text) <= width then return text end
  if width < 3 then return M.characters(text, width) end
  local left = math.floor((width - 1) / 2)
  return M.characters(text, left) .. "…" .. M.characters(text, -(width - 1 - left))
end

--- Rows of cells as lines, each column as wide as its widest cell.
---@param rows string[][]
---@param indent string
---@param widest? integer of the first column
---@return string[]
function M.lines(rows, indent, widest)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    row[1] = M.cut(row[1], widest or math.huge)
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, M.width(cell)) end
  end
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      cells[i] = i < #row and cell .. (" "):rep(widths[i] - M.width(cell)) or cell
    end
    lines[#lines + 1] = indent .. table.concat(cells, "  ")
  end
  return lines
end

return M
