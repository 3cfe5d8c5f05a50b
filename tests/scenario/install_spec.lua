-- What `cmake --install` leaves: programs in C and C++ are built with it and run, wherever it is moved; nothing but the
-- API is visible; versions and paths agree.
local cjson = require "cjson"
local uv = require "luv"
local command = require "support.command"
local moondog = require "support.moondog"
local process = require "support.process"
local run = require "support.run"

local BUILD = os.getenv("MOONDOG_BUILD") or "build"
local ROOT = moondog.root
local FLAGS = moondog.compiler_flags()
local SOURCES = ROOT .. "/tests/install"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local VERSION = read(ROOT .. "/CMakeLists.txt"):match("\nproject%(moondog VERSION ([%d.]+)")

-- Installs into a folder of the test's, and returns it.
local function install(name)
  local prefix = run.folder() .. "/" .. name
  command.run("/usr/bin/cmake", { "--install", BUILD, "--prefix", prefix })
  return prefix
end

local function path_of(prefix, name)
  return (command.run("/usr/bin/find", { prefix, "-name", name, "-not", "-type", "d" }))
end

local function libraries_of(prefix)
  return path_of(prefix, "libmoondog.so"):match("^(.*)/")
end

-- Configures a project that uses what is installed, and returns the folder that it is built in.
local function configure(source, prefix, name)
  local build = run.folder() .. "/" .. (name or "build")
  command.run("/usr/bin/cmake", { "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_PREFIX_PATH=" .. prefix,
    "-DMOONDOG_VERSION=" .. VERSION, "-DCMAKE_C_FLAGS=" .. FLAGS, "-DCMAKE_CXX_FLAGS=" .. FLAGS })
  return build
end

