/* Memory for plain data that is freed in one go: no more than MD_DATA_BYTES_MAX of it. One thread
 * at a time. */
#ifndef MD_HOST_ARENA_H
#define MD_HOST_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena_block;

/* {0} is an empty one. */
typedef struct {
    struct arena_block *newest;
    size_t bytes; /* that were taken, of MD_DATA_BYTES_MAX */
    bool full;    /* something was refused because it did not fit */
} arena;

/* Aligned for any type. NULL: it does not fit (`full` says so), or there is no memory. */
void *arena_take(arena *a, size_t size);
/* Frees all that was taken; it is empty then. */
void arena_free(arena *a);

/* What is left of MD_DATA_BYTES_MAX. */
size_t arena_room(const arena *a);

#endif
