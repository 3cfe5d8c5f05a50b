--- What the command line knows: every command with its arguments, options, help texts, examples and
--- exit codes. The parser, the help pages, the man page and the completions are made from this table
--- and from nothing else, so a new command is one more entry of M.commands.
---
--- Texts: `...` marks what is typed as it stands (bold in the man page). A list is a list of paragraphs.

---@class moondog.cli.Argument
---@field name string as shown, in capitals
---@field key string its key in what parse returns
---@field text string
---@field convert? fun(text: string): any, string? returns nil and the problem when it is refused
---@field choices? string[]
---@field optional? boolean
---@field many? boolean any number of them, as a list; it is the last one

---@class moondog.cli.Option
---@field flag string with its dashes; the key is the flag without them, with underscores
---@field value? string what its value is called; without one it is a flag, true or false
---@field choices? string[]
---@field convert? fun(text: string): any, string?
---@field default? any
---@field text string its first sentence is what completions show

---@class moondog.cli.Item
---@field [1] string what is explained
---@field [2] string the explanation

---@class moondog.cli.Command
---@field name string
---@field summary string
---@field description string[]
---@field arguments moondog.cli.Argument[]
---@field options moondog.cli.Option[]
---@field environment moondog.cli.Item[]
---@field files moondog.cli.Item[]
---@field exits moondog.cli.Item[]
---@field examples moondog.cli.Item[] a command, and what it is for
---@field finish? fun(result: table): string? fills what depends on the other values; returns a problem of them

local outbox = require "moondog.cli_outbox_command"
local values = require "moondog.cli_values"

local M = {}

M.name = "moondog"
M.summary = "keep NATS connections alive, scripted in Lua"

local whole, seconds = values.whole, values.seconds

M.description = {
  "Moondog keeps a program's NATS connections alive, and lets its operators rewrite how, in Lua, while "
    .. "it runs. The NATS client library does the ordinary reconnecting. Moondog notices when the library "
    .. "has given up or hangs, builds a fresh link, again and again, until it works, and then puts every "
    .. "subscription and pending publish back. What a script holds stays good all the while.",
  "A policy is a Lua file that declares connections, handlers, timers and hooks. `moondog COMMAND --help` "
    .. "describes each command.",
}

M.options = {
  { flag = "--help", short = "-h", text = "Show the help page of moondog, or of the command, and exit." },
  { flag = "--version", text = "Show the versions of moondog and of what it is built on, and exit." },
}

M.exits = {
  { "0", "Done." },
  { "1", "Failed. One line on standard error says what, where and what to do." },
  { "2", "Usage: an unknown command or option, or a value that is refused." },
}

M.environment = {
  { "NATS_URL", "The servers of a connection whose policy names none: one URL, or several with commas "
    .. "between them. Default: `nats://127.0.0.1:4222`." },
}

M.files = {
  { "$XDG_RUNTIME_DIR/moondog/NAME.sock", "The control socket of a process, for this user and root. Without "
    .. "$XDG_RUNTIME_DIR: `/run/moondog` for root, `/tmp/moondog-UID` for others." },
  { "/run/moondog/NAME/control.sock", "The same of a system service." },
}

M.examples = {
  { "moondog run --dev gateway.lua", "Run a policy on this machine, with a NATS server of its own if "
    .. "none is there." },
  { "moondog check gateway.lua", "Look for mistakes before it is deployed." },
}

