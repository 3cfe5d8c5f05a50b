-- Peers in turns: each round lets each of them do each thing once, and who begins changes with the round. So what
-- else the machine does meets all of them, and ratios that are made within a round hold on a machine that is at work.
local M = {}

-- peers: a list of tables with a name. things: a list of anything; what follows another is compared with it.
-- measure(peer, thing) returns figures, a table of numbers by name; nil: this one cannot do that. The first round is
-- not counted, unless with `all`: for peers that are fresh each time, or times so long that a start does not count.
-- Returns results[thing][round][peer name] = figures.
function M.play(peers, things, rounds, measure, all)
  local results = {}
  for _, thing in ipairs(things) do results[thing] = {} end
  for round = all and 1 or 0, rounds do
    for _, thing in ipairs(things) do
      local figures = {}
      for turn = 1, #peers do
        local peer = peers[(round + turn) % #peers + 1]
        figures[peer.name] = measure(peer, thing)
      end
      if round > 0 then results[thing][round] = figures end
    end
  end
  return results
end

return M
