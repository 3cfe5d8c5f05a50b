-- What a bench has found: a table for people, the same as JSON in a file, and plots.
--
--   local results = results.new("delivery", "Messages that are received", peers)
--   results:add("64 B, one subscription", rounds, { { "cpu", "ns CPU each", "%.0f", ratio = true } })
--   results:goal("no more CPU than nats.c", results:ratio("64 B, one subscription", "cpu", "nats.c"), 1.0)
--   results:finish()
--
-- rounds[i][peer] is a table of numbers by name, as turns.play() returns it. Cells are medians of all rounds. A ratio
-- is that of the first peer to the others, the median of what it was in each round.
--
-- The JSON has the goals as a list of { name, value, relation ("<=" or ">="), limit, met }; value and met are null when
-- a goal could not be measured.
--
-- The command line of every bench: --brief is a few seconds, to see that it works; --json prints the JSON and nothing
-- else on standard output; --out FOLDER is where files are written, by default bench/ in the build folder.
local cjson = require "cjson"
local uv = require "luv"
local run = require "support.run"

local M = {}
M.__index = M

local options = { out = assert(os.getenv("MOONDOG_BUILD")) .. "/bench" }
do
  local i = 1
  while arg[i] do
    if arg[i] == "--brief" or arg[i] == "--json" then
      options[arg[i]:sub(3)] = true
    elseif arg[i] == "--out" and arg[i + 1] then
      options.out, i = arg[i + 1], i + 1
    else
      io.stderr:write(('bench: unknown argument "%s"; there are --brief, --json and --out FOLDER\n'):format(arg[i]))
      os.exit(2)
    end
    i = i + 1
  end
end
M.brief = options.brief

local BRIEF = "A brief run: it shows that the bench works, and its figures mean nothing."
local RATIOS = "the ratio to the client of the column; less is better, but where the figure is a rate"

-- What is said while the bench runs, and beside the tables.
function M.note(text, ...)
  io.stderr:write(text:format(...), "\n")
end

local function say(text, ...)
  if not options.json then print(text:format(...)) end
end

-- peers: a list of tables with a name, the columns; the first is compared with the others. missing: a list of
-- { what is not measured, why }.
function M.new(bench, title, peers, missing)
  local self = setmetatable({ bench = bench, names = {}, rows = {}, goals = {}, plots = {}, left_out = {} }, M)
  for i, peer in ipairs(peers) do self.names[i] = peer.name end
  self.title = title
  for _, one in ipairs(missing or {}) do self:leave_out(unpack(one)) end
  return self
end

-- Says that something is not measured here, and why.
function M:leave_out(what, why)
  table.insert(self.left_out, { what = what, why = why })
  M.note("left out: %s: %s", what, why)
end

local function print_cells(label, unit, cells, form)
  local out = {}
  for i, cell in ipairs(cells) do
    out[i] = ("%12s"):format(cell == cjson.null and "-" or form:format(cell))
  end
  say("  %-18s %-14s %s", label, unit, table.concat(out, " "))
end

-- The line above cells.
local function print_names(self)
  local out = {}
  for i, name in ipairs(self.names) do out[i] = ("%12s"):format(name) end
  say("  %-33s %s", "", table.concat(out, " "))
end

local function header(self, case)
  if not self.begun then
    self.begun = true
    say("%s", self.title)
    if options.brief then say("%s", BRIEF) end
    if #self.names > 1 then say("%s / it: %s", self.names[1], RATIOS) end
  end
  say("\n%s, medians of %d", case.name, case.rounds)
  print_names(self)
end

-- nil when there is none.
local function median(list)
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

