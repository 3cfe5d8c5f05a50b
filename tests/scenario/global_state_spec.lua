-- Several runtimes in one process share nothing of a script's: the library has no variables, but one.
local folder = os.getenv("MOONDOG_BUILD")

-- What the compiler adds to each library.
local of_the_compiler = { ["completed.0"] = true, ["__dso_handle"] = true, ["__TMC_END__"] = true,
  ["DW.ref.__gcc_personality_v0"] = true }
-- The links that the callback thread of the NATS library, which is the process's, may still speak of.
local of_the_process = { ["living"] = true }
-- What a thread is inside of, which a signal handler has to find. Each thread has one of its own.
local of_a_thread = { ["current"] = true }

local function symbols()
  local pipe = assert(io.popen("objdump -t '" .. folder .. "/libmoondog.so'"))
  local all = {}
  for line in pipe:lines() do
    local section, size, name = line:match("%s(%.%S+)\t(%x+)%s+(.+)$")
    if section then all[#all + 1] = { section = section, size = tonumber(size, 16), name = name } end
  end
  pipe:close()
  return all
end

describe("the library", function()
  it("has no variables", function()
    local found, sanitized, variables = symbols(), false, {}
    assert.is_true(#found > 1000, "objdump -t shows the symbols of libmoondog.so")
    for _, s in ipairs(found) do
      sanitized = sanitized or s.name:find("asan", 1, true) ~= nil
      local writable = s.section == ".data" or s.section == ".bss"
      local per_thread = s.section == ".tdata" or s.section == ".tbss"
      local known = of_the_compiler[s.name] or of_the_process[s.name] or per_thread and of_a_thread[s.name]
      if s.size > 0 and (writable or per_thread) and not known then
        variables[#variables + 1] = s.section .. " " .. s.name
      end
    end
    if not sanitized then assert.same({}, variables) end -- the sanitizer adds its own
  end)
end)
