/* One generation takes over from another. See takeover.h. Loop thread. */
#include "script/takeover.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "host/subscriptions.h"
#include "script/api.h"
#include "script/binding.h"
#include "script/outbox_declaration.h"

/* The handlers of a binding of the generation before, by their keys. */
struct takeover_index {
    struct takeover_index *next;
    const struct binding *older;
    struct hsearch_data table;
};

/* ---- finding handlers ---- */

static struct takeover_index *index_new(struct binding *older)
{
    struct takeover_index *index = calloc(1, sizeof *index);
    if (index == NULL)
        return NULL;
    index->older = older;
    size_t count = 0;
    for (const struct handler *h = older->handlers; h != NULL; h = h->next)
        count++;
    if (hcreate_r(count + count / 2 + 8, &index->table) == 0) {
        free(index);
        return NULL;
    }
    for (struct handler *h = older->handlers; h != NULL; h = h->next) {
        ENTRY entry = {.key = h->key, .data = h}, *found = NULL;
        h->same_key = NULL;
        if (hsearch_r(entry, FIND, &found, &index->table) != 0) {
            struct handler *last = found->data;
            while (last->same_key != NULL) /* they are matched in the order of the script */
                last = last->same_key;
            last->same_key = h;
        } else {
            hsearch_r(entry, ENTER, &found, &index->table);
        }
    }
    return index;
}

static bool fits(const struct handler *old, const struct handler *h)
{
    return old->subscription != NULL && !old->taken && old->options.max == h->options.max;
}

struct handler *takeover_match(const struct binding *b, const struct handler *h)
{
    const struct takeover *t = b->generation->takeover;
    const struct takeover_index *index = t != NULL ? t->indexes : NULL;
    while (index != NULL && index->older != b->older)
        index = index->next;
    if (index == NULL)
        return NULL;
    ENTRY wanted = {.key = h->key}, *found = NULL;
    /* The table is not changed by this, but its type says so. */
    if (hsearch_r(wanted, FIND, &found, (struct hsearch_data *)&index->table) == 0)
        return NULL;
    for (struct handler *old = found->data; old != NULL; old = old->same_key)
        if (fits(old, h)) {
            old->taken = true;
            return old;
        }
    return NULL;
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

static void forget_matches(const struct generation *old)
{
    for (const struct binding *b = old->bindings; b != NULL; b = b->next)
        for (struct handler *h = b->handlers; h != NULL; h = h->next)
            h->taken = false;
}

static void undo(struct generation *fresh, const struct generation *old)
{
    for (struct binding *b = fresh->bindings; b != NULL; b = b->next)
        binding_undo(b);
    subscriptions_undo(fresh->limits.messages);
    outbox_declarations_release(fresh);
    if (old != NULL)
        forget_matches(old);
    fresh->committed = false;
}

static void end(struct generation *fresh)
{
    for (struct takeover_index *index = fresh->takeover->indexes, *next; index != NULL;
         index = next) {
        next = index->next;
        hdestroy_r(&index->table);
        free(index);
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
        undo(fresh, old);
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
