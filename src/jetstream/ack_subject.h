/* The subject that acknowledges a message of JetStream, which is its reply subject. It also says
 * where in the stream the message is. Pure; any thread. */
#ifndef MD_JETSTREAM_ACK_SUBJECT_H
#define MD_JETSTREAM_ACK_SUBJECT_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *text; /* into the subject; not terminated */
    size_t length;
} ack_token;

typedef struct {
    ack_token domain, stream, consumer; /* domain: length 0, when there is none */
    uint64_t deliveries;                /* of this message, this one included */
    uint64_t stream_seq, consumer_seq;
    uint64_t time;    /* ns since 1970: when it was stored */
    uint64_t pending; /* messages of the consumer after this one */
} ack_subject;

/* 0, or -1: this is no such subject. */
int ack_subject_parse(const char *subject, ack_subject *out);

#endif