-- Medians of one figure, in the order of the names; null where there is none.
local function cells_of(self, rounds, value)
  local cells = {}
  for i, name in ipairs(self.names) do
    local list = {}
    for _, round in ipairs(rounds) do
      local number = value(round, name)
      if number then list[#list + 1] = number end
    end
    cells[i] = median(list) or cjson.null
  end
  return cells
end

local function by_name(self, cells)
  local out = {}
  for i, name in ipairs(self.names) do out[name] = cells[i] end
  return out
end

local function all_are(cells, value)
  for _, cell in ipairs(cells) do
    if cell ~= value then return false end
  end
  return true
end

-- figures: a list of { key, unit, format, ratio = whether ratios are printed, too, usual = a value that is not worth a
-- line when all have it }. parameters: more that belongs to the case, for the JSON.
function M:add(name, rounds, figures, parameters)
  header(self, { name = name, rounds = #rounds })
  local first = self.names[1]
  for _, figure in ipairs(figures) do
    local key, unit, form = unpack(figure)
    local function value(round, peer) return round[peer] and round[peer][key] end
    local cells = cells_of(self, rounds, value)
    local ratios = cells_of(self, rounds, function(round, peer)
      local own, other = value(round, first), value(round, peer)
      return own and other and other ~= 0 and own / other
    end)
    table.insert(self.rows, { case = name, figure = key, unit = unit, rounds = #rounds, parameters = parameters,
      medians = by_name(self, cells), ratios = by_name(self, ratios) })
    if not all_are(cells, figure.usual) then print_cells(key, unit, cells, form) end
    if figure.ratio and #self.names > 1 then print_cells("", first .. " / it", ratios, "%.2f") end
  end
end

-- One figure of several cases that were added, a line each. cases: a list of { label, case }.
function M:overview(title, key, form, cases)
  say("\n%s", title)
  print_names(self)
  for _, one in ipairs(cases) do
    local label, case = unpack(one)
    local out = {}
    for i, name in ipairs(self.names) do
      local value = self:median(case, key, name)
      out[i] = ("%12s"):format(value and form:format(value) or "-")
    end
    say("  %-33s %s", label, table.concat(out, " "))
  end
end

-- A row that was added.
function M:row(case, key)
  for _, row in ipairs(self.rows) do
    if row.case == case and row.figure == key then return row end
  end
  error(("no figure %s of %q"):format(key, case), 2)
end

local function number(x)
  return x ~= cjson.null and x or nil
end

-- nil when there is none.
function M:ratio(case, key, peer)
  return number(self:row(case, key).ratios[peer])
end

function M:median(case, key, peer)
  return number(self:row(case, key).medians[peer])
end

-- value: at most the limit, or with at_least at least; nil: it could not be measured here.
function M:goal(name, value, limit, at_least)
  local met = cjson.null
  if value then met = at_least and value >= limit or not at_least and value <= limit end
  table.insert(self.goals, { name = name, value = value or cjson.null, limit = limit,
    relation = at_least and ">=" or "<=", met = met })
end

local function short(x)
  return (math.abs(x) >= 100 and "%.0f" or "%.2f"):format(x)
end

local function print_goals(goals)
  if #goals > 0 then say("\ngoals") end
  for _, goal in ipairs(goals) do
    local word = goal.met == cjson.null and "not measured" or goal.met and "met" or "not met"
    say("  %-12s %8s %s %-5s %s", word, goal.value == cjson.null and "-" or short(goal.value), goal.relation,
      short(goal.limit), goal.name)
  end
end

-- A picture: bench/NAME-FILE.svg. curves: a list of { title, points }; points: a list of { x, y }. axes: { x = label,
-- y = label, log = both are logarithmic, bare = no marks at the points }.
function M:draw(file, curves, axes)
  local text = { "set terminal svg size 800,500 dynamic background rgb 'white'",
    ("set output %q"):format(("%s/%s-%s.svg"):format(options.out, self.bench, file)),
    ("set xlabel %q"):format(axes.x), ("set ylabel %q"):format(axes.y), "set key outside right", "set grid ytics",
    axes.log and "set logscale xy" or "set yrange [0:*]" }
  local lines, data = {}, {}
  for _, curve in ipairs(curves) do
    local title, points = unpack(curve)
    lines[#lines + 1] = ("'-' with %s title %q noenhanced"):format(axes.bare and "lines"
      or "linespoints pointtype 7 pointsize 0.5", title)
    for _, point in ipairs(points) do data[#data + 1] = ("%.9g %.9g"):format(point[1], point[2]) end
    data[#data + 1] = "e"
  end
  text[#text + 1] = "plot " .. table.concat(lines, ", ")
  text[#text + 1] = table.concat(data, "\n")
  table.insert(self.plots, { file = file, text = table.concat(text, "\n") .. "\n" })
end

-- A figure of several cases as a picture, one line a peer. cases: a list of { x, case }; axes: as those of draw(), and
-- the figure's key.
function M:plot(file, cases, axes)
  local curves = {}
  for _, name in ipairs(self.names) do
    local points = {}
    for _, case in ipairs(cases) do
      local y = self:median(case[2], axes.key, name)
      if y then points[#points + 1] = { case[1], y } end
    end
    if #points > 0 then curves[#curves + 1] = { name, points } end
  end
  self:draw(file, curves, axes)
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  assert(file:write(text))
  assert(file:close())
end

local function has_gnuplot()
  local pipe = io.popen("command -v gnuplot 2>/dev/null")
  local found = pipe:read("*l")
  pipe:close()
  return found ~= nil
end

local function draw_all(self)
  if #self.plots == 0 then return end
  if not has_gnuplot() then
    return M.note("no plots: gnuplot is not installed (Debian's package gnuplot-nox)")
  end
  for _, plot in ipairs(self.plots) do
    local pipe = assert(io.popen("gnuplot", "w"))
    pipe:write(plot.text)
    pipe:close()
    M.note("%s/%s-%s.svg", options.out, self.bench, plot.file)
  end
end

-- Prints the goals, and writes the files. facts: what else is worth knowing, for the JSON.
function M:finish(facts)
  print_goals(self.goals)
  local text = cjson.encode { bench = self.bench, title = self.title, brief = options.brief or false,
    peers = self.names, rows = self.rows, goals = self.goals, left_out = self.left_out, facts = facts or {} }
  assert(uv.fs_stat(options.out) or uv.fs_mkdir(options.out, 493))
  write(("%s/%s.json"):format(options.out, self.bench), text .. "\n")
  if options.json then print(text) end
  draw_all(self)
end

-- Runs a bench, and ends the process. deadline: seconds.
function M.run(bench, deadline)
  local ok, err = pcall(run.case(bench, { deadline = deadline }))
  if not ok then M.note("%s", tostring(err)) end
  io.stdout:flush()
  -- The Lua state is never closed: luv runs its loop once more then, with callbacks that are gone.
  os.exit(ok and 0 or 1)
end

return M
