-- A message of so many bytes that is an object in JSON: fields with numbers, and a text that fills it up.
local SHORTEST = '{"t":""}'

return function(size)
  assert(size >= #SHORTEST, "a message in JSON is longer")
  local fields, left, number = {}, size - #SHORTEST, 0
  while true do
    local field = ('"f%d":%d,'):format(number, number * 1000 + 7)
    if #field > left then break end
    fields[#fields + 1], left, number = field, left - #field, number + 1
  end
  return ('{%s"t":"%s"}'):format(table.concat(fields), ("x"):rep(left))
end