---@type moondog.cli.Command
local run = {
  name = "run",
  summary = "run a policy until a signal ends it",
  description = {
    "Loads FILE and runs what it declares. If the file cannot be read, has a syntax error or fails while it "
      .. "is loaded, nothing is started. NATS need not be there: connections are tried until they work.",
    "Script code cannot take the process down: a handler that raises is reported and counted, one that runs "
      .. "for longer than its budget is stopped, and a script that needs more memory than its cap gets an "
      .. "error. Everything else goes on. The one thing that cannot be stopped is a single call into C that "
      .. "does not come back, such as a pattern with many `-` on a long text.",
    "SIGHUP reloads the script, and so does `--watch` when it or a module of it has changed: the new text is "
      .. "loaded beside the running one and takes over between two messages; none is lost, none is handled "
      .. "twice. When anything is wrong with it, that is logged, and the running one goes on.",
    "SIGTERM and SIGINT drain: nothing new is accepted, handlers that are at work finish, pending publishes "
      .. "are sent, on_unload functions finish, and the process exits. A second signal exits at once: 0 when the "
      .. "loop turns, 1 when it was stuck.",
    "Logs go to standard error, one event a line.",
  },
  arguments = {
    { name = "FILE", key = "file", convert = values.policy_file, text = "The policy, a Lua file." },
  },
  options = {
    { flag = "--dev", text = "Start a nats-server when none answers. It listens where the first URL of "
      .. "$NATS_URL says, which must be an address of this machine, has JetStream, keeps its data in a "
      .. "temporary folder, and ends with moondog. It needs nats-server to be installed." },
    { flag = "--name", value = "N", convert = values.process_name, text = "What this process is called in logs and "
      .. "by tools. Default: the name of FILE without its folder and `.lua`." },
    { flag = "--control", value = "PATH", text = "Where the control socket is, for `moondog reload` and the "
      .. "like. `none`: there is none. Default: NAME.sock in the folder of control sockets." },
    { flag = "--http", value = "ADDRESS", text = "Where health and metrics are served: PORT (on 127.0.0.1), "
      .. "ADDRESS:PORT or unix:PATH; the pages are /livez, /readyz, /metrics and /status. Default: nowhere." },
    { flag = "--stall", value = "SECONDS", convert = seconds("--stall", 3600, 0.01), default = 1,
      text = "How long the loop may not turn until it counts as stalled, in seconds; a quarter of a second more "
        .. "than `--budget` at least." },
    { flag = "--supervise", text = "Run under a small parent process that starts it again when it has crashed or its "
      .. "loop is stuck for good, with the version of the script that has failed least in the last ten minutes: "
      .. "after a reload that is the one before it, whatever ended the process. A version that has been at work "
      .. "for five minutes may fail once. `moondog reload` takes FILE again." },
    { flag = "--wedged", value = "SECONDS", convert = seconds("--wedged", 3600, 0.5), default = 5,
      text = "With `--supervise`: how long the loop may be stuck until the process is restarted, in seconds; more "
        .. "than `--stall`." },
    { flag = "--watch", text = "Reload when FILE or a module that it required has changed." },
    { flag = "--probation", value = "SECONDS", convert = seconds("--probation", 86400),
      default = 0, text = "How long a new generation is watched after a reload, in seconds: when too many of "
        .. "its handlers fail, the one before comes back. 0: it is not watched." },
    { flag = "--probation-rate", value = "PERCENT",
      convert = whole("--probation-rate", "percent", 1, 100), default = 10,
      text = "How many of a hundred messages may fail on probation. Fewer than 5 failures never count." },
    { flag = "--retire", value = "SECONDS", convert = seconds("--retire", 86400), default = 30,
      text = "How long a generation that was replaced may take to finish what it has begun, in seconds." },
    { flag = "--state", value = "MB", convert = whole("--state", "megabytes", 1, 4096), default = 16,
      text = "How large moondog.state may be at a reload, in megabytes." },
    { flag = "--log", value = "FORMAT", choices = { "auto", "logfmt", "short", "json" }, default = "auto",
      text = "How log lines look. `logfmt` is key=value, `json` is one object a line, `short` is for "
        .. "people, `auto` is short on a terminal and logfmt otherwise." },
    { flag = "--level", value = "LEVEL", choices = { "debug", "info", "warn", "error" }, default = "info",
      text = "The least important events that are logged." },
    { flag = "--budget", value = "MS", convert = whole("--budget", "milliseconds", 1, 3600000),
      default = 100, text = "How long a handler, hook or timer may run without waiting before it is "
        .. "stopped, in milliseconds." },
    { flag = "--load-budget", value = "MS", convert = whole("--load-budget", "milliseconds", 1, 3600000),
      default = 1000, text = "How long loading FILE may take, in milliseconds." },
    { flag = "--memory", value = "MB", convert = whole("--memory", "megabytes", 1, 1048576),
      default = 256, text = "How much memory one generation of the script may use, in megabytes." },
    { flag = "--drain", value = "SECONDS", convert = seconds("--drain", 86400),
      default = 10, text = "How long the drain at shutdown may take before the process exits all the same, "
        .. "in seconds." },
  },
  environment = {
    M.environment[1],
    { "NO_COLOR", "When set and not empty, no colours on a terminal." },
    { "TMPDIR", "Where `--dev` makes its temporary folder. Default: `/tmp`." },
  },
  files = {
    M.files[1],
    { "$TMPDIR/moondog-dev-XXXXXX", "The data and the log of the server that `--dev` started; removed at "
      .. "the end." },
  },
  exits = {
    { "0", "A signal ended it." },
    { "1", "FILE could not be loaded, `--http` could not be served, `--dev` could not start a server, or it was "
      .. "ended without a drain because its loop was stuck." },
    { "2", "Usage: an unknown option, or a value that is refused." },
  },
  examples = {
    { "moondog run gateway.lua", "Run a policy against $NATS_URL." },
    { "moondog run --dev gateway.lua", "The same, with a NATS server of its own if none is there." },
    { "moondog run --log json --level warn --memory 64 gateway.lua",
      "Under a service manager that collects JSON." },
  },
  finish = function(result)
    result.name = result.name or values.name_of_file(result.file)
    if result.supervise and result.wedged < result.stall then
      return ("option '--wedged' must be at least --stall, which is %g s, not '%g'"):format(result.stall, result.wedged)
    end
  end,
}

