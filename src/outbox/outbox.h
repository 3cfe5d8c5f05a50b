/* An outbox: messages are on the disk when a publish returns, and are forwarded to JetStream in
 * order, each once, whatever happens to the link, the server, or this process. It belongs to the
 * runtime, which finds it by the real path of its file, and survives the generations that declare
 * it. How: writer.h (the file), forward.h (what is sent when), streams.h (what is asked).
 *
 * Loop thread; nothing here waits. */
#ifndef MD_OUTBOX_OUTBOX_H
#define MD_OUTBOX_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "outbox/writer.h"

struct connection;
struct hub;
struct outbox;

typedef enum { OUTBOX_KEEP_ALL, OUTBOX_KEEP_LATEST, OUTBOX_DROP } outbox_policy;

typedef struct {
    char *pattern;
    outbox_policy policy;
} outbox_rule;

typedef struct {
    char *path; /* as outbox_real_path() has it */
    bool fsync;
    int64_t max_bytes;
    int64_t ttl_ms; /* 0: for ever */
    double rate;    /* messages a second that are forwarded at most; 0: any */
    unsigned window;
    outbox_rule *rules; /* the first one that matches counts; none: all are kept */
    size_t rule_count;
} outbox_options;

/* The path by which an outbox is found again, to be freed; NULL: no memory. Looks at the disk, and
 * changes nothing there. */
char *outbox_real_path(const char *path);
/* The more specific patterns come first. */
void outbox_sort_rules(outbox_options *o);
/* What it points to; not itself. */
void outbox_options_clear(outbox_options *o);

/* ---- those of a runtime ---- */

struct outboxes {
    struct outbox *first;
    struct hub *hub;
};

void outboxes_init(struct outboxes *all, struct hub *hub);
/* The one with this path, made when there is none; it has one more user. NULL and *e: no memory. */
struct outbox *outboxes_acquire(struct outboxes *all, const outbox_options *options, error *e);
/* From now on it has these options, which are copied (-1: no memory, and they are as before), and
 * this connection: which one, `connection` says whenever it is asked; NULL: none now. */
int outbox_use(struct outbox *o, const outbox_options *options,
               struct connection *(*connection)(void *closure), void *closure);
/* One user less: who used it with this closure is not asked any more. Without any it is closed, and
 * what waits stays in the file. */
void outbox_release(struct outbox *o, const void *closure);

/* Between two turns of the loop: hands over, forwards, tidies up. */
void outboxes_turn(struct outboxes *all);
/* Whether all that was published is on the disk, or cannot be written now. */
bool outboxes_settled(const struct outboxes *all);
/* Starts to close all of them; outboxes_turn() has to go on until outboxes_closed(). */
void outboxes_close(struct outboxes *all);
bool outboxes_closed(const struct outboxes *all);
/* Those that are not closed yet hang in the disk: they are left to themselves; their number is
 * returned. The loop has to turn once more. */
unsigned outboxes_abandon(struct outboxes *all);
struct outbox *outbox_after(const struct outbox *o);

/* ---- publishing ---- */

typedef struct {
    const char *subject, *headers, *data;
    size_t subject_length, header_length, data_length; /* headers: "name\0value\0" each */
    uint32_t header_count;
    const char *msg_id; /* NULL: it gets one */
    int64_t ttl_ms;     /* negative: the outbox's own; 0: for ever */
} outbox_message;

/* Checks the message: -1 and *e ("invalid_subject", "too_large"). */
int outbox_check(const outbox_message *m, error *e);
outbox_policy outbox_policy_of(const struct outbox *o, const char *subject, size_t length);

/* Called once, never from within the publish: *e has code "" when the message is on the disk. */
typedef void (*outbox_told)(void *closure, const error *e);
/* What it returns is for outbox_forget(), as long as it was not told; NULL and *e ("too_many",
 * "no_memory", "closed"): it was not taken. */
struct writer_job *outbox_publish(struct outbox *o, const outbox_message *m, outbox_told told,
                                  void *closure, error *e);
/* Nobody wants to be told any more; the message goes its way. */
void outbox_forget(struct writer_job *job);
/* For OUTBOX_DROP: sends it now. -1 and *e: "dropped". */
int outbox_send_now(struct outbox *o, const outbox_message *m, error *e);

/* Told when all that was published before is acknowledged, and removed; or set aside, or expired.
 * Otherwise as outbox_publish(). */
struct outbox_flush;
struct outbox_flush *outbox_flush(struct outbox *o, outbox_told told, void *closure, error *e);
void outbox_flush_cancel(struct outbox_flush *f);

/* ---- looking ---- */

typedef enum {
    OUTBOX_OPENING,
    OUTBOX_IDLE,
    OUTBOX_FORWARDING,
    OUTBOX_LOOKING, /* whether the stream has a message already */
    OUTBOX_NO_FILE, /* it cannot be opened, read or written */
    OUTBOX_NO_LINK,
    OUTBOX_NO_STREAM, /* no stream takes it now, or no answer came */
    OUTBOX_CLOSED
} outbox_state;

const char *outbox_state_name(outbox_state state);

typedef struct {
    outbox_state state;
    uint64_t waiting, set_aside;
    int64_t bytes;
    double oldest; /* seconds; 0: none waits */
    uint64_t forwarded, duplicates, dropped, expired, refused;
    error error; /* why it waits; code "": no reason */
} outbox_status;

void outbox_get_status(const struct outbox *o, outbox_status *out);
const char *outbox_path(const struct outbox *o);
const char *outbox_name(const struct outbox *o); /* of the file */

#endif
