--- Scripts that complete moondog's command line in a shell, made from the table of commands. What a value
--- can be follows from what it is called: FILE and PATH are files, NAME is a process that runs (asked with
--- `moondog status --names`), and one that has choices is one of these.

local M = {}

local FILES = { FILE = true, PATH = true }

--- What completes a value: "files", "names", a list of choices, or nil.
local function kind(name, choices)
  if choices then return choices end
  if FILES[name] then return "files" end
  if name == "NAME" then return "names" end
end

--- Texts in completions are one line, without the marks of the help pages.
---@param text string
local function first_sentence(text)
  return ((text .. " "):gsub("`", ""):match("^(.-)%.%s") or text)
end

--- The options of a command, with those that each has.
local function options_of(program, command)
  local list = {}
  for _, option in ipairs(command and command.options or {}) do list[#list + 1] = option end
  for _, option in ipairs(command and { program.options[1] } or program.options) do list[#list + 1] = option end
  return list
end

local function flags_of(program, command)
  local flags = {}
  for _, option in ipairs(options_of(program, command)) do
    flags[#flags + 1] = option.flag
    if option.short then flags[#flags + 1] = option.short end
  end
  return table.concat(flags, " ")
end

local function names_of(program)
  local names = {}
  for i, command in ipairs(program.commands) do names[i] = command.name end
  return table.concat(names, " ")
end

--- In single quotes of a POSIX shell.
local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- ---- bash ----

local BASH = [=[
# Completes @PROGRAM@ in bash. Printed by '@PROGRAM@ completion bash'.

_@PROGRAM@_offer() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_@PROGRAM@_offer_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

_@PROGRAM@_offer_names() {
    _@PROGRAM@_offer "$("$program" status --names 2>/dev/null)"
}

_@PROGRAM@() {
    local program=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' place=0 flags='' i word
    COMPREPLY=()
    # bash takes the = of --option=value for a word of its own.
    if [[ $cur == = ]]; then
        cur=''
    elif [[ $prev == = ]] && ((COMP_CWORD >= 2)); then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $command == '' ]]; then
            [[ $word == -* ]] || command=$word
        elif [[ $word == -* ]]; then
            case $command:$word in
            @VALUED@)
                [[ ${COMP_WORDS[i + 1]} != = ]] || ((i += 1))
                ((i += 1))
                ;;
            esac
        else
            ((place += 1))
        fi
    done
    case $command:$prev in
@VALUES@
    esac
    case $command in
@COMMANDS@
    *) flags='' ;;
    esac
    if [[ $cur == -* ]]; then
        _@PROGRAM@_offer "$flags"
        return
    fi
    case $command:$place in
    :*) _@PROGRAM@_offer '@NAMES@' ;;
@ARGUMENTS@
    esac
}

complete -F _@PROGRAM@ @PROGRAM@
]=]

local function bash_offer(what)
  if what == "files" then return "_@PROGRAM@_offer_files" end
  if what == "names" then return "_@PROGRAM@_offer_names" end
  if what then return "_@PROGRAM@_offer " .. quote(table.concat(what, " ")) end
  return ":" -- nobody knows
end

