-- A steady flow of messages on the subject "flow", from a client of the tests.
local run = require "support.run"

-- Publishes `rate` messages a second for so many seconds, and waits until the server has them all.
-- data(): the text of the next one.
return function(witness, seconds, rate, data)
  local begun, sent = run.now(), 0
  while run.now() - begun < seconds do
    local wanted = (run.now() - begun) * rate
    local out = {}
    while sent < wanted do
      sent = sent + 1
      local text = data()
      out[#out + 1] = ("PUB flow %d\r\n%s\r\n"):format(#text, text)
    end
    witness:send(table.concat(out))
    run.pause(0.001)
  end
  witness:flush(10)
end
