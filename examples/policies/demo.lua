-- The policy of the demonstration (scripts/demo): one subscription that logs every message.
-- Nothing is configured: what happens after the fault is what every policy gets.
local moondog = require "moondog"

local nats = moondog.connect { name = "demo" } -- the server is in $NATS_URL

nats:subscribe("demo.tick", function(msg)
  moondog.log.info("message", { data = msg.data })
end)
