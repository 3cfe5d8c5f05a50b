/* Frames of the control protocol: a length of four bytes, the most significant first, and as many
 * bytes of JSON. Pure: no I/O. */
#ifndef MD_CONTROL_FRAME_H
#define MD_CONTROL_FRAME_H

#include <stdbool.h>
#include <stddef.h>

#define FRAME_HEAD 4
#define FRAME_BYTES_MAX (1024u * 1024) /* of the JSON */

/* Bytes that came and are no whole frame yet. {0} is empty. */
typedef struct {
    char *bytes;
    size_t length, capacity;
    size_t taken; /* of the frame that was taken last */
} frame_reader;

/* Adds what came. -1: no memory. */
int frame_add(frame_reader *r, const char *bytes, size_t length);
/* The next whole frame: its JSON, which ends with a zero byte that does not count, until the next
 * call. NULL: none yet, or, with *bad, one that is too large: there is no way on from there. */
char *frame_take(frame_reader *r, size_t *length, bool *bad);
/* Whether a part of a frame is there that frame_take() has not given out. */
bool frame_is_partial(const frame_reader *r);
/* Whether frame_take() would have something to tell. */
bool frame_is_there(const frame_reader *r);
void frame_clear(frame_reader *r);

/* Head and JSON at `out`, which has room for FRAME_HEAD + length bytes, FRAME_BYTES_MAX at most. */
void frame_write(const char *json, size_t length, char *out);
/* Head and JSON as one block, to be freed. NULL: too large, or no memory. */
char *frame_make(const char *json, size_t length, size_t *size);

#endif
