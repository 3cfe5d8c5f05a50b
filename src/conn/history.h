/* The last outages of a runtime's connections, for whoever asks afterwards what happened: each time
 * a link was lost or closed for good, why, and how it ended. A ring, so its memory is bounded: the
 * oldest entry gives way. It knows connections only by an address that it never looks behind.
 * Loop thread. */
#ifndef MD_CONN_HISTORY_H
#define MD_CONN_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "link/mailbox.h"
#include "watch/watchdog.h"

#define HISTORY_MAX 32u
#define HISTORY_NAME_SIZE 132 /* a connection's name has 128 bytes at most */

typedef enum {
    HISTORY_GOES_ON,
    HISTORY_FRESH_LINK, /* moondog made a fresh link */
    HISTORY_LIBRARY,    /* the library had the same link back by itself */
    HISTORY_STOPPED,    /* the connection was closed or drained meanwhile */
} history_end;

typedef struct {
    const void *owner; /* the connection while the outage goes on; NULL afterwards */
    int64_t at;        /* ms since 1970 */
    uint64_t began;    /* ms of any monotonic clock */
    char connection[HISTORY_NAME_SIZE], server[LINK_URL_SIZE];
    bool closed;            /* for good; false: the library reconnects */
    watchdog_reason reason; /* why it was closed */
    error error;            /* what was known when it happened */
    uint32_t dials_failed;  /* since then */
    error last_error;       /* of the last of these */
    history_end end;
    double outage; /* seconds; negative while it goes on */
} history_entry;

typedef struct history {
    history_entry entries[HISTORY_MAX]; /* the next one goes to total % HISTORY_MAX */
    uint64_t total;
} history;

/* What happened to a connection. */
typedef struct {
    const void *owner;
    const char *connection, *server;
    bool closed;
    watchdog_reason reason;
    const error *error;
} history_loss;

/* A link was lost (`closed` false), or closed for good. Of an outage that goes on already only what
 * is new is noted: that the library has given up, and why. */
void history_lost(history *h, const history_loss *loss, int64_t wall_ms, uint64_t now_ms);
/* A dial failed. Nothing, when no outage of this connection is known. */
void history_dial_failed(history *h, const void *owner, const error *e);
/* The outage of this connection is over. Nothing, when there is none. */
void history_over(history *h, const void *owner, history_end end, uint64_t now_ms);

/* The entries that there are, and number i of them, the oldest first. */
unsigned history_count(const history *h);
const history_entry *history_at(const history *h, unsigned i);

/* "fresh", "library", "stopped"; NULL while it goes on. */
const char *history_end_name(history_end end);

#endif
