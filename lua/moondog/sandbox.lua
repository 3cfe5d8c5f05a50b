-- Runs first in every generation: takes away what could take the runtime down, and makes what loads code
-- load it so that it can be interrupted. Called with the scheduler's wait token, the log, what tells whether
-- the time budget of the entry is used up, what reads a file and remembers it while the script is loaded, what
-- tells whether a coroutine that yielded nothing was preempted, a seed, and the clock of the host, if it has one.
local wait_token, log, over_budget, read_source, was_preempted, seed, host_time = ...

local jit_off = jit.off
local debug_traceback, debug_getinfo, debug_getmetatable = debug.traceback, debug.getinfo, debug.getmetatable
local loaded, preload = package.loaded, package.preload
local type, rawget, rawset, error = type, rawget, rawset, error

-- Compiled traces do not look at the hook that ends a time budget, so what a script loads is interpreted.
-- It can mark functions that are to be compiled with jit.on(f); those it vouches for.
local function interpreted(chunk, err)
    if chunk then jit_off(chunk, true) end
    return chunk, err
end

local function text_only(mode)
    if mode ~= nil and mode ~= "t" then
        return nil, "bytecode cannot be loaded: mode \"" .. tostring(mode) .. "\" is refused, use \"t\""
    end
    return true
end

-- LuaJIT begins with the same numbers in every process, and jitter that a fleet shares is none.
math.randomseed(seed)

local raw_load, raw_loadfile = load, loadfile

function load(chunk, name, mode, env, ...)
    local ok, err = text_only(mode)
    if not ok then return nil, err end
    if env == nil and select("#", ...) == 0 then
        return interpreted(raw_load(chunk, name, "t"))
    end
    return interpreted(raw_load(chunk, name, "t", env))
end

loadstring = load

local function load_file(path, ...)
    local text, err = read_source(path)
    if text == false then return interpreted(raw_loadfile(path, "t", ...)) end
    if not text then return nil, err end
    return interpreted(raw_load(text, "@" .. path, "t", ...))
end

function loadfile(name, mode, env)
    local ok, err = text_only(mode)
    if not ok then return nil, err end
    if env == nil then return load_file(name) end
    return load_file(name, env)
end

function dofile(name)
    return assert(loadfile(name))()
end

local function places_of(name)
    local places = {}
    for template in package.path:gmatch("[^;]+") do
        places[#places + 1] = template:gsub("%?", (name:gsub("%.", "/")))
    end
    return places
end

-- Where a module is; like package.searchpath, but a file that is remembered comes first, and need not be there
-- any more: a generation is loaded again from what it was loaded from.
local function find_module(name)
    local places, first = places_of(name), nil
    for _, path in ipairs(places) do
        if read_source(path, true) then return path end
    end
    for _, path in ipairs(places) do
        local text, err = read_source(path)
        if text == false then return (package.searchpath(name, package.path)) end
        if text then return path end
        first = first or err
    end
    return nil, (" in none of %d places; the first: %s"):format(#places, first or "package.path is empty")
end

-- Lua modules: like the stock searcher, but text only and interpreted.
local function search_lua(name)
    local path, tried = find_module(name)
    if not path then return tried or " it is not in package.path" end
    local chunk, err = load_file(path)
    if not chunk then
        error("error loading module '" .. name .. "' from file '" .. path .. "':\n\t" .. err, 0)
    end
    return chunk
end
package.loaders[2] = search_lua

-- C modules come from where they came from at the start, so that a script cannot load any library, and none
-- brings back what is taken away below. The stock searchers list where they have looked; these do not: an
-- error of require() is one line.
local cpath = package.cpath
local taken_away = { debug = true, ffi = true, io = true, os = true, package = true }

local function search_c(search)
    return function(name)
        if taken_away[name] or type(name) == "string" and name:find("^jit") then return nil end
        local theirs = rawget(package, "cpath")
        rawset(package, "cpath", cpath)
        local found = search(name)
        rawset(package, "cpath", theirs)
        return type(found) == "function" and found or nil
    end
end

local search_preload = package.loaders[1]
package.loaders[1] = function(name)
    local found = search_preload(name)
    return type(found) == "function" and found or nil
end
package.loaders[3] = search_c(package.loaders[3])
package.loaders[4] = search_c(package.loaders[4])

local function print_to_log(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
    log("info", table.concat(parts, "\t"))
end
print = print_to_log

-- The error that ends a time budget is raised by a hook, and while that is being handled no hook runs: a
-- handler of the script's could go on for ever.
local raw_xpcall = xpcall

function xpcall(f, handler, ...)
    return raw_xpcall(f, function(err)
        if over_budget() then return err end
        return handler(err)
    end, ...)
end

-- A coroutine of the script's own may wait, too: what waits inside it yields the token, which is passed
-- on until it reaches the scheduler, and the answer is passed back. Coroutines that resume coroutines use the
-- stack of C, which has an end.
local resume, yield, create, running = coroutine.resume, coroutine.yield, coroutine.create, coroutine.running
local is_yieldable = coroutine.isyieldable
local DEPTH_MAX = 100
local depths = setmetatable({}, { __mode = "k" })

local function pass(co, ok, first, ...)
    if ok and first == wait_token and is_yieldable() then
        return pass(co, resume(co, yield(wait_token)))
    end
    if ok and (first == nil or first == wait_token) and was_preempted() then
        if is_yieldable() then yield(wait_token) end
        return pass(co, resume(co))
    end
    if ok and first == wait_token then yield(wait_token) end -- cannot: an error that says so
    return ok, first, ...
end

local function deepen(co)
    local inside = running()
    local depth = (inside and depths[inside] or 0) + 1
    if depth > DEPTH_MAX then
        error("coroutines inside coroutines, " .. DEPTH_MAX .. " deep: no more", 3)
    end
    if type(co) == "thread" then depths[co] = depth end
end

function coroutine.resume(co, ...)
    deepen(co)
    return pass(co, resume(co, ...))
end

local function unwrap(ok, ...)
    if ok then return ... end
    error((...), 0)
end

function coroutine.wrap(f)
    local co = create(f)
    return function(...)
        deepen(co)
        return unwrap(pass(co, resume(co, ...)))
    end
end

-- What it says of a function does not include the function: those in here are not for scripts.
local function getinfo(first, second, third)
    local thread, what = nil, second
    local where = first
    if type(first) == "thread" then thread, where, what = first, second, third end
    if not thread and type(where) == "number" then where = where + 1 end
    what = type(what) == "string" and what:gsub("[^nSluL]", "") or "nSlu"
    local info
    if thread then info = debug_getinfo(thread, where, what) else info = debug_getinfo(where, what) end
    return info
end

if host_time then
    local raw_time, raw_date, floor = os.time, os.date, math.floor

    function os.time(parts)
        if parts == nil then return floor(host_time()) end
        return raw_time(parts)
    end

    function os.date(format, time)
        return raw_date(format or "%c", time or floor(host_time()))
    end
end

os.exit = nil
newproxy = nil -- its finalizers run with hooks off
debug_getmetatable(io.stdout).__metatable = "file" -- the same
package.loadlib = nil
for _, modules in ipairs { loaded, preload } do
    for name in pairs(modules) do
        if name == "ffi" or name:find("^jit") then modules[name] = nil end
    end
end
jit = { on = jit.on, off = jit.off, flush = jit.flush, status = jit.status, version = jit.version,
    version_num = jit.version_num, os = jit.os, arch = jit.arch }
loaded.jit = jit
debug = { traceback = debug_traceback, getinfo = getinfo }
loaded.debug = debug
string.dump = nil
