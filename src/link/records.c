/* Records in chunks. See records.h. Runs on whatever thread has the queue. */
#include "link/records.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_SMALL 2048u /* a lone request costs little memory */
#define CHUNK_LARGE 65536u

/* All but its size is still to be written. */
static record *record_reserve(record_queue *q, size_t size)
{
    record_chunk *c = q->tail;
    if (c == NULL || c->capacity - c->used < size) {
        size_t capacity = q->tail == NULL ? CHUNK_SMALL : CHUNK_LARGE;
        if (capacity < size)
            capacity = size;
        c = malloc(sizeof *c + capacity);
        if (c == NULL)
            return NULL;
        *c = (record_chunk){.capacity = capacity};
        if (q->tail != NULL)
            q->tail->next = c;
        else
            q->head = c;
        q->tail = c;
    }
    record *r = (record *)(void *)(c->bytes + c->used);
    r->size = (uint32_t)size;
    c->used += size;
    q->bytes += size;
    return r;
}

static char *put(char *at, const char *bytes, size_t length)
{
    if (length > 0)
        memcpy(at, bytes, length);
    at[length] = '\0';
    return at + length + 1;
}

int record_push_message(record_queue *q, const record_message *m)
{
    record *r = record_reserve(q, record_message_size(m));
    if (r == NULL)
        return -1;
    r->type = RECORD_PUBLISH;
    r->subject_length = (uint32_t)m->subject_length;
    r->reply_length = (uint32_t)m->reply_length;
    r->header_length = (uint32_t)m->header_length;
    r->header_count = m->header_count;
    r->data_length = (uint32_t)m->data_length;
    char *at = (char *)(r + 1);
    at = put(at, m->subject, m->subject_length);
    at = put(at, m->reply, m->reply_length);
    at = put(at, m->headers, m->header_length);
    put(at, m->data, m->data_length);
    q->tail->publishes++;
    q->publishes++;
    return 0;
}

int record_push_command(record_queue *q, record_type type, void *pointer, uint64_t number,
                        uint64_t value)
{
    record *r = record_reserve(q, (sizeof(record) + 7) & ~(size_t)7);
    if (r == NULL)
        return -1;
    r->type = type;
    r->pointer = pointer;
    r->number = number;
    r->value = value;
    return 0;
}

record *record_chunk_first(record_chunk *c)
{
    return c->read < c->used ? (record *)(void *)(c->bytes + c->read) : NULL;
}

void record_queue_append(record_queue *to, record_queue *from)
{
    if (from->head == NULL)
        return;
    if (to->tail != NULL)
        to->tail->next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    to->bytes += from->bytes;
    to->publishes += from->publishes;
    *from = (record_queue){0};
}

/* Bytes and publishes of a chunk that are not done. */
static void chunk_count(const record_chunk *c, size_t *bytes, uint64_t *publishes)
{
    *bytes = c->used - c->read;
    *publishes = c->read == 0 ? c->publishes : 0;
    if (c->read == 0)
        return; /* without a look at memory that has left the caches */
    for (size_t at = c->read; at < c->used;) {
        const record *r = (const record *)(const void *)(c->bytes + at);
        *publishes += r->type == RECORD_PUBLISH;
        at += r->size;
    }
}

record_chunk *record_queue_take(record_queue *q)
{
    record_chunk *c = q->head;
    if (c == NULL)
        return NULL;
    q->head = c->next;
    if (q->head == NULL)
        q->tail = NULL;
    c->next = NULL;
    size_t bytes;
    uint64_t publishes;
    chunk_count(c, &bytes, &publishes);
    q->bytes -= bytes;
    q->publishes -= publishes;
    return c;
}

int record_queue_copy(record_queue *q, const record *r)
{
    record *copy = record_reserve(q, r->size);
    if (copy == NULL)
        return -1;
    memcpy(copy, r, r->size);
    q->tail->publishes += r->type == RECORD_PUBLISH;
    q->publishes += r->type == RECORD_PUBLISH;
    return 0;
}

void record_queue_prepend(record_queue *q, record_chunk *c)
{
    size_t bytes;
    uint64_t publishes;
    chunk_count(c, &bytes, &publishes);
    c->next = q->head;
    q->head = c;
    if (q->tail == NULL)
        q->tail = c;
    q->bytes += bytes;
    q->publishes += publishes;
}

uint64_t record_queue_salvage(record_queue *q, const record_chunk *c, size_t read)
{
    uint64_t lost = 0;
    for (size_t at = read; at < c->used;) {
        const record *r = (const record *)(const void *)(c->bytes + at);
        at += r->size;
        if (r->type != RECORD_PUBLISH)
            continue;
        lost += record_queue_copy(q, r) != 0;
    }
    return lost;
}

void record_queue_clear(record_queue *q)
{
    for (record_chunk *c = q->head; c != NULL;) {
        record_chunk *next = c->next;
        free(c);
        c = next;
    }
    *q = (record_queue){0};
}
