/* Frames of the control socket: in whatever pieces they come, the same ones are read, and what is
 * written again is what came. One thread. */
#include <stdlib.h>
#include <string.h>

#include "control/frame.h"
#include "fuzz.h"

/* Takes all that there is, writes it again to `out`, and says how much that was. */
static size_t take_all(frame_reader *r, char *out, size_t used, bool *bad)
{
    size_t length = 0;
    while (!*bad) {
        bool there = frame_is_there(r);
        const char *json = frame_take(r, &length, bad);
        fuzz_check(there == (json != NULL || *bad));
        if (json == NULL)
            break;
        fuzz_check(length <= FRAME_BYTES_MAX && json[length] == '\0');
        frame_write(json, length, out + used);
        used += FRAME_HEAD + length;
    }
    return used;
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    size_t piece = 1u + fuzz_byte(&in), length;
    char *stream = fuzz_rest(&in, &length), *out = malloc(length + 1);
    frame_reader r = {0};
    bool bad = false;
    size_t used = 0;
    for (size_t at = 0; at < length && !bad; at += piece) {
        fuzz_check(frame_add(&r, stream + at, length - at < piece ? length - at : piece) == 0);
        used = take_all(&r, out, used, &bad);
    }
    fuzz_check(memcmp(out, stream, used) == 0);
    fuzz_check(bad || frame_is_partial(&r) == (used < length));
    frame_clear(&r);
    free(out);
    free(stream);
}
