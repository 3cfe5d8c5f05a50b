/* See living.h. Any thread. */
#include "link/living.h"

#include <pthread.h>
#include <stdint.h>

#include "link/link_private.h"

#define BUCKETS 256u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct link *buckets[BUCKETS];
static uintptr_t last_number;

void living_enter(struct link *l)
{
    pthread_mutex_lock(&lock);
    l->living_number = ++last_number;
    struct link **bucket = &buckets[l->living_number % BUCKETS];
    l->living_next = *bucket;
    *bucket = l;
    pthread_mutex_unlock(&lock);
}

void living_leave(struct link *l)
{
    pthread_mutex_lock(&lock);
    struct link **at = &buckets[l->living_number % BUCKETS];
    while (*at != l)
        at = &(*at)->living_next;
    *at = l->living_next;
    pthread_mutex_unlock(&lock);
}

/* False: its last reference was given back, and it is about to leave. */
static bool retain_if_alive(struct link *l)
{
    int references = atomic_load(&l->references);
    while (references > 0)
        if (atomic_compare_exchange_weak(&l->references, &references, references + 1))
            return true;
    return false;
}

struct link *living_find(void *number)
{
    uintptr_t wanted = (uintptr_t)number;
    pthread_mutex_lock(&lock);
    struct link *l = buckets[wanted % BUCKETS];
    while (l != NULL && l->living_number != wanted)
        l = l->living_next;
    if (l != NULL && !retain_if_alive(l))
        l = NULL;
    pthread_mutex_unlock(&lock);
    return l;
}