-- What the header declares.
local function declared(header)
  local names = {}
  for declaration in read(header):gmatch("\nMD_API ([^;]+);") do
    names[#names + 1] = declaration:match("^[^(]-([%w_]+)%(")
  end
  table.sort(names)
  return names
end

local function defined(output)
  local names = {}
  for name in output:gmatch("%x+ %a ([%w_]+)") do
    if not (moondog.sanitized() and name:find("^__")) then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

-- It needs a C module, which finds Lua in the library's own dependency.
local SCRIPT = 'require "moondog".log.info(require "cjson".encode { "embedded" })'

local function check(host, prefix)
  local out, log = command.run(host, { moondog.script(SCRIPT) }, { env = { LD_LIBRARY_PATH = libraries_of(prefix) } })
  assert.equals("moondog " .. VERSION, out)
  assert.matches('"msg":"[\\"embedded\\"]"', log, 1, true)
end

describe("What is installed", function()
  it("is found by find_package(), also when it was moved", run.case(function()
    local prefix = run.folder() .. "/moved"
    assert(os.rename(install("prefix"), prefix))
    local build = configure(SOURCES, prefix)
    command.run("/usr/bin/cmake", { "--build", build })
    for _, name in ipairs { "c99", "c11", "cpp" } do
      check(("%s/%s_moondog"):format(build, name), prefix)
      check(("%s/%s_moondog_static"):format(build, name), prefix)
    end
  end))

  it("has examples that are built where they are installed, also as they say themselves", run.case(function()
    local prefix = install("prefix")
    local pc = path_of(prefix, "moondog.pc"):match("^(.*)/")
    for folder, name in pairs { edge = "edge", epoll = "chat", game = "game" } do
      local source = prefix .. "/share/doc/moondog/examples/embed/" .. folder
      local build = configure(source, prefix, folder)
      command.run("/usr/bin/cmake", { "--build", build })
      assert.is_truthy(uv.fs_stat(build .. "/" .. name))
      local main = read(source .. "/" .. (folder == "game" and "main" or name) .. ".c")
      local compile = assert(main:match("\n %*   (cc [^\n]*)"))
      command.shell('export PKG_CONFIG_PATH="$1"; cd "$2"; ' .. compile .. " $3", pc, source, FLAGS)
      assert.is_truthy(uv.fs_stat(source .. "/" .. name))
    end
  end))

  it("is found by pkg-config, also when it was moved", run.case(function()
    local prefix = run.folder() .. "/moved"
    assert(os.rename(install("prefix"), prefix))
    local file = path_of(prefix, "moondog.pc")
    local build = command.shell([[
      export PKG_CONFIG_PATH="$1"
      test "$(pkg-config --modversion moondog)" = "$2"
      cd "$3"
      cc $4 -std=c99 "$5/host.c" $(pkg-config --cflags --libs moondog) -o shared
      c++ $4 "$5/host.cpp" $(pkg-config --cflags --libs moondog-static) -o static
      for needed in $(pkg-config --libs moondog-static); do
        case $needed in -l*) pkg-config --static --libs moondog | grep -q -e "$needed" ;; esac
      done
      pwd]], file:match("^(.*)/"), VERSION, run.folder(), FLAGS, SOURCES)
    check(build .. "/shared", prefix)
    check(build .. "/static", prefix)
  end))

  it("can be loaded at run time, and stays when it is closed", run.case(function()
    local library = path_of(install("prefix"), "libmoondog.so.0")
    local plugin = run.folder() .. "/plugin"
    command.shell('cc $1 -I "$2/src" "$2/tests/install/plugin.c" -o "$3" -ldl', FLAGS, ROOT, plugin)
    local _, log = command.run(plugin, { library, moondog.script(SCRIPT) })
    assert.equals(2, select(2, log:gsub('"msg":"%[\\"embedded\\"%]"', "")))
  end))

  it("refuses a host's own Lua, unless only the host sees it", run.case(function()
    local prefix = install("prefix")
    local file = path_of(prefix, "moondog.pc")
    command.shell([[
      export PKG_CONFIG_PATH="$1"
      cd "$2"
      cc $3 -c "$4/other_lua.c"
      ar qcs libother.a other_lua.o
      flags="$3 $4/host.c $(pkg-config --cflags --libs moondog) -Wl,-u,lua_settop -L. -lother"
      cc -o seen $flags
      cc -o hidden $flags -Wl,--exclude-libs,ALL]], file:match("^(.*)/"), run.folder(), FLAGS, SOURCES)
    check(run.folder() .. "/hidden", prefix)
    local refused = process.start { file = run.folder() .. "/seen", args = { moondog.script("") },
      env = { LD_LIBRARY_PATH = libraries_of(prefix) } }
    assert.equals(1, (refused:wait_exit()))
    assert.matches("^the Lua of .*/seen hides LuaJIT %(.*%-Wl,%-%-exclude%-libs,ALL", refused:text("stderr"))
  end))

  it("shows a host what the header declares, and nothing else", run.case(function()
    local prefix = install("prefix")
    local api = declared(prefix .. "/include/moondog.h")
    assert.is_true(#api > 10)
    local shared = command.run("/usr/bin/nm", { "-D", "--defined-only", path_of(prefix, "libmoondog.so") })
    assert.same(api, defined(shared))
    local static = command.run("/usr/bin/nm", { "-g", "--defined-only", path_of(prefix, "libmoondog.a") })
    assert.same(api, defined(static))
  end))

  it("says where the rest of it is", run.case(function()
    local prefix = install("prefix")
    local unit = read(prefix .. "/lib/systemd/system/moondog@.service")
    local template = read(ROOT .. "/examples/service/moondog@.service")
    assert.equals(template:gsub("/usr/bin/", prefix .. "/bin/"), unit)
    local settings = cjson.decode(read(prefix .. "/share/moondog/luarc.json"))
    assert.same({ prefix .. "/share/moondog/lua/meta" }, settings["workspace.library"])
    assert.equals(read(ROOT .. "/lua/meta/moondog.lua"), read(settings["workspace.library"][1] .. "/moondog.lua"))
    for _, name in ipairs { "share/man/man1/moondog.1", "share/bash-completion/completions/moondog",
      "share/zsh/site-functions/_moondog", "share/fish/vendor_completions.d/moondog.fish",
      "share/doc/moondog/LICENSE", "share/doc/moondog/examples/policies/gateway.lua" } do
      assert.is_truthy(uv.fs_stat(prefix .. "/" .. name), name)
    end
    assert.equals(VERSION, command.run(prefix .. "/bin/moondog", { "--version" }):match("^moondog ([%d.]+) "))
  end))
end)

describe("The rock", function()
  it("has the version of the project, and modules that need no moondog", run.case(function()
    local tree = run.folder() .. "/tree"
    local config = run.file("luarocks.lua", 'lua_interpreter = "luajit" rocks_servers = {}')
    command.run("/usr/bin/luarocks", { "--lua-version=5.1", "--tree", tree, "--only-server", run.folder(), "make",
      ("moondog-%s-1.rockspec"):format(VERSION) }, { cwd = ROOT .. "/lua", env = { LUAROCKS_CONFIG = config } })
    local path = tree .. "/share/lua/5.1/?.lua"
    assert.equals("{ 1, a = 2 }\tformat\tcomplete", (command.run("/usr/bin/luajit", { "-e", [[
      local complete, pretty = require "moondog.complete", require "moondog.pretty"
      local _, items = complete.complete("string.form", { scopes = { _G } })
      print(pretty.pretty { 1, a = 2 }, items[1], require "moondog.console_input".new():add("return 1"))]] },
      { cwd = run.folder(), env = { LUA_PATH = path } })))
    assert.is_truthy(uv.fs_stat(("%s/lib/luarocks/rocks-5.1/moondog/%s-1/meta/moondog.lua"):format(tree, VERSION)))
  end))
end)

describe("The settings for the Lua language server", function()
  it("name what is there", function()
    local settings = cjson.decode(read(ROOT .. "/.luarc.json"))
    assert.equals("LuaJIT", settings["runtime.version"])
    for _, path in ipairs(settings["workspace.library"]) do
      assert.is_truthy(uv.fs_stat(ROOT .. "/" .. path), path)
    end
    for _, pattern in ipairs(settings["runtime.path"]) do
      assert.is_truthy(uv.fs_stat(ROOT .. "/" .. pattern:gsub("%?%.lua$", "")), pattern)
    end
  end)
end)
