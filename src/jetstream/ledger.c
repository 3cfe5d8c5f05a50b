/* Ledgers of consumers. See ledger.h. Loop thread. */
#include "jetstream/ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/random.h"
#include "jetstream/acked.h"

struct entry {
    uint64_t seq, time;
    uint64_t due; /* ms: before this, it is not delivered again */
    UT_hash_handle hh;
};

struct ledger {
    struct ledgers *all; /* NULL: forgotten */
    char *key;
    unsigned references;
    uint64_t released_at; /* ms: when it was let go last */
    char name[LEDGER_NAME_SIZE];
    uint64_t position, created;
    struct entry *unacked; /* a table, in the order in which they came */
    acked_set acked;
    uint64_t highest; /* delivered so far */
    bool acks_all;
    uint64_t ack_wait;  /* ms */
    uint64_t untracked; /* the lowest that did not fit into `unacked`; 0: none */
    UT_hash_handle hh;
};

struct ledgers {
    struct ledger *table;
    uint64_t process; /* tells its names from those of other processes */
    uint64_t count;
};

/* ---- all of them ---- */

struct ledgers *ledgers_new(void)
{
    struct ledgers *all = calloc(1, sizeof *all);
    if (all != NULL)
        all->process = random_seed();
    return all;
}

static void clear(struct entry **table)
{
    struct entry *e, *next;
    HASH_ITER(hh, *table, e, next)
    {
        HASH_DEL(*table, e);
        free(e);
    }
}

static void ledger_free(struct ledger *l)
{
    clear(&l->unacked);
    acked_clear(&l->acked);
    free(l->key);
    free(l);
}

void ledger_forget(struct ledger *l)
{
    if (l->all == NULL)
        return;
    HASH_DEL(l->all->table, l);
    l->all = NULL;
    if (l->references == 0)
        ledger_free(l);
}

void ledgers_free(struct ledgers *all)
{
    if (all == NULL)
        return;
    struct ledger *l, *next;
    HASH_ITER(hh, all->table, l, next)
    {
        ledger_forget(l);
    }
    free(all);
}

void ledgers_sweep(struct ledgers *all, uint64_t now_ms)
{
    struct ledger *l, *next;
    HASH_ITER(hh, all->table, l, next)
    {
        if (l->references == 0 && now_ms - l->released_at >= LEDGER_KEPT_MS)
            ledger_forget(l);
    }
}

/* ---- one ---- */

static struct ledger *ledger_new(struct ledgers *all, const char *key)
{
    struct ledger *l = calloc(1, sizeof *l);
    if (l == NULL || (l->key = strdup(key)) == NULL) {
        free(l);
        return NULL;
    }
    l->all = all;
    snprintf(l->name, sizeof l->name, "moondog_%016" PRIx64 "_%" PRIu64, all->process,
             ++all->count);
    HASH_ADD_KEYPTR(hh, all->table, l->key, strlen(l->key), l);
    if (hash_has(l))
        return l;
    ledger_free(l);
    return NULL;
}

struct ledger *ledger_get(struct ledgers *all, const char *key)
{
    struct ledger *l = NULL;
    HASH_FIND_STR(all->table, key, l);
    if (l == NULL && HASH_COUNT(all->table) < LEDGERS_MAX)
        l = ledger_new(all, key);
    return l != NULL ? ledger_retain(l) : NULL;
}

struct ledger *ledger_retain(struct ledger *l)
{
    l->references++;
    return l;
}

void ledger_release(struct ledger *l, uint64_t now_ms)
{
    l->released_at = now_ms;
    if (--l->references == 0 && l->all == NULL)
        ledger_free(l);
}

const char *ledger_name(const struct ledger *l)
{
    return l->name;
}

uint64_t ledger_position(const struct ledger *l)
{
    return l->position;
}

void ledger_set_position(struct ledger *l, uint64_t seq)
{
    l->position = seq;
}

