/* The inside of an outbox's thread, shared by writer.c (the loop's side) and writer_thread.c. */
#ifndef MD_OUTBOX_WRITER_PRIVATE_H
#define MD_OUTBOX_WRITER_PRIVATE_H

#include "outbox/writer.h"

struct writer {
    char *path;
    uint32_t max_pages;
    uv_thread_t thread;
    uv_async_t async;

    /* Of the loop. */
    struct hub *hub;
    void (*changed)(void *closure);
    void *closure;
    writer_job *local, **local_end; /* submitted, and not handed over yet */
    unsigned put_count, removals, open_jobs;
    size_t put_bytes;
    writer_state state;
    bool closing, joined, closed;

    uv_mutex_t lock; /* of what follows */
    uv_cond_t work;
    writer_job *incoming, **incoming_end;
    writer_job *finished, **finished_end;
    writer_state posted;
    int64_t max_bytes;
    bool fsync, limits_changed;
    bool stop, ended, abandoned;

    /* Of the thread. */
    store *store;
    writer_state now;
    store_places places;
    writer_job *held, **held_end; /* what has to be done, and could not be */
    uint64_t retry_at;            /* ms: the file is not tried before */
    unsigned retries;
};

/* The thread; closure: the writer. */
void writer_run(void *closure);

#endif
