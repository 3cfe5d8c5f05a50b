-- The texts that the program prints about itself: completions and the manual.
local commands = require "moondog.cli_commands"
local moondog = require "support.moondog"
local process = require "support.process"
local run = require "support.run"

local function printed(...)
  local p = moondog.start { ... }
  p:wait_exit(0, 10)
  return p:text("stdout") .. "\n"
end

local function start(name)
  local dog = moondog.run('require "moondog".on_start(function() print "started" end)\n'
    .. 'require "moondog".every(60, function() end)', {}, { args = { "--name", name } })
  dog:wait_log("^started$")
  return dog
end

-- What bash offers behind these words.
local function offered(script, ...)
  local words = { moondog.program(), ... }
  local quoted = {}
  for i, word in ipairs(words) do quoted[i] = "'" .. word .. "'" end
  local p = process.start { file = "/bin/bash", env = { XDG_RUNTIME_DIR = run.folder() }, args = { "--norc", "-c", ([[
    source '%s'
    COMP_WORDS=(%s) COMP_CWORD=%d COMP_LINE="${COMP_WORDS[*]}" COMP_POINT=${#COMP_LINE}
    complete -p moondog >&2
    _moondog moondog "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    printf '%%s\n' "${COMPREPLY[@]}"]]):format(script, table.concat(quoted, " "), #words - 1) } }
  assert.equals(0, (p:wait_exit(10)))
  return p:text("stdout")
end

describe("moondog completion bash", function()
  it("completes commands, options and their values", run.case(function()
    local script = run.file("moondog.bash", printed("completion", "bash"))
    assert.equals("status\nstop", offered(script, "st"))
    assert.equals("--level\n--lines", offered(script, "log", "--l"))
    assert.equals("debug", offered(script, "log", "--level", "d"))
    start "gateway"
    start "other"
    assert.equals("gateway\nother", offered(script, "attach", ""))
    assert.equals("other", offered(script, "log", "-f", "o"))
    assert.equals("gateway", offered(script, "eval", "1", "g"))
    assert.equals("requeue", offered(script, "outbox", "file.db", "r"))
    assert.equals("export", offered(script, "outbox", "-o", "out.jsonl", "file.db", "e"))
    assert.equals("set-aside", offered(script, "outbox", "file.db", "list", "--state", "s"))
    assert.matches("moondog.bash", offered(script, "check", run.folder() .. "/moon"), 1, true)
    local all = "\n" .. offered(script, "") .. "\n"
    for _, command in ipairs(commands.commands) do assert.matches("\n" .. command.name .. "\n", all, 1, true) end
  end))
end)

describe("moondog man", function()
  it("has every command and every option of the help pages", run.case(function()
    local page = printed("man"):gsub("\\%-", "-"):gsub("\\f[BRI]", "")
    for _, command in ipairs(commands.commands) do
      assert.matches("moondog " .. command.name, page, 1, true)
      for flag in printed(command.name, "--help"):gmatch("\n +%-?%w?,? ?(%-%-[%w-]+)") do
        assert.matches(flag, page, 1, true)
      end
    end
  end))
end)