---@type moondog.cli.Command
local check = {
  name = "check",
  summary = "look for mistakes in a policy without running it",
  description = {
    "Compiles FILE and runs its declarations in a dry state, without a network: nothing is connected, no "
      .. "handler runs. Prints the connections and subscriptions that it declares, and what is probably "
      .. "a mistake although it can be loaded.",
  },
  arguments = {
    { name = "FILE", key = "file", convert = values.policy_file, text = "The policy, a Lua file." },
  },
  options = {
    { flag = "--json", text = "Print one JSON object instead of text." },
  },
  environment = {},
  files = {},
  exits = {
    { "0", "FILE can be loaded, and nothing looks like a mistake." },
    { "1", "FILE cannot be loaded, or there is what is probably a mistake." },
    { "2", "Usage: an unknown option, or no FILE." },
  },
  examples = {
    { "moondog check gateway.lua && systemctl restart gateway", "Only restart with what can be loaded." },
  },
}

local PROCESS = { name = "NAME", key = "process", optional = true,
  text = "What the process is called; not needed when only one runs." }
local CONTROL = { flag = "--control", value = "PATH", text = "Its control socket, instead of NAME." }
local JSON = { flag = "--json", text = "Print one JSON object instead of text." }

local ASKED = {
  { "0", "Done." },
  { "1", "It was refused, or nothing runs under that name. One line on standard error says why." },
  { "2", "Usage: an unknown option." },
}

---@type moondog.cli.Command
local reload = {
  name = "reload",
  summary = "replace the script of a running process",
  description = {
    "Loads the script of the process NAME again, and returns when the new generation is at work: prints its "
      .. "number and what has changed. When the script cannot be loaded, the running generation goes on; the "
      .. "error is printed with its line and traceback.",
  },
  arguments = { PROCESS },
  options = {
    { flag = "--previous", text = "Go back to the text of the generation before, whatever the files say." },
    CONTROL, JSON,
  },
  environment = {}, files = M.files,
  exits = {
    { "0", "The new generation is at work." },
    { "1", "It could not be loaded, or nothing runs under that name." },
    { "2", "Usage: an unknown option." },
  },
  examples = {
    { "moondog check gateway.lua && moondog reload gateway", "Reload what can be loaded." },
    { "moondog reload gateway --previous", "Take it back." },
  },
}

