/* The inside of a connection, shared by connection.c (its life), drive.c (the watchdog at work),
 * links.c, leave.c, readiness.c, traffic.c (what is sent), receive.c (what arrives), request.c,
 * subscription.c and notices.c (what is told). Loop thread. */
#ifndef MD_CONN_CONNECTION_PRIVATE_H
#define MD_CONN_CONNECTION_PRIVATE_H

#include "conn/connection.h"
#include "conn/hub.h"
#include "conn/request.h"
#include "conn/subscription.h"

/* A link that has not been joined yet: the current one, or one that is ending or hanging. */
struct link_slot {
    struct link_slot *next;
    struct link *link;
    mailbox_chunk *messages; /* taken out of the mailbox, not handled yet */
    uint64_t taken;          /* handled, of all that came through the mailbox */
    bool hanging, gone;
    uint64_t
        leave_at; /* ms; gone: the last words of its subscriptions are not awaited for longer */
};

#define LAST_WORDS_MS 5000u

struct flush_waiter {
    struct flush_waiter *next;
    uint64_t token;
    connection_flushed done;
    void *closure;
};

/* What the server says to it. */
typedef enum {
    SUBSCRIPTION_TAKEN,
    SUBSCRIPTION_REFUSED,
    SUBSCRIPTION_ASKED_AGAIN,
    SUBSCRIPTION_NOT_REFUSED_AGAIN /* up to the answer to a probe, which may be older */
} subscription_refusal;

struct subscription {
    /* What each message needs comes first: with very many of them it is in no cache. */
    const subscription_observer *observer;
    void *closure;
    uint64_t handled;
    unsigned link_subs; /* that name this as their owner and had no last word yet */
    bool active, draining, over;
    subscription_refusal refused : 7;
    unsigned limited : 1; /* it has a max */
    struct connection *connection;
    struct subscription *next, **back; /* in connection->subscriptions */
    struct interest *interest;         /* counted */
    struct link_sub *wire;             /* on the current link; NULL: has to be sent */
    uint64_t dropped_before;           /* by links that are gone */
    uint64_t bursts;                   /* of drops that were reported */
};

#define GOOD_SUBJECT_MAX 128

enum { READY_TOKEN = 1, DRAIN_TOKEN = 2, FIRST_FLUSH_TOKEN = 3 };

/* The one subscription that all answers to requests come to: conn/request.c. */
struct request_slot {
    uint32_t serial;
    uint32_t next_free; /* index + 1; 0: none. While free */
    request_done done;  /* NULL: free */
    void *closure;
};

struct inbox {
    struct subscription *subscription;
    char prefix[LINK_INBOX_PREFIX_MAX + 24]; /* "_INBOX.xyz." */
    size_t prefix_length;
    struct request_slot *slots;
    uint32_t count, capacity, free;
    uint32_t waiting;
};

struct connection {
    struct hub *hub;
    struct connection *next, **back;
    char *name;
    connection_options options;
    const connection_observer *observer;
    void *closure;

    watchdog dog;
    uint32_t attempt_base; /* attempts of the watchdog that are not of this outage */
    uv_timer_t timer;
    bool want_start, want_stop, want_replace; /* by the script; done at the next turn */
    bool closing;                             /* the script closed it: nothing is taken any more */
    /* What came up while the watchdog's actions were being carried out. */
    bool stepping, has_plan, has_dial_failed, has_gone;
    bool failed_at_once; /* the last dial did not even get a worker */
    uint32_t plan_ms;
    uint64_t dial_failed_link, gone_link;

    struct link *link; /* the current one, or NULL */
    bool up;           /* records may be handed to it */
    bool deaf;         /* it missed a probe */
    struct link_slot *slots;
    unsigned next_server;
    struct reach *reach; /* looks for a server to leave a lame duck for; NULL: none is looked for */
    uint64_t reach_link; /* at which it was told */
    unsigned reach_server, reach_left; /* which is looked at; how many are, then it waits */
    char server[LINK_URL_SIZE];
    int64_t max_payload;
    error error;       /* the last one */
    uint64_t error_at; /* ms; 0: none since the link is up */
    double previous_delay;
    uint64_t down_since; /* ms; of the outage that the last notice ended */

    record_queue queue; /* what the link has not got yet */
    /* The last one that was published to, if it is short: it need not be checked again. */
    char good_subject[GOOD_SUBJECT_MAX];
    size_t good_subject_length;
    struct subscription *subscriptions;
    unsigned subscription_count;    /* active */
    struct subscription *sync_next; /* the next one to look at while all are sent again */
    bool syncing;
    struct inbox inbox;
    struct flush_waiter *flushes;
    uint64_t flush_token;

    struct connection *heir; /* sends what this one cannot send any more; NULL: it is lost */
    uint64_t handed_messages, handed_bytes; /* of out_messages: the heir counts them */
    bool draining, drain_flushed;
    uint64_t drain_deadline;

