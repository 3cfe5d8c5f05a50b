/* What is pushed to the clients of the control socket until they cancel it: log records
 * (log_stream.c), the state of the runtime (watch_stream.c), messages (tap_stream.c). A client that
 * does not read misses events, and is told how many. Loop thread. */
#ifndef MD_CONTROL_STREAMS_H
#define MD_CONTROL_STREAMS_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "base/log.h"
#include "control/session.h"

#define STREAM_LOG_BYTES (128u * 1024) /* of records that are kept */
#define STREAM_LOG_RECORDS 1024u
#define STREAM_TAP_PER_SECOND 500u
#define STREAM_TAP_DATA_BYTES 4096u /* of a message that are shown */

/* The last log records, numbered from 1. Any thread adds, under the lock. */
struct log_records {
    uv_mutex_t lock;
    struct {
        char *json;
        size_t length;
        log_level level;
    } ring[STREAM_LOG_RECORDS]; /* number n is at n % STREAM_LOG_RECORDS */
    uint64_t first, next;       /* numbers: of the oldest, and of the one to come */
    size_t bytes;
};

struct streams {
    md_runtime *rt;
    struct log_records log;
    uv_async_t log_wake;
    struct log_follower *log_followers, *log_turn; /* whose turn it is */
    uv_timer_t watch_timer;                        /* runs while somebody watches */
    struct watcher *watchers;
    uint32_t watched_generation; /* that they were told of */
    struct tap *taps;
    unsigned paused;           /* sessions that go on at the next turn */
    struct session *unflushed; /* sessions with frames for the end of the turn */
    unsigned handles;          /* open ones */
    bool closing;
};

/* NULL: no memory. */
struct streams *streams_new(md_runtime *rt);
/* Starts to close the handles; streams_free() when streams_closed(). No request is left. */
void streams_close(struct streams *s);
bool streams_closed(const struct streams *s);
void streams_free(struct streams *s);

/* Between two turns: what is not to wait for the next look. */
void streams_turn(struct streams *s);

/* The verbs. */
void stream_log(struct request *r, json_t *args);
void stream_watch(struct request *r, json_t *args);
void stream_tap(struct request *r, json_t *args);

/* log_stream.c */
int log_stream_init(struct streams *s);
void log_stream_close(struct streams *s);
void log_stream_free(struct streams *s);
/* watch_stream.c */
void watch_stream_init(struct streams *s);
void watch_stream_look(struct streams *s);

#endif
