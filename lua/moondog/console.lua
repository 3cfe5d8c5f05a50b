-- Consoles, in the generation that they look into: evaluates code and completes names, as tasks that can be
-- preempted. Loaded before the script, so that nothing it changes reaches what is used here. Called with the
-- functions of src/script/console.c, moondog.pretty and moondog.complete; returns the one function that is
-- called for each command.
local host, pretty, complete = ...

local load, xpcall, type, tostring, select, setmetatable, rawget =
    load, xpcall, type, tostring, select, setmetatable, rawget
local concat, find, gsub, sub = table.concat, string.find, string.gsub, string.sub
local traceback = debug.traceback
local globals = _G
local script_print = print
local answer, refuse, emit, take = host.answer, host.refuse, host.emit, host.take

local VALUES_MAX = 100
local NODES_MAX, BYTES_MAX = 10000, 128 * 1024 -- of an answer

-- Compiled code does not look at the hook that preempts.
jit.off(true, true)

local function print(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
    local text = concat(parts, "\t")
    if not emit(text) then script_print(text) end
end

-- What a console defines stays in here. Below it are the script's globals, the module, and the connections by
-- their names, which scripts like to keep in locals.
local function environment()
    local own = { print = print }
    return setmetatable(own, {
        __index = function(_, name)
            local value = rawget(globals, name)
            if value ~= nil then return value end
            if name == "moondog" then return host.module end
            if name == "conns" then return host.connections() end
            if type(name) == "string" then value = host.connection(name) end
            if value ~= nil then return value end
            return globals[name]
        end,
    })
end

local function is_incomplete(err)
    return find(err, "near '<eof>'$") ~= nil
end

-- An expression is an argument of the function that it is called with: as a tail call, what raises an error in it
-- would not be seen in the traceback.
local function compile(code, name, env)
    local expression = sub(code, 1, 1) == "=" and sub(code, 2) or code
    local chunk, err = load("return " .. expression .. "\n", name, "t", env)
    if chunk then
        return load("return (...)(" .. expression .. ")", name, "t", env)
            or load("return (...)(" .. expression .. "\n)", name, "t", env) -- it ends in a remark
            or chunk -- `f();`
    end
    if is_incomplete(err) then return nil, err end
    return load(code .. "\n", name, "t", env)
end

local function values(...)
    return ...
end

-- The frames of the console itself are of no interest.
local function trim(trace)
    local from = find(trace, "\n[^\n]*%[builtin#%d+%]: at 0x%x+\n[^\n]*lua/moondog/console%.lua")
        or find(trace, "\n[^\n]*in function 'xpcall'\n[^\n]*lua/moondog/")
        or find(trace, "\n[^\n]*lua/moondog/console%.lua")
    return from and sub(trace, 1, from - 1) or trace
end

local function on_error(err)
    local trace = gsub(traceback("", 2), "^\n", "")
    return { err = err, trace = trim(trace) }
end

local function report(failure)
    if type(failure) ~= "table" or failure.trace == nil then -- the time budget is over
        return refuse("script", tostring(failure), "")
    end
    local err = failure.err
    refuse("script", type(err) == "string" and err or pretty.pretty(err), failure.trace)
end

local function run(env, chunk, width)
    local function finish(ok, ...)
        if not ok then return report((...)) end
        local count, list = select("#", ...), {}
        if count > 0 then env._ = (...) end
        if take(tostring, ...) then return end
        local left = { nodes = NODES_MAX, bytes = BYTES_MAX } -- of plain copies, for all of them
        local texts = BYTES_MAX
        for i = 1, count < VALUES_MAX and count or VALUES_MAX do
            local value = select(i, ...)
            local text = texts > 0 and pretty.pretty(value, { width = width }) or "... too much to show"
            texts = texts - #text
            list[i] = { type = type(value), text = text, value = pretty.plain(value, left) }
        end
        answer { values = list, count = count }
    end
    return finish(xpcall(chunk, on_error, values))
end

local function evaluate(env, code, name, width)
    local chunk, err = compile(code, name, env)
    if chunk then return run(env, chunk, width) end
    refuse(is_incomplete(err) and "incomplete" or "syntax", err)
end

local function complete_text(env, text)
    local conns = host.connections()
    local from, items, more = complete.complete(text, {
        scopes = { env, globals, { moondog = host.module, conns = conns }, conns },
        methods_of = host.methods_of,
    })
    answer { from = from, items = items, more = more }
end

return function(kind, env, text, name, width)
    if kind == "environment" then return environment() end
    if kind == "complete" then return complete_text(env, text) end
    if kind == "run" then return run(env, text, width) end
    return evaluate(env, text, name, width)
end
