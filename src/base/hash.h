/* Hash tables (uthash) that can run out of memory: uthash would end the process then. After each
 * HASH_ADD...() ask hash_has(): when it is false, the element is not in the table, and the caller's
 * again. */
#ifndef MD_BASE_HASH_H
#define MD_BASE_HASH_H

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define hash_has(element) ((element)->hh.tbl != NULL)

#endif