function M.bash(program)
  local valued, values, commands, arguments = {}, {}, {}, {}
  commands[1] = ("    '') flags=%s ;;"):format(quote(flags_of(program)))
  for _, command in ipairs(program.commands) do
    for _, option in ipairs(command.options) do
      if option.value then
        local place = command.name .. ":" .. option.flag
        if option.short then place = ("%s | %s:%s"):format(place, command.name, option.short) end
        valued[#valued + 1] = place
        values[#values + 1] = ("    %s)\n        %s\n        return\n        ;;"):format(place,
          bash_offer(kind(option.value, option.choices)))
      end
    end
    commands[#commands + 1] = ("    %s) flags=%s ;;"):format(command.name, quote(flags_of(program, command)))
    for i, argument in ipairs(command.arguments) do
      local what = kind(argument.name, argument.choices)
      if what then
        arguments[#arguments + 1] = ("    %s:%d) %s ;;"):format(command.name, i - 1, bash_offer(what))
      end
    end
  end
  return (BASH:gsub("@(%u+)@", { VALUED = table.concat(valued, " | "), VALUES = table.concat(values, "\n"),
    COMMANDS = table.concat(commands, "\n"), ARGUMENTS = table.concat(arguments, "\n"), NAMES = names_of(program) })
    :gsub("@PROGRAM@", program.name))
end

-- ---- zsh ----

local ZSH = [=[
#compdef @PROGRAM@
# Completes @PROGRAM@ in zsh. Printed by '@PROGRAM@ completion zsh'.

_@PROGRAM@_names() {
    local -a names
    names=(${(f)"$(_call_program names ${words_of_@PROGRAM@[1]} status --names 2>/dev/null)"})
    _describe -t processes 'process' names
}

_@PROGRAM@() {
    local -a words_of_@PROGRAM@ commands
    local context state state_descr line
    typeset -A opt_args
    words_of_@PROGRAM@=("${words[@]}")
    _arguments -C \
@OPTIONS@
        '1: :->command' \
        '*:: :->rest' && return
    case $state in
    command)
        commands=(
@SUMMARIES@
        )
        _describe -t commands 'command' commands
        ;;
    rest)
        case $line[1] in
@COMMANDS@
        esac
        ;;
    esac
}

# Read by the shell itself, or found in its fpath.
if [[ $funcstack[1] == _@PROGRAM@ ]]; then
    _@PROGRAM@ "$@"
else
    compdef _@PROGRAM@ @PROGRAM@
fi
]=]

--- Brackets and colons divide the parts of what _arguments takes.
local function zsh_text(text)
  return (text:gsub("[%[%]:\\]", "\\%0"))
end

local function zsh_action(what)
  if what == "files" then return "_files" end
  if what == "names" then return "_@PROGRAM@_names" end
  if what then return "(" .. table.concat(what, " ") .. ")" end
  return " "
end

local function zsh_option(option)
  local text = "[" .. zsh_text(first_sentence(option.text)) .. "]"
  local tail = option.value
    and ("=%s:%s:%s"):format(text, option.value, zsh_action(kind(option.value, option.choices))) or text
  if not option.short then return quote(option.flag .. tail) end
  return ("'(%s %s)'{%s,%s}%s"):format(option.short, option.flag, option.short, option.flag, quote(tail))
end

local function zsh_options(program, command, indent)
  local lines = {}
  for i, option in ipairs(options_of(program, command)) do lines[i] = indent .. zsh_option(option) .. " \\" end
  return lines
end

function M.zsh(program)
  local summaries, commands = {}, {}
  for _, command in ipairs(program.commands) do
    summaries[#summaries + 1] = "            " .. quote(command.name .. ":" .. zsh_text(command.summary))
    local lines = zsh_options(program, command, (" "):rep(16))
    for i, argument in ipairs(command.arguments) do
      lines[#lines + 1] = (" "):rep(16) .. quote(("%s:%s%s:%s"):format(argument.many and "*" or i,
        argument.optional and not argument.many and ":" or "", argument.name,
        zsh_action(kind(argument.name, argument.choices)))) .. " \\"
    end
    lines[#lines] = lines[#lines]:gsub(" \\$", "")
    commands[#commands + 1] = ("        %s)\n            _arguments \\\n%s\n            ;;"):format(command.name,
      table.concat(lines, "\n"))
  end
  return (ZSH:gsub("@(%u+)@", { OPTIONS = table.concat(zsh_options(program, nil, "        "), "\n"),
    SUMMARIES = table.concat(summaries, "\n"), COMMANDS = table.concat(commands, "\n") })
    :gsub("@PROGRAM@", program.name))
end

-- ---- fish ----

--- In single quotes of fish.
local function fish_quote(text)
  return "'" .. text:gsub("[\\']", "\\%0") .. "'"
end

local function fish_offer(what)
  if what == "files" then return " -F" end
  if what == "names" then return " -a " .. fish_quote("(@PROGRAM@ status --names 2>/dev/null)") end
  if what then return " -a " .. fish_quote(table.concat(what, " ")) end
  return ""
end

local function fish_option(condition, option)
  local line = "complete -c @PROGRAM@ -n " .. fish_quote(condition)
  if option.short then line = line .. " -s " .. option.short:sub(2) end
  line = line .. " -l " .. option.flag:sub(3)
  if option.value then line = line .. " -r" .. fish_offer(kind(option.value, option.choices)) end
  return line .. " -d " .. fish_quote(first_sentence(option.text))
end

function M.fish(program)
  local lines = {
    "# Completes @PROGRAM@ in fish. Printed by '@PROGRAM@ completion fish'.", "",
    "complete -c @PROGRAM@ -f",
  }
  local none = "__fish_use_subcommand"
  for _, option in ipairs(program.options) do lines[#lines + 1] = fish_option(none, option) end
  for _, command in ipairs(program.commands) do
    lines[#lines + 1] = ("complete -c @PROGRAM@ -n %s -a %s -d %s"):format(fish_quote(none), command.name,
      fish_quote(command.summary))
  end
  for _, command in ipairs(program.commands) do
    local condition = "__fish_seen_subcommand_from " .. command.name
    for _, option in ipairs(options_of(program, command)) do lines[#lines + 1] = fish_option(condition, option) end
    for _, argument in ipairs(command.arguments) do
      local offer = fish_offer(kind(argument.name, argument.choices))
      if offer ~= "" then
        lines[#lines + 1] = ("complete -c @PROGRAM@ -n %s%s"):format(fish_quote(condition), offer)
      end
    end
  end
  return (table.concat(lines, "\n"):gsub("@PROGRAM@", program.name)) .. "\n"
end

return M
