/* Outboxes as generations declare them. See outbox_declaration.h. Loop thread. */
#include "script/outbox_declaration.h"

#include <stdlib.h>

#include "script/binding.h"

/* The object changes when a reload has dialled anew with other options. */
static struct connection *connection_of(void *closure)
{
    const struct outbox_declaration *d = closure;
    return d->binding->connection;
}

static int prepare(struct outbox_declaration *d, error *e)
{
    d->outbox = outboxes_acquire(d->generation->limits.outboxes, &d->options, e);
    return d->outbox != NULL ? 0 : -1;
}

static void commit(struct outbox_declaration *d)
{
    if (outbox_use(d->outbox, &d->options, connection_of, d) != 0)
        log_emit(d->generation->limits.hub->log, LOG_WARN,
                 "no memory: an outbox goes on with the options that it had",
                 log_str("outbox", d->options.path));
}

int outbox_declarations_prepare(struct generation *g, error *e)
{
    for (struct outbox_declaration *d = g->outboxes; d != NULL; d = d->next)
        if (prepare(d, e) != 0)
            return -1;
    return 0;
}

void outbox_declarations_commit(struct generation *g)
{
    for (struct outbox_declaration *d = g->outboxes; d != NULL; d = d->next)
        commit(d);
}

int outbox_declaration_commit(struct outbox_declaration *d, error *e)
{
    if (prepare(d, e) != 0)
        return -1;
    commit(d);
    return 0;
}

void outbox_declarations_release(struct generation *g)
{
    for (struct outbox_declaration *d = g->outboxes; d != NULL; d = d->next) {
        if (d->outbox != NULL)
            outbox_release(d->outbox, d);
        d->outbox = NULL;
    }
}

void outbox_declarations_free(struct generation *g)
{
    for (struct outbox_declaration *d = g->outboxes, *next; d != NULL; d = next) {
        next = d->next;
        outbox_options_clear(&d->options);
        free(d);
    }
    g->outboxes = NULL;
}
