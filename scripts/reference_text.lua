-- What the pages of reference documentation (scripts/reference) are written with: prose as Markdown.
local M = {}

local WIDTH = 120

-- The anchor that GitHub gives a heading; the same one twice gets a number.
function M.new_slugs()
  local used = {}
  return function(heading)
    local slug = heading:lower():gsub("[^%w%s_-]", ""):gsub("%s", "-")
    local count = used[slug] or 0
    used[slug] = count + 1
    return count == 0 and slug or ("%s-%d"):format(slug, count)
  end
end

function M.link(text, slug)
  return slug and ("[%s](#%s)"):format(text, slug) or text
end

-- Prose as Markdown: names are code, those that links(name) knows are links, and nothing else has a meaning. What is in
-- backquotes stays as it is.
function M.markdown(text, links)
  local out = {}
  local function plain(part)
    return (part:gsub("[*<]", "\\%0"))
  end
  local function prose(part)
    local from = 1
    while true do
      -- *error, md_stop, MD_EVENTS_MAX, md_stop(), msg:metadata()
      local start, stop, star, name, call = part:find("(%*?)%f[%w_$.:]([%a_][%w_.:]*)(%(?%)?)", from)
      if not start then break end
      if call ~= "()" then stop = stop - #call end
      local trail = name:match("[.:]*$")
      if call ~= "()" then name, stop = name:sub(1, #name - #trail), stop - #trail end
      local is_code = call == "()" or name:find("^[mM][dD]_") or star == "*" and not name:find("%u")
      out[#out + 1] = plain(part:sub(from, start - 1))
      local word = part:sub(start, stop)
      out[#out + 1] = is_code and M.link("`" .. word .. "`", links(name)) or plain(word)
      from = stop + 1
    end
    out[#out + 1] = plain(part:sub(from))
  end
  local from = 1
  for start, code, stop in text:gmatch("()(`[^`]*`)()") do
    prose(text:sub(from, start - 1))
    out[#out + 1] = code
    from = stop
  end
  prose(text:sub(from))
  return table.concat(out)
end

-- Breaks a paragraph into lines; `first` and `rest` is what they begin with.
function M.wrap(text, first, rest)
  local lines, line, empty = {}, first or "", true
  for word in text:gmatch("%S+") do
    if not empty and #line + 1 + #word > WIDTH then
      lines[#lines + 1] = line
      line, empty = rest or "", true
    end
    if empty and #lines > 0 then -- here these would begin a list
      word = word:gsub("^[-+]$", "\\%0"):gsub("^(%d+)([.)])$", "%1\\%2")
    end
    line = line .. (empty and "" or " ") .. word
    empty = false
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

-- Lines of a comment as paragraphs: an empty one is between two.
function M.paragraphs(lines)
  local list, open = {}, false
  for _, line in ipairs(lines) do
    line = line:match("^%s*(.-)%s*$")
    if line == "" then
      open = false
    elseif open then
      list[#list] = list[#list] .. " " .. line
    else
      list[#list + 1], open = line, true
    end
  end
  return list
end

function M.lines_of(text)
  local list = {}
  for line in text:gmatch("([^\n]*)\n") do list[#list + 1] = line end
  return list
end

-- A page: lines that are separated by empty ones.
function M.new_page(links)
  local parts = {}
  local page = {}
  function page.add(part) parts[#parts + 1] = part end
  function page.prose(list)
    for _, text in ipairs(list) do page.add(M.wrap(M.markdown(text, links))) end
  end
  function page.text() return table.concat(parts, "\n\n") .. "\n" end
  return page
end

-- What is wrong with the text that a page is made of, and the end.
function M.fail(...)
  io.stderr:write("reference: ", string.format(...), "\n")
  os.exit(1)
end

-- Prints the page that `make` makes of the file named on the command line.
function M.main(make)
  local file, err = io.open(arg[1] or "", "rb")
  if not file then M.fail("%s", err) end
  io.write(make(file:read("*a")))
  file:close()
end

return M
