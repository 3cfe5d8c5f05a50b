-- F2 of the fault suite: credentials expire. What a row is: tests/support/fault.lua.
local jwt = require "support.jwt"
local run = require "support.run"

local VALID_SECONDS = 10 -- long enough for all to be connected before
local REFUSED_SECONDS = 3

return {
  id = "F2",
  title = "credentials expire",
  seen = "nats-py #1019 and #193",
  why = "the second refusal closes the client, and a rotated file helps only after a restart",
  promise = "the file is read again at each fresh link: a rotated one heals it",
  within = 5,
  play = function(stage)
    local issuer = jwt.new()
    local server = stage:server(issuer.config)
    local witness = issuer:user()
    stage:start { urls = { server.url }, creds = jwt.creds(issuer:user(VALID_SECONDS)),
      witness = function() return server:connect { login = jwt.login(witness) } end }
    stage:fault()
    stage:wait_silence(1)
    run.pause(REFUSED_SECONDS)
    stage:over()
    jwt.creds(issuer:user())
  end,
}
