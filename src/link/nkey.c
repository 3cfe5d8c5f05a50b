/* The public half of an NKEY seed: base32, CRC-16, Ed25519 (by OpenSSL). Any thread. */
#include "link/nkey.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PREFIX_SEED 0x90u /* 18 << 3: 'S' */
#define PREFIX_USER 0xa0u /* 20 << 3: 'U' */
#define SEED_CHARS 58
#define SEED_BYTES 36   /* two bytes of prefix, 32 of key, two of CRC */
#define PUBLIC_BYTES 35 /* one byte of prefix, 32 of key, two of CRC */
#define KEY_BYTES 32

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

static uint16_t crc16(const unsigned char *bytes, size_t length)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < length; i++) {
        crc = (uint16_t)(crc ^ (bytes[i] << 8));
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(((unsigned)crc << 1) ^ ((crc & 0x8000u) != 0 ? 0x1021u : 0u));
    }
    return crc;
}

/* Bytes written, or -1 when a character is not of the alphabet. */
static int base32_decode(const char *text, size_t length, unsigned char *out, size_t size)
{
    uint32_t bits = 0;
    unsigned held = 0;
    size_t written = 0;
    for (size_t i = 0; i < length; i++) {
        const char *at = text[i] == '\0' ? NULL : strchr(alphabet, text[i]);
        if (at == NULL)
            return -1;
        bits = (bits << 5) | (uint32_t)(at - alphabet);
        held += 5;
        if (held < 8)
            continue;
        held -= 8;
        if (written == size)
            return -1;
        out[written++] = (unsigned char)(bits >> held);
        bits &= (1u << held) - 1u;
    }
    return (int)written;
}

static void base32_encode(const unsigned char *bytes, size_t length, char *out)
{
    uint32_t bits = 0;
    unsigned held = 0;
    for (size_t i = 0; i < length; i++) {
        bits = (bits << 8) | bytes[i];
        for (held += 8; held >= 5; held -= 5)
            *out++ = alphabet[(bits >> (held - 5)) & 31u];
        bits &= (1u << held) - 1u;
    }
    if (held > 0)
        *out++ = alphabet[(bits << (5 - held)) & 31u];
    *out = '\0';
}

static int derive(const unsigned char seed[KEY_BYTES], unsigned char public_key[KEY_BYTES])
{
    size_t length = KEY_BYTES;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, KEY_BYTES);
    int ok = key != NULL && EVP_PKEY_get_raw_public_key(key, public_key, &length) == 1;
    EVP_PKEY_free(key);
    return ok ? 0 : -1;
}

int nkey_public_from_seed(const char *seed, char out[NKEY_PUBLIC_SIZE], error *e)
{
    unsigned char raw[SEED_BYTES] = {0};
    unsigned char public_key[PUBLIC_BYTES] = {0};
    int result = -1;
    if (strlen(seed) != SEED_CHARS ||
        base32_decode(seed, SEED_CHARS, raw, sizeof raw) != SEED_BYTES) {
        error_set(e, "bad_seed", ERROR_CLASS_AUTH,
                  "not an NKEY seed: %d characters, SU... expected", SEED_CHARS);
    } else if ((raw[0] & 0xf8u) != PREFIX_SEED ||
               crc16(raw, SEED_BYTES - 2) !=
                   (uint16_t)(raw[SEED_BYTES - 2] | (raw[SEED_BYTES - 1] << 8))) {
        error_set(e, "bad_seed", ERROR_CLASS_AUTH, "not an NKEY seed: its checksum is wrong");
    } else if ((public_key[0] = (unsigned char)(((raw[0] & 7u) << 5) | ((raw[1] & 0xf8u) >> 3))) !=
               PREFIX_USER) {
        error_set(e, "bad_seed", ERROR_CLASS_AUTH, "not the seed of a user: one begins with SU");
    } else if (derive(raw + 2, public_key + 1) != 0) {
        error_set(e, "bad_seed", ERROR_CLASS_AUTH, "OpenSSL does not take the NKEY seed");
    } else {
        uint16_t crc = crc16(public_key, PUBLIC_BYTES - 2);
        public_key[PUBLIC_BYTES - 2] = (unsigned char)(crc & 0xffu);
        public_key[PUBLIC_BYTES - 1] = (unsigned char)(crc >> 8);
        base32_encode(public_key, PUBLIC_BYTES, out);
        result = 0;
    }
    OPENSSL_cleanse(raw, sizeof raw);
    return result;
}

int nkey_public_from_file(const char *path, char out[NKEY_PUBLIC_SIZE], error *e)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return error_set(e, "unreadable", ERROR_CLASS_AUTH, "cannot read the seed file %s: %s",
                         path, strerror(errno));
    char line[512];
    int result = -2;
    while (result == -2 && fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, " \t\r\n")] = '\0';
        if (line[0] == 'S' && strlen(line) == SEED_CHARS)
            result = nkey_public_from_seed(line, out, e);
    }
    fclose(f);
    OPENSSL_cleanse(line, sizeof line);
    if (result == -2)
        return error_set(e, "bad_seed", ERROR_CLASS_AUTH,
                         "there is no NKEY seed in %s: a line SU... is expected", path);
    return result;
}
