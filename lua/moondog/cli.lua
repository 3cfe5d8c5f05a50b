--- The command line: turns arguments into a plain table, or into what to print and the exit code. Prints
--- nothing and exits nothing itself. What there is to say on it stands in moondog.cli_commands.

local commands = require "moondog.cli_commands"
local completion = require "moondog.cli_completion"
local text = require "moondog.cli_text"

local M = {}

local OK, FAILED, USAGE = 0, 1, 2

---@class moondog.cli.Env
---@field version? string
---@field nats? string version of nats.c
---@field luajit? string
---@field libuv? string

--- "moondog 0.1.0 (nats.c 3.4.1, LuaJIT 2.1.0, libuv 1.44.2)"
---@param env moondog.cli.Env
local function version_line(env)
  return ("%s %s (nats.c %s, LuaJIT %s, libuv %s)\n"):format(commands.name, env.version or "?",
    env.nats or "?", env.luajit or "?", env.libuv or "?")
end

---@param option moondog.cli.Option
local function key_of(option)
  return (option.flag:gsub("^%-+", ""):gsub("%-", "_"))
end

-- ---- errors ----

--- argparse's message, with the remedy. A message is one line, whatever was typed.
---@param command? moondog.cli.Command
---@param message string
local function usage_error(command, message)
  local name = commands.name .. (command and " " .. command.name or "")
  message = message:gsub("\nDid you mean (.*)%?$", " (did you mean %1?)"):gsub("%c", "?")
  if command then
    local flag = message:match("^option '(%-%-[%w-]+)' requires an argument$")
    for _, option in ipairs(flag and command.options or {}) do
      if option.flag == flag then message = ("%s: %s %s"):format(message, flag, option.value) end
    end
    if message:find("^missing argument") or message == "too many arguments" then
      message = ("%s (usage: %s)"):format(message, text.brief_usage(commands, command))
    end
  elseif message == "a command is required" then
    local names = {}
    for i, c in ipairs(commands.commands) do names[i] = c.name end
    message = ("%s: one of %s"):format(message, table.concat(names, ", "))
  end
  return ("%s: %s; see '%s --help'\n"):format(name, message, name)
end

-- ---- the parser ----

--- argparse would print and exit: instead, these are raised through it, and M.parse catches them.
local function raise(code, message)
  error({ code = code, message = message }, 0)
end

---@param parser table argparse's
---@param option moondog.cli.Option
local function add_option(parser, option)
  local names = option.short and option.short .. " " .. option.flag or option.flag
  local o = option.value and parser:option(names) or parser:flag(names)
  o:target(key_of(option))
  if option.value then o:argname(option.value) end
  if option.choices then o:choices(option.choices) end
  if option.convert then o:convert(option.convert) end
  return o
end

---@param parser table argparse's
---@param command? moondog.cli.Command
local function add_help(parser, command)
  add_option(parser, commands.options[1]):action(function()
    raise(OK, text.help(commands, command))
  end)
end

---@param env moondog.cli.Env
local function build(argparse, env)
  local root = argparse(commands.name, commands.summary):add_help(false)
  root:command_target("command")
  add_help(root)
  add_option(root, commands.options[2]):action(function() raise(OK, version_line(env)) end)
  local by_parser = {}
  for _, command in ipairs(commands.commands) do
    -- argparse sets a key of the command's name as well, which must not be mistaken for an option's
    local parser = root:command(command.name, command.summary):summary(command.summary)
      :target("command " .. command.name):add_help(false)
    by_parser[parser] = command
    add_help(parser, command)
    for _, option in ipairs(command.options) do add_option(parser, option) end
    for _, argument in ipairs(command.arguments) do
      local a = parser:argument(argument.name):target(argument.key)
        :convert(argument.convert or function(s) return s end)
        :args(argument.many and "*" or argument.optional and "?" or 1)
      if argument.choices then a:choices(argument.choices) end
    end
  end
  function root.error(current, message)
    raise(USAGE, usage_error(by_parser[current], message))
  end
  return root
end

local function load_argparse()
  local found, argparse = pcall(require, "argparse")
  if found then return argparse end
  return nil, commands.name .. ": the Lua module argparse is missing; install the Debian package "
    .. "lua-argparse\n"
end

--- Only what the table of commands names, with defaults.
---@return table result
---@return string? problem of values that do not go together
---@return moondog.cli.Command? command that it is a problem of
local function result_of(parsed)
  local result = { command = parsed.command }
  for _, command in ipairs(commands.commands) do
    if command.name == parsed.command then
      for _, argument in ipairs(command.arguments) do result[argument.key] = parsed[argument.key] end
      for _, option in ipairs(command.options) do
        local key = key_of(option)
        local value = parsed[key]
        if value == nil then value = option.default end
        if value == nil and not option.value then value = false end
        result[key] = value
      end
      local problem = command.finish and command.finish(result)
      if problem then return result, problem, command end
    end
  end
  return result
end

--- Commands that are nothing but a text.
local printed = {
  completion = function(parsed) return M.completion(parsed.shell) end,
  man = function(_, env) return M.man(env) end,
}

--- Parses the arguments (without the program's name). Returns a table: `command`, the command's
--- arguments and options by key (`load_budget` for --load-budget), with defaults filled in. When
--- there is nothing to run: nil, the exit code, and the text to print, which ends in a newline and
--- belongs on standard output when the code is 0 and on standard error otherwise.
---@param argv string[]
---@param env? moondog.cli.Env for --version
---@return table? result
---@return integer? exit_code
---@return string? text_to_print
function M.parse(argv, env)
  local argparse, missing = load_argparse()
  if not argparse then return nil, FAILED, missing end
  local parser = build(argparse, env or {})
  local done, parsed = pcall(parser.parse, parser, argv)
  if done and printed[parsed.command] then return nil, OK, printed[parsed.command](parsed, env) end
  if done then
    local result, problem, command = result_of(parsed)
    if problem then return nil, USAGE, usage_error(command, problem) end
    return result
  end
  if type(parsed) ~= "table" then error(parsed, 0) end -- a mistake in here, not on the command line
  return nil, parsed.code, parsed.message
end

--- The man page moondog(1), as roff.
---@param env? moondog.cli.Env
---@return string
function M.man(env)
  return text.man(commands, env and env.version)
end

--- The script that completes moondog's command line in a shell.
---@param shell "bash"|"zsh"|"fish"
---@return string? script
---@return string? err
function M.completion(shell)
  local make = completion[shell]
  if not make then return nil, ("no completions for '%s': bash, zsh or fish"):format(tostring(shell)) end
  return make(commands)
end

return M
