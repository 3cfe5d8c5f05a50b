--- What the command line knows about `moondog outbox`. See moondog.cli_commands.

local values = require "moondog.cli_values"

local STATES = { "waiting", "set-aside", "all" }
local ID_DIGITS = 18 -- fit into the 64 bits of an id

--- By action: the options that it takes.
local TAKES = {
  summary = { limit = true, json = true },
  list = { state = true, subject = true, limit = true, json = true },
  count = { subject = true, json = true },
  export = { state = true, subject = true, output = true },
  requeue = { all = true, json = true },
  delete = { set_aside = true, yes = true, json = true },
}

local FLAGS = { "state", "subject", "limit", "output", "all", "set_aside", "yes", "json" }

--- Ids stay text: Lua's numbers do not hold all of them.
local function id(text)
  if #text <= ID_DIGITS and text:match("^%d+$") then return text end
  return nil, ("argument 'ID' must be the number of an entry, as list shows it, not '%s'"):format(text)
end

--- "--set-aside" of "set_aside".
local function flag(key)
  return "--" .. key:gsub("_", "-")
end

--- What a change is about: ids, or the flag that stands for all, and not both.
local function check_which(result, all)
  local listed = #result.ids > 0
  if listed == result[all] then
    return ("%s needs the ids of entries, or %s%s"):format(result.action, flag(all), listed and ", not both" or "")
  end
end

local function finish(result)
  result.action = result.action or "summary"
  result.ids = result.ids or {}
  for _, key in ipairs(FLAGS) do
    if result[key] and not TAKES[result.action][key] then
      return ("%s does not take option '%s'"):format(result.action, flag(key))
    end
  end
  if result.action == "requeue" then return check_which(result, "all") end
  if result.action == "delete" then
    local problem = check_which(result, "set_aside")
    if problem or result.yes then return problem end
    return "delete loses entries for good: look at them with export first, and then add --yes"
  end
  if #result.ids > 0 then return ("%s takes no ID"):format(result.action) end
end

---@type moondog.cli.Command
return {
  name = "outbox",
  summary = "look into the file of an outbox",
  description = {
    "An outbox (`moondog.outbox` in a script) keeps messages in FILE until a stream has them. Without an ACTION, "
      .. "prints how many wait and how many were set aside, because a stream refused them for good; how old they "
      .. "are; which process holds the outbox; and the first entries. All of FILE is looked through for damage.",
    "`list` prints entries as a table, or with `--json` as one JSON object a line. `count` prints how many there are "
      .. "of each state. `export` prints all that entries have, one JSON object a line: headers are a list of "
      .. "[name, value]; what is not UTF-8 is in base64, and the field `base64` names it; times are in milliseconds "
      .. "since 1970. These may be used while a process has the outbox, and never change FILE.",
    "`requeue` makes entries that were set aside wait again, behind all others: they get new ids, and keep their "
      .. "message ids, so that a stream that has one of them already takes it for a duplicate. An entry that has "
      .. "expired is not sent, but removed by the process. `delete` removes entries. Both change all that they are "
      .. "told, or nothing, and not while a process holds the outbox: end it first.",
    "The bytes of an entry are those of its data and its headers.",
  },
  arguments = {
    { name = "FILE", key = "file", text = "The file: the path that moondog.outbox was given.", convert = function(text)
      if text ~= "" then return text end
      return nil, "argument 'FILE' is empty; give the path of an outbox"
    end },
    { name = "ACTION", key = "action", optional = true, choices = { "list", "count", "export", "requeue", "delete" },
      text = "One of list, count, export, requeue, delete. Default: a summary." },
    { name = "ID", key = "ids", optional = true, many = true, convert = id,
      text = "The entries that requeue or delete is about." },
  },
  options = {
    { flag = "--state", value = "STATE", choices = STATES,
      text = "Which entries list and export are about. Default: all." },
    { flag = "--subject", value = "PATTERN",
      text = "Only those of these subjects, with * and > as in a subscription; of list, count and export." },
    { flag = "--limit", short = "-n", value = "N", convert = values.whole("--limit", "entries", 0, 999999999),
      text = "How many entries are listed at most. Default: all, and 10 below a summary." },
    { flag = "--output", short = "-o", value = "PATH",
      text = "Where export writes to: a new file, which is there when it is complete. Default: standard output." },
    { flag = "--all", text = "Requeue all entries that were set aside." },
    { flag = "--set-aside", text = "Delete all entries that were set aside." },
    { flag = "--yes", text = "Delete without further questions; delete does nothing without it." },
    { flag = "--json", text = "Print one JSON object instead of text; of list, one for each entry." },
  },
  environment = {},
  files = {
    { "FILE-wal, FILE-shm", "Parts of the outbox FILE that belong to it while a process has it, or was killed; a copy "
      .. "without FILE-wal is not complete. Looking into it may leave them there, empty." },
    { "FILE.lock", "Locked by the process that holds the outbox FILE." },
  },
  exits = {
    { "0", "Done." },
    { "1", "FILE is not there, is no outbox, is damaged, or is held by a process that has to be ended first." },
    { "2", "Usage: an unknown option or action, options that do not go together, or delete without `--yes`." },
  },
  examples = {
    { "moondog outbox /var/lib/gateway/outbox.db", "What waits, and who holds it?" },
    { "moondog outbox outbox.db list --state set-aside", "What was refused, and why?" },
    { "moondog outbox outbox.db requeue --all", "Try them again, after the stream was corrected." },
    { "moondog outbox outbox.db export --state set-aside -o refused.jsonl", "Keep them elsewhere." },
    { "moondog outbox outbox.db delete --set-aside --yes", "And give them up here." },
  },
  finish = finish,
}
