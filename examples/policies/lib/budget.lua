-- A retry budget: each request earns a share of a further try, and further tries are paid for out of that. However long
-- a service is down, it has no more than this share of load on top.
--
--   local budget = new(0.1, 10)     -- 10 %, and at most 10 tries saved up
--   budget:earn()                   -- for each request
--   if budget:spend() then ... end  -- before each further try
local Budget = {}
Budget.__index = Budget

function Budget:earn()
  self.left = math.min(self.left + self.share, self.cap)
end

function Budget:spend()
  if self.left < 1 then return false end
  self.left = self.left - 1
  return true
end

return function(share, cap)
  return setmetatable({ share = share, cap = cap, left = cap }, Budget)
end
