/* One generation takes over from another, in one step between two turns of the loop: what both
 * declare stays as it is on the wire and changes hands, what is new is made, what is gone is
 * drained. Connections are the same by name, subscriptions by connection, subject, queue and max.
 *
 * What can fail comes first and can be undone; then nothing can fail any more. What on_start
 * subscribes before it first waits is matched, too. Loop thread. */
#ifndef MD_SCRIPT_TAKEOVER_H
#define MD_SCRIPT_TAKEOVER_H

#include "base/error.h"
#include "script/generation.h"

struct binding;
struct handler;

typedef struct {
    uint32_t kept, added, removed; /* subscriptions */
    uint32_t connections_kept, connections_added, connections_removed;
    uint32_t connections_redialled; /* kept, with options that need a new link */
} takeover_counts;

struct takeover {
    struct generation *old;
    struct takeover_index *indexes; /* of the handlers of the generation before */
    takeover_counts counts;
};

/* Puts `fresh` to work; `old` may be NULL, and retires otherwise: see generation_retire(). -1 and
 * *e: `old` is as before, and `fresh` is to be closed. `counts` may be NULL. */
int takeover(struct generation *fresh, struct generation *old, takeover_counts *counts, error *e);

/* A connection that is declared later, at work: made, or taken over while a takeover is under way.
 */
int takeover_connect(struct binding *b, error *e);

/* While a takeover is under way: the handler of the generation before that `h` matches, and that no
 * other has taken. NULL: none. */
struct handler *takeover_match(const struct binding *b, const struct handler *h);

#endif
