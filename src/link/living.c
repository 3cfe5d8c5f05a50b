/* See living.h. Any thread. */
#include "link/living.h"

#include <pthread.h>
#include <stdint.h>

#include "link/link_private.h"

#define BUCKETS 256u

/* The one variable of the library: the callback thread of the NATS library is the process's, too.
 */
static struct {
    pthread_mutex_t lock;
    struct link *buckets[BUCKETS];
    uintptr_t last_number;
} living = {.lock = PTHREAD_MUTEX_INITIALIZER};

void living_enter(struct link *l)
{
    pthread_mutex_lock(&living.lock);
    l->living_number = ++living.last_number;
    struct link **bucket = &living.buckets[l->living_number % BUCKETS];
    l->living_next = *bucket;
    *bucket = l;
    pthread_mutex_unlock(&living.lock);
}

void living_leave(struct link *l)
{
    pthread_mutex_lock(&living.lock);
    struct link **at = &living.buckets[l->living_number % BUCKETS];
    while (*at != l)
        at = &(*at)->living_next;
    *at = l->living_next;
    pthread_mutex_unlock(&living.lock);
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
    pthread_mutex_lock(&living.lock);
    struct link *l = living.buckets[wanted % BUCKETS];
    while (l != NULL && l->living_number != wanted)
        l = l->living_next;
    if (l != NULL && !retain_if_alive(l))
        l = NULL;
    pthread_mutex_unlock(&living.lock);
    return l;
}
