/* Frames of the control protocol. See frame.h. */
#include "control/frame.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static size_t read_length(const char *head)
{
    const unsigned char *b = (const unsigned char *)head;
    return ((size_t)b[0] << 24) | ((size_t)b[1] << 16) | ((size_t)b[2] << 8) | b[3];
}

/* The frame that was taken goes; its first byte behind was set aside for the zero. */
static void drop_taken(frame_reader *r)
{
    if (r->taken == 0)
        return;
    r->length -= r->taken;
    memmove(r->bytes, r->bytes + r->taken, r->length);
    r->taken = 0;
}

int frame_add(frame_reader *r, const char *bytes, size_t length)
{
    drop_taken(r);
    if (r->bytes == NULL || r->capacity - r->length < length) {
        size_t capacity = r->length + length + 4096;
        char *more = realloc(r->bytes, capacity);
        if (more == NULL)
            return -1;
        r->bytes = more;
        r->capacity = capacity;
    }
    memcpy(r->bytes + r->length, bytes, length);
    r->length += length;
    return 0;
}

char *frame_take(frame_reader *r, size_t *length, bool *bad)
{
    *bad = false;
    drop_taken(r);
    if (r->length < FRAME_HEAD)
        return NULL;
    *length = read_length(r->bytes);
    if (*length > FRAME_BYTES_MAX) {
        *bad = true;
        return NULL;
    }
    if (r->length < FRAME_HEAD + *length)
        return NULL;
    /* The JSON moves over its head, so that there is room for the zero. */
    memmove(r->bytes, r->bytes + FRAME_HEAD, *length);
    r->bytes[*length] = '\0';
    r->taken = FRAME_HEAD + *length;
    return r->bytes;
}

bool frame_is_partial(const frame_reader *r)
{
    return r->length > r->taken;
}

bool frame_is_there(const frame_reader *r)
{
    size_t left = r->length - r->taken;
    if (left < FRAME_HEAD)
        return false;
    size_t length = read_length(r->bytes + r->taken);
    return length > FRAME_BYTES_MAX || left >= FRAME_HEAD + length;
}

void frame_clear(frame_reader *r)
{
    free(r->bytes);
    *r = (frame_reader){0};
}

void frame_write(const char *json, size_t length, char *out)
{
    for (int i = 0; i < FRAME_HEAD; i++)
        out[i] = (char)(unsigned char)(length >> (24 - 8 * i));
    memcpy(out + FRAME_HEAD, json, length);
}

char *frame_make(const char *json, size_t length, size_t *size)
{
    char *frame = length <= FRAME_BYTES_MAX ? malloc(FRAME_HEAD + length) : NULL;
    if (frame == NULL)
        return NULL;
    frame_write(json, length, frame);
    *size = FRAME_HEAD + length;
    return frame;
}
