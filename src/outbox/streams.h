/* What an outbox knows of streams, and asks them: which one takes a subject, and whether it has a
 * message. One question at a time. Loop thread; never waits. */
#ifndef MD_OUTBOX_STREAMS_H
#define MD_OUTBOX_STREAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "outbox/ack.h"

struct connection;

/* Known at a time; the one that was asked for longest ago is forgotten. */
#define STREAMS_MAX 32u
/* Messages of the subject that a look goes through, from the last acknowledged one on. */
#define STREAMS_LOOK_MAX 100000u
#define STREAMS_TIMEOUT_MS 5000u

struct known_stream {
    unsigned number; /* 1, 2, ...; a name that is asked for again gets another one */
    char name[STREAM_NAME_SIZE];
    int64_t window; /* ms */
    bool replicated;
    uint64_t last; /* the largest sequence that was heard of */
    char **subjects;
    size_t subject_count;
};

typedef struct {
    const struct known_stream *stream; /* of a FIND */
    bool found;                        /* of a LOOK */
    uint64_t sequence;                 /* of a LOOK: where it is; or up to where it was looked */
    uint64_t last; /* of a LOOK that has not found it: of the subject's last message; 0: none */
} streams_answer;

/* Exactly once, unless cancelled, and never from within the question. *e has code "" when there is
 * an answer; "look_too_long": a LOOK has gone through STREAMS_LOOK_MAX messages. */
typedef void (*streams_done)(void *closure, const streams_answer *answer, const error *e);

struct streams {
    struct known_stream known[STREAMS_MAX];
    unsigned count, next_number;
    /* The question that is under way. */
    struct connection *connection; /* NULL: none */
    uint64_t request;
    uint64_t deadline; /* ms */
    int stage;
    char *subject, *msg_id;
    char name[STREAM_NAME_SIZE];
    uint64_t sequence; /* looked at next */
    uint64_t last;     /* message of the subject that was looked at; 0: none */
    unsigned looked;
    streams_done done;
    void *closure;
};

/* The stream that takes this subject, as far as that is known; NULL: ask. */
const struct known_stream *streams_find(const struct streams *s, const char *subject,
                                        size_t length);
const struct known_stream *streams_get(const struct streams *s, unsigned number);

/* It has a message of this sequence. */
void streams_note_last(struct streams *s, const char *name, uint64_t sequence);

/* -1 and *e: it could not be asked. */
int streams_ask(struct streams *s, struct connection *c, const char *subject, error *e);
/* Whether the stream has a message with this id on the subject, at `from` or behind. */
int streams_look(struct streams *s, struct connection *c, const struct known_stream *stream,
                 const char *subject, const char *msg_id, uint64_t from, error *e);
bool streams_busy(const struct streams *s);
/* Ends a question that is overdue, with the error "timeout". */
void streams_check(struct streams *s, uint64_t now);
/* The question is not answered any more. */
void streams_cancel(struct streams *s);
/* Nothing is known any more. */
void streams_forget(struct streams *s);

#endif
