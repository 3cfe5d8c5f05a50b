/* The thread of an outbox that has its file. The loop hands over jobs once a turn; all that has
 * come while one transaction was written is the next one (group commit), and its results come back
 * together. Loop thread, but for the thread itself. */
#ifndef MD_OUTBOX_WRITER_H
#define MD_OUTBOX_WRITER_H

#include "conn/hub.h"
#include "outbox/store.h"

/* Of messages that were handed over and are not on the disk yet. */
#define WRITER_MESSAGES_MAX 65536u
#define WRITER_BYTES_MAX (64u * 1024 * 1024)

/* An entry in memory. */
struct connection;
struct outbox;

typedef struct outbox_entry {
    struct outbox_entry *next;
    struct outbox *owner;         /* for the owner's use, both */
    struct connection *via;       /* while it is in flight */
    int64_t id, created, expires; /* ms since 1970; expires 0: never */
    const char *msg_id, *subject, *headers, *data;
    size_t msg_id_length, subject_length, header_length, data_length;
    char text[];
} outbox_entry;

typedef enum {
    WRITER_PUT,
    WRITER_REMOVE,    /* kept until it could be done */
    WRITER_SET_ASIDE, /* kept until it could be done */
    WRITER_EXPIRE,
    WRITER_READ,
    WRITER_MARK /* id: the largest one that is on the disk when all before is done */
} writer_kind;

typedef struct writer_job {
    struct writer_job *next;
    writer_kind kind;
    /* In the loop, once, when it is done; the job is freed then. NULL: nobody wants to know. */
    void (*done)(struct writer_job *job);
    void *owner, *closure;
    void (*told)(void *closure, const error *e); /* for the owner's use */
    bool failed;
    error *error; /* of one that failed; NULL: no memory for it */
    size_t bytes;

    store_message message; /* PUT: its strings are in `text` */
    store_put_result put;
    int64_t id;            /* REMOVE, SET_ASIDE, MARK; READ, EXPIRE: only beyond this one */
    uint64_t sequence;     /* REMOVE: where the stream, `text`, has it; 0: nowhere */
    unsigned max;          /* READ: so many, and... */
    size_t max_bytes;      /* ...with so many bytes, but one in any case */
    outbox_entry *entries; /* READ: the callee frees them */
    unsigned count;        /* EXPIRE: that expired; id: up to where it has looked, 0: all */
    char text[];
} writer_job;

typedef struct writer writer;

/* What the loop knows of the file: as of the jobs that were done last. */
typedef struct {
    bool open; /* it was, at least once: the totals mean something */
    store_totals totals;
    int64_t first_max; /* the largest id that there was when the file was first opened */
    error problem;     /* why it cannot be opened or written now; code "": it can */
} writer_state;

/* Starts the thread, which opens the file, again and again until it can. `changed` is called in the
 * loop whenever there is something new, after the jobs that are done. NULL: no memory, no thread.
 */
writer *writer_new(struct hub *hub, const store_options *options, void (*changed)(void *closure),
                   void *closure);
void writer_set_limits(writer *w, int64_t max_bytes, bool fsync);

/* A job with room for `text` bytes; NULL: no memory. */
writer_job *writer_job_new(writer_kind kind, size_t text);
void writer_job_free(writer_job *job);
/* -1 and *e: a PUT that is one too many ("too_many"), which the caller keeps. */
int writer_submit(writer *w, writer_job *job, error *e);
/* At the end of a turn of the loop: the thread gets what was submitted. */
void writer_hand_over(writer *w);
/* Whether nothing that was submitted has still to be done. */
bool writer_is_idle(const writer *w);
/* REMOVE and SET_ASIDE that were submitted and are not done. */
unsigned writer_removals(const writer *w);
const writer_state *writer_get_state(const writer *w);
/* Where the last entries were when the file was first opened: once it is open. */
const store_places *writer_get_places(const writer *w);

/* Does what was submitted, then ends the thread and closes the file, meanwhile: jobs are still told
 * that they are done, `changed` is not called any more. */
void writer_close(writer *w);
/* Whether that is over. */
bool writer_closed(const writer *w);
/* After writer_closed(). NULL is harmless. */
void writer_free(writer *w);
/* Instead: the thread hangs in a call of the system, and is left to itself. It keeps its memory,
 * and never touches the loop again, which has to turn once more. */
void writer_abandon(writer *w);

#endif