    /* Counters for the whole life. */
    uint64_t links, dials, dials_failed, reconnects, abandoned;
    uint64_t in_messages, in_bytes, out_messages, out_bytes; /* out: of links that are gone */
    uint64_t pending_dropped, dropped, publish_lost;
    connection_counters counters;
    bool was_ready, in_outage;
    uint64_t unready_since;            /* ms; WATCHDOG_NEVER while it is ready */
    unsigned refused_count;            /* subscriptions */
    bool untold_failure;               /* of a dial: it is logged with the plan */
    uint64_t quiet_dials, quiet_since; /* failures that were not logged one by one */
};

/* connection.c */
/* The one that counts what happens to `c`: its heir, when it was handed over. */
struct connection *connection_counted(struct connection *c);
uint64_t connection_now(const struct connection *c); /* ms */
void connection_set_error(struct connection *c, const error *e);
double connection_outage(const struct connection *c);          /* seconds, negative: none */
unsigned connection_subscriptions(const struct connection *c); /* that the script made */
void connection_check_drain(struct connection *c);
void connection_give_up_queue(struct connection *c);
void connection_carry_out_wants(struct connection *c);

/* drive.c */
void connection_feed(struct connection *c, const watchdog_event *event);
void connection_feed_link(struct connection *c, watchdog_event_type type, uint64_t link);
uint32_t connection_attempts(struct connection *c);
double connection_ask_delay(struct connection *c, uint32_t attempt, bool library);
void connection_set_timer(struct connection *c);

/* readiness.c */
/* Something may have changed. */
void connection_note_ready(struct connection *c);
void connection_note_dial_failed(struct connection *c);
/* `heir` goes on where `c` is: an outage of `c` is its outage. */
void connection_inherit_outage(struct connection *heir, const struct connection *c);
/* The server said so: it may be about a subscription. */
void connection_note_error(struct connection *c, const error *e);
/* A probe was answered after so long. */
void connection_note_probe(struct connection *c, uint64_t ns);
/* The library did not subscribe it. */
void connection_note_refused(struct connection *c, struct subscription *s);
void connection_forget_refusal(struct connection *c, struct subscription *s);
void connection_forget_refusals(struct connection *c);
void connection_ask_refused_again(struct connection *c);
const char *connection_refused_subject(const struct connection *c); /* "" */

/* links.c */
void connection_do_dial(struct connection *c, uint64_t number);
void connection_do_destroy(struct connection *c, uint64_t number);
void connection_do_abandon(struct connection *c, uint64_t number);
void connection_reap(struct connection *c); /* joins links that are gone */
void connection_describe_links(const struct connection *c, reclaim *r);
void connection_pass_server(struct connection *c); /* the next dial is not to the current one */

/* leave.c */
void connection_leave_lame_duck(struct connection *c);
void connection_stay(struct connection *c); /* nothing is looked for any more */

/* traffic.c */
void connection_sync_start(struct connection *c);    /* a fresh link: every subscription is sent */
void connection_sync_continue(struct connection *c); /* a step of it, or of what has become dirty */
void connection_send_queue(struct connection *c);
void connection_send_subscription(struct connection *c, struct subscription *s);
void connection_fail_waiters(struct connection *c, const error *e); /* flushes and requests */
void connection_flushed_event(struct connection *c, const link_event *event);
void connection_bury(struct connection *c, struct link_sub *s); /* unsubscribe on the wire */

/* request.c */
void connection_fail_requests(struct connection *c, const error *e);

/* receive.c */
void connection_receive_events(struct connection *c);
/* Handles messages until `until` (uv_hrtime); whether there are more. */
bool connection_receive_messages(struct connection *c, uint64_t until);
/* How many have arrived and are not handled. */
uint64_t connection_waiting(const struct connection *c);

/* subscription.c */
void subscription_last_word(struct connection *c, struct link_sub *s);
void subscription_message(struct connection *c, const mailbox_item *item);
void subscription_end(struct subscription *s);
void subscription_leave_wire(struct subscription *s); /* the link is not the current one any more */
void subscriptions_end_all(struct connection *c);

/* notices.c: logs and tells the observer. */
void connection_tell(struct connection *c, connection_info *info);
void connection_tell_up(struct connection *c, watchdog_reason reason);
void connection_tell_reconnected(struct connection *c);
void connection_tell_disconnected(struct connection *c);
void connection_tell_closed(struct connection *c, watchdog_reason reason);
void connection_tell_error(struct connection *c, const error *e);
void connection_tell_probe(struct connection *c, bool deaf);
void connection_tell_dial_failed(struct connection *c, watchdog_reason reason);
/* A round of the library's own attempts; the error is c->error. */
void connection_tell_reconnect_failed(struct connection *c, uint64_t attempt, double delay);
void connection_tell_plan(struct connection *c, double delay);

#endif
