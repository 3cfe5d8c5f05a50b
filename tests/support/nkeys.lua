-- NATS keys (Ed25519 behind NATS's own text form), made and used with OpenSSL's library: a service that
-- signs for each login must not wait for a program.
local bit = require "bit"
local ffi = require "ffi"

ffi.cdef [[
void *EVP_PKEY_new_raw_private_key(int type, void *engine, const char *key, size_t length);
int EVP_PKEY_get_raw_public_key(const void *key, char *out, size_t *length);
void EVP_PKEY_free(void *key);
void *EVP_MD_CTX_new(void);
void EVP_MD_CTX_free(void *context);
int EVP_DigestSignInit(void *context, void *, void *, void *, void *key);
int EVP_DigestSign(void *context, char *signature, size_t *length, const char *text, size_t size);
int RAND_bytes(char *out, int count);
]]
local crypto = ffi.load "crypto"
local ED25519 = 1087 -- NID_ED25519

local M = {}
M.__index = M

local PREFIX = { operator = 14 * 8, account = 0, user = 20 * 8 }
local SEED = 18 * 8
local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

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

-- Calls a function of OpenSSL that fills a buffer of so many bytes.
local function filled(size, call)
  local buffer, length = ffi.new("char[?]", size), ffi.new("size_t[1]", size)
  assert(call(buffer, length) == 1 and length[0] == size, "OpenSSL failed")
  return ffi.string(buffer, size)
end

-- kind: "operator", "account", "user". The key has `public` and `seed` as texts.
function M.new(kind)
  local private = filled(32, function(out) return crypto.RAND_bytes(out, 32) end)
  local key = crypto.EVP_PKEY_new_raw_private_key(ED25519, nil, private, #private)
  assert(key ~= nil, "OpenSSL made no Ed25519 key")
  local self = setmetatable({ key = ffi.gc(key, crypto.EVP_PKEY_free) }, M)
  local public = filled(32, function(out, length) return crypto.EVP_PKEY_get_raw_public_key(key, out, length) end)
  local prefix = PREFIX[kind]
  self.public = with_checksum(string.char(prefix) .. public)
  self.seed = with_checksum(string.char(SEED + math.floor(prefix / 32), prefix % 32 * 8) .. private)
  return self
end

-- The signature of a text, as base64url.
function M:sign(text)
  local context = ffi.gc(crypto.EVP_MD_CTX_new(), crypto.EVP_MD_CTX_free)
  assert(crypto.EVP_DigestSignInit(context, nil, nil, nil, self.key) == 1, "OpenSSL does not sign")
  return M.base64url(filled(64, function(out, length)
    return crypto.EVP_DigestSign(context, out, length, text, #text)
  end))
end

return M
