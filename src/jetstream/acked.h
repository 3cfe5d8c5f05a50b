/* Which messages of a stream were acknowledged: a bit each, in pages that are made where they are
 * needed. A server that loses all that it knew of a consumer delivers everything again, from the
 * first message on. Loop thread. */
#ifndef MD_JETSTREAM_ACKED_H
#define MD_JETSTREAM_ACKED_H

#include <stdbool.h>
#include <stdint.h>

#define ACKED_PAGE 4096u      /* sequences in a page: half a kilobyte */
#define ACKED_PAGES_MAX 4096u /* 16 million sequences in a row; beyond it the oldest page goes */

struct acked_page;

typedef struct {
    struct acked_page *pages; /* NULL: none was acknowledged */
} acked_set;

void acked_clear(acked_set *set);
/* Message `seq`, stored at `time`. Without memory it is not remembered, and may be handled again.
 */
void acked_add(acked_set *set, uint64_t seq, uint64_t time);
/* One with a later time than all that were acknowledged around it is of a stream that has begun
 * anew. */
bool acked_has(const acked_set *set, uint64_t seq, uint64_t time);

#endif
