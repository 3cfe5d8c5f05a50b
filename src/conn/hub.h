/* The hub: what the connections of one runtime share. The loop, the one handle that links wake it
 * with, the log, the budget of dials, and the turn: after each batch of events every connection
 * that has records to send hands them to its worker, in one go. Loop thread. */
#ifndef MD_CONN_HUB_H
#define MD_CONN_HUB_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pulse.h"
#include "conn/history.h"
#include "conn/tap.h"
#include "link/reclaim.h"

struct connection;

/* Links that were given up and have not come back; no dials at the cap. */
#define HUB_HANGING_MAX 32
/* Of all connections together: a storm is not answered with one. */
#define HUB_DIALS_PER_SECOND 50
/* Between two looks for the sockets of links that hang. */
#define HUB_RECLAIM_MS 500u
/* More messages at a time are many. */
#define HUB_QUIET_UNTIL 4u
/* So long at most are messages handled before timers have their turn. */
#define HUB_BATCH_NS 2000000u

struct hub {
    uv_loop_t *loop;
    struct logger *log;
    wall_clock clock; /* the time that is shown */
    pulse pulse;
    uv_async_t wake;
    uv_prepare_t before_poll;
    uv_check_t after_poll;
    struct connection *connections; /* a list through connection.next */
    struct connection *next_turn;   /* whose messages come first at the next wake; NULL: any */
    bool health_changed;            /* what health says of a connection may be another thing now */
    unsigned served;                /* messages, since it was last looked for some */
    unsigned hanging;
    uv_timer_t later;
    uv_timer_t reclaim_timer; /* runs while links hang */
    uv_work_t reclaim_work;
    reclaim reclaim;
    bool reclaiming, closing;
    uint64_t poll_until;    /* ns: when a poll of the host's has to be over; 0: none goes on */
    bool poll_served;       /* it has run something of the script's or the host's */
    uint64_t give_way_next; /* ns: thread_give_way() */
    double dial_tokens;
    uint64_t dial_tokens_at; /* ns */
    uint64_t random;
    uint64_t inbox_id; /* makes inboxes of this process unique */
    unsigned handles;  /* open libuv handles */
    history history;   /* the last outages of all of them */
    tap_fn tap;        /* sees each message; NULL: nobody looks */
    void *tap_closure;
    /* Told once or twice per turn of the loop: the runtime tidies up. Never from within Lua. */
    void (*turn_done)(void *closure);
    void *closure;
};

/* 0, or a libuv error. */
int hub_init(struct hub *h, uv_loop_t *loop, struct logger *log);
/* Starts to close the handles; hub_closed() says when they are. */
void hub_close(struct hub *h);
bool hub_closed(const struct hub *h);

/* A link hangs: from now on its socket is looked for, until it is back. */
void hub_reclaim(struct hub *h);

/* What has come from the links: events, then messages. Called by itself when there is something. */
void hub_receive(struct hub *h);

/* First in every callback of the loop that may take a while: what holds the loop is noticed. */
void hub_awake(struct hub *h);
/* Sends what the connections have collected. Called by itself once per turn. */
void hub_flush(struct hub *h);
/* Makes the loop look into the mailboxes again. */
void hub_again(struct hub *h);
/* The same, in a while; a later call counts instead of an earlier one. */
void hub_later(struct hub *h, uint32_t ms);

/* A poll of the host's: until pass is over, hub_is_late() says so. 0: it is over. */
void hub_limit(struct hub *h, uint64_t until);
/* Whether the time that the host gave is over, and something was done in it: what can wait, waits
 * for the next poll. Whoever finds it so calls hub_again(). */
static inline bool hub_is_late(const struct hub *h)
{
    return h->poll_until != 0 && h->poll_served && uv_hrtime() >= h->poll_until;
}
/* Whether there are so many messages that not each of them can be measured. */
static inline bool hub_is_busy(const struct hub *h)
{
    return h->served > HUB_QUIET_UNTIL;
}
/* Something of the script's or the host's is called now. */
static inline void hub_serve(struct hub *h)
{
    h->poll_served = true;
}
/* Until when what may last `slice_ns` goes on. */
static inline uint64_t hub_slice(const struct hub *h, uint64_t slice_ns)
{
    uint64_t until = uv_hrtime() + slice_ns;
    return h->poll_until != 0 && h->poll_until < until ? h->poll_until : until;
}
/* How many messages have arrived and are not handled. */
uint64_t hub_waiting(const struct hub *h);

/* Uniform in [0, 1). */
double hub_random(struct hub *h);
/* How many ms a dial has to wait for the budget of dials; takes one. */
uint32_t hub_dial_wait(struct hub *h);

#endif
