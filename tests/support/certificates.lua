-- Certificates for TLS tests, made by openssl in the test's folder: an authority of its own and a
-- server's certificate for this process's address.
local network = require "support.network"
local run = require "support.run"

local M = {}

local HOUR = 3600

local function sh(command, ...)
  local quoted = {}
  for i = 1, select("#", ...) do
    quoted[i] = "'" .. select(i, ...) .. "'"
  end
  assert(os.execute(command:format(unpack(quoted)) .. " 2>/dev/null") == 0, command)
end

-- Signs the certificate of M.make() anew, for the time between these two (of os.time()). The file is
-- replaced by a rename.
local function sign(paths, from, to)
  local base = paths.cert:gsub("%-cert%.pem$", "")
  local name = base:match("[^/]+$")
  local part = paths.cert .. ".part"
  run.file(name .. ".index", "")
  local config = run.file(name .. ".cnf", ("[ca]\ndefault_ca=d\n[d]\ndatabase=%s.index\nnew_certs_dir=%s\n"
    .. "rand_serial=yes\npolicy=p\n[p]\ncommonName=supplied\n"):format(base, run.folder()))
  sh("openssl ca -batch -notext -md sha256 -config %s -in %s -cert %s -keyfile %s -extfile %s "
    .. "-startdate %s -enddate %s -out %s", config, base .. ".csr", paths.ca, paths.ca_key, base .. ".ext",
    os.date("!%Y%m%d%H%M%SZ", from), os.date("!%Y%m%d%H%M%SZ", to), part)
  assert(os.rename(part, paths.cert))
end

-- Its time is over since 2021.
function M.expire(paths)
  sign(paths, os.time { year = 2020, month = 1, day = 1 }, os.time { year = 2021, month = 1, day = 1 })
end

-- It is valid for so many seconds from now on; paths.valid_until: until when (of os.time()).
function M.renew(paths, seconds)
  paths.valid_until = os.time() + seconds
  sign(paths, os.time() - HOUR, paths.valid_until)
end

-- Returns the paths { ca, ca_key, cert, key }. name: a prefix, so that a test can have several.
-- authority: those of another one, whose authority signs this one, too.
function M.make(name, authority)
  name = name or "tls"
  local base = run.folder() .. "/" .. name
  local paths = { cert = base .. "-cert.pem", key = base .. "-key.pem",
    ca = authority and authority.ca or base .. "-ca.pem",
    ca_key = authority and authority.ca_key or base .. "-ca-key.pem" }
  local request = base .. ".csr"
  local extensions = run.file(name .. ".ext", "subjectAltName=DNS:localhost,IP:" .. network.host .. "\n")
  local new = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
  if not authority then
    sh(new .. "-x509 -days 2 -subj /CN=test-authority -keyout %s -out %s", paths.ca_key, paths.ca)
  end
  sh(new .. "-subj /CN=test-server -keyout %s -out %s", paths.key, request)
  sh("openssl x509 -req -days 2 -in %s -CA %s -CAkey %s -CAcreateserial -extfile %s -out %s",
    request, paths.ca, paths.ca_key, extensions, paths.cert)
  return paths
end

return M
