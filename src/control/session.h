/* A session: one client of the control socket. It asks in frames; each request gets any number of
 * events and one answer. See protocol.md. Loop thread. */
#ifndef MD_CONTROL_SESSION_H
#define MD_CONTROL_SESSION_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "control/frame.h"
#include "runtime_private.h"
#include "script/console.h"

#define SESSION_REQUESTS_MAX 64u
#define SESSION_EVENT_BYTES_MAX (128u * 1024)       /* unread: later events are dropped */
#define SESSION_ANSWER_BYTES_MAX (4u * 1024 * 1024) /* unread: the session ends */
#define SESSION_FRAME_MS 10000u                     /* for the rest of a frame to come */

struct control;
struct session;
struct streams;

struct request {
    struct session *session;
    struct request *next, **back; /* in session->requests */
    json_t *id;
    char *id_text; /* as JSON */
    /* Undoes what is under way; the request goes on to be answered, or is freed. It may be called
     * from anywhere but Lua. NULL: there is nothing to undo. */
    void (*cancel)(struct request *r);
    /* There is room for events again. NULL: it does not care. */
    void (*resume)(struct request *r);
    void *closure;
    uint64_t dropped; /* events, since the last that was sent */
};

struct session {
    unsigned references; /* the open handle, and whoever works with it */
    struct session *next, **back;
    struct control *control;
    struct streams *streams;
    md_runtime *rt;
    uv_pipe_t pipe;
    frame_reader reader;
    uint64_t partial_since; /* ms: there is a part of a frame; 0: there is none */
    char read[8192];        /* what came last */
    char *out;              /* frames, for the end of the turn */
    size_t out_length, out_capacity;
    struct session *unflushed; /* the next one that has some */
    bool is_unflushed;
    struct request *requests;
    unsigned request_count;
    console console; /* what its code has defined */
    pid_t peer;      /* the client's process, and its user */
    uid_t uid;
    bool closing;
    bool last_words; /* it is closed when all is written */
    bool held;       /* events had to be dropped, or wait */
    bool paused;     /* it has asked for so much that the rest is for the next turn */
};

/* Takes the next connection of `listener`. NULL: there is none, or it is refused. */
struct session *session_accept(struct control *control, struct streams *streams,
                               uv_stream_t *listener);
void session_close(struct session *s);
/* Now and then: a client that has begun a frame has to end it. */
void session_check(struct session *s, uint64_t now);
/* Between two turns: goes on with what it was paused with. */
void session_go_on(struct session *s);
/* Between two turns: writes what the sessions have for their clients. */
void sessions_flush(struct streams *streams);

/* ---- for verbs ---- */

/* The last one to a request, which is freed: an answer (takes `result`), or why there is none. */
void request_answer(struct request *r, json_t *result);
void request_refuse(struct request *r, const char *code, const char *message,
                    const char *traceback);

/* Whether an event would be dropped now. */
bool request_is_held(const struct request *r);
/* Takes `data`. At the cap the event is dropped and counted. */
void request_event(struct request *r, const char *name, json_t *data);
/* The same with data that is JSON already. */
void request_event_text(struct request *r, const char *name, const char *json);
/* Counts events that were not even made. */
void request_drop(struct request *r, uint64_t count);

/* server.c: the session is closed. */
void control_session_ended(struct control *control);
/* verbs.c: begins what a request asks for. */
void verb_begin(struct request *r, const char *verb, json_t *args);

#endif
