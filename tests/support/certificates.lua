-- Certificates for TLS tests, made by openssl in the test's folder: an authority of its own and a
-- server's certificate for this process's address.
local network = require "support.network"
local run = require "support.run"

local M = {}

local function sh(command, ...)
  local quoted = {}
  for i = 1, select("#", ...) do
    quoted[i] = "'" .. select(i, ...) .. "'"
  end
  assert(os.execute(command:format(unpack(quoted)) .. " 2>/dev/null") == 0, command)
end

-- Returns the paths { ca, cert, key }. name: a prefix, so that a test can have two authorities.
function M.make(name)
  local base = run.folder() .. "/" .. (name or "tls")
  local paths = { ca = base .. "-ca.pem", cert = base .. "-cert.pem", key = base .. "-key.pem" }
  local ca_key, request = base .. "-ca-key.pem", base .. ".csr"
  local extensions = run.file((name or "tls") .. ".ext", "subjectAltName=DNS:localhost,IP:"
    .. network.host .. "\n")
  local new = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
  sh(new .. "-x509 -days 2 -subj /CN=test-authority -keyout %s -out %s", ca_key, paths.ca)
  sh(new .. "-subj /CN=test-server -keyout %s -out %s", paths.key, request)
  sh("openssl x509 -req -days 2 -in %s -CA %s -CAkey %s -CAcreateserial -extfile %s -out %s",
    request, paths.ca, ca_key, extensions, paths.cert)
  return paths
end

return M
