/* What a subscription asks for. It does not change, and is shared by what a script or the host
 * declared, by the subscription of the connection, and by that of each link: counted. Any thread.
 */
#ifndef MD_LINK_INTEREST_H
#define MD_LINK_INTEREST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *subject, *queue;              /* queue NULL: none */
    uint64_t max;                             /* unsubscribed after so many messages; 0: never */
    uint64_t pending_messages, pending_bytes; /* 0: no limit */
} interest_options;

struct interest {
    atomic_uint references;
    uint32_t pending_messages; /* what is more than fits is UINT32_MAX */
    uint64_t max, pending_bytes;
    uint16_t queue_at; /* in `subject`; 0: none */
    char subject[];    /* and the queue group behind it */
};

/* For the caller to release. The strings are copied. NULL: no memory, or a subject that is longer
 * than any that subject_check() lets pass. */
struct interest *interest_new(const interest_options *o);
struct interest *interest_retain(struct interest *i);
void interest_release(struct interest *i); /* NULL is harmless */

static inline const char *interest_queue(const struct interest *i) /* NULL: none */
{
    return i->queue_at > 0 ? i->subject + i->queue_at : NULL;
}

/* Whether subject and queue are the same. */
bool interest_is_alike(const struct interest *a, const struct interest *b);
/* Of subject and queue. */
uint32_t interest_hash(const struct interest *i);

#endif
