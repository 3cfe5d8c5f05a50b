-- The reference of the Lua API, made from the annotations: classes with their fields and functions.
-- usage: luajit reference_lua.lua lua/meta/moondog.lua
-- Exit code 1 when something cannot be read.
package.path = arg[0]:match("^(.-)[^/]*$") .. "?.lua;" .. package.path
local doc = require "reference_text"

-- The type at the beginning of a text, and what follows it. A space ends it, unless it is inside brackets or behind the
-- colon of a function's result.
local function split_type(text)
  local depth, quoted = 0, false
  for i = 1, #text do
    local c = text:sub(i, i)
    if c == '"' then
      quoted = not quoted
    elseif not quoted and c:find("[({<%[]") then
      depth = depth + 1
    elseif not quoted and c:find("[)}>%]]") then
      depth = depth - 1
    elseif c == " " and not quoted and depth == 0 and text:sub(i - 1, i - 1) ~= ":" then
      return text:sub(1, i - 1), text:sub(i + 1)
    end
  end
  return text, ""
end

-- "name? type text", as @field and @param have it.
local function read_named(text)
  local name, rest = text:match("^(%b[])%s+(.*)$")
  if not name then name, rest = text:match("^([%w_.]+%??)%s+(.*)$") end
  if not name then doc.fail("no name and type in \"%s\"", text) end
  local type, about = split_type(rest)
  return { name = name, type = type, about = about }
end

-- "type name text", as @return has it; a name is not necessary.
local function read_return(text)
  local type, rest = split_type(text)
  local name, about = rest:match("^([%a_][%w_]*)%s*(.*)$")
  return { name = name, type = type, about = about or "" }
end

-- One run of lines with ---: what it says, and its tags as { tag, text }; a line without a tag goes on with the one
-- before.
local function read_comment(lines)
  local about, tags = {}, {}
  for _, line in ipairs(lines) do
    local tag, text = line:match("^@(%a+)%s*(.*)$")
    if tag then
      tags[#tags + 1] = { tag = tag, text = text }
    elseif #tags > 0 then
      tags[#tags].text = tags[#tags].text .. " " .. line:match("^%s*(.*)$")
    else
      about[#about + 1] = line
    end
  end
  return about, tags
end

local function new_class(name, about)
  return { name = name, about = about, fields = {}, operators = {}, functions = {} }
end

-- What a comment says of a class; nil: nothing.
local function read_class(about, tags)
  local class
  for _, t in ipairs(tags) do
    if t.tag == "class" then
      local name, text = t.text:match("^(%S+)%s*(.*)$")
      class = new_class(name, about)
      if text ~= "" then table.insert(about, text) end
    elseif t.tag == "field" and class then
      table.insert(class.fields, read_named(t.text))
    elseif t.tag == "operator" and class then
      table.insert(class.operators, t.text)
    elseif t.tag ~= "meta" and class then
      doc.fail("@%s in the class %s", t.tag, class.name)
    end
  end
  return class
end

local function read_function(name, arguments, about, tags)
  local f = { name = name, arguments = arguments, about = about, parameters = {}, returns = {} }
  for _, t in ipairs(tags) do
    if t.tag == "param" then
      table.insert(f.parameters, read_named(t.text))
    elseif t.tag == "return" then
      table.insert(f.returns, read_return(t.text))
    else
      doc.fail("@%s of the function %s", t.tag, name)
    end
  end
  return f
end

-- Classes in the order of the file, each with its functions; and what the file begins with.
local function read_annotations(source)
  local classes, owners, intro, comment = {}, {}, {}, {}
  local function take_class()
    local class = read_class(read_comment(comment))
    comment = {}
    if class then classes[#classes + 1] = class end
    return class
  end
  for _, line in ipairs(doc.lines_of(source)) do
    local owner, name = line:match("^function ([%w_]+)[.:]([%w_]+)%(")
    if line:find("^%-%-%-") then
      comment[#comment + 1] = line:sub(4)
    elseif line:find("^%-%-") then
      intro[#intro + 1] = line:sub(3)
    elseif owner then
      if not owners[owner] then doc.fail("%s() is a function of no class", name) end
      local full, arguments = line:match("^function ([^(]+)%((.-)%) end$")
      table.insert(owners[owner].functions, read_function(full, arguments, read_comment(comment)))
      comment = {}
    else
      local class = take_class()
      local variable = line:match("^local ([%w_]+) = {}$") or line:match("^([%w_]+) = {}$")
      if variable then owners[variable] = class or doc.fail("%s has no class", variable) end
    end
  end
  return intro, classes
end

-- ---- writing ----

local function give_anchors(classes)
  local slug, anchors = doc.new_slugs(), {}
  for _, taken in ipairs { "The Lua API", "Index" } do slug(taken) end
  for _, class in ipairs(classes) do
    class.anchor = slug(class.name)
    anchors[class.name] = class.anchor
    for _, f in ipairs(class.functions) do
      f.heading = ("`%s(%s)`"):format(f.name, f.arguments)
      f.anchor = slug(f.heading)
    end
  end
  for _, class in ipairs(classes) do
    for _, f in ipairs(class.functions) do anchors[f.name] = anchors[f.name] or f.anchor end
  end
  return anchors
end

local function index_of(classes)
  local index = {}
  for _, class in ipairs(classes) do
    local names = {}
    for _, f in ipairs(class.functions) do names[#names + 1] = doc.link("`" .. f.name .. "`", f.anchor) end
    local entry = "- " .. doc.link("`" .. class.name .. "`", class.anchor)
    if #names > 0 then entry = entry .. ": " .. table.concat(names, ", ") end
    index[#index + 1] = doc.wrap(entry, "", "  ")
  end
  return table.concat(index, "\n")
end

-- A list of fields, parameters or results; classes are links.
local function list_of(items, anchors)
  local lines = {}
  for _, item in ipairs(items) do
    local type = doc.link("`" .. item.type .. "`", anchors[item.type:match("^([%w_.]+)[?%[%]]*$")])
    local text = item.name and ("`%s` (%s)"):format(item.name, type) or type
    if item.about ~= "" then
      text = text .. ": " .. doc.markdown(item.about, function(name) return anchors[name] end)
    end
    lines[#lines + 1] = doc.wrap("- " .. text, "", "  ")
  end
  return table.concat(lines, "\n")
end

local function add_list(page, title, items, anchors)
  if #items == 0 then return end
  page.add(title)
  page.add(list_of(items, anchors))
end

doc.main(function(source)
  local intro, classes = read_annotations(source)
  local anchors = give_anchors(classes)
  local page = doc.new_page(function(name) return anchors[name] end)
  page.add("# The Lua API")
  page.add("Made by `./scripts/reference` from [lua/meta/moondog.lua](meta/moondog.lua), the annotations for the Lua "
    .. "language\nserver: edit that.")
  page.prose(doc.paragraphs(intro))
  page.add("## Index")
  page.add(index_of(classes))
  for _, class in ipairs(classes) do
    page.add("## `" .. class.name .. "`")
    page.prose(doc.paragraphs(class.about))
    for _, operator in ipairs(class.operators) do page.add("Operator: `" .. operator .. "`") end
    add_list(page, "Fields:", class.fields, anchors)
    for _, f in ipairs(class.functions) do
      page.add("### " .. f.heading)
      page.prose(doc.paragraphs(f.about))
      add_list(page, "Parameters:", f.parameters, anchors)
      add_list(page, "Returns:", f.returns, anchors)
    end
  end
  return page.text()
end)
