-- The latencies of the last calls, and their quantiles.
--
--   local recent = new(200, 20)   -- of the last 200; unknown before there are 20
--   recent:add(0.012)
--   recent:quantile(0.95)         -- seconds, or nil
local Latencies = {}
Latencies.__index = Latencies

function Latencies:add(seconds)
  self.at = self.at % self.size + 1
  self.values[self.at] = seconds
  self.fresh = self.fresh + 1
end

-- Sorted anew only when a tenth of them has changed: a request costs no sorting.
function Latencies:quantile(q)
  if #self.values < self.least then return nil end
  if not self.sorted or self.fresh >= self.size / 10 then
    self.sorted, self.fresh = { unpack(self.values) }, 0
    table.sort(self.sorted)
  end
  return self.sorted[math.max(1, math.ceil(q * #self.sorted))]
end

return function(size, least)
  return setmetatable({ size = size, least = least, values = {}, at = 0, fresh = 0 }, Latencies)
end
