-- Runs first in every generation: takes away what could take the runtime down, and makes what loads code
-- load it so that it can be interrupted. Called with the scheduler's wait token, the log, what tells whether
-- the time budget of the entry is used up, and what reads a file and remembers it while the script is loaded.
local wait_token, log, over_budget, read_source = ...

local jit_off = jit.off
local debug_traceback, debug_getinfo, debug_getlocal = debug.traceback, debug.getinfo, debug.getlocal
local loaded, preload = package.loaded, package.preload

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

-- Where a module is; like package.searchpath, but a file that is remembered need not be there any more.
local function find_module(name)
    local count, first = 0, nil
    for template in package.path:gmatch("[^;]+") do
        local path = template:gsub("%?", (name:gsub("%.", "/")))
        local text, err = read_source(path)
        if text == false then return (package.searchpath(name, package.path)) end
        if text then return path end
        count, first = count + 1, first or err
    end
    return nil, (" in none of %d places; the first: %s"):format(count, first or "package.path is empty")
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

-- The others do not list where they have looked: an error of require() is one line.
for i, search in ipairs(package.loaders) do
    package.loaders[i] = search == search_lua and search or function(name)
        local found = search(name)
        return type(found) ~= "string" and found or nil
    end
end

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
-- on until it reaches the scheduler, and the answer is passed back.
local resume, yield, create = coroutine.resume, coroutine.yield, coroutine.create

local function pass(co, ok, first, ...)
    if ok and first == wait_token then
        return pass(co, resume(co, yield(wait_token)))
    end
    return ok, first, ...
end

function coroutine.resume(co, ...)
    return pass(co, resume(co, ...))
end

local function unwrap(ok, ...)
    if ok then return ... end
    error((...), 0)
end

function coroutine.wrap(f)
    local co = create(f)
    return function(...)
        return unwrap(pass(co, resume(co, ...)))
    end
end

os.exit = nil
newproxy = nil -- its finalizers run with hooks off
package.loadlib = nil
loaded.ffi, preload.ffi = nil, nil
debug = { traceback = debug_traceback, getinfo = debug_getinfo, getlocal = debug_getlocal }
loaded.debug = debug
string.dump = nil
