/* Which version of a script to start with. See versions.h. */
#include "cli/versions.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FIRST_DELAY_MS 250u
#define DELAY_CAP_MS 30000u

static int find(const versions *v, const char *name)
{
    for (unsigned i = 0; i < v->count; i++)
        if (strcmp(v->list[i].name, name) == 0)
            return (int)i;
    return -1;
}

/* Takes one out; its descriptor is the caller's. */
static version take(versions *v, unsigned index)
{
    version one = v->list[index];
    v->count--;
    memmove(&v->list[index], &v->list[index + 1], (v->count - index) * sizeof one);
    return one;
}

static unsigned failures_of(const version *one, uint64_t now)
{
    return now - one->failed_at < VERSION_FORGET_MS ? one->failures : 0;
}

static void note_failure(version *one, uint64_t now)
{
    one->failures = failures_of(one, now) + 1;
    one->failed_at = now;
}

static void put_first(versions *v, const version *one)
{
    memmove(&v->list[1], &v->list[0], v->count * sizeof *one);
    v->list[0] = *one;
    v->count++;
}

void versions_note(versions *v, const char *name, int fd, uint64_t now)
{
    version one = {.fd = -1};
    int known = find(v, name);
    if (known > 0)
        note_failure(&v->list[0], now); /* it was taken back */
    if (known >= 0)
        one = take(v, (unsigned)known);
    else if (v->count == VERSIONS_MAX)
        close(take(v, VERSIONS_MAX - 1).fd);
    if (one.fd >= 0)
        close(one.fd);
    snprintf(one.name, sizeof one.name, "%s", name);
    one.fd = fd;
    one.since = now;
    put_first(v, &one);
}

void versions_begin(versions *v, int index, uint64_t now)
{
    version one = take(v, (unsigned)index);
    one.since = now;
    put_first(v, &one);
}

void versions_worked(versions *v)
{
    if (v->count > 0)
        v->list[0].worked = true;
}

static bool is_better(const version *a, const version *b, uint64_t now)
{
    if (a->worked != b->worked)
        return a->worked;
    return failures_of(a, now) < failures_of(b, now);
}

int versions_choose(versions *v, bool its_fault, uint64_t now)
{
    if (v->count == 0)
        return -1;
    version *current = &v->list[0];
    if (!its_fault)
        return 0;
    note_failure(current, now);
    if (now - current->since >= VERSION_PROVEN_MS && current->failures == 1)
        return 0;
    unsigned best = 0;
    for (unsigned i = 1; i < v->count; i++)
        if (is_better(&v->list[i], &v->list[best], now))
            best = i;
    return (int)best;
}

void versions_clear(versions *v)
{
    for (unsigned i = 0; i < v->count; i++)
        close(v->list[i].fd);
    v->count = 0;
}

uint32_t restart_delay_ms(unsigned restarts)
{
    if (restarts == 0)
        return 0;
    uint32_t delay = FIRST_DELAY_MS;
    while (--restarts > 0 && delay < DELAY_CAP_MS)
        delay *= 2;
    return delay < DELAY_CAP_MS ? delay : DELAY_CAP_MS;
}
