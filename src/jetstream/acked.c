/* Sets of sequences. See acked.h. Loop thread. */
#include "jetstream/acked.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define WORD 64u

struct acked_page {
    uint64_t number;
    uint64_t time; /* of the latest one; times grow with sequences */
    uint64_t bits[ACKED_PAGE / WORD];
    UT_hash_handle hh; /* in the order in which they were made */
};

static struct acked_page *find(const acked_set *set, uint64_t seq)
{
    struct acked_page *p = NULL;
    uint64_t number = seq / ACKED_PAGE;
    HASH_FIND(hh, set->pages, &number, sizeof number, p);
    return p;
}

static void drop(acked_set *set, struct acked_page *p)
{
    HASH_DEL(set->pages, p);
    free(p);
}

void acked_clear(acked_set *set)
{
    struct acked_page *p, *next;
    HASH_ITER(hh, set->pages, p, next)
    {
        drop(set, p);
    }
}

static struct acked_page *make(acked_set *set, uint64_t seq)
{
    if (HASH_COUNT(set->pages) >= ACKED_PAGES_MAX)
        drop(set, set->pages);
    struct acked_page *p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    p->number = seq / ACKED_PAGE;
    HASH_ADD(hh, set->pages, number, sizeof p->number, p);
    if (hash_has(p))
        return p;
    free(p);
    return NULL;
}

static uint64_t bit_of(uint64_t seq)
{
    return UINT64_C(1) << (seq % WORD);
}

static uint64_t *word_of(struct acked_page *p, uint64_t seq)
{
    return &p->bits[seq % ACKED_PAGE / WORD];
}

void acked_add(acked_set *set, uint64_t seq, uint64_t time)
{
    struct acked_page *p = find(set, seq);
    bool anew = p != NULL && (*word_of(p, seq) & bit_of(seq)) != 0 && time > p->time;
    if (anew) {
        drop(set, p);
        p = NULL;
    }
    if (p == NULL && (p = make(set, seq)) == NULL)
        return;
    *word_of(p, seq) |= bit_of(seq);
    if (time > p->time)
        p->time = time;
}

bool acked_has(const acked_set *set, uint64_t seq, uint64_t time)
{
    struct acked_page *p = find(set, seq);
    return p != NULL && time <= p->time && (*word_of(p, seq) & bit_of(seq)) != 0;
}
