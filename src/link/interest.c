/* What subscriptions ask for. See interest.h. */
#include "link/interest.h"

#include <stdlib.h>
#include <string.h>

struct interest *interest_new(const interest_options *o)
{
    size_t subject_size = strlen(o->subject) + 1;
    size_t queue_size = o->queue != NULL ? strlen(o->queue) + 1 : 0;
    if (subject_size > UINT16_MAX)
        return NULL;
    struct interest *i = malloc(offsetof(struct interest, subject) + subject_size + queue_size);
    if (i == NULL)
        return NULL;
    atomic_init(&i->references, 1);
    i->pending_messages =
        o->pending_messages < UINT32_MAX ? (uint32_t)o->pending_messages : UINT32_MAX;
    i->max = o->max;
    i->pending_bytes = o->pending_bytes;
    i->queue_at = queue_size > 0 ? (uint16_t)subject_size : 0;
    memcpy(i->subject, o->subject, subject_size);
    if (queue_size > 0)
        memcpy(i->subject + subject_size, o->queue, queue_size);
    return i;
}

struct interest *interest_retain(struct interest *i)
{
    atomic_fetch_add_explicit(&i->references, 1, memory_order_relaxed);
    return i;
}

void interest_release(struct interest *i)
{
    if (i != NULL && atomic_fetch_sub_explicit(&i->references, 1, memory_order_acq_rel) == 1)
        free(i);
}

bool interest_is_alike(const struct interest *a, const struct interest *b)
{
    const char *left = interest_queue(a), *right = interest_queue(b);
    return a->queue_at == b->queue_at && strcmp(a->subject, b->subject) == 0 &&
           (left == NULL || strcmp(left, right) == 0);
}

/* FNV-1a */
static uint32_t hash_on(uint32_t hash, const char *text)
{
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash;
}

uint32_t interest_hash(const struct interest *i)
{
    const char *queue = interest_queue(i);
    uint32_t hash = hash_on(2166136261u, i->subject);
    return queue != NULL ? hash_on(hash_on(hash, " "), queue) : hash;
}
