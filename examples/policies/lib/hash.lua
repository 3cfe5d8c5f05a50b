-- FNV-1a with 32 bits: the same number for the same text in every process, on every machine, for ever.
local bit = require "bit"

return function(text)
  local h = 0x811c9dc5
  for i = 1, #text do
    h = bit.bxor(h, text:byte(i)) % 2 ^ 32
    h = (bit.lshift(h, 24) + h * 0x193) % 2 ^ 32 -- times 0x01000193, in numbers that a double has room for
  end
  return h
end
