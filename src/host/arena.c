/* Memory that is freed in one go. See arena.h. One thread at a time. */
#include "host/arena.h"

#include <stddef.h>
#include <stdlib.h>

#include "moondog.h"

#define FIRST_BLOCK 512u
#define BLOCK_MAX (64u * 1024)

struct arena_block {
    struct arena_block *older;
    size_t used, size;
    _Alignas(max_align_t) char bytes[];
};

size_t arena_room(const arena *a)
{
    return MD_DATA_BYTES_MAX - a->bytes;
}

static size_t aligned(size_t size)
{
    const size_t to = _Alignof(max_align_t);
    return (size + to - 1) / to * to;
}

/* A block with room for `size` bytes. */
static struct arena_block *add_block(arena *a, size_t size)
{
    size_t next = a->newest != NULL ? a->newest->size * 2 : FIRST_BLOCK;
    if (next > BLOCK_MAX)
        next = BLOCK_MAX;
    if (next < size)
        next = size;
    struct arena_block *b = malloc(sizeof *b + next);
    if (b == NULL)
        return NULL;
    b->older = a->newest;
    b->used = 0;
    b->size = next;
    a->newest = b;
    return b;
}

void *arena_take(arena *a, size_t size)
{
    if (size > arena_room(a)) {
        a->full = true;
        return NULL;
    }
    size_t whole = aligned(size > 0 ? size : 1);
    struct arena_block *b = a->newest;
    if ((b == NULL || b->size - b->used < whole) && (b = add_block(a, whole)) == NULL)
        return NULL;
    void *taken = b->bytes + b->used;
    b->used += whole;
    a->bytes += size;
    return taken;
}

void arena_free(arena *a)
{
    while (a->newest != NULL) {
        struct arena_block *b = a->newest;
        a->newest = b->older;
        free(b);
    }
    *a = (arena){0};
}
