-- Numbers that an operator sets in the environment: knob("BREAKER_OPEN", 5) is the number in $BREAKER_OPEN, or 5.
-- One that is no number is an error of the load, so that `moondog check` finds it.
return function(name, default)
  local text = os.getenv(name)
  if text == nil then return default end
  local number = tonumber(text)
  if not number then error(("%s is \"%s\": set it to a number, or unset it for %s"):format(name, text, default), 2) end
  return number
end
