/* A connection: what a script holds. It lives as long as it is wanted, whatever happens to the
 * links under it: the watchdog decides when a fresh link is made, and the connection carries that
 * out and puts everything back: subscriptions, pending publishes.
 *
 * It knows nothing of Lua: an observer is told what happens and asked for the policy. Everything
 * here runs on the loop thread, never blocks, and may be called from any callback. */
#ifndef MD_CONN_CONNECTION_H
#define MD_CONN_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/histogram.h"
#include "link/link.h"
#include "watch/watchdog.h"

struct connection;
struct hub; /* what the connections of one runtime share: conn/hub.h */

typedef struct {
    link_options *link; /* counted */
    watchdog_config watchdog;
    size_t pending_bytes;  /* cap of the publishes that wait */
    bool required;         /* readiness waits for it */
    uint32_t lame_duck_ms; /* a server that goes is left within this time; 0: when it sends us
                              away */
} connection_options;

typedef enum {
    CONNECTION_CONNECTED,    /* the first link is up */
    CONNECTION_RECONNECTED,  /* a fresh link (info.fresh), or the library has the old one back */
    CONNECTION_DISCONNECTED, /* the library lost the link and reconnects by itself */
    CONNECTION_CLOSED,       /* there is no link any more; info.reason */
    CONNECTION_ERROR,        /* info.error; the link stays */
    CONNECTION_LAME_DUCK,
    CONNECTION_DISCOVERED,
    CONNECTION_PROBE, /* info.deaf: a probe was missed, or the next one was answered */
    CONNECTION_NOTICE_COUNT
} connection_notice;

typedef struct {
    connection_notice notice;
    bool fresh, deaf;
    uint64_t links; /* made so far, this one included */
    double outage;  /* seconds that the outage lasted, or has lasted so far */
    watchdog_reason reason;
    const char *server;
    const error *error; /* never NULL */
} connection_info;

/* What the reconnect policy decides by. */
typedef struct {
    uint32_t attempt; /* 1, 2, ... of this outage */
    const error *error;
    double outage;      /* seconds so far */
    const char *server; /* the one that was lost, or is asked next */
    bool library;       /* the library asks for its own next attempt; otherwise a fresh link */
} connection_attempt;

typedef struct {
    /* Something happened. The connection may be used, also closed, in here. */
    void (*notify)(void *closure, const connection_info *info);
    /* Seconds before the next attempt; negative or NaN: the built-in policy acts. NULL: it always
     * does. */
    double (*delay)(void *closure, const connection_attempt *attempt);
    /* The token for the next dial, to be freed with free(); left alone: the options' own, as with a
     * NULL function. False: there is none now, and the dial fails. */
    bool (*token)(void *closure, char **token);
    /* Whether messages of this connection are still being handled: a drain waits. NULL: never. */
    bool (*busy)(void *closure);
} connection_observer;

/* `name` is copied; options->link is retained. NULL when out of memory. */
struct connection *connection_new(struct hub *hub, const char *name,
                                  const connection_options *options);
void connection_observe(struct connection *c, const connection_observer *observer, void *closure);

/* Dials for the first time. */
void connection_start(struct connection *c);
/* For good: no link, no dial. Everything that waits fails with "closed". Idempotent. */
void connection_close(struct connection *c);
/* Stops the subscriptions, lets what has arrived be handled, flushes what was published, then
 * closes: when that is done, or after timeout_ms. */
void connection_drain(struct connection *c, uint32_t timeout_ms);
/* Whether subscriptions and publishes are taken: it is neither closed nor drained. */
bool connection_is_open(const struct connection *c);
/* Whether its link is up, as far as is known. */
bool connection_is_up(const struct connection *c);
/* Whether it carries messages: the link is up, its last probe was answered, and the server has all
 * of its subscriptions. */
bool connection_is_usable(const struct connection *c);
/* Takes over what can change without a new link: the watchdog's timings, the pending cap, the
 * built-in policy. `options->link` has to be link_options_equal() to what there is. */
void connection_configure(struct connection *c, const connection_options *options);
/* `heir` is up and does all that `c` did: it goes on with the counters, and sends what `c` cannot
 * send any more. `c` is drained, without an observer. */
void connection_hand_over(struct connection *c, struct connection *heir, uint32_t timeout_ms);
/* A completely fresh link, now. -1: the connection is closed. */
int connection_reconnect(struct connection *c, error *e);
/* After close: false while links are still ending. */
bool connection_is_over(const struct connection *c);
/* After close: whether all links that are left hang inside the library. */
bool connection_only_hangs(const struct connection *c);
/* Only when connection_is_over(), or at the end: links that hang are left to themselves, and their
 * number is returned. */
unsigned connection_free(struct connection *c);

/* Takes the message, to be sent in order. -1 and *e ("pending_full", "too_large",
 * "invalid_subject", "closed", "no_memory") when it is refused. */
int connection_publish(struct connection *c, const record_message *m, error *e);
/* Whether a message can have this header. 0, or -1 and *e ("invalid_header"). */
int header_check(const char *name, size_t name_length, const char *value, size_t value_length,
                 error *e);

/* Done: *e has code "" when everything before was received by the server. */
typedef void (*connection_flushed)(void *closure, const error *e);
/* The callback comes exactly once, never from within this call. Returns a token for
 * connection_flush_cancel(), or 0 and *e when it is refused. */
uint64_t connection_flush(struct connection *c, uint32_t timeout_ms, connection_flushed done,
                          void *closure, error *e);
void connection_flush_cancel(struct connection *c, uint64_t token);

/* The next one of the hub's list. */
struct connection *connection_after(const struct connection *c);
const char *connection_name(const struct connection *c);
struct hub *connection_hub(const struct connection *c);
const connection_options *connection_get_options(const struct connection *c);

/* For the whole life. An outage is the time from when the connection stopped being ready until it
 * was again; the time before the first link is one when a dial failed in it. */
typedef struct {
    uint64_t links[WATCHDOG_REASON_COUNT]; /* made, by why they were needed */
    uint64_t failed_dials[ERROR_CLASS_COUNT];
    uint64_t outages;
    histogram outage_seconds;
    uint64_t probes_missed, slow_bursts;
    histogram probe_seconds;
} connection_counters;

typedef struct {
    watchdog_state state;
    bool ready;   /* up, the server has its subscriptions, its last probe was answered */
    bool deaf;    /* up, and the last probe was not answered */
    bool probing; /* up, and the answer to a probe is awaited */
    uint32_t attempt;
    double outage;          /* seconds; negative: none. A link that is up has none, deaf or not */
    uint64_t unready_since; /* ms of uv_hrtime(); WATCHDOG_NEVER while it is ready */
    uint64_t next_at;       /* ms: until when what is done about it goes on; or NEVER */
    watchdog_reason reason;
    uint64_t links, dials, dials_failed, reconnects, abandoned;
    uint64_t in_messages, in_bytes, out_messages, out_bytes;
    uint64_t pending_bytes, pending_dropped, dropped, publish_lost;
    unsigned subscriptions, hanging;
    unsigned refused;                    /* subscriptions that the server does not take */
    const char *refused_subject;         /* of one of them; "" */
    const connection_counters *counters; /* as long as the connection */
    const char *server;                  /* "" when there is none */
    error error;                         /* the last one */
} connection_state;

void connection_get_state(const struct connection *c, connection_state *out);

#endif
