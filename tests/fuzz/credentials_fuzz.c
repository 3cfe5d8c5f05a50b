/* Credentials: seeds, and the files that have JWTs and seeds. What is wrong with them is said
 * without showing them. One thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "doctor/jwt.h"
#include "fuzz.h"
#include "link/nkey.h"

static void check_key(int failed, const char *key, const error *e)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    if (failed != 0) {
        fuzz_check(e->code[0] != '\0' && e->cls == ERROR_CLASS_AUTH);
        return;
    }
    fuzz_check(key[0] == 'U' && strlen(key) == NKEY_PUBLIC_SIZE - 1);
    fuzz_check(strspn(key, alphabet) == NKEY_PUBLIC_SIZE - 1);
}

static void check_seed(const char *seed)
{
    char key[NKEY_PUBLIC_SIZE] = "";
    error e = {0};
    check_key(nkey_public_from_seed(seed, key, &e), key, &e);
    fuzz_check(strlen(seed) < 40 || strstr(e.message, seed) == NULL);
}

static void check_file(const char *text, size_t length)
{
    char key[NKEY_PUBLIC_SIZE] = "", path[64];
    error e = {0};
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    fuzz_check(fd >= 0 && write(fd, text, length) == (ssize_t)length);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    check_key(nkey_public_from_file(path, key, &e), key, &e);
    close(fd);
}

static void check_jwt(const char *token, size_t length)
{
    jwt_claims c;
    error e = {0};
    if (jwt_parse(token, length, &c, &e) != 0) {
        fuzz_check(strcmp(e.code, "bad_jwt") == 0);
        return;
    }
    fuzz_check(c.issued >= 0 && c.not_before >= 0 && c.expires >= 0);
    fuzz_check(memchr(c.name, '\0', sizeof c.name) && memchr(c.subject, '\0', sizeof c.subject));
}

/* All of the text as one's payload, too: base64 of what is useful is hard to come by. */
static void check_payload(const char *text, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char *token = malloc(length * 2 + 8);
    size_t at = 0, held = 0;
    uint32_t bits = 0;
    token[at++] = 'e';
    token[at++] = '.';
    for (size_t i = 0; i < length; i++) {
        bits = (bits << 8) | (unsigned char)text[i];
        for (held += 8; held >= 6; held -= 6)
            token[at++] = digits[(bits >> (held - 6)) & 63u];
    }
    if (held > 0)
        token[at++] = digits[(bits << (6 - held)) & 63u];
    token[at++] = '.';
    check_jwt(token, at);
    free(token);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    size_t length, token_length = 0;
    char *text = fuzz_rest(&in, &length);
    check_seed(text);
    check_file(text, length);
    check_payload(text, length);
    const char *token = jwt_find(text, &token_length);
    if (token != NULL) {
        fuzz_check(token >= text && token + token_length <= text + length);
        check_jwt(token, token_length);
    }
    free(text);
}
