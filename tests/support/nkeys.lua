-- NATS keys (Ed25519 behind NATS's own text form), made and used with openssl.
local bit = require "bit"
local run = require "support.run"

local M = {}
M.__index = M

local PREFIX = { operator = 14 * 8, account = 0, user = 20 * 8 }
local SEED = 18 * 8
local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
local counter = 0

local function crc16(bytes)
  local crc = 0
  for i = 1, #bytes do
    crc = bit.bxor(crc, bit.lshift(bytes:byte(i), 8))
    for _ = 1, 8 do
      local high = bit.band(crc, 0x8000) ~= 0
      crc = bit.band(bit.lshift(crc, 1), 0xffff)
      if high then
        crc = bit.bxor(crc, 0x1021)
      end
    end
  end
  return crc
end

local function base32(bytes)
  local out, value, bits = {}, 0, 0
  for i = 1, #bytes do
    value, bits = value * 256 + bytes:byte(i), bits + 8
    while bits >= 5 do
      bits = bits - 5
      local digit = math.floor(value / 2 ^ bits)
      value = value % 2 ^ bits
      out[#out + 1] = ALPHABET:sub(digit + 1, digit + 1)
    end
  end
  if bits > 0 then
    local digit = value * 2 ^ (5 - bits)
    out[#out + 1] = ALPHABET:sub(digit + 1, digit + 1)
  end
  return table.concat(out)
end

local function with_checksum(bytes)
  local crc = crc16(bytes)
  return base32(bytes .. string.char(crc % 256, math.floor(crc / 256)))
end

local function output(command, ...)
  local pipe = assert(io.popen(command:format(...) .. " 2>/dev/null"))
  local bytes = pipe:read("*a")
  pipe:close()
  return bytes
end

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

function M.base64url(bytes)
  return (bytes:gsub("..?.?", function(part)
    local a, b, c = part:byte(1, 3)
    local value = a * 65536 + (b or 0) * 256 + (c or 0)
    local text = ""
    for i = 3, 3 - #part, -1 do
      local digit = math.floor(value / 64 ^ i) % 64 + 1
      text = text .. DIGITS:sub(digit, digit)
    end
    return text
  end))
end

function M.from_base64url(text)
  return (text:gsub("..?.?.?", function(part)
    local value = 0
    for i = 1, 4 do
      value = value * 64 + (i <= #part and DIGITS:find(part:sub(i, i), 1, true) - 1 or 0)
    end
    return string.char(math.floor(value / 65536), math.floor(value / 256) % 256, value % 256):sub(1, #part - 1)
  end))
end

-- kind: "operator", "account", "user". The key has `public` and `seed` as texts.
function M.new(kind)
  counter = counter + 1
  local self = setmetatable({ path = ("%s/nkey%d.pem"):format(run.folder(), counter) }, M)
  output("openssl genpkey -algorithm ed25519 -out '%s'", self.path)
  local private = output("openssl pkey -in '%s' -outform DER", self.path):sub(-32)
  local public = output("openssl pkey -in '%s' -pubout -outform DER", self.path):sub(-32)
  assert(#private == 32 and #public == 32, "openssl made no Ed25519 key")
  local prefix = PREFIX[kind]
  self.public = with_checksum(string.char(prefix) .. public)
  self.seed = with_checksum(string.char(SEED + math.floor(prefix / 32), prefix % 32 * 8) .. private)
  return self
end

-- The signature of a text, as base64url.
function M:sign(text)
  local path = run.file("nkey-sign", text)
  local signature = output("openssl pkeyutl -sign -rawin -inkey '%s' -in '%s'", self.path, path)
  assert(#signature == 64, "openssl did not sign")
  return M.base64url(signature)
end

return M
