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

/* Followed by subject, reply, headers and data, each with a NUL behind it. The headers are
 * `header_count` pairs of NUL-terminated strings. */
typedef struct {
    uint32_t size; /* of the whole record, a multiple of 8 */
    uint32_t type;
    union {
        struct { /* RECORD_PUBLISH */
            uint32_t subject_length, reply_length, header_length, header_count, data_length;
        };
        struct { /* all others */
            void *pointer;
            uint64_t number;
            uint64_t value;
        };
    };
} record;

typedef struct record_chunk {
    struct record_chunk *next;
    size_t capacity, used;
    size_t read;        /* up to where the records are done */
    uint64_t publishes; /* among all of its records */
    char bytes[];
} record_chunk;

typedef struct {
    record_chunk *head, *tail;
    size_t bytes;       /* of the records that are not done */
    uint64_t publishes; /* among them */
} record_queue;

/* What a publish consists of; borrowed for the call. */
typedef struct {
    const char *subject, *reply, *headers, *data;
    size_t subject_length, reply_length, header_length, data_length;
    uint32_t header_count;
} record_message;

/* The bytes that a publish of this message takes in a queue. */
static inline size_t record_message_size(const record_message *m)
{
    size_t size = sizeof(record) + m->subject_length + 1 + m->reply_length + 1 + m->header_length +
                  1 + m->data_length + 1;
    return (size + 7) & ~(size_t)7;
}

/* Appends. -1 when out of memory, and the queue is as before. */
int record_push_message(record_queue *q, const record_message *m);
int record_push_command(record_queue *q, record_type type, void *pointer, uint64_t number,
                        uint64_t value);

static inline const char *record_subject(const record *r)
{
    return (const char *)(r + 1);
}

/* "" when there is none. */
static inline const char *record_reply(const record *r)
{
    return record_subject(r) + r->subject_length + 1;
}

static inline const char *record_headers(const record *r)
{
    return record_reply(r) + r->reply_length + 1;
}

static inline const char *record_data(const record *r)
{
    return record_headers(r) + r->header_length + 1;
}

/* The first record of a chunk that is not done, or NULL. */
record *record_chunk_first(record_chunk *c);

/* Moves all of `from` behind the end of `to`. */
void record_queue_append(record_queue *to, record_queue *from);
/* Takes the first chunk out. The caller frees it with free(). NULL when the queue is empty. */
record_chunk *record_queue_take(record_queue *q);
/* Appends copies of the publishes of a chunk from offset `read` on; other records are dropped.
 * Returns how many could not be copied because there was no memory. */
uint64_t record_queue_salvage(record_queue *q, const record_chunk *c, size_t read);
/* Appends a copy of one record. -1: no memory. */
int record_queue_copy(record_queue *q, const record *r);
/* Puts a chunk in front of everything. */
void record_queue_prepend(record_queue *q, record_chunk *c);
void record_queue_clear(record_queue *q);

#endif
