/* What servers and the library say is wrong (-ERR): it becomes an error without control bytes,
 * whose text is good, and that never shows what stands between "://" and "@". One thread. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "fuzz.h"

#define SECRET "hunter2secret"

static void check(int status, const char *text)
{
    error e;
    memset(&e, 0x55, sizeof e);
    error_from_nats(&e, status, text);
    fuzz_check(memchr(e.code, '\0', sizeof e.code) != NULL);
    fuzz_check(memchr(e.message, '\0', sizeof e.message) != NULL);
    fuzz_check(strcmp(error_class_name(e.cls), "unknown") != 0);
    fuzz_check((e.code[0] != '\0') == (e.message[0] != '\0'));
    fuzz_check_text(fuzz_is_printable(e.message), e.message);
    if (fuzz_is_utf8(text, strlen(text)))
        fuzz_check_text(fuzz_is_utf8(e.message, strlen(e.message)), e.message);
}

/* A URL with a password anywhere in it. */
static void check_secret(int status, const char *text, size_t at)
{
    static const char url[] = "nats://user:" SECRET "@host:4222";
    size_t length = strlen(text);
    char *whole = malloc(length + sizeof url);
    error e = {0};
    if (strstr(text, "hunter") != NULL) {
        free(whole);
        return;
    }
    memcpy(whole, text, at);
    memcpy(whole + at, url, sizeof url - 1);
    memcpy(whole + at + sizeof url - 1, text + at, length - at + 1);
    error_from_nats(&e, status, whole);
    fuzz_check_text(strstr(e.message, "hunter") == NULL, e.message);
    free(whole);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    int status = fuzz_byte(&in);
    size_t place = fuzz_byte(&in) * 4u;
    char *text = fuzz_rest_text(&in);
    check(status, text);
    check_secret(status, text, place < strlen(text) ? place : strlen(text));
    free(text);
}
