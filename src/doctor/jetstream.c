/* The limits of an account with JetStream, as the answer to $JS.API.INFO tells them. See account.h.
 * Pure. Any thread. */
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "doctor/account.h"

#define NEAR_PERCENT 80u
#define PERCENT_MAX 1000u
#define ERROR_NOT_ENABLED 10076         /* at the server */
#define ERROR_NOT_ENABLED_ACCOUNT 10039 /* for the account */

static const struct {
    const char *used, *limit, *name;
    bool bytes;
} limits[] = {
    {"memory", "max_memory", "memory", true},
    {"storage", "max_storage", "storage", true},
    {"streams", "max_streams", "streams", false},
    {"consumers", "max_consumers", "consumers", false},
};

#define LIMITS (sizeof limits / sizeof limits[0])

static const char *amount(double n, bool bytes, char out[32])
{
    if (!bytes || n < 1024)
        snprintf(out, 32, "%.0f%s", n, bytes ? " B" : "");
    else if (n < 1048576)
        snprintf(out, 32, "%.1f KiB", n / 1024);
    else if (n < 1073741824)
        snprintf(out, 32, "%.1f MiB", n / 1048576);
    else
        snprintf(out, 32, "%.1f GiB", n / 1073741824);
    return out;
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* What is near its limit becomes a warning; the rest is told in `all`. */
static void judge_tier(findings *f, const json_t *tier, const char *name, char *all, size_t size)
{
    const json_t *max = json_object_get(tier, "limits");
    char used_text[32], limit_text[32];
    for (size_t i = 0; i < LIMITS; i++) {
        double used = number(tier, limits[i].used);
        double limit = number(max, limits[i].limit);
        bool limited = limit > 0; /* -1 is none, and 0 means the same where it is not set */
        unsigned percent = limited ? (unsigned)fmin(fmax(used / limit * 100, 0), PERCENT_MAX) : 0;
        size_t length = strlen(all);
        amount(used, limits[i].bytes, used_text);
        amount(limit, limits[i].bytes, limit_text);
        if (percent < NEAR_PERCENT) {
            snprintf(all + length, size - length, "%s%s %s%s%s", length > 0 ? ", " : "", used_text,
                     limits[i].name, limited ? " of " : "", limited ? limit_text : "");
            continue;
        }
        finding(f, percent >= 100 ? FINDING_PROBLEM : FINDING_WARNING, "jetstream",
                "JetStream%s%s: %s %s are used, of %s (%u %%)", name[0] != '\0' ? " in tier " : "",
                name, used_text, limits[i].name, limit_text, percent);
        finding_remedy(f, "%s",
                       limits[i].bytes
                           ? "raise the account's limit, or let streams keep less (max_age, "
                             "max_bytes): at the limit the server refuses what is published"
                           : "raise the account's limit, or delete those that nobody uses: at the "
                             "limit the server makes no new ones");
    }
}

static void judge_refusal(findings *f, const json_t *refusal)
{
    double code = number(refusal, "err_code");
    const char *text = json_string_value(json_object_get(refusal, "description"));
    if (code == ERROR_NOT_ENABLED || code == ERROR_NOT_ENABLED_ACCOUNT) {
        finding(f, FINDING_OK, "jetstream",
                "JetStream is not enabled %s: messages are not kept; all else works",
                code == ERROR_NOT_ENABLED ? "at this server" : "for this account");
        return;
    }
    finding(f, FINDING_WARNING, "jetstream", "the server does not tell about JetStream: %s",
            text != NULL ? text : "its answer has neither an account nor an error");
    finding_remedy(f, "look at the log of the server; nats server report jetstream shows the state "
                      "of the cluster");
}

static void judge(findings *f, const json_t *answer)
{
    char all[512] = "";
    const char *name;
    json_t *tier;
    const json_t *refusal = json_object_get(answer, "error");
    json_t *tiers = json_object_get(answer, "tiers");
    if (refusal != NULL || !json_is_number(json_object_get(answer, "streams"))) {
        judge_refusal(f, refusal);
        return;
    }
    unsigned before = f->problems + f->warnings;
    if (json_object_size(tiers) > 0) {
        json_object_foreach(tiers, name, tier) judge_tier(f, tier, name, all, sizeof all);
    } else {
        judge_tier(f, answer, "", all, sizeof all);
    }
    if (all[0] != '\0')
        finding(f, FINDING_OK, "jetstream", "JetStream%s: %s",
                f->problems + f->warnings > before ? ", what else there is" : "", all);
}

/* Whole numbers are read as reals: jansson refuses those beyond 2^63, and nats-server 2.10 writes
 * 2^64 - 1 for a reservation of -1. */
void jetstream_judge(findings *f, const char *answer, size_t length)
{
    json_t *json = json_loadb(answer, length, JSON_DECODE_INT_AS_REAL, NULL);
    judge(f, json);
    json_decref(json);
}
