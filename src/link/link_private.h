/* The inside of a link, shared by link.c (loop thread), worker.c (its worker) and callbacks.c
 * (nats.c's threads). Who may touch what is said at each group of fields. */
#ifndef MD_LINK_LINK_PRIVATE_H
#define MD_LINK_LINK_PRIVATE_H

#include <sys/types.h>
#include <time.h>

#include "link/link.h"

#define LINK_ALL_CLAIMED SIZE_MAX
#define LINK_DRAINS_AT_ONCE 32 /* nats.c starts a thread for each draining subscription */
#define LINK_TLS_FILES 3

/* What tells one content of a file from another. All zero: there is no such file. */
typedef struct {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified;
} file_mark;

/* Publishes that follow each other, while the library's lock is held. */
typedef enum {
    LINK_NO_BATCH,
    LINK_BATCH_LOCKED,  /* the library has to look at its state */
    LINK_BATCH_CHECKED, /* it has taken the one before */
} link_batch;

struct link {
    atomic_int
        references; /* the loop, the worker, the probe, each link_sub; a callback that runs */
    uintptr_t living_number; /* living.c */
    struct link *living_next;
    uint64_t number;
    link_options *options;
    unsigned first_server;
    mailbox mailbox;
    uv_thread_t thread;
    /* The loop's, away from what the worker writes with each record. */
    unsigned loop_subs; /* made by it and without a last word yet */
    uint64_t done_seen; /* done_bytes, when it looked last */
    _Atomic uint64_t given_bytes;
    atomic_bool closing; /* from here on nothing is delivered or published */

    /* Under the lock. */
    uv_mutex_t lock;
    uv_cond_t changed;
    record_queue queue;
    unsigned asks;
    /* The worker's: flushes that wait for the next round trip. */
    uint64_t *flush_tokens;
    size_t flush_count, flush_capacity;
    int64_t flush_ms; /* the longest that one of them may take */
    char *token;      /* NULL: the options' own */
    bool delay_answered;
    uint32_t delay_ms;
    unsigned drains_running;
    record_chunk *active; /* the worker reads it without the lock; only it moves active_read */

    /* The first record of the active chunk that is not claimed: by the worker as it goes on, by
     * link_close() the rest at once (LINK_ALL_CLAIMED). So a record is processed or salvaged: never
     * both, never neither. */
    _Atomic size_t active_read;

    /* Counters: written by the worker, read by anyone. */
    _Atomic uint64_t done_bytes, sent_messages, sent_bytes;

    /* The worker's own. */
    natsConnection *nats;
    natsOptions *nats_options;
    natsSubscription *probe_sub;
    bool probe_going; /* under the lock: the delivery thread has not said its last word on it */
    char probe_subject[LINK_INBOX_PREFIX_MAX + 48];
    _Atomic uint64_t probe_at; /* ns: when the last one was sent */
    atomic_bool probe_by_ping; /* what we publish does not come back to our own inbox */
    char *nkey_public;
    struct link_sub *subs;      /* subscribed */
    struct link_sub *dead_subs; /* unsubscribed; nats.c <= 3.6.0 may still look at them */
    struct link_sub *drains;    /* to be drained, a few at a time */
    unsigned dead_count;
    uint64_t publish_failures; /* since the last LINK_EVENT_PUBLISH_FAILED */
    error publish_error;
    bool stalled; /* the library reconnects: no publish until LINK_ASK_RESUME */
    bool batches; /* the library buffers publishes until the last one of a batch */
    link_batch batch;
    int64_t batch_max_payload; /* the server's */

    /* Written by the worker when it dials; read by the thread on which the library reconnects. */
    file_mark tls_files[LINK_TLS_FILES];

    /* What the token callback last gave out: used under nats.c's own lock. */
    char *token_in_use;
};

void link_retain(struct link *l);
void link_release(struct link *l);
void link_worker(void *link); /* worker.c: the thread */

/* subscribe.c, worker thread. The first three take the reference of the record; a subscription that
 * the library refuses has its last word. */
void link_subscribe(struct link *l, struct link_sub *s, uint64_t max);
void link_unsubscribe(struct link *l, struct link_sub *s);
void link_drain_sub(struct link *l, struct link_sub *s);
/* As many of those that wait for it as may be drained at a time. */
void link_start_drains(struct link *l);
/* What the library dropped at its own limit is counted with ours. */
void link_count_library_drops(struct link *l);
void link_destroy_dead_subs(struct link *l);
void link_destroy_subs(struct link *l); /* all, when the connection is closed */

/* worker.c: the error of this thread's last library call. */
void link_fill_error(error *e, natsStatus status);

/* publish.c, worker thread. What is published between the two is a batch. Nothing else may be asked
 * of the library then: its lock is held. Without effect when it cannot batch, and when there is
 * one, or none. */
void link_batch_begin(struct link *l);
void link_batch_end(struct link *l);
/* Publishes a record. `more`: it may be buffered, because another publish follows, which sends
 * it. Otherwise it is sent now, with all that is buffered. */
natsStatus link_publish(struct link *l, const record *r, bool more);

/* Publishes that follow each other. */
typedef struct {
    const char *bytes; /* of the first one */
    size_t length, count, data_length;
} link_run;

/* What of a chunk can be published at once from this record on, because a batch goes on and
 * nothing has to be looked at: before the last publish, which sends it. False: none. */
bool link_next_run(const struct link *l, const record_chunk *c, size_t index, link_run *run);
/* Buffers it. When that fails, none, some or all of it may have been sent. */
natsStatus link_publish_run(struct link *l, const link_run *run);
/* Sends a message to the link's own inbox, now. */
natsStatus link_publish_probe(struct link *l);

/* dial.c: builds l->nats_options, to be destroyed by the caller. Reads files: worker thread. */
int link_build_options(struct link *l, error *e);
/* dial.c: whether the certificates and keys in the files are no longer those of the dial. It looks
 * at files: not on the loop thread. */
bool link_tls_files_changed(const struct link *l);
/* callbacks.c: the library's threads. */
void link_on_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *link_sub);
void link_on_sub_complete(void *link_sub);
void link_on_probe(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *link);
void link_on_probe_complete(void *link);
void link_set_callbacks(struct link *l, natsOptions *o);

/* The status of the connection as the watchdog names it. */
watchdog_link_status link_status_of(natsConnStatus status);

#endif
