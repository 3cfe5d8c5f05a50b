/* What JetStream writes: the reply subjects of its messages, and its answers to what was published.
 * One thread. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "jetstream/ack_subject.h"
#include "outbox/ack.h"

static const char *skip_zeros(const char *digits)
{
    while (digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9')
        digits++;
    return digits;
}

/* The numbers are those that stand there. */
static void check_subject(const char *subject)
{
    ack_subject a;
    if (ack_subject_parse(subject, &a) != 0)
        return;
    const uint64_t numbers[] = {a.deliveries, a.stream_seq, a.consumer_seq, a.time, a.pending};
    const char *at = a.consumer.text + a.consumer.length;
    fuzz_check(a.stream.length > 0 && a.consumer.length > 0);
    fuzz_check(a.stream.text > subject && a.stream.text + a.stream.length + 1 == a.consumer.text);
    fuzz_check(memchr(a.stream.text, '.', a.stream.length) == NULL);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char text[24];
        int length = snprintf(text, sizeof text, "%" PRIu64, numbers[i]);
        at = skip_zeros(at + 1);
        fuzz_check_text(strncmp(at, text, (size_t)length) == 0, subject);
        at += length;
        fuzz_check_text(*at == '.' || *at == '\0', subject);
    }
}

static void check_answer(const char *text, size_t length)
{
    ack a;
    ack_read(text, length, &a);
    fuzz_check(memchr(a.stream, '\0', sizeof a.stream) != NULL);
    if (a.kind == ACK_STORED) {
        fuzz_check(a.sequence > 0 && a.error.code[0] == '\0');
        return;
    }
    fuzz_check(a.error.code[0] != '\0' && a.error.message[0] != '\0');
    fuzz_check(fuzz_is_utf8(a.error.message, strlen(a.error.message)));
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    size_t length;
    char *text = fuzz_rest(&in, &length);
    check_subject(text);
    check_answer(text, length);
    free(text);
}
