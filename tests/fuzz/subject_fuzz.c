/* Subjects: which are good, and what patterns mean, against a matcher that is written for nothing
 * but to be obvious. One thread. */
#include <stdlib.h>
#include <string.h>

#include "conn/subscription.h"
#include "fuzz.h"

#define TOKENS_MAX 4096

struct tokens {
    const char *at[TOKENS_MAX];
    size_t length[TOKENS_MAX];
    size_t count;
};

static void split(const char *text, struct tokens *out)
{
    out->count = 0;
    for (const char *token = text;;) {
        size_t length = strcspn(token, ".");
        out->at[out->count] = token;
        out->length[out->count++] = length;
        if (token[length] == '\0')
            return;
        token += length + 1;
    }
}

static bool is_token(const struct tokens *t, size_t i, const char *text)
{
    return t->length[i] == strlen(text) && memcmp(t->at[i], text, t->length[i]) == 0;
}

static bool means(const struct tokens *pattern, const struct tokens *subject)
{
    for (size_t i = 0; i < pattern->count; i++) {
        if (i == subject->count)
            return false;
        if (is_token(pattern, i, ">"))
            return true;
        bool same = pattern->length[i] == subject->length[i] &&
                    memcmp(pattern->at[i], subject->at[i], subject->length[i]) == 0;
        if (!same && !is_token(pattern, i, "*"))
            return false;
    }
    return pattern->count == subject->count;
}

static void check_good(const char *text, bool wildcards)
{
    error e = {0};
    struct tokens *t = malloc(sizeof *t);
    bool good = subject_check(text, strlen(text), wildcards, &e) == 0;
    fuzz_check(good == (e.code[0] == '\0'));
    if (good) {
        split(text, t);
        for (size_t i = 0; i < t->count; i++) {
            fuzz_check(t->length[i] > 0);
            fuzz_check(wildcards || (!is_token(t, i, "*") && !is_token(t, i, ">")));
            fuzz_check(!is_token(t, i, ">") || i + 1 == t->count);
        }
        fuzz_check(fuzz_is_printable(text) && strchr(text, ' ') == NULL);
        fuzz_check(strlen(text) <= 1024);
    }
    free(t);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    static struct tokens a, b;
    error e = {0};
    size_t ignored;
    char *pattern = fuzz_bytes(&in, &ignored), *subject = fuzz_rest_text(&in);
    check_good(pattern, true);
    check_good(subject, false);
    if (subject_check(pattern, strlen(pattern), true, &e) == 0 &&
        subject_check(subject, strlen(subject), false, &e) == 0) {
        split(pattern, &a);
        split(subject, &b);
        fuzz_check(subject_matches(pattern, subject, strlen(subject)) == means(&a, &b));
        fuzz_check(subject_matches(subject, subject, strlen(subject)));
    }
    free(pattern);
    free(subject);
}
