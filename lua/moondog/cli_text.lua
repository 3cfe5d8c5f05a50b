--- Help pages and the man page. A page is a list of sections, a section a list of blocks; one function
--- writes it as plain text, another as roff. The pages are made from the table of commands.

local M = {}

local WIDTH = 78
local INDENT = 7  -- as man(1) does it
local HANG = 7    -- an explanation, below what it explains

---@class moondog.cli.Block
---@field name? string what the page is about, with `body` in a few words
---@field text? string a paragraph
---@field term? string what `body` explains
---@field body? string
---@field usage? string a synopsis, of which lines after the first are indented
---@field code? string an example, explained by `body`
---@field heading? string in the man page only

---@class moondog.cli.Section
---@field title string
---@field blocks moondog.cli.Block[]

-- ---- plain text ----

--- Breaks a text into lines of at most `width`; a word that is longer stands alone. What is in
--- square brackets stays together.
local function wrap(text, width)
  local lines, line = {}, ""
  local words = text:gsub("%b[]", function(s) return (s:gsub(" ", "\1")) end)
  for word in words:gmatch("[^ ]+") do
    if line ~= "" and #line + 1 + #word > width then
      lines[#lines + 1] = line
      line = word
    else
      line = line == "" and word or line .. " " .. word
    end
  end
  lines[#lines + 1] = line
  for i, s in ipairs(lines) do lines[i] = s:gsub("\1", " ") end
  return lines
end

--- `first` is added to the indent of the lines after the first.
local function indent(out, text, by, first)
  for i, line in ipairs(wrap(text:gsub("`", ""), WIDTH - by - (first or 0))) do
    out[#out + 1] = (" "):rep(by + (i > 1 and first or 0)) .. line
  end
end

--- A short term stands on the line of its explanation.
local function explain(out, term, body)
  local start = #out + 1
  indent(out, body, INDENT + HANG)
  if #term < HANG - 1 then
    local margin = (" "):rep(INDENT)
    out[start] = margin .. term .. out[start]:sub(#margin + #term + 1)
  else
    table.insert(out, start, (" "):rep(INDENT) .. term)
  end
end

---@param sections moondog.cli.Section[]
---@return string
function M.plain(sections)
  local out = {}
  for _, section in ipairs(sections) do
    if #out > 0 then out[#out + 1] = "" end
    out[#out + 1] = section.title
    for i, block in ipairs(section.blocks) do
      local previous = section.blocks[i - 1]
      if previous and not (block.usage and previous.usage) then out[#out + 1] = "" end
      if block.name then
        indent(out, block.name .. " - " .. block.body, INDENT)
      elseif block.text then
        indent(out, block.text, INDENT)
      elseif block.usage then
        indent(out, block.usage, INDENT, HANG)
      elseif block.code then
        out[#out + 1] = (" "):rep(INDENT) .. block.code
        indent(out, block.body, INDENT + HANG)
      else
        explain(out, block.term:gsub("`", ""), block.body)
      end
    end
  end
  return table.concat(out, "\n") .. "\n"
end

-- ---- roff ----

--- A dot or a quote at the start of a line would be taken for a request.
local function guard(text)
  return (text:gsub("^[.']", "\\&%0"))
end

--- What is typed: a minus must stay one when it is copied out of the page.
local function literal(text)
  return (text:gsub("\\", "\\e"):gsub("%-", "\\-"))
end

local function roff_prose(text)
  return guard((text:gsub("\\", "\\e"):gsub("`(.-)`", function(s)
    return "\\fB" .. s:gsub("%-", "\\-") .. "\\fR"
  end)))
end

--- In a term or a synopsis, words in capitals stand for something else.
local function roff_term(text)
  local out = {}
  for plain, typed in (text .. "``"):gmatch("([^`]*)`([^`]*)`") do
    out[#out + 1] = plain:gsub("%f[%w]%u+%f[%W]", "\\fI%0\\fR")
    if typed ~= "" then out[#out + 1] = "\\fB" .. literal(typed) .. "\\fR" end
  end
  return guard(table.concat(out))
end

---@param sections moondog.cli.Section[]
---@param name string
---@param version? string
---@return string
function M.roff(sections, name, version)
  local out = {
    ".\\\" Generated from lua/moondog/cli_commands.lua",
    ('.TH %s 1 "" "%s" "User Commands"'):format(name:upper(), literal(name .. " " .. (version or ""))),
    ".nh", -- no hyphens that nobody wrote
    ".ad l",
  }
  local function add(...)
    for _, line in ipairs { ... } do out[#out + 1] = line end
  end
  for _, section in ipairs(sections) do
    add(".SH " .. section.title)
    for i, block in ipairs(section.blocks) do
      local previous = section.blocks[i - 1]
      if block.name then
        add(literal(block.name) .. " \\- " .. roff_prose(block.body))
      elseif block.heading then
        add(".SS " .. roff_term(block.heading))
      elseif block.text then
        if previous and not previous.heading then add(".PP") end
        add(roff_prose(block.text))
      elseif block.usage then
        if previous and previous.usage then add(".br") elseif previous then add(".PP") end
        add(roff_term(block.usage))
      elseif block.code then
        add(".TP", "\\fB" .. literal(block.code) .. "\\fR", roff_prose(block.body))
      else
        add(".TP", roff_term(block.term), roff_prose(block.body))
      end
    end
  end
  return table.concat(out, "\n") .. "\n"
end

-- ---- pages ----

---@param option moondog.cli.Option
local function option_term(option)
  local term = (option.short and "`" .. option.short .. "`, " or "") .. "`" .. option.flag .. "`"
  return option.value and term .. " " .. option.value or term
end

---@param option moondog.cli.Option
local function option_block(option)
  local body = option.text
  if option.choices then
    body = body .. " One of " .. table.concat(option.choices, ", ") .. "."
  end
  if option.default ~= nil then body = body .. " Default: " .. tostring(option.default) .. "." end
  return { term = option_term(option), body = body }
end

local function command_blocks(command)
  local blocks = {}
  for _, argument in ipairs(command.arguments) do
    blocks[#blocks + 1] = { term = argument.name, body = argument.text }
  end
  for _, option in ipairs(command.options) do blocks[#blocks + 1] = option_block(option) end
  return blocks
end

local function paragraphs(texts)
  local blocks = {}
  for _, text in ipairs(texts) do blocks[#blocks + 1] = { text = text } end
  return blocks
end

local function items(list, bold)
  local blocks = {}
  for _, item in ipairs(list) do
    blocks[#blocks + 1] = { term = bold and "`" .. item[1] .. "`" or item[1], body = item[2] }
  end
  return blocks
end

local function examples(list)
  local blocks = {}
  for _, item in ipairs(list) do blocks[#blocks + 1] = { code = item[1], body = item[2] } end
  return blocks
end

---@param argument moondog.cli.Argument
local function argument_term(argument)
  local name = argument.name .. (argument.many and "..." or "")
  return argument.optional and "[" .. name .. "]" or name
end

--- "`moondog run` [`--dev`] [`--name` N] FILE"
local function usage(program, command)
  local words = { "`" .. program.name .. " " .. command.name .. "`" }
  for _, option in ipairs(command.options) do words[#words + 1] = "[" .. option_term(option) .. "]" end
  for _, argument in ipairs(command.arguments) do words[#words + 1] = argument_term(argument) end
  return table.concat(words, " ")
end

--- The sections that say something.
local function page(sections)
  local kept = {}
  for _, section in ipairs(sections) do
    local title, blocks = section[1], section[2]
    if #blocks > 0 then kept[#kept + 1] = { title = title, blocks = blocks } end
  end
  return kept
end

local function command_page(program, command)
  local options = command_blocks(command)
  options[#options + 1] = option_block(program.options[1])
  return page {
    { "NAME", { { name = program.name .. "-" .. command.name, body = command.summary } } },
    { "SYNOPSIS", { { usage = usage(program, command) } } },
    { "DESCRIPTION", paragraphs(command.description) },
    { "OPTIONS", options },
    { "ENVIRONMENT", items(command.environment, true) },
    { "FILES", items(command.files, true) },
    { "EXIT STATUS", items(command.exits, true) },
    { "EXAMPLES", examples(command.examples) },
  }
end

local function synopsis(program)
  local blocks = {}
  for _, command in ipairs(program.commands) do
    blocks[#blocks + 1] = { usage = usage(program, command) }
  end
  blocks[#blocks + 1] = { usage = "`" .. program.name .. " --help` | `--version`" }
  return blocks
end

--- Adds what the commands say about `field` to what the program says, each item once.
local function merged(program, field)
  local list, seen = {}, {}
  local function add(from)
    for _, item in ipairs(from) do
      if not seen[item[1]] then
        seen[item[1]] = true
        list[#list + 1] = item
      end
    end
  end
  add(program[field])
  for _, command in ipairs(program.commands) do add(command[field]) end
  return list
end

local function program_page(program)
  local commands, options = {}, {}
  for _, command in ipairs(program.commands) do
    commands[#commands + 1] = { term = "`" .. command.name .. "`", body = command.summary }
  end
  for _, option in ipairs(program.options) do options[#options + 1] = option_block(option) end
  return page {
    { "NAME", { { name = program.name, body = program.summary } } },
    { "SYNOPSIS", synopsis(program) },
    { "DESCRIPTION", paragraphs(program.description) },
    { "COMMANDS", commands },
    { "OPTIONS", options },
    { "ENVIRONMENT", items(merged(program, "environment"), true) },
    { "FILES", items(merged(program, "files"), true) },
    { "EXIT STATUS", items(program.exits, true) },
    { "EXAMPLES", examples(program.examples) },
  }
end

local function append(to, from)
  for _, value in ipairs(from) do to[#to + 1] = value end
end

--- Everything on one page.
local function manual(program)
  local commands, shown = {}, {}
  for _, command in ipairs(program.commands) do
    commands[#commands + 1] = { heading = "`" .. program.name .. " " .. command.name .. "`" }
    append(commands, paragraphs(command.description))
    append(commands, command_blocks(command))
    append(shown, command.examples)
  end
  local options = {}
  for _, option in ipairs(program.options) do options[#options + 1] = option_block(option) end
  return page {
    { "NAME", { { name = program.name, body = program.summary } } },
    { "SYNOPSIS", synopsis(program) },
    { "DESCRIPTION", paragraphs(program.description) },
    { "COMMANDS", commands },
    { "OPTIONS", options },
    { "ENVIRONMENT", items(merged(program, "environment"), true) },
    { "FILES", items(merged(program, "files"), true) },
    { "EXIT STATUS", items(program.exits, true) },
    { "EXAMPLES", examples(shown) },
    { "SEE ALSO", { { text = "`luajit`(1)" } } },
  }
end

--- The help page of a command, or of the program when there is none.
---@param program table the module moondog.cli_commands
---@param command? moondog.cli.Command
---@return string
function M.help(program, command)
  return M.plain(command and command_page(program, command) or program_page(program))
end

---@param program table the module moondog.cli_commands
---@param version? string
---@return string
function M.man(program, version)
  return M.roff(manual(program), program.name, version)
end

--- "moondog run [OPTIONS] FILE", for messages.
---@param program table
---@param command moondog.cli.Command
---@return string
function M.brief_usage(program, command)
  local words = { program.name, command.name }
  if #command.options > 0 then words[#words + 1] = "[OPTIONS]" end
  for _, argument in ipairs(command.arguments) do words[#words + 1] = argument_term(argument) end
  return table.concat(words, " ")
end

return M
