-- The Debian packages: built, installed, used and removed, in a folder of the test's. The machine's own packages are
-- only read, as what the new ones depend on.
local command = require "support.command"
local moondog = require "support.moondog"
local process = require "support.process"
local run = require "support.run"

local BUILD = os.getenv("MOONDOG_BUILD") or "build"
local PACKAGES = { "libmoondog-dev", "libmoondog0", "moondog" }
local PATH = os.getenv("PATH") .. ":/usr/sbin:/sbin"

-- Builds the packages, whatever others may see of this user's files, and returns where they are by name.
local function build()
  local output = command.shell([[
    umask 077
    cpack --config "$1/CPackConfig.cmake" -B "$2" >&2
    ls "$2"/*.deb]], BUILD, run.folder() .. "/packages")
  local files = {}
  for file in output:gmatch("[^\n]+") do
    files[file:match("([^/_]+)_[^/]*$")] = file
  end
  return files
end

local function field(file, name)
  return (command.run("/usr/bin/dpkg-deb", { "--field", file, name }))
end

-- A system that has this one's packages, as far as dpkg knows, and no file of them.
local function make_system()
  local root = run.folder() .. "/root"
  command.shell([[
    mkdir -p "$1/var/lib/dpkg/info" "$1/var/lib/dpkg/updates" "$1/var/lib/dpkg/triggers"
    cp /var/lib/dpkg/status "$1/var/lib/dpkg/status"
    cp /var/lib/dpkg/arch "$1/var/lib/dpkg/arch" 2>/dev/null || true]], root)
  return root
end

local function dpkg(root, ...)
  return command.run("/usr/bin/dpkg", { "--root=" .. root, "--force-not-root", "--force-script-chrootless",
    "--log=" .. run.folder() .. "/dpkg.log", ... }, { env = { PATH = PATH } })
end

-- What there is in the system, but for what dpkg keeps.
local function content(root)
  return (command.run("/usr/bin/find", { root, "-mindepth", "1", "-path", root .. "/var", "-prune", "-o", "-print" }))
end

describe("The Debian packages", function()
  if not io.open("/usr/bin/dpkg-deb") then
    pending("are not tried: there is no dpkg here")
    return
  end

  it("install, run, build programs, and leave nothing behind", run.case(function()
    local packages = build()
    local version = command.run(moondog.program(), { "--version" }):match("^moondog ([%d.]+) ")
    for _, name in ipairs(PACKAGES) do
      assert.equals(version, field(packages[name], "Version"), name)
      for line in command.run("/usr/bin/dpkg-deb", { "--contents", packages[name] }):gmatch("[^\n]+") do
        assert.matches("^[-dl]rw[-x]r[-w][-x]r[-w][-x] root/root ", line)
      end
    end
    assert.matches("libnats3", field(packages.moondog, "Depends"), 1, true)
    assert.matches("lua-cjson", field(packages.moondog, "Depends"), 1, true)

    local root = make_system()
    dpkg(root, "--install", packages["libmoondog-dev"], packages.libmoondog0, packages.moondog)
    local program = root .. "/usr/bin/moondog"
    assert.equals(version, command.run(program, { "--version" }):match("^moondog ([%d.]+) "))
    local script = moondog.script('require "moondog".log.info(require "cjson".encode { "packaged" })')
    local dog = process.start { file = program, args = { "run", script, "--log", "json" },
      env = { XDG_RUNTIME_DIR = run.folder() } }
    dog:wait_line('"msg":"%[\\"packaged\\"%]"')
    dog:signal("sigterm")
    assert.equals(0, (dog:wait_exit()))
    command.run(program, { "check", root .. "/usr/share/doc/moondog/examples/policies/gateway.lua" })

    local library = command.shell([[
      cd "$2"
      export PKG_CONFIG_PATH="$(dirname "$(find "$1" -name moondog.pc)")"
      cc $3 "$4/tests/install/host.c" $(pkg-config --cflags --libs moondog) -o host
      pkg-config --variable=libdir moondog]], root, run.folder(), moondog.compiler_flags(), moondog.root)
    local out, log = command.run(run.folder() .. "/host", { script }, { env = { LD_LIBRARY_PATH = library } })
    assert.equals("moondog " .. version, out)
    assert.matches('"msg":"[\\"packaged\\"]"', log, 1, true)

    dpkg(root, "--purge", unpack(PACKAGES))
    assert.equals("", content(root))
  end, { deadline = 120 }))
end)
