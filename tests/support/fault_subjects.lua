-- The subjects of the fault suite: moondog, and the stock clients that meet the same faults beside
-- it. Each answers on echo.NAME with what it was sent. A subject: name, process, given_up() (a word
-- for the way in which it gave its connection up, or nil), cut (a stock client has said that it lost a
-- link); moondog: dog, text (its script, with $NAME for values).
local health = require "support.health"
local moondog = require "support.moondog"
local npm_client = require "support.npm_client"
local process = require "support.process"
local uv = require "luv"

local M = {}

M.names = { "moondog", "nats_c", "nats_js" }
M.titles = { moondog = "moondog", nats_c = "nats.c", nats_js = "nats.js" }

-- The defaults of the JavaScript client, where the driver of the other tests is more hurried.
local NPM_DEFAULTS = { name = "nats_js", timeout = 20000, reconnectTimeWait = 2000, reconnectJitter = 100 }

local SCRIPT = [[
local moondog = require "moondog"
local c
c = moondog.connect { name = "moondog", servers = { $SERVERS }, $OPTIONS }
c:subscribe("echo.moondog", function(msg) msg:respond(msg.data) end)
]]

-- How: urls; user, password; creds (a file); tls ({ ca, cert, key }: files; the last two may be left out);
-- options (more of moondog.connect, as Lua) and script
-- (more of the script); values (of $NAME in these); noise: a subject that the stock nats.c client
-- publishes numbers to; attempts, wait (of this client, as texts); npm (more options of the JavaScript
-- client).
local starters = {}

function starters.moondog(how)
  local servers, options = {}, { how.options or "" }
  for i, url in ipairs(how.urls) do
    servers[i] = ("%q"):format(url)
  end
  for _, key in ipairs { "user", "password", "creds" } do
    if how[key] then
      table.insert(options, 1, ("%s = %q,"):format(key, how[key]))
    end
  end
  if how.tls then
    local files = {}
    for _, key in ipairs { "ca", "cert", "key" } do
      files[#files + 1] = how.tls[key] and ("%s = %q"):format(key, how.tls[key])
    end
    table.insert(options, 1, ("tls = { %s },"):format(table.concat(files, ", ")))
  end
  local parts = { SERVERS = table.concat(servers, ", "), OPTIONS = table.concat(options, " ") }
  local text = SCRIPT:gsub("%$(%u+)", parts) .. (how.script or "")
  local dog = health.run(text, how.values)
  return { process = dog.process, dog = dog, text = text, given_up = function()
    return dog.process.exit and "ended"
  end }
end

local function with_login(how, url)
  return how.user and url:gsub("://", ("://%s:%s@"):format(how.user, how.password)) or url
end

function starters.nats_c(how)
  local urls = {}
  for i, url in ipairs(how.urls) do
    urls[i] = with_login(how, url)
  end
  local args, tls = { "--name", "nats_c" }, how.tls or {}
  for option, value in pairs { ["--creds"] = how.creds, ["--noise"] = how.noise,
    ["--attempts"] = how.attempts, ["--wait"] = how.wait,
    ["--ca"] = tls.ca, ["--cert"] = tls.cert, ["--key"] = tls.key } do
    args[#args + 1] = option
    args[#args + 1] = value
  end
  args[#args + 1] = table.concat(urls, ",")
  args[#args + 1] = "echo.nats_c"
  local self = { closed = nil, took = 0 }
  self.process = process.start { name = "nats.c", file = moondog.build .. "/tests/stock_client",
    args = args, on_line = function(line)
      local kind, rest = line:match("^%d+ (%a+) ?(.*)")
      if kind == "closed" then
        self.closed = rest
      elseif kind == "disconnected" then
        self.cut = true
      elseif kind == "took" then
        self.took = tonumber(rest)
      end
    end }
  self.process.rude = true -- it may hang
  function self.given_up()
    return self.process.exit and "ended" or self.closed and "closed"
  end
  return self
end

function starters.nats_js(how)
  local npm = npm_client.start()
  local args = { servers = how.urls, user = how.user, pass = how.password, creds_file = how.creds }
  if how.tls then
    args.tls = { caFile = how.tls.ca, certFile = how.tls.cert, keyFile = how.tls.key }
  end
  for key, value in pairs(NPM_DEFAULTS) do
    args[key] = value
  end
  for key, value in pairs(how.npm or {}) do
    args[key] = value
  end
  local self = { process = npm.process }
  npm.process.rude = true
  -- Nobody waits here for the connection: it may fail, as the program's that has no other.
  npm:begin("connect", args)
  local connected = npm.last_id
  local subscribed
  function self.poll()
    if npm.answers[connected] and npm.answers[connected].ok and not subscribed then
      npm:begin("echo", { subject = "echo.nats_js" })
      subscribed = true
    end
  end
  function self.given_up()
    local answer = npm.answers[connected]
    if npm.process.exit or answer and answer.err then
      return "ended"
    end
    for _, event in ipairs(npm.events) do
      self.cut = self.cut or event.type == "disconnect"
      if event.event == "closed" then
        return "closed"
      end
    end
  end
  return self
end

-- Whether the JavaScript client is there; why not.
function M.available(name)
  if name == "nats_js" and not uv.fs_stat(npm_client.modules .. "/nats") then
    return false, "the JavaScript client is not installed (scripts/deps --test)"
  end
  return true
end

function M.start(name, how)
  local self = starters[name](how)
  self.name = name
  return self
end


return M
