/* Reads reply subjects of JetStream. See ack_subject.h. There are two forms: nine tokens,
 * $JS.ACK.STREAM.CONSUMER.DELIVERIES.SEQ.CONSUMER_SEQ.TIME.PENDING; and the same with a domain ("_"
 * for none) and an account behind $JS.ACK, and perhaps more at the end. */
#include "jetstream/ack_subject.h"

#include <stdlib.h>
#include <string.h>

#define PREFIX "$JS.ACK."
#define SHORT_TOKENS 7 /* behind the prefix */
#define LONG_TOKENS 9
#define TOKENS_MAX 12

static int split(const char *at, ack_token *tokens)
{
    int count = 0;
    while (count < TOKENS_MAX) {
        const char *end = strchr(at, '.');
        size_t length = end != NULL ? (size_t)(end - at) : strlen(at);
        if (length == 0)
            return 0;
        tokens[count++] = (ack_token){at, length};
        if (end == NULL)
            return count;
        at = end + 1;
    }
    return count;
}

/* A token of digits only, less than 2^64. -1: it is none. */
static int read_number(const ack_token *t, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < t->length; i++) {
        if (t->text[i] < '0' || t->text[i] > '9')
            return -1;
        uint64_t digit = (uint64_t)(t->text[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return -1;
        value = value * 10 + digit;
    }
    *out = value;
    return 0;
}

int ack_subject_parse(const char *subject, ack_subject *out)
{
    ack_token tokens[TOKENS_MAX];
    *out = (ack_subject){0};
    if (subject == NULL || strncmp(subject, PREFIX, strlen(PREFIX)) != 0)
        return -1;
    int count = split(subject + strlen(PREFIX), tokens);
    const ack_token *t = tokens;
    if (count >= LONG_TOKENS) {
        if (t[0].length != 1 || t[0].text[0] != '_')
            out->domain = t[0];
        t += 2;
    } else if (count != SHORT_TOKENS) {
        return -1;
    }
    out->stream = t[0];
    out->consumer = t[1];
    uint64_t *const numbers[] = {&out->deliveries, &out->stream_seq, &out->consumer_seq, &out->time,
                                 &out->pending};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (read_number(&t[2 + i], numbers[i]) != 0)
            return -1;
    return 0;
}
