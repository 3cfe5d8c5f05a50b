-- The reference documentation (scripts/reference) is what the header and the annotations say now, all of it.
local moondog = require "support.moondog"
local process = require "support.process"
local run = require "support.run"
local uv = require "luv"

local HEADER, ANNOTATIONS = "src/moondog.h", "lua/meta/moondog.lua"
local C_PAGE, LUA_PAGE = "src/reference.md", "lua/reference.md"
local TOOLS = { "scripts/reference", "scripts/reference_c.lua", "scripts/reference_lua.lua",
  "scripts/reference_text.lua", "scripts/lib.sh" }

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- Another checkout, with what it takes to make the pages in it.
local function copy_checkout()
  local folder = run.folder()
  for _, name in ipairs { "scripts", "src", "lua", "lua/meta" } do assert(uv.fs_mkdir(folder .. "/" .. name, 493)) end
  for _, name in ipairs { HEADER, ANNOTATIONS, C_PAGE, LUA_PAGE, unpack(TOOLS) } do
    assert(uv.fs_copyfile(moondog.root .. "/" .. name, folder .. "/" .. name))
  end
  return folder
end

-- Runs scripts/reference in that checkout; returns what it wrote to standard output and to standard error.
local function reference(folder, code, ...)
  local p = process.start { name = "reference", file = folder .. "/scripts/reference", args = { ... } }
  assert.equals(code, (p:wait_exit(30)))
  return p:text("stdout"), p:text("stderr")
end

local function change(folder, name, from, to)
  local text, count = read(folder .. "/" .. name):gsub(from, to)
  assert.equals(1, count)
  run.file(name, text)
end

-- Each link within a page has a heading.
local function assert_links(page)
  local anchors, count = {}, 0
  for heading in page:gmatch("\n#+ ([^\n]+)") do
    anchors[heading:lower():gsub("[^%w%s_-]", ""):gsub("%s", "-")] = true
  end
  for anchor in page:gmatch("%]%(#([^)]+)%)") do
    assert.is_true(anchors[anchor], "nothing has the anchor " .. anchor)
    count = count + 1
  end
  assert.is_true(count > 50)
end

describe("The reference documentation", function()
  it("is what ./scripts/reference makes now", run.case(function()
    local differences, told = reference(moondog.root, 0, "--check")
    assert.equals("", differences .. told)
  end))

  it("has all of the header", function()
    local page, count = read(moondog.root .. "/" .. C_PAGE), 0
    for line in read(moondog.root .. "/" .. HEADER):gmatch("[^\n]+") do
      if line:find("^MD_API ") then
        local name = line:match("(md_[%w_]+)%(")
        assert.matches("\n### [^\n]*`" .. name .. "%(%)`", page)
        assert.matches("%[`" .. name .. "%(%)`%]%(#", page)
        count = count + 1
      end
      if line:find("^    .*;") or line:find("^#define MD_%u+_MAX") or line:find("^MD_API ") then
        assert.is_truthy(page:find(line, 1, true), line)
      end
    end
    assert.is_true(count > 40)
    assert_links(page)
  end)

  it("has all of the annotations", function()
    local page, count = read(moondog.root .. "/" .. LUA_PAGE), 0
    for line in read(moondog.root .. "/" .. ANNOTATIONS):gmatch("[^\n]+") do
      local heading = line:match("^function (.*) end$") or line:match("^%-%-%-@class (%S+)")
      if heading then
        assert.is_truthy(page:find("# `" .. heading .. "`\n", 1, true), heading)
        count = count + 1
      end
      local item = line:match("^%-%-%-@field (%S+) ") or line:match("^%-%-%-@param (%S+) ")
      if item then assert.is_truthy(page:find("\n- `" .. item .. "` (", 1, true), item) end
    end
    assert.is_true(count > 80)
    assert_links(page)
  end)

  it("is found to be old, and is made anew", run.case(function()
    local folder = copy_checkout()
    reference(folder, 0, "--check")
    change(folder, HEADER, "#define MD_POSTS_MAX 65536", "#define MD_POSTS_MAX 65537")
    change(folder, ANNOTATIONS, "Seconds of a clock that never jumps%.", "Seconds of a clock.")
    local differences, told = reference(folder, 1, "--check")
    assert.matches("\n%-#define MD_POSTS_MAX 65536\n%+#define MD_POSTS_MAX 65537\n", differences)
    assert.matches("\n%-Seconds of a clock that never jumps%.\n%+Seconds of a clock%.\n", differences)
    for _, page in ipairs { C_PAGE, LUA_PAGE } do
      assert.matches(page .. " is not what .- says: run %./scripts/reference", told)
    end
    reference(folder, 0)
    reference(folder, 0, "--check")
    assert.matches("#define MD_POSTS_MAX 65537", read(folder .. "/" .. C_PAGE))
  end))

  it("is not made of a function without a comment, nor of what it does not know", run.case(function()
    local folder = copy_checkout()
    local before = read(folder .. "/" .. C_PAGE)
    change(folder, HEADER, "\n#ifdef __cplusplus\n}", "\nMD_API int md_new(void);\n%0")
    local _, told = reference(folder, 1)
    assert.matches("md_new%(%) has no comment: say above it what it does", told)
    assert.equals(before, read(folder .. "/" .. C_PAGE))
    change(folder, HEADER, "\nMD_API int md_new%(void%);", "\n/* New. */%0")
    reference(folder, 0)
    assert.is_truthy(read(folder .. "/" .. C_PAGE):find("\n### `md_new()`\n\n```c\nMD_API int md_new(void);\n```\n\n"
      .. "New.\n", 1, true))
    change(folder, ANNOTATIONS, "\nfunction moondog%.now%(%) end", "\n---@throws nothing%0")
    _, told = reference(folder, 1)
    assert.matches("@throws of the function moondog%.now", told)
  end))

  it("takes names in prose for code, and the rest as it is written", run.case(function()
    local folder = copy_checkout()
    change(folder, HEADER, "\n#ifdef __cplusplus\n}", [[

/* Stars * and <angles>, *error, md_stop(), free() and `a * b`: "orders.*", 16 or
 * more.
 *
 * A second one. */
MD_API int md_new(void);
%0]])
    reference(folder, 0)
    assert.is_truthy(read(folder .. "/" .. C_PAGE):find("\n\nStars \\* and \\<angles>, `*error`, "
      .. "[`md_stop()`](#md_stop), `free()` and `a * b`: \"orders.\\*\", 16 or more.\n\nA second one.\n", 1, true))
  end))
end)
