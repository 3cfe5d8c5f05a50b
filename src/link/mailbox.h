/* The mailbox: what comes from a link's threads to the loop. Two lanes: lifecycle events, which
 * are never dropped and are read first, so that a flood of messages cannot hide a closure; and
 * messages, each bounded by its subscription's pending limit before it gets here.
 *
 * Many threads put, the loop takes. Putting never waits for anything but a lock that is held for a
 * few instructions. The loop is woken by one uv_async_send when a lane stops being empty. */
#ifndef MD_LINK_MAILBOX_H
#define MD_LINK_MAILBOX_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "watch/watchdog.h"

struct link_sub;

typedef enum {
    LINK_EVENT_DIALED,      /* text, max_payload */
    LINK_EVENT_DIAL_FAILED, /* error */
    LINK_EVENT_DISCONNECTED,
    LINK_EVENT_RECONNECTED,
    LINK_EVENT_SERVER, /* the same, after the library reconnected */
    LINK_EVENT_CLOSED, /* error: the server's or the library's last words. Or the library
                          cannot have it back: its certificates are those of the dial */
    LINK_EVENT_ERROR,  /* error, an asynchronous one; the link stays */
    LINK_EVENT_LAME_DUCK,
    LINK_EVENT_DISCOVERED,
    LINK_EVENT_PROBE_ANSWERED, /* number: ns that it took */
    LINK_EVENT_AUDITED,        /* status */
    LINK_EVENT_FLUSHED,        /* number: the token; error.code is "" when it worked */
    /* number: the library's attempt; error: why the one before failed. Answer with
     * link_answer_delay() */
    LINK_EVENT_DELAY_WANTED,
    LINK_EVENT_SLOW,           /* text: a burst of drops began */
    LINK_EVENT_SUB_FAILED,     /* error */
    LINK_EVENT_PUBLISH_FAILED, /* error, number: how many messages are lost */
    LINK_EVENT_RETURNED,       /* records: a publish that was under way; NULL: it is lost */
    LINK_EVENT_GONE,           /* the worker has ended; link_join() does not block any more */
} link_event_type;

#define LINK_URL_SIZE 256

typedef struct link_event {
    struct link_event *next;
    link_event_type type;
    error error;
    uint64_t number;
    watchdog_link_status status;
    char text[LINK_URL_SIZE]; /* the server's URL without user info; SLOW: the subject */
    int64_t max_payload;
    struct record_chunk *records; /* to be freed by the receiver */
} link_event;

/* msg NULL: the last word of this link_sub; nothing of it comes after this. What the loop needs to
 * know of each message is with it: the message itself is in the cache of another processor. */
typedef struct {
    struct link_sub *sub;
    natsMsg *msg;
    uint32_t weight; /* message_weight() */
    uint32_t length; /* of its data */
} mailbox_item;

#define MAILBOX_CHUNK 126

typedef struct mailbox_chunk {
    struct mailbox_chunk *next;
    uint32_t count, read;
    mailbox_item items[MAILBOX_CHUNK];
} mailbox_chunk;

/* What is done with the last word of a link_sub that nobody takes. */
typedef void (*mailbox_last_word)(struct link_sub *sub);

typedef struct {
    uv_mutex_t lock;
    uv_async_t *wake; /* NULL: nobody listens any more */
    link_event *events, **events_end;
    mailbox_chunk *messages, *last;
    mailbox_chunk *spare;        /* one chunk kept, so that a steady trickle allocates nothing */
    uint64_t put;                /* messages so far */
    mailbox_last_word abandoned; /* NULL: somebody takes */
} mailbox;

int mailbox_init(mailbox *m, uv_async_t *wake);
/* Frees what is inside, messages too. */
void mailbox_destroy(mailbox *m);
/* From now on the loop is not woken any more: its handle goes. Loop thread. */
void mailbox_detach(mailbox *m);

/* Nobody takes any more: what is in it or in `taken` (may be NULL), and what comes, is destroyed,
 * and the last words are given to `last_word`: here, or on the thread that puts them. Loop thread.
 */
void mailbox_abandon(mailbox *m, mailbox_chunk *taken, mailbox_last_word last_word);

/* Any thread. The event is copied. Without memory it is lost: the audit notices. */
void mailbox_post(mailbox *m, const link_event *event);
/* Any thread. 0, or -1 when out of memory (the caller keeps the message). */
int mailbox_put(mailbox *m, const mailbox_item *item);
int mailbox_put_last_word(mailbox *m, struct link_sub *sub);

/* Loop thread. All events so far, oldest first, to be freed with free(); NULL: none. */
link_event *mailbox_take_events(mailbox *m);
/* Loop thread. The chain of message chunks so far, oldest first; NULL: none. */
mailbox_chunk *mailbox_take_messages(mailbox *m);
/* Any thread. How many messages were put so far, last words too. */
uint64_t mailbox_count(mailbox *m);
/* Frees chunks that were taken, and the messages in them that were not. NULL is harmless. */
void mailbox_free_chunks(mailbox_chunk *c);
/* Loop thread. Gives an emptied chunk back. */
void mailbox_recycle(mailbox *m, mailbox_chunk *chunk);

#endif
