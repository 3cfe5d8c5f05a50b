-- The reference of the C API, made from the header: its sections, its comments, its declarations.
-- usage: luajit reference_c.lua src/moondog.h
-- Exit code 1 when something cannot be read, or a function has no comment.
package.path = arg[0]:match("^(.-)[^/]*$") .. "?.lua;" .. package.path
local doc = require "reference_text"

-- A declaration is over: its braces and comments are closed, and a semicolon is its end.
local function is_whole(text)
  if text:sub(1, 1) == "#" then return text:sub(-1) ~= "\\" end
  local code = text:gsub("/%*.-%*/", "")
  return not code:find("/*", 1, true) and code:find(";%s*$") ~= nil
    and select(2, code:gsub("{", "")) == select(2, code:gsub("}", ""))
end

-- What a declaration declares: names, and whether they are functions; the first one is its own.
local function names_of(text)
  local code = text:gsub("/%*.-%*/", "")
  local name = code:match("^MD_API [^(]-([%w_]+)%(")
  if name then return { name }, true end
  name = code:match("^#define ([%w_]+)") or code:match("^typedef [^(]-%(%*([%w_]+)%)")
    or code:match("^typedef struct [%w_]+ ([%w_]+);") or code:match("^typedef .*}%s*([%w_]+);$")
    or code:match("^struct ([%w_]+) {")
  if not name or not name:lower():find("^md_") or name == "MD_API" then return {}, false end
  local names = { name }
  for value in (code:match("^typedef enum (%b{})") or ""):gmatch("[%w_]+") do names[#names + 1] = value end
  return names, false
end

local function comment_lines(text)
  return doc.lines_of((text:gsub("^/%*", ""):gsub("%s*%*/$", ""):gsub("\n %*", "\n")) .. "\n")
end

-- The header in pieces: comments, declarations, and the empty lines between them.
local function pieces_of(header)
  local list, open = {}, nil
  for _, line in ipairs(doc.lines_of(header)) do
    if open then
      open.text = open.text .. "\n" .. line
    elseif line == "" then
      list[#list + 1] = { kind = "gap" }
    else
      open = { kind = line:sub(1, 2) == "/*" and "comment" or "code", text = line }
      list[#list + 1] = open
    end
    if open then
      local over
      if open.kind == "comment" then
        over = line:find("*/", 1, true)
      else
        over = is_whole(open.text) or open.text:find('^extern "C" {$') or open.text == "}"
      end
      if over then open = nil end
    end
  end
  return list
end

-- Sections: { title, text = paragraphs, entries = { { text, names, functions, declarations } } }.
local function read_header(header)
  local sections, section, entry, comment, intro = {}, nil, nil, nil, nil
  local function take_text()
    if not comment then return end
    if section then
      table.insert(section.text, comment)
    else
      intro = intro or comment
    end
    comment = nil
  end
  local function begin_entry()
    section = section or { title = "basics", text = {}, entries = {} }
    if #sections == 0 then sections[1] = section end
    entry = { text = comment or {}, names = {}, functions = {}, declarations = {}, documented = comment ~= nil }
    comment = nil
    table.insert(section.entries, entry)
  end
  for _, piece in ipairs(pieces_of(header)) do
    local names, is_function = {}, false
    if piece.kind == "code" then names, is_function = names_of(piece.text) end
    local title = piece.kind == "comment" and piece.text:match("^/%* %-%-%-%- (.-) %-%-%-%- %*/$")
    if title then
      take_text()
      section = { title = title, text = {}, entries = {} }
      sections[#sections + 1] = section
      entry = nil
    elseif piece.kind == "comment" then
      take_text()
      comment, entry = comment_lines(piece.text), nil
    elseif #names > 0 then
      if not entry then begin_entry() end
      if is_function and not entry.documented then
        doc.fail("%s() has no comment: say above it what it does", names[1])
      end
      for _, name in ipairs(names) do table.insert(entry.names, name) end
      for _, name in ipairs(names) do entry.functions[name] = is_function end
      table.insert(entry.declarations, { text = piece.text, name = names[1] })
    else
      take_text()
      entry = nil
    end
  end
  return intro or doc.fail("the header does not begin with a comment"), sections
end

-- A type that is defined further down does not have its first mention shown, too.
local function drop_mentions(sections)
  local defined = {}
  local function each(f)
    for _, section in ipairs(sections) do
      for index = #section.entries, 1, -1 do f(section.entries, index, section.entries[index]) end
    end
  end
  each(function(_, _, entry)
    for _, d in ipairs(entry.declarations) do
      if d.text:find("{", 1, true) then defined[d.name] = true end
    end
  end)
  each(function(entries, index, entry)
    for i = #entry.declarations, 1, -1 do
      local d = entry.declarations[i]
      if defined[d.name] and d.text:find("^typedef struct [%w_]+ [%w_]+;$") then
        table.remove(entry.declarations, i)
        table.remove(entry.names, i)
      end
    end
    if #entry.declarations == 0 then table.remove(entries, index) end
  end)
end

local function capital(text)
  return (text:gsub("^%l", string.upper))
end

local function shown(entry, name)
  return "`" .. name .. (entry.functions[name] and "()`" or "`")
end

-- Gives sections and entries their headings and anchors; returns the anchor of each name.
local function give_anchors(sections)
  local slug, anchors = doc.new_slugs(), {}
  for _, taken in ipairs { "The C API", "Index" } do slug(taken) end
  for _, section in ipairs(sections) do
    section.heading = capital(section.title)
    section.anchor = slug(section.heading)
    for _, entry in ipairs(section.entries) do
      local heads = {}
      for _, d in ipairs(entry.declarations) do
        -- A constant stands with what it belongs to.
        if #heads == 0 or not d.name:find("^MD_") then heads[#heads + 1] = shown(entry, d.name) end
      end
      entry.heading = table.concat(heads, ", ")
      entry.anchor = slug(entry.heading)
      for _, name in ipairs(entry.names) do anchors[name] = entry.anchor end
    end
  end
  return anchors
end

local function index_of(sections)
  local index = {}
  for _, section in ipairs(sections) do
    local names = {}
    for _, entry in ipairs(section.entries) do
      for _, name in ipairs(entry.names) do names[#names + 1] = doc.link(shown(entry, name), entry.anchor) end
    end
    index[#index + 1] = doc.wrap(("- %s: %s"):format(doc.link(section.heading, section.anchor),
      table.concat(names, ", ")), "", "  ")
  end
  return table.concat(index, "\n")
end

local function add_entry(page, entry)
  local code = {}
  for _, d in ipairs(entry.declarations) do code[#code + 1] = d.text end
  page.add("### " .. entry.heading)
  page.add("```c\n" .. table.concat(code, "\n") .. "\n```")
  page.prose(doc.paragraphs(entry.text))
end

doc.main(function(header)
  local intro, sections = read_header(header)
  drop_mentions(sections)
  local anchors, here = give_anchors(sections), nil
  local page = doc.new_page(function(name)
    if anchors[name] ~= here then return anchors[name] end
  end)
  page.add("# The C API")
  page.add("Made by `./scripts/reference` from [src/moondog.h](moondog.h), which is the specification: edit that.")
  page.prose(doc.paragraphs(intro))
  page.add("## Index")
  page.add(index_of(sections))
  for _, section in ipairs(sections) do
    page.add("## " .. section.heading)
    for _, lines in ipairs(section.text) do page.prose(doc.paragraphs(lines)) end
    for _, entry in ipairs(section.entries) do
      here = entry.anchor
      add_entry(page, entry)
    end
    here = nil
  end
  return page.text()
end)
