/* What a stream answers to a message. Pure. */
#ifndef MD_OUTBOX_ACK_H
#define MD_OUTBOX_ACK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define STREAM_NAME_SIZE 256

typedef enum {
    ACK_STORED,
    ACK_TEMPORARY,      /* it may be stored later: no stream, no room, no leader, ... */
    ACK_WRONG_LAST,     /* the last message of the stream is not the one that was expected */
    ACK_WRONG_SEQUENCE, /* nor is it, by its number */
    ACK_REFUSED         /* it will not be stored as it is */
} ack_kind;

typedef struct {
    ack_kind kind;
    bool duplicate; /* it was stored before */
    uint64_t sequence;
    char stream[STREAM_NAME_SIZE];
    error error; /* of all but STORED */
} ack;

void ack_read(const char *text, size_t length, ack *out);

/* What JetStream says is wrong, in an answer to anything; false: nothing. `what` was asked. */
bool ack_error(const json_t *answer, const char *what, error *out, int *number);

#define JETSTREAM_NO_MESSAGE 10037

#endif