void ledger_set_acks_all(struct ledger *l, bool all)
{
    l->acks_all = all;
}

void ledger_restart(struct ledger *l)
{
    clear(&l->unacked);
    acked_clear(&l->acked);
    l->position = l->highest = l->untracked = 0;
}

bool ledger_same_stream(struct ledger *l, uint64_t created)
{
    bool same = l->created == created || l->created == 0;
    if (!same)
        ledger_restart(l);
    l->created = created;
    return same;
}

/* ---- messages ---- */

static struct entry *find(struct entry *table, uint64_t seq)
{
    struct entry *e = NULL;
    HASH_FIND(hh, table, &seq, sizeof seq, e);
    return e;
}

void ledger_set_ack_wait(struct ledger *l, uint64_t ms)
{
    l->ack_wait = ms;
}

static void track(struct ledger *l, uint64_t seq, uint64_t time, uint64_t due)
{
    struct entry *e = HASH_COUNT(l->unacked) < LEDGER_UNACKED_MAX ? malloc(sizeof *e) : NULL;
    if (e != NULL) {
        *e = (struct entry){.seq = seq, .time = time, .due = due};
        HASH_ADD(hh, l->unacked, seq, sizeof e->seq, e);
        if (hash_has(e))
            return;
        free(e);
    }
    if (l->untracked == 0 || seq < l->untracked)
        l->untracked = seq;
}

ledger_verdict ledger_delivered(struct ledger *l, uint64_t seq, uint64_t time, uint64_t now_ms)
{
    if (acked_has(&l->acked, seq, time))
        return LEDGER_ACKED;
    if (seq > l->highest)
        l->highest = seq;
    struct entry *e = find(l->unacked, seq);
    if (e == NULL) {
        track(l, seq, time, now_ms + l->ack_wait);
        return LEDGER_NEW;
    }
    bool in_hand = e->time == time && now_ms < e->due;
    if (!in_hand)
        e->due = now_ms + l->ack_wait;
    e->time = time;
    return in_hand ? LEDGER_IN_HAND : LEDGER_NEW;
}

void ledger_returned(struct ledger *l, uint64_t seq)
{
    struct entry *e = find(l->unacked, seq);
    if (e != NULL)
        e->due = 0;
}

void ledger_note_floor(struct ledger *l, uint64_t seq)
{
    if (seq > l->highest)
        l->highest = seq;
    if (seq >= l->highest) /* not even one of those that did not fit is left */
        l->untracked = 0;
}

static void remember(struct ledger *l, uint64_t seq, uint64_t time)
{
    struct entry *e = find(l->unacked, seq);
    if (e != NULL) {
        HASH_DEL(l->unacked, e);
        free(e);
    }
    acked_add(&l->acked, seq, time);
}

/* What was acknowledged together with `seq`. */
static void remember_below(struct ledger *l, uint64_t seq)
{
    struct entry *e, *next;
    HASH_ITER(hh, l->unacked, e, next)
    {
        if (e->seq < seq)
            remember(l, e->seq, e->time);
    }
    if (l->untracked < seq)
        l->untracked = 0;
}

void ledger_acked(struct ledger *l, uint64_t seq, uint64_t time)
{
    if (l->acks_all)
        remember_below(l, seq);
    remember(l, seq, time);
}

bool ledger_is_acked(const struct ledger *l, uint64_t seq, uint64_t time)
{
    return acked_has(&l->acked, seq, time);
}

uint64_t ledger_floor(const struct ledger *l)
{
    uint64_t floor = l->highest + 1;
    if (l->untracked != 0 && l->untracked < floor)
        floor = l->untracked;
    for (const struct entry *e = l->unacked; e != NULL; e = e->hh.next)
        if (e->seq < floor)
            floor = e->seq;
    return floor;
}

uint32_t ledger_unacked(const struct ledger *l)
{
    return HASH_COUNT(l->unacked);
}