---@type moondog.cli.Command
local status = {
  name = "status",
  summary = "show what a running process does",
  description = {
    "Prints the generation of the script, its connections with their subscriptions, and the last reload that "
      .. "failed.",
  },
  arguments = { PROCESS },
  options = {
    { flag = "--names", text = "Print the names of all that run, one a line, and nothing else." },
    CONTROL, JSON,
  },
  environment = {}, files = M.files, exits = ASKED,
  examples = { { "moondog status gateway", "Look at the gateway." } },
}

---@type moondog.cli.Command
local eval = {
  name = "eval",
  summary = "run a piece of Lua inside a running process",
  description = {
    "Runs CODE inside the script of the process NAME and prints what it prints and what it returns; an "
      .. "expression is enough. It sees the script's globals, the module `moondog`, and each connection by its "
      .. "name; its variables are gone afterwards, but subscriptions, timers and connections that it makes "
      .. "stay until the script is reloaded. It may wait, as in `gateway:request(\"svc.echo\", \"hi\")`. "
      .. "However long it runs, messages are handled meanwhile.",
    "Who ran what is logged by the process.",
  },
  arguments = {
    { name = "CODE", key = "code", text = "The code; `-` reads it from standard input." }, PROCESS,
  },
  options = {
    { flag = "--timeout", value = "SECONDS", convert = seconds("--timeout", 86400), default = 10,
      text = "How long to wait for it, in seconds; then it is cancelled." },
    CONTROL, JSON,
  },
  environment = {}, files = M.files,
  exits = {
    { "0", "Done." },
    { "1", "It failed or did not end in time, or nothing runs under that name." },
    { "2", "Usage: an unknown option, or no CODE." },
  },
  examples = {
    { "moondog eval 'gateway:status().state' gateway", "What the connection does." },
    { "moondog eval --json 'moondog.state'", "The state of the script, for a program." },
  },
}

---@type moondog.cli.Command
local log = {
  name = "log",
  summary = "show the log of a running process",
  description = {
    "Prints the last records of the log of the process NAME, wherever else it writes them, and with "
      .. "`--follow` what comes, until it is interrupted or the process ends. A process keeps some 128 KiB "
      .. "of them. `--follow --level debug` shows also what the process itself does not write at its level.",
  },
  arguments = { PROCESS },
  options = {
    { flag = "--follow", short = "-f", text = "Go on with what comes." },
    { flag = "--level", value = "LEVEL", choices = { "debug", "info", "warn", "error" }, default = "info",
      text = "The least important records that are shown." },
    { flag = "--lines", short = "-n", value = "N", convert = whole("--lines", "lines", 0, 1000000),
      default = 50, text = "How many of those that there are already." },
    { flag = "--set-level", value = "LEVEL", choices = { "debug", "info", "warn", "error", "off" },
      text = "Show nothing; from now on the process writes records from LEVEL on to its log." },
    CONTROL,
    { flag = "--json", text = "Print each record as one JSON object." },
  },
  environment = { { "NO_COLOR", "When set and not empty, no colours on a terminal." } },
  files = M.files, exits = ASKED,
  examples = {
    { "moondog log gateway -f", "Watch the gateway." },
    { "moondog log --set-level debug gateway", "Let it tell more, without a restart." },
    { "moondog log --level error --json | jq .msg", "What went wrong lately." },
  },
}

