-- The random run of the fault suite: its schedule, and a short one; longer ones: scripts/faults --random.
local damage = require "fault.damage"
local moondog = require "support.moondog"
local process = require "support.process"
local random = require "fault.random"
local run = require "support.run"
local schedule = require "fault.schedule"

describe("the schedule of a random run", function()
  it("is the same for a seed, and another one for another seed", function()
    for seed = 0, 20 do
      assert.same(schedule.make(seed, 5), schedule.make(seed, 5))
      assert.equals(schedule.text(schedule.make(seed, 5)), schedule.text(schedule.make(seed, 5)))
      assert.is_false(schedule.text(schedule.make(seed, 5)) == schedule.text(schedule.make(seed + 1, 5)))
    end
    assert.same(schedule.make(2 ^ 31 - 1, 1), schedule.make(2 ^ 31 - 1, 1))
  end)

  it("begins as a shorter one of its seed does", function()
    local long, short = schedule.make(3, 10), schedule.make(3, 2)
    assert.is_true(#short < #long)
    for i, episode in ipairs(short) do
      assert.same(episode, long[i])
    end
  end)

  it("has each kind of fault, on both servers, alone and with others", function()
    for seed = 1, 20 do
      local seen, sizes = {}, {}
      for _, episode in ipairs(schedule.make(seed, 10)) do
        sizes[#episode.faults] = true
        for _, fault in ipairs(episode.faults) do
          seen[fault.fault] = true
          seen[fault.args.server or "no server"] = true
        end
      end
      for _, kind in ipairs(schedule.kinds) do
        assert.is_true(seen[kind], kind .. " is missing with seed " .. seed)
      end
      for _, server in ipairs { "hub", "leaf", "both", "no server" } do
        assert.is_true(seen[server], server)
      end
      assert.is_true(sizes[1] and sizes[2] and sizes[3])
    end
  end)

  it("is in order, with faults within their episodes, and as long as asked", function()
    for seed = 1, 20 do
      local over = 0
      for _, episode in ipairs(schedule.make(seed, 3)) do
        assert.is_true(episode.at >= over and episode.at < 180)
        over = episode.at + episode.seconds
        local before = episode.at
        for _, fault in ipairs(episode.faults) do
          assert.is_true(fault.at >= before)
          assert.is_true(fault.at + fault.seconds <= over + 1e-6)
          before = fault.at
        end
      end
      assert.is_true(over > 150)
    end
  end)
end)

describe("scripts/faults --random", function()
  local function faults(...)
    local p = process.start { name = "faults", file = moondog.root .. "/scripts/faults", args = { ... } }
    return (p:wait_exit(20)), p:text("stdout"), p:text("stderr")
  end

  it("lists the schedule of a seed", run.case(function()
    local code, text = faults("--random", "--seed", "3", "--minutes", "2", "--list")
    assert.equals(0, code)
    assert.equals(schedule.text(schedule.make(3, 2)), text .. "\n")
  end))

  it("refuses what means nothing", run.case(function()
    for wanted, args in pairs {
      ["plays no rows"] = { "--random", "F1" }, ["--minutes needs a number"] = { "--random", "--minutes", "many" },
      ["needs more than 0"] = { "--random", "--minutes", "0" }, ["those of --random"] = { "--seed", "3" },
    } do
      local code, _, text = faults(unpack(args))
      assert.equals(2, code)
      assert.is_truthy(text:find(wanted, 1, true), text)
    end
  end))
end)

describe("a random run", function()
  it("finds that moondog keeps its promises", function()
    local said = {}
    local kept, results = random.play(4, 0.5, function(text)
      print((text:gsub("\n$", "")))
      said[#said + 1] = text
    end)
    assert.is_true(kept, table.concat(said))
    assert.matches("^seed 4, 0.5 min, %d+ episodes; to repeat it: scripts/faults %-%-random %-%-seed 4 ", said[1])
    assert.is_true(#results >= 2)
  end)

  -- What no promise survives, done behind moondog's back.
  local function tamper(world)
    local client = world.servers.hub:connect()
    for _, subject in ipairs { "s.moondog.1", "s.moondog.0", "r.1" } do
      assert(client:request(subject, "1", 10))
    end
    client:close()
  end

  it("sees what comes twice", function()
    damage.tamper = tamper
    local episode = { at = 0, seconds = 0, within = 5,
      faults = { { at = 0, fault = "tamper", args = {}, seconds = 0 } } }
    local said = {}
    local kept, results = random.play(1, 0.1, function(text) said[#said + 1] = text end, { episode })
    damage.tamper = nil
    assert.is_false(kept)
    local text = table.concat(results[1].wrong, "\n")
    for _, wanted in ipairs { "3: s%.moondog%.0 has come a second time", "3: s%.moondog%.1 has come a second time",
      "1 numbers were read more than once %(seen%.ordered%)", "1 numbers were read out of order %(seen%.ordered%)" } do
      assert.matches(wanted, text)
    end
    assert.matches("1 failed; to repeat it: scripts/faults", said[#said])
  end)

  it("judges what has grown over it", function()
    local results = {}
    for i = 1, random.FEWEST do
      results[i] = { threads = 10, fds = 20, rss = 20 * 2 ^ 20 }
    end
    assert.same({}, random.growth(results))
    results[3].fds = 50 -- a moment's
    assert.same({}, random.growth(results))
    results[5].fds, results[6].fds = 23, 23
    assert.same({ "6: fds grew from 20 to 23 over the run, 1 more are allowed" }, random.growth(results))
    assert.matches("fds 20, 23, 50", random.figures(results))
  end)
end)
