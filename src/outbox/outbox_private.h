/* The inside of an outbox, shared by outbox.c (its life), publish.c (what comes in), drive.c (what
 * goes out) and outboxes.c (those of a runtime). Loop thread. */
#ifndef MD_OUTBOX_OUTBOX_PRIVATE_H
#define MD_OUTBOX_OUTBOX_PRIVATE_H

#include "link/records.h"
#include "outbox/forward.h"
#include "outbox/outbox.h"
#include "outbox/streams.h"

#define OUTBOX_ID_SIZE 48

struct outbox_flush {
    struct outbox_flush *next;
    struct outbox *outbox;
    int64_t target; /* id; -1: not known yet */
    outbox_told told;
    void *closure;
};

struct outbox {
    struct outbox *next;
    struct hub *hub;
    char *path;
    const char *name; /* in path */
    outbox_options options;
    struct connection *(*source)(void *closure);
    void *source_closure;
    unsigned users;
    writer *writer;
    uv_timer_t timer;
    bool closing, timer_closed;

    /* drive.c */
    forward forward;
    struct connection *connection; /* NULL: no link */
    struct streams streams;
    size_t flight_bytes;
    int64_t asked; /* the id of the entry that a question is about */
    bool reading, expiring;
    bool expiry;         /* there is one that expires, or was */
    uint64_t timer_at;   /* ms; 0: it does not run */
    int64_t read_to;     /* the file was read up to this id */
    int64_t expire_to;   /* and looked through for what has expired; 0: from the first one */
    uint64_t expire_at;  /* ms */
    store_places places; /* where the last acknowledged entries are */
    bool places_known;
    uint64_t behind_since; /* ms: a stream knows less than it has acknowledged; 0: none does */
    double tokens;         /* of the rate */
    uint64_t tokens_at;    /* ms; 0: not yet */
    double delay;          /* seconds; the last one */
    error why;             /* nothing is acknowledged now; code "": nothing */
    outbox_state state, told_state;
    char told_code[ERROR_CODE_SIZE]; /* of the last line of the log about it */
    uint64_t aside_told_at;          /* ms */
    uint64_t aside_untold;
    uint64_t expired_untold, expired_told_at;
    char *scratch; /* for headers */
    size_t scratch_size;

    /* publish.c */
    char prefix[OUTBOX_ID_SIZE - 20]; /* of message ids */
    uint64_t serial;
    struct outbox_flush *flushes;

    uint64_t forwarded, duplicates, dropped, expired, refused;
};

/* publish.c */
void outbox_make_prefix(struct outbox *o);
/* Tells those whose time has come. */
void outbox_check_flushes(struct outbox *o);
void outbox_fail_flushes(struct outbox *o);

/* drive.c */
void outbox_drive(struct outbox *o);
/* Nothing is in flight any more, and no entry in memory. */
void outbox_stop_driving(struct outbox *o);

/* send.c */
/* Carries a step out. False: nothing more can be done now. */
bool outbox_carry_out(struct outbox *o, const forward_step *step, uint64_t now);
/* Gives up what was not answered in time. */
void outbox_check_overdue(struct outbox *o, uint64_t now);
/* When the next one is due: ms; 0: none. */
uint64_t outbox_next_overdue(struct outbox *o);
/* What it takes on its way, about. */
size_t outbox_entry_size(const outbox_entry *entry);
bool outbox_is_looking(const struct outbox *o);
/* The headers that a message gets, in memory of the outbox; each may be NULL. -1: no memory. */
typedef struct {
    const char *msg_id;
    const char *expected; /* the id of the message that has to be the stream's last one */
    const char *after;    /* the number of the one that has to be its subject's last one */
    const char *own;      /* those that it has */
    size_t own_length;
} outbox_header_wish;
int outbox_headers(struct outbox *o, record_message *m, const outbox_header_wish *wish);

/* settle.c: what becomes of an entry in the file. */
void outbox_remove_entry(struct outbox *o, int64_t id, const char *stream, uint64_t sequence);
void outbox_set_aside(struct outbox *o, const outbox_entry *entry, const error *e);
bool outbox_has_expired(const forward_entry *f, int64_t wall);
void outbox_expire_entry(struct outbox *o, forward_entry *f);
void outbox_entry_replaced(struct outbox *o, int64_t id);
/* Frees those in memory that are done. */
void outbox_free_done(struct outbox *o);
/* Between two turns: looks for what has expired behind those in memory. */
void outbox_expire_more(struct outbox *o, uint64_t now);

#endif
