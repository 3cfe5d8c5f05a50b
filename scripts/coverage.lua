-- What gcovr counted, as tables: of each folder of src/, and of each file under 80 % of its lines.
-- usage: luajit coverage.lua [--into FILE.md] SUMMARY.json
-- Prints them; --into puts them between the two marks in that file instead.

local cjson = require "cjson"

local LOW = 80 -- per cent of a file's lines
local BEGIN, END = "<!-- scripts/coverage writes from here -->", "<!-- to here -->"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function add(sum, file)
  for _, key in ipairs { "line_total", "line_covered", "branch_total", "branch_covered" } do
    sum[key] = (sum[key] or 0) + file[key]
  end
end

local function share(covered, total)
  return total > 0 and ("%.1f %%"):format(100 * covered / total) or "-"
end

local function row(name, s)
  return ("| %s | %d | %s | %s |"):format(name, s.line_total, share(s.line_covered, s.line_total),
    share(s.branch_covered, s.branch_total))
end

local function tables(summary)
  local folders, names, low, all = {}, {}, {}, {}
  for _, file in ipairs(summary.files) do
    local folder = file.filename:match("^(src/[^/]+)/") or "src"
    if not folders[folder] then
      folders[folder] = {}
      names[#names + 1] = folder
    end
    add(folders[folder], file)
    add(all, file)
    if file.line_total > 0 and file.line_covered / file.line_total * 100 < LOW then low[#low + 1] = file end
  end
  table.sort(names)
  local lines = { "| folder | lines | reached | branches reached |", "|---|---|---|---|" }
  for _, name in ipairs(names) do lines[#lines + 1] = row(name, folders[name]) end
  lines[#lines + 1] = row("all", all)
  lines[#lines + 1] = ("\nFiles under %d %% of their lines:%s\n"):format(LOW, #low == 0 and " none." or "")
  if #low > 0 then
    table.sort(low, function(a, b) return a.line_percent < b.line_percent end)
    lines[#lines + 1] = "| file | lines | reached | branches reached |"
    lines[#lines + 1] = "|---|---|---|---|"
    for _, file in ipairs(low) do lines[#lines + 1] = row(file.filename, file) end
  end
  return table.concat(lines, "\n") .. "\n"
end

local into = arg[1] == "--into" and arg[2]
local text = tables(cjson.decode(read(arg[into and 3 or 1])))
if not into then
  io.write(text)
  return
end
local page = read(into)
local first, last = page:find(BEGIN, 1, true), page:find(END, 1, true)
assert(first and last, into .. " has lost the marks between which the tables are")
local file = assert(io.open(into, "wb"))
file:write(page:sub(1, first - 1), BEGIN, "\n", text, page:sub(last))
file:close()
