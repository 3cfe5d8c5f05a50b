/* See headers.h. Any thread, on its own message. */
#include "link/headers.h"

#include <string.h>

static const char VERSION[] = "NATS/1.0";

/* nats.c has no function for the block as it came, but in all versions a received message is one
 * piece: subject, reply if there is one, headers if there are any, data, with a NUL behind each.
 * The end; *begin NULL: there are no headers. */
static const char *find_block(natsMsg *msg, const char **begin)
{
    const char *reply = natsMsg_GetReply(msg);
    const char *text = reply != NULL ? reply : natsMsg_GetSubject(msg);
    const char *data = natsMsg_GetData(msg);
    *begin = NULL;
    if (text == NULL || data == NULL)
        return NULL;
    const char *at = text + strlen(text) + 1;
    if (data > at && (size_t)(data - at) > sizeof VERSION &&
        memcmp(at, VERSION, sizeof VERSION - 1) == 0)
        *begin = at;
    return data;
}

bool headers_are_readable(natsMsg *msg)
{
    const char *at = NULL;
    const char *end = find_block(msg, &at);
    unsigned lines = 0;
    while (at != NULL && (at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        at++;
        if (++lines > HEADER_LINES_MAX)
            return false;
    }
    return true;
}

uint32_t message_weight(natsMsg *msg)
{
    const char *begin = natsMsg_GetSubject(msg), *data = natsMsg_GetData(msg);
    size_t weight = (size_t)natsMsg_GetDataLength(msg);
    if (begin != NULL && data > begin)
        weight += (size_t)(data - begin);
    return weight < UINT32_MAX ? (uint32_t)weight : UINT32_MAX;
}

bool headers_say_nobody(natsMsg *msg)
{
    return natsMsg_GetDataLength(msg) == 0 && headers_are_readable(msg) &&
           natsMsg_IsNoResponders(msg);
}
