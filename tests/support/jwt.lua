-- An operator with one account, for servers that authenticate by JWT: the server's configuration,
-- users with an expiry, and their credentials files; and JWTs of any kind.
local cjson = require "cjson"
local nkeys = require "support.nkeys"
local run = require "support.run"

local M = {}
M.__index = M

-- Claims as a JWT that this key has signed.
function M.encode(key, subject, claims)
  local head = nkeys.base64url('{"typ":"JWT","alg":"ed25519-nkey"}')
  claims.jti, claims.iat, claims.iss, claims.sub = "test", os.time(), key.public, subject
  claims.name = claims.nats.type
  claims.nats.version = 2
  local signed = head .. "." .. nkeys.base64url(cjson.encode(claims))
  return signed .. "." .. key:sign(signed)
end

function M.new()
  local self = setmetatable({ operator = nkeys.new("operator"), account = nkeys.new("account") }, M)
  self.config = {
    operator = M.encode(self.operator, self.operator.public, { nats = { type = "operator" } }),
    resolver = "MEMORY",
  }
  self:set_account()
  return self
end

-- What the configuration says of the account from now on. options: expires (after so many seconds),
-- revoked (a user of M:user()), removed (it is not there).
function M:set_account(options)
  options = options or {}
  local limits = { subs = -1, data = -1, payload = -1, imports = -1, exports = -1, conn = -1,
    leaf = -1, wildcards = true }
  local revocations = options.revoked and { [options.revoked.key.public] = os.time() }
  self.config.resolver_preload = {
    [self.account.public] = not options.removed and M.encode(self.operator, self.account.public, {
      exp = options.expires and os.time() + options.expires,
      nats = { type = "account", limits = limits, revocations = revocations },
    }) or nil,
  }
end

-- A user whose JWT is valid for so many seconds (nil: for good).
function M:user(seconds)
  local key = nkeys.new("user")
  local token = M.encode(self.account, key.public, {
    exp = seconds and os.time() + seconds or nil,
    nats = { type = "user", subs = -1, data = -1, payload = -1 },
  })
  return { key = key, jwt = token }
end

-- Writes the user's credentials file into the test's folder and returns its path.
function M.creds(user, name)
  return run.file(name or "user.creds", ("-----BEGIN NATS USER JWT-----\n%s\n"
    .. "------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n%s\n"
    .. "------END USER NKEY SEED------\n"):format(user.jwt, user.key.seed))
end

-- The `login` option of a witness.
function M.login(user)
  return function(info)
    return { jwt = user.jwt, sig = user.key:sign(info.nonce) }
  end
end

return M
