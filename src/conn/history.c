/* The last outages of a runtime's connections. See history.h. Loop thread. */
#include "conn/history.h"

#include <stdio.h>

unsigned history_count(const history *h)
{
    return h->total < HISTORY_MAX ? (unsigned)h->total : HISTORY_MAX;
}

const history_entry *history_at(const history *h, unsigned i)
{
    return &h->entries[(h->total - history_count(h) + i) % HISTORY_MAX];
}

/* The outage of this connection that goes on, or NULL: there is none, or it was so long ago that
 * its entry has given way. */
static history_entry *find(history *h, const void *owner)
{
    for (unsigned i = 0; i < HISTORY_MAX; i++)
        if (h->entries[i].owner == owner && owner != NULL)
            return &h->entries[i];
    return NULL;
}

void history_lost(history *h, const history_loss *loss, int64_t wall_ms, uint64_t now_ms)
{
    history_entry *one = find(h, loss->owner);
    if (one != NULL) {
        if (one->closed || !loss->closed)
            return;
        one->closed = true;
        one->reason = loss->reason;
        one->error = *loss->error;
        return;
    }
    one = &h->entries[h->total++ % HISTORY_MAX];
    *one = (history_entry){.owner = loss->owner,
                           .at = wall_ms,
                           .began = now_ms,
                           .closed = loss->closed,
                           .reason = loss->reason,
                           .error = *loss->error,
                           .outage = -1};
    snprintf(one->connection, sizeof one->connection, "%s", loss->connection);
    snprintf(one->server, sizeof one->server, "%s", loss->server);
}

void history_dial_failed(history *h, const void *owner, const error *e)
{
    history_entry *one = find(h, owner);
    if (one == NULL)
        return;
    one->dials_failed++;
    one->last_error = *e;
}

void history_over(history *h, const void *owner, history_end end, uint64_t now_ms)
{
    history_entry *one = find(h, owner);
    if (one == NULL)
        return;
    one->owner = NULL;
    one->end = end;
    one->outage = now_ms > one->began ? (double)(now_ms - one->began) / 1000.0 : 0;
}

const char *history_end_name(history_end end)
{
    switch (end) {
    case HISTORY_FRESH_LINK:
        return "fresh";
    case HISTORY_LIBRARY:
        return "library";
    case HISTORY_STOPPED:
        return "stopped";
    case HISTORY_GOES_ON:
        break;
    }
    return NULL;
}