---@type moondog.cli.Command
local top = {
  name = "top",
  summary = "watch a running process at work",
  description = {
    "Shows, again and again, what the process NAME does: its generation and memory; each connection with its "
      .. "state, how long it has been down, the links that were made and why, what comes and goes in a second; "
      .. "each subscription with its messages a second, how long its handler takes (half of the calls are at "
      .. "most p50, 99 of 100 at most p99, waits included, lately), its errors, and what is queued. A process "
      .. "lists 1,000 subscriptions at most, the last ones that were made.",
    "On a terminal: `q` quits, `s` changes the order, arrows and page keys scroll. When the process ends, that "
      .. "is said, and the view goes on when it is back. Otherwise one view is printed after one interval.",
  },
  arguments = { PROCESS },
  options = {
    { flag = "--interval", value = "SECONDS", convert = seconds("--interval", 3600), default = 1,
      text = "The time between two views, in seconds." },
    { flag = "--count", value = "N", convert = whole("--count", "views", 1, 1000000000),
      text = "End after N views. Default: 1, and without an end on a terminal." },
    CONTROL,
    { flag = "--json", text = "Print each view as one JSON object: the status, with rates." },
  },
  environment = { { "NO_COLOR", "When set and not empty, no colours on a terminal." } },
  files = M.files, exits = ASKED,
  examples = {
    { "moondog top gateway", "Watch the gateway." },
    { "moondog top --json --count 60 gateway > minute.jsonl", "Record a minute." },
  },
}

---@type moondog.cli.Command
local doctor = {
  name = "doctor",
  summary = "say what is wrong, why, and what to do",
  description = {
    "With FILE: loads its declarations as `moondog check` does, and looks at each server of each connection: the "
      .. "name, the connection, TLS and its certificates, credentials and when they expire, a login, the round "
      .. "trip, the limits of the account. It logs in as the policy does, and subscribes to nothing but an inbox "
      .. "of its own. A token function is called.",
    "And, with or without FILE, at the running process: what is wrong in it now, which limits are near, and why "
      .. "its links were lost lately, in words. The clock and the limit of descriptors are looked at, too.",
    "Each finding is `ok`, a `warning` (it works, and not for long, or not always), a `problem`, or `skipped`; "
      .. "what is not ok has a remedy. Passwords, tokens and seeds are never shown.",
  },
  arguments = {
    { name = "FILE", key = "file", optional = true, convert = values.policy_file,
      text = "The policy, a Lua file; not needed to look at a running process." },
  },
  options = {
    { flag = "--name", value = "NAME", convert = values.process_name, text = "What the process is called. Default: the "
      .. "name of FILE without its folder and `.lua`, or the only one that runs." },
    { flag = "--control", value = "PATH", text = "Its control socket, instead of NAME." },
    { flag = "--timeout", value = "SECONDS", convert = seconds("--timeout", 3600, 0.1), default = 5,
      text = "How long to wait for each answer: of the resolver, a server, the process." },
    { flag = "--json", text = "Print one JSON object instead of text." },
  },
  environment = { M.environment[1] }, files = M.files,
  exits = {
    { "0", "There is no problem." },
    { "1", "There is at least one problem, or, without FILE, nothing runs under that name." },
    { "2", "Usage: an unknown option, or a value that is refused." },
  },
  examples = {
    { "moondog doctor gateway.lua", "Look at a policy's servers, and at its process." },
    { "moondog doctor --name gateway", "Why was the gateway deaf last night?" },
    { "moondog doctor --json gateway.lua | jq '.findings[] | select(.status == \"problem\")'", "For a program." },
  },
  finish = function(result)
    result.name = result.name or (result.file and not result.control and values.name_of_file(result.file)) or nil
  end,
}

