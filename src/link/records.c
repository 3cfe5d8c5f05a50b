/* Records in chunks. See records.h. Runs on whatever thread has the queue. */
#include "link/records.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_SMALL 2048u /* a lone request costs little memory */
#define CHUNK_LARGE 65536u

static unsigned digits(size_t number)
{
    unsigned count = 1;
    while ((number /= 10) > 0)
        count++;
    return count;
}

static size_t message_length(const record_message *m)
{
    size_t reply = m->reply_length > 0 ? m->reply_length + 1 : 0;
    return sizeof "PUB  \r\n\r\n" - 1 + m->subject_length + reply + digits(m->data_length) +
           m->header_length + m->data_length;
}

size_t record_message_size(const record_message *m)
{
    return sizeof(record) + message_length(m);
}

static record_chunk *add_chunk(record_queue *q, size_t size)
{
    size_t capacity = q->tail == NULL ? CHUNK_SMALL : CHUNK_LARGE;
    if (capacity < size)
        capacity = (size + _Alignof(record) - 1) & ~(_Alignof(record) - 1);
    record_chunk *c = malloc(sizeof *c + capacity);
    if (c == NULL)
        return NULL;
    *c = (record_chunk){.capacity = capacity};
    if (q->tail != NULL)
        q->tail->next = c;
    else
        q->head = c;
    q->tail = c;
    return c;
}

/* A record with so many bytes, to be written by the caller. */
static record *add_record(record_queue *q, record_type type, size_t length, char **bytes)
{
    record_chunk *c = q->tail;
    size_t size = sizeof(record) + length;
    if ((c == NULL || c->capacity - c->used - c->count * sizeof(record) < size) &&
        (c = add_chunk(q, size)) == NULL)
        return NULL;
    record *r = record_at(c, c->count++);
    r->length = (uint32_t)length;
    r->type = type;
    *bytes = c->bytes + c->used;
    c->used += length;
    q->bytes += size;
    c->publishes += type == RECORD_PUBLISH;
    q->publishes += type == RECORD_PUBLISH;
    return r;
}

static char *put(char *at, const char *bytes, size_t length)
{
    if (length > 0)
        memcpy(at, bytes, length);
    return at + length;
}

static char *put_number(char *at, size_t number)
{
    char *end = at + digits(number);
    for (at = end; at == end || number > 0; number /= 10)
        *--at = (char)('0' + number % 10);
    return end;
}

int record_push_message(record_queue *q, const record_message *m)
{
    char *at;
    record *r = add_record(q, RECORD_PUBLISH, message_length(m), &at);
    if (r == NULL)
        return -1;
    r->bytes = at;
    r->subject_length = (uint32_t)m->subject_length;
    r->reply_length = (uint32_t)m->reply_length;
    r->header_length = (uint32_t)m->header_length;
    r->data_length = (uint32_t)m->data_length;
    at = put(at, "PUB ", 4);
    at = put(at, m->subject, m->subject_length);
    *at++ = ' ';
    if (m->reply_length > 0) {
        at = put(at, m->reply, m->reply_length);
        *at++ = ' ';
    }
    at = put_number(at, m->data_length);
    at = put(at, "\r\n", 2);
    at = put(at, m->headers, m->header_length);
    at = put(at, m->data, m->data_length);
    put(at, "\r\n", 2);
    return 0;
}

int record_push_command(record_queue *q, record_type type, void *pointer, uint64_t number,
                        uint64_t value)
{
    char *none;
    record *r = add_record(q, type, 0, &none);
    if (r == NULL)
        return -1;
    r->pointer = pointer;
    r->number = number;
    r->value = value;
    return 0;
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

static size_t chunk_size(const record_chunk *c)
{
    return c->used + c->count * sizeof(record);
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
    q->bytes -= chunk_size(c);
    q->publishes -= c->publishes;
    return c;
}

int record_queue_copy(record_queue *q, const record *r)
{
    char *bytes;
    record *copy = add_record(q, (record_type)r->type, r->length, &bytes);
    if (copy == NULL)
        return -1;
    *copy = *r;
    if (r->type == RECORD_PUBLISH)
        memcpy(copy->bytes = bytes, r->bytes, r->length);
    return 0;
}

void record_queue_prepend(record_queue *q, record_chunk *c)
{
    c->next = q->head;
    q->head = c;
    if (q->tail == NULL)
        q->tail = c;
    q->bytes += chunk_size(c);
    q->publishes += c->publishes;
}

uint64_t record_queue_salvage(record_queue *q, const record_chunk *c, size_t first)
{
    uint64_t lost = 0;
    for (size_t i = first; i < c->count; i++) {
        const record *r = record_at(c, i);
        if (r->type == RECORD_PUBLISH)
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
