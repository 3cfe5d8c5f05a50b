/* Records: what the loop asks of a link's worker, in order: publishes, subscribes, unsubscribes,
 * flushes. They lie one behind the other in chunks of memory, so that a publish costs no allocation
 * of its own. A queue belongs to one thread at a time; handing over means moving chunks. */
#ifndef MD_LINK_RECORDS_H
#define MD_LINK_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    RECORD_PUBLISH,
    RECORD_SUBSCRIBE,   /* pointer: a link_sub; number: unsubscribed after so many; 0: never */
    RECORD_UNSUBSCRIBE, /* pointer: a link_sub */
    RECORD_DRAIN,       /* pointer: a link_sub */
    RECORD_FLUSH,       /* number: a token that comes back; value: deadline in ms */
} record_type;

/* A publish's bytes are it as it is on the wire, "PUB subject reply length\r\ndata\r\n". Headers
 * are before the data, as pairs of NUL-terminated strings: the wire has them in another form. */
typedef struct {
    uint32_t length; /* of the bytes; only a publish has any */
    uint32_t type;
    union {
        struct { /* RECORD_PUBLISH */
            char *bytes;
            uint32_t subject_length, reply_length, header_length, data_length;
        };
        struct { /* all others */
            void *pointer;
            uint64_t number;
            uint64_t value;
        };
    };
} record;

/* Bytes from the start, records from the end. So publishes that follow each other are one piece of
 * memory, which is sent as it is. */
typedef struct record_chunk {
    struct record_chunk *next;
    size_t capacity, used; /* of the bytes */
    size_t count;          /* records */
    uint64_t publishes;    /* among them */
    char bytes[];
} record_chunk;

typedef struct {
    record_chunk *head, *tail;
    size_t bytes;       /* of the records, with their own */
    uint64_t publishes; /* among them */
} record_queue;

/* What a publish consists of; borrowed for the call. */
typedef struct {
    const char *subject, *reply, *headers, *data;
    size_t subject_length, reply_length, header_length, data_length;
    uint32_t header_count;
} record_message;

/* The bytes that a publish of this message takes in a queue. */
size_t record_message_size(const record_message *m);

/* Appends. -1 when out of memory, and the queue is as before. */
int record_push_message(record_queue *q, const record_message *m);
int record_push_command(record_queue *q, record_type type, void *pointer, uint64_t number,
                        uint64_t value);

/* None of them ends with a NUL. Behind the subject is a space, and behind a reply. */
static inline char *record_subject(const record *r)
{
    return r->bytes + sizeof "PUB " - 1;
}

static inline char *record_reply(const record *r)
{
    return record_subject(r) + r->subject_length + 1;
}

static inline const char *record_data(const record *r)
{
    return r->bytes + r->length - (sizeof "\r\n" - 1) - r->data_length;
}

static inline const char *record_headers(const record *r)
{
    return record_data(r) - r->header_length;
}

/* What it takes in a queue. */
static inline size_t record_size(const record *r)
{
    return sizeof *r + r->length;
}

/* 0 is the first one. */
static inline record *record_at(const record_chunk *c, size_t index)
{
    return (record *)(void *)(c->bytes + c->capacity) - 1 - index;
}

/* Moves all of `from` behind the end of `to`. */
void record_queue_append(record_queue *to, record_queue *from);
/* Takes the first chunk out. The caller frees it with free(). NULL when the queue is empty. */
record_chunk *record_queue_take(record_queue *q);
/* Appends copies of the publishes of a chunk from record `first` on; other records are dropped.
 * Returns how many could not be copied because there was no memory. */
uint64_t record_queue_salvage(record_queue *q, const record_chunk *c, size_t first);
/* Appends a copy of one record. -1: no memory. */
int record_queue_copy(record_queue *q, const record *r);
/* Puts a chunk in front of everything. */
void record_queue_prepend(record_queue *q, record_chunk *c);
void record_queue_clear(record_queue *q);

#endif
