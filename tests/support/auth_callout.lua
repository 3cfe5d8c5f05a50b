-- The service behind the auth callout of nats-server (2.10 or newer): the server asks it at each login,
-- and it answers with a user that it has signed, or does not.
--
--   local service = auth_callout.new()
--   local server = nats_server.start(service.config, { program = nats_server.newer_program() })
--   service:serve(server)
--   service.refuses = true
--
-- Its own login and that of the witness stand in the server's configuration: nobody is asked for these.
local cjson = require "cjson"
local jwt = require "support.jwt"
local nkeys = require "support.nkeys"
local run = require "support.run"

local M = {}
M.__index = M

local SUBJECT = "$SYS.REQ.USER.AUTH"
local SERVICE = { user = "service", password = "s" }
local WITNESS = { user = "witness", password = "w" }
local EVERYTHING = { subs = -1, data = -1, payload = -1, type = "user", version = 2 }

-- timeout: how long the server waits for an answer, and with it the client for its login.
function M.new(timeout)
  local self = setmetatable({ account = nkeys.new("account"), asked = 0 }, M)
  self.config = { users = { WITNESS, SERVICE }, auth_timeout = timeout,
    auth_callout = { issuer = self.account.public, auth_users = { WITNESS.user, SERVICE.user } } }
  return self
end

local function claims_of(token)
  return cjson.decode(nkeys.from_base64url(token:match("^[^.]*%.([^.]*)")))
end

-- Names and passwords are of no interest here: it refuses everybody, or nobody.
local function answer(self, request)
  local said = { type = "authorization_response", version = 2 }
  if self.refuses then
    said.error = "the directory of users does not answer"
  else
    said.jwt = jwt.encode(self.account, request.user_nkey, { aud = "$G", nats = EVERYTHING })
  end
  return jwt.encode(self.account, request.user_nkey, { aud = request.server_id.id, nats = said })
end

-- Answers at this server until it stops; once more after a restart of it. What changes it while it
-- serves: refuses; delay: seconds before each answer.
function M:serve(server)
  local client = server:connect { user = SERVICE.user, password = SERVICE.password, name = "witness" }
  client:subscribe(SUBJECT, function(msg)
    self.asked = self.asked + 1
    run.spawn(function()
      if self.delay then
        run.pause(self.delay)
      end
      if not client.closed then
        client:publish(msg.reply, answer(self, claims_of(msg.data).nats))
      end
    end)
  end)
  client:flush()
  self.client = client
end

function M:stop()
  self.client:close()
end

return M
