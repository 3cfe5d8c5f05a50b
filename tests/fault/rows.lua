-- The rows of the fault suite: each file fNN.lua beside this one is one.
local uv = require "luv"

local M = {}

local folder = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$")

-- All rows, in the order of their numbers.
function M.all()
  local names, rows = {}, {}
  local entries = assert(uv.fs_scandir(folder))
  while true do
    local name = uv.fs_scandir_next(entries)
    if not name then
      break
    end
    if name:find("^f%d%d%.lua$") then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  for i, name in ipairs(names) do
    rows[i] = require("fault." .. name:match("^(.*)%.lua$"))
  end
  return rows
end

-- Those with these ids ("F1", "f01"; none: all). nil and the id that no row has.
function M.choose(ids)
  local all = M.all()
  if #ids == 0 then
    return all
  end
  local chosen = {}
  for _, id in ipairs(ids) do
    local number = tonumber(id:match("^[Ff]0*(%d+)$"))
    local found
    for _, row in ipairs(all) do
      found = found or number and row.id == "F" .. number and row
    end
    if not found then
      return nil, id
    end
    chosen[#chosen + 1] = found
  end
  return chosen
end

return M
