/* What is forwarded when: the decisions of an outbox, about the entries that it has in memory.
 * Pure: no I/O, no clock.
 *
 * A stream holds each entry once, and in order:
 * - The first one that is sent while none is in flight expects nothing. Each one behind it in
 *   flight expects the message id of the one before to be the last of the stream, so the stream
 *   refuses it when the one before was lost.
 * - After any failure nothing more is sent until all that is in flight is answered or overdue. Then
 *   it goes back to the first one that was not acknowledged, sends that one alone until it is, and
 *   opens the window again.
 * - What is sent twice within the stream's duplicate window is stored once. An entry that may have
 *   been sent before, longer ago than that, is looked for in the stream first (FORWARD_LOOK). When
 * it is not there, it is sent on the condition that nothing has come on its subject since: a server
 *   that has become the leader may have answered before it had read all of its log.
 * - Entries for different streams are not in flight together. */
#ifndef MD_OUTBOX_FORWARD_H
#define MD_OUTBOX_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

/* Entries in memory; the largest window is half of it. */
#define FORWARD_ENTRIES_MAX 2048u
#define FORWARD_WINDOW_MAX (FORWARD_ENTRIES_MAX / 2)

/* How much younger than the duplicate window an entry has to be to be sent again without a look:
 * it may be on its way for a while. At most a quarter of the window. */
#define FORWARD_MARGIN_MS 15000

typedef enum { FORWARD_WAITS, FORWARD_IN_FLIGHT, FORWARD_DONE } forward_state;

typedef struct {
    int64_t id;
    int64_t created;  /* ms since 1970 */
    bool doubt;       /* it may be in the stream already */
    bool looked;      /* it was not, when that was looked for, and was not sent since */
    uint64_t after;   /* then; the number of the last message of its subject, 0: there was none */
    bool gone;        /* it is not in the file any more, and is not sent again */
    unsigned stream;  /* where it goes to; 0: not known yet */
    int64_t window;   /* ms: the duplicate window of that stream */
    int64_t sent;     /* ms since 1970: when it was first sent; 0: not by this process */
    uint64_t sent_at; /* ms: when it was sent last */
    bool expects;     /* it was sent with an expectation */
    uint64_t request; /* whatever the caller wants to remember of it */
    void *data;
    forward_state state;
} forward_entry;

typedef struct {
    forward_entry entries[FORWARD_ENTRIES_MAX]; /* a ring */
    unsigned first, count;
    unsigned next; /* how many from the first one on are in flight or done */
    unsigned in_flight;
    unsigned window;   /* the most that may be in flight */
    unsigned limit;    /* that may be now: after the stream had other messages in between */
    unsigned acked;    /* since the limit was changed */
    bool careful;      /* one alone, until it is acknowledged */
    bool stopped;      /* nothing is sent until nothing is in flight */
    uint64_t resume;   /* ms: nothing is sent before */
    uint32_t failures; /* in a row */
    bool busy;         /* a FIND or a LOOK is under way */
    bool sure;         /* what is read of the file from now on was never sent */
    int64_t last;      /* the id of the last entry that was added */
    int64_t last_sent; /* the id of the one that was sent last */
} forward;

void forward_init(forward *f, unsigned window);
void forward_set_window(forward *f, unsigned window);

/* How many more there is room for. */
unsigned forward_room(const forward *f);
/* Entries that are neither in flight nor done. */
unsigned forward_waiting(const forward *f);
/* Behind all others, with a larger id. `doubt`: a process before may have sent it. NULL: no room.
 */
forward_entry *forward_add(forward *f, int64_t id, int64_t created, bool doubt, void *data);
/* From the first one on, f->count of them. */
forward_entry *forward_at(forward *f, unsigned index);
/* The entry with this id; NULL: it is not in memory. */
forward_entry *forward_find(forward *f, int64_t id);
/* The first one that is in flight, which is the one that was sent first; NULL: none. */
forward_entry *forward_oldest(forward *f);
/* Takes the first one out when it is done. False: it is not. */
bool forward_take(forward *f, forward_entry *out);
/* The largest id that was sent. 0: none of those in memory. */
int64_t forward_sent_max(const forward *f);

typedef enum {
    FORWARD_NOTHING,
    FORWARD_FIND, /* tell which stream it goes to: set stream and window, then ask again; or
                     forward_begin(), and forward_found() or forward_failed() later */
    FORWARD_SEND, /* then forward_sent() */
    FORWARD_LOOK  /* forward_begin(), then forward_looked() or forward_failed() */
} forward_action;

typedef struct {
    forward_action action;
    forward_entry *entry;
    const forward_entry *expected; /* SEND: the one that has to be the last; NULL: none has to */
    uint64_t at; /* NOTHING: ms, when to ask again; 0: when something has happened */
} forward_step;

/* What to do now. `wall`: ms since 1970. Only while there is a link. */
forward_step forward_next(forward *f, uint64_t now, int64_t wall);

void forward_sent(forward *f, forward_entry *entry, uint64_t now, int64_t wall);
void forward_begin(forward *f);
/* What was begun is over, and its entry is not there any more. */
void forward_end(forward *f);
void forward_found(forward *f, forward_entry *entry, unsigned stream, int64_t window);
/* `found`: the stream has it, so it is done. Otherwise it is sent, if its subject still ends with
 * the message number `after`; and when it is stored then, none of those behind it was stored
 * before. */
void forward_looked(forward *f, forward_entry *entry, bool found, uint64_t after);

void forward_acked(forward *f, forward_entry *entry, bool duplicate);

typedef enum {
    FORWARD_TEMPORARY,  /* no answer, no stream, no room, ... */
    FORWARD_WRONG_LAST, /* the stream's last message is another one than was expected */
    FORWARD_REFUSED     /* for good: it is done, and the next one goes on */
} forward_failure;

/* `delay`: ms before anything is sent again, for what is TEMPORARY. The entry is one that is in
 * flight, or for which a FIND or LOOK was begun. */
void forward_failed(forward *f, forward_entry *entry, forward_failure failure, uint64_t now,
                    uint32_t delay);
/* It is not sent any more: it expired, or was replaced. One that is in flight is done when that is
 * answered. */
void forward_drop(forward_entry *entry);
void forward_drop_all(forward *f);
/* They are asked for again, of those that are not in flight. */
void forward_forget_streams(forward *f);
/* There is no link, or another one: streams are looked up again, and the first one goes alone. */
void forward_link_lost(forward *f);

#endif
