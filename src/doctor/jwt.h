/* What a NATS user JWT says: decoded, not verified (the server does that). Pure. Any thread. */
#ifndef MD_DOCTOR_JWT_H
#define MD_DOCTOR_JWT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define JWT_TEXT_SIZE 128

typedef struct {
    /* Seconds since 1970; 0: it is not said. */
    int64_t issued, not_before, expires;
    char subject[JWT_TEXT_SIZE]; /* the public key of the user */
    char name[JWT_TEXT_SIZE], type[JWT_TEXT_SIZE];
    bool bearer; /* works without the seed */
} jwt_claims;

/* -1 and *e, which never shows the token. */
int jwt_parse(const char *token, size_t length, jwt_claims *out, error *e);

/* The JWT in the text of a credentials file: the first line that begins like one. NULL: there is
 * none. */
const char *jwt_find(const char *text, size_t *length);

#endif
