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

-- Signs the server's certificate of M.make() anew, for a time that is over since 2021.
function M.expire(paths)
  local base = paths.ca:gsub("%-ca%.pem$", "")
  local name = base:match("[^/]+$")
  run.file(name .. ".index", "")
  local config = run.file(name .. ".cnf", ("[ca]\ndefault_ca=d\n[d]\ndatabase=%s.index\nnew_certs_dir=%s\n"
    .. "rand_serial=yes\npolicy=p\n[p]\ncommonName=supplied\n"):format(base, run.folder()))
  sh("openssl ca -batch -notext -md sha256 -config %s -in %s -cert %s -keyfile %s -extfile %s "
    .. "-startdate 200101000000Z -enddate 210101000000Z -out %s",
    config, base .. ".csr", paths.ca, base .. "-ca-key.pem", base .. ".ext", paths.cert)
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
