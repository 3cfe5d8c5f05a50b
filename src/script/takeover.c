/* One generation takes over from another. See takeover.h. Loop thread. */
#include "script/takeover.h"

#include <stdlib.h>
#include <string.h>

#include "host/subscriptions.h"
#include "script/api.h"
#include "script/binding.h"
#include "script/outbox_declaration.h"

/* A handler of the generation before that nobody has taken. */
struct place {
    struct handler *handler;
    struct place *next; /* in its bucket */
    uint32_t hash;
};

/* The handlers of a binding of the generation before, by what they ask for. */
struct takeover_index {
    struct takeover_index *next;
    const struct binding *older;
    struct place **buckets; /* of each, in the order in which the handlers are looked for */
    struct place *places;
    size_t mask; /* of hashes: the buckets are a power of two */
};

/* ---- finding handlers ---- */

static void index_free(struct takeover_index *index)
{
    free(index->buckets);
    free(index->places);
    free(index);
}

/* Two that ask for the same are matched in the order of the script: the last of a bucket comes into
 * it first, and those of the list are the last of the script first. */
static struct takeover_index *index_new(struct binding *older)
{
    struct takeover_index *index = calloc(1, sizeof *index);
    if (index == NULL)
        return NULL;
    size_t count = 0, buckets = 8;
    for (const struct handler *h = older->handlers; h != NULL; h = h->next)
        count++;
    while (buckets < count)
        buckets *= 2;
    index->older = older;
    index->mask = buckets - 1;
    index->buckets = calloc(buckets, sizeof *index->buckets);
    index->places = calloc(count + 1, sizeof *index->places);
    if (index->buckets == NULL || index->places == NULL) {
        index_free(index);
        return NULL;
    }
    struct place *place = index->places;
    for (struct handler *h = older->handlers; h != NULL; h = h->next)
        *place++ = (struct place){.handler = h, .hash = interest_hash(h->interest)};
    while (place-- > index->places) {
        struct place **bucket = &index->buckets[place->hash & index->mask];
        place->next = *bucket;
        *bucket = place;
    }
    return index;
}

static bool fits(const struct place *p, const struct handler *h, uint32_t hash)
{
    const struct handler *old = p->handler;
    return p->hash == hash && old->subscription != NULL && old->interest->max == h->interest->max &&
           interest_is_alike(old->interest, h->interest);
}

struct handler *takeover_match(const struct binding *b, const struct handler *h)
{
    const struct takeover *t = b->generation->takeover;
    const struct takeover_index *index = t != NULL ? t->indexes : NULL;
    while (index != NULL && index->older != b->older)
        index = index->next;
    if (index == NULL)
        return NULL;
    uint32_t hash = interest_hash(h->interest);
    struct place **at = &index->buckets[hash & index->mask];
    while (*at != NULL && !fits(*at, h, hash))
        at = &(*at)->next;
    if (*at == NULL)
        return NULL;
    struct handler *old = (*at)->handler;
    *at = (*at)->next;
    return old;
}

/* ---- the steps ---- */

/* The binding of the generation before that declares the same connection. */
static struct binding *find_older(const struct generation *old, const char *name)
{
    if (old == NULL)
        return NULL;
    for (struct binding *b = old->bindings; b != NULL; b = b->next)
        if (strcmp(b->name, name) == 0 && b->connection != NULL &&
            connection_is_open(b->connection))
            return b;
    return NULL;
}

static int prepare(struct takeover *t, struct binding *b, error *e)
{
    struct binding *older = find_older(t->old, b->name);
    if (older != NULL) {
        struct takeover_index *index = index_new(older);
        if (index == NULL)
            return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a reload");
        index->next = t->indexes;
        t->indexes = index;
    }
    return binding_prepare(b, older, e);
}

static int prepare_all(struct generation *fresh, error *e)
{
    for (struct binding *b = fresh->bindings; b != NULL; b = b->next)
        if (prepare(fresh->takeover, b, e) != 0)
            return -1;
    if (subscriptions_prepare(fresh->limits.messages, fresh, e) != 0)
        return -1;
    return outbox_declarations_prepare(fresh, e);
}

int takeover_connect(struct binding *b, error *e)
{
    struct takeover *t = b->generation->takeover;
    struct messages *host = b->generation->limits.messages;
    if ((t != NULL ? prepare(t, b, e) : binding_prepare(b, NULL, e)) != 0 ||
        subscriptions_prepare(host, b->generation, e) != 0) {
        binding_undo(b);
        subscriptions_undo(host);
        return -1;
    }
    binding_commit(b);
    return 0;
}

static void undo(struct generation *fresh)
{
    for (struct binding *b = fresh->bindings; b != NULL; b = b->next)
        binding_undo(b);
    subscriptions_undo(fresh->limits.messages);
    outbox_declarations_release(fresh);
    fresh->committed = false;
}

static void end(struct generation *fresh)
{
    for (struct takeover_index *index = fresh->takeover->indexes, *next; index != NULL;
         index = next) {
        next = index->next;
        index_free(index);
    }
    fresh->takeover = NULL;
}

/* What `old` has that nobody took. */
static void drain_rest(struct generation *old, takeover_counts *counts)
{
    for (struct binding *b = old->bindings; b != NULL; b = b->next) {
        for (struct handler *h = b->handlers, *next; h != NULL; h = next) {
            next = h->next;
            counts->removed += h->subscription != NULL;
            handler_drain(h);
        }
        if (b->newer == NULL && b->connection != NULL) {
            counts->connections_removed++;
            binding_drain(b, old->limits.retire_ms);
        }
        if (b->newer != NULL)
            b->successor = NULL; /* the newer one has it, or has closed it */
    }
}

static void count_connections(const struct generation *fresh, takeover_counts *counts)
{
    for (const struct binding *b = fresh->bindings; b != NULL; b = b->next) {
        counts->connections_added += b->older == NULL;
        counts->connections_kept += b->older != NULL;
        counts->connections_redialled += b->successor != NULL;
    }
}

int takeover(struct generation *fresh, struct generation *old, takeover_counts *counts, error *e)
{
    struct takeover t = {.old = old};
    fresh->takeover = &t;
    fresh->committed = true;
    int failed = prepare_all(fresh, e);
    if (failed != 0) {
        undo(fresh);
    } else {
        for (struct binding *b = fresh->bindings; b != NULL; b = b->next)
            binding_commit(b);
        outbox_declarations_commit(fresh);
        subscriptions_put_to_work(fresh->limits.messages, fresh);
        generation_start(fresh);
        subscriptions_drain_rest(fresh->limits.messages);
        count_connections(fresh, &t.counts);
        if (old != NULL) {
            drain_rest(old, &t.counts);
            generation_retire(old);
        }
    }
    end(fresh);
    if (counts != NULL)
        *counts = t.counts;
    return failed;
}