---@type moondog.cli.Command
local attach = {
  name = "attach",
  summary = "open a console in a running process",
  description = {
    "A prompt inside the script of the process NAME. What is typed is Lua: an expression prints its value, `_` "
      .. "is the last one, a statement may have several lines, and may wait. It sees the script's globals, the "
      .. "module `moondog`, and each connection by its name, or as `conns[\"a-name\"]`. Its variables are its own; "
      .. "subscriptions, timers and connections that it makes stay until the script is reloaded. Tab completes. "
      .. "Ctrl-C ends what was begun, never the process; Ctrl-D leaves.",
    "Lines that begin with a dot are for the console: `.help` lists them. The prompt shows the name of the "
      .. "process, and the state of its connections. Log records appear above it.",
    "However long a command runs, messages are handled meanwhile: it runs in slices, and between two of them "
      .. "handlers see what it has done so far.",
  },
  arguments = { PROCESS },
  options = {
    { flag = "--level", value = "LEVEL", choices = { "debug", "info", "warn", "error", "off" },
      default = "info", text = "The least important log records that are shown." },
    CONTROL,
  },
  environment = {
    { "XDG_STATE_HOME", "Where the history is. Default: `~/.local/state`." },
    { "NO_COLOR", "When set and not empty, no colours on a terminal." },
  },
  files = {
    M.files[1],
    { "$XDG_STATE_HOME/moondog/history", "What was typed, 10,000 lines at most." },
  },
  exits = {
    { "0", "It was left." },
    { "1", "Nothing runs under that name, or the process ended." },
    { "2", "Usage: an unknown option." },
  },
  examples = {
    { "moondog attach gateway", "Look into the gateway." },
    { "echo 'gateway:stats()' | moondog attach gateway", "The same from a script; see also `moondog eval`." },
  },
}

---@type moondog.cli.Command
local repl = {
  name = "repl",
  summary = "open a console with a connection of its own",
  description = {
    "A prompt as that of `moondog attach`, in a runtime of its own, with the connection `gw` to URL. When "
      .. "nothing answers there, and it is an address of this machine, a nats-server is started for it, and ends "
      .. "with the console.",
  },
  arguments = {
    { name = "URL", key = "url", optional = true,
      text = "One URL, or several with commas between them. Default: $NATS_URL, or `nats://127.0.0.1:4222`." },
  },
  options = {
    { flag = "--level", value = "LEVEL", choices = { "debug", "info", "warn", "error", "off" },
      default = "info", text = "The least important log records that are shown." },
  },
  environment = { M.environment[1], attach.environment[1], attach.environment[2] },
  files = { attach.files[2] },
  exits = {
    { "0", "It was left." },
    { "1", "The runtime could not be started." },
    { "2", "Usage: an unknown option." },
  },
  examples = {
    { "moondog repl", "Try something out." },
    { "moondog repl nats://demo.example.com:4222", "Talk to a server." },
  },
}

---@type moondog.cli.Command
local stop = {
  name = "stop",
  summary = "drain and end a running process",
  description = { "Asks the process to drain and to end, as SIGTERM does, and returns at once." },
  arguments = { PROCESS },
  options = { CONTROL, JSON },
  environment = {}, files = M.files, exits = ASKED,
  examples = { { "moondog stop gateway", "End the gateway." } },
}

---@type moondog.cli.Command
local completion = {
  name = "completion",
  summary = "print what completes this command line in a shell",
  description = {
    "Prints a script for SHELL that completes commands and options. Where moondog is installed, it is in place "
      .. "already.",
  },
  arguments = {
    { name = "SHELL", key = "shell", choices = { "bash", "zsh", "fish" }, text = "One of bash, zsh, fish." },
  },
  options = {}, environment = {}, files = {},
  exits = { { "0", "Done." }, { "2", "Usage: another shell." } },
  examples = { { "source <(moondog completion bash)", "For this shell, now." } },
}

---@type moondog.cli.Command
local man = {
  name = "man",
  summary = "print the manual page",
  description = { "Prints moondog(1), which has all that `--help` says, as roff." },
  arguments = {}, options = {}, environment = {}, files = {},
  exits = { { "0", "Done." } },
  examples = { { "moondog man | man -l -", "Read it where it is not installed." } },
}

---@type moondog.cli.Command[] in the order in which help shows them
M.commands = { run, check, doctor, reload, status, eval, log, top, attach, repl, stop, outbox, completion, man }

return M
