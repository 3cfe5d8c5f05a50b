/* What a NATS user JWT says. See jwt.h. Any thread. */
#include "doctor/jwt.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAYLOAD_MAX (256u * 1024)

/* Value of a character of base64url, or -1. */
static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* Bytes written to `out`, which has room for length * 3 / 4; -1: it is not base64url. */
static int64_t decode(const char *text, size_t length, char *out)
{
    uint32_t bits = 0;
    unsigned held = 0;
    int64_t written = 0;
    for (size_t i = 0; i < length; i++) {
        int value = digit(text[i]);
        if (value < 0)
            return -1;
        bits = (bits << 6) | (uint32_t)value;
        held += 6;
        if (held < 8)
            continue;
        held -= 8;
        out[written++] = (char)(bits >> held);
        bits &= (1u << held) - 1u;
    }
    return written;
}

/* The middle one of the three parts, as JSON; NULL and *e. */
static json_t *payload(const char *token, size_t length, error *e)
{
    const char *end = token + length;
    const char *first = memchr(token, '.', length);
    const char *second = first != NULL ? memchr(first + 1, '.', (size_t)(end - first) - 1) : NULL;
    if (second == NULL || length > PAYLOAD_MAX) {
        error_set(e, "bad_jwt", ERROR_CLASS_AUTH,
                  "it does not have the three parts of a JWT, with dots between them");
        return NULL;
    }
    size_t encoded = (size_t)(second - first) - 1;
    char *bytes = malloc(encoded + 1);
    int64_t count = bytes != NULL ? decode(first + 1, encoded, bytes) : -1;
    json_t *claims = count >= 0 ? json_loadb(bytes, (size_t)count, 0, NULL) : NULL;
    free(bytes);
    if (json_is_object(claims))
        return claims;
    json_decref(claims);
    error_set(e, "bad_jwt", ERROR_CLASS_AUTH, "its middle part is not JSON in base64url");
    return NULL;
}

/* Seconds since 1970; 0 when it is not there, or no time. */
static int64_t moment(const json_t *claims, const char *key)
{
    const json_t *value = json_object_get(claims, key);
    double seconds = json_number_value(value);
    return seconds > 0 && seconds < 1e12 ? (int64_t)seconds : 0;
}

static void copy(char out[JWT_TEXT_SIZE], const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    snprintf(out, JWT_TEXT_SIZE, "%s", text != NULL ? text : "");
}

int jwt_parse(const char *token, size_t length, jwt_claims *out, error *e)
{
    *out = (jwt_claims){0};
    json_t *claims = payload(token, length, e);
    if (claims == NULL)
        return -1;
    const json_t *nats = json_object_get(claims, "nats");
    out->issued = moment(claims, "iat");
    out->not_before = moment(claims, "nbf");
    out->expires = moment(claims, "exp");
    out->bearer = json_is_true(json_object_get(nats, "bearer_token"));
    copy(out->subject, claims, "sub");
    copy(out->name, claims, "name");
    copy(out->type, nats, "type");
    json_decref(claims);
    return 0;
}

const char *jwt_find(const char *text, size_t *length)
{
    static const char begin[] = "eyJ"; /* {" in base64 */
    for (const char *line = text; *line != '\0';) {
        line += strspn(line, " \t\r\n");
        size_t size = strcspn(line, " \t\r\n");
        if (strncmp(line, begin, sizeof begin - 1) == 0) {
            *length = size;
            return line;
        }
        line += strcspn(line, "\n");
    }
    return NULL;
}
