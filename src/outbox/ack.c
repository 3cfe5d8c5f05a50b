/* The answers of JetStream to what is published. See ack.h. Pure. */
#include "outbox/ack.h"

#include <stdio.h>
#include <string.h>

#define WRONG_LAST_MSG_ID 10070

/* Those of the refusals that are no server's fault, and pass all the same. */
static const int passing[] = {
    10047, /* insufficient storage */
    10059, /* stream not found */
    10077, /* store failed: the stream is full, and does not discard */
    10158, /* the same message is on its way into the stream */
};

static bool is_temporary(int code, int number)
{
    for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++)
        if (passing[i] == number)
            return true;
    return code >= 500 || code == 408 || code == 429;
}

bool ack_error(const json_t *answer, const char *what, error *out, int *number)
{
    const json_t *said = json_object_get(answer, "error");
    if (!json_is_object(said))
        return false;
    const char *text = json_string_value(json_object_get(said, "description"));
    char code[ERROR_CODE_SIZE];
    *number = (int)json_integer_value(json_object_get(said, "err_code"));
    snprintf(code, sizeof code, "jetstream_%d", *number);
    error_set(out, code, ERROR_CLASS_PROTOCOL, "JetStream refuses %s: %s", what,
              text != NULL ? text : "it does not say why");
    return true;
}

static void not_an_ack(ack *out)
{
    out->kind = ACK_TEMPORARY;
    error_set(&out->error, "bad_answer", ERROR_CLASS_PROTOCOL,
              "the answer is no acknowledgement of a stream: does something else answer on this "
              "subject?");
}

/* Between the servers of a cluster, and maybe never stored. From 2.11 on it is error 10158. */
static bool is_in_process(const json_t *answer)
{
    const json_t *sequence = json_object_get(answer, "seq");
    return json_is_true(json_object_get(answer, "duplicate")) && json_is_integer(sequence) &&
           json_integer_value(sequence) == 0;
}

void ack_read(const char *text, size_t length, ack *out)
{
    int number = 0;
    *out = (ack){.kind = ACK_STORED};
    json_t *answer = json_loadb(text, length, 0, NULL);
    const char *stream = json_string_value(json_object_get(answer, "stream"));
    const json_t *sequence = json_object_get(answer, "seq");
    if (ack_error(answer, "the message", &out->error, &number)) {
        int code =
            (int)json_integer_value(json_object_get(json_object_get(answer, "error"), "code"));
        out->kind = number == WRONG_LAST_MSG_ID  ? ACK_WRONG_LAST
                    : is_temporary(code, number) ? ACK_TEMPORARY
                                                 : ACK_REFUSED;
    } else if (stream != NULL && is_in_process(answer)) {
        out->kind = ACK_TEMPORARY;
        error_set(&out->error, "in_process", ERROR_CLASS_PROTOCOL,
                  "the message is on its way into stream %s, and not stored yet", stream);
    } else if (stream == NULL || !json_is_integer(sequence) || json_integer_value(sequence) <= 0 ||
               strlen(stream) >= sizeof out->stream) {
        not_an_ack(out);
    } else {
        snprintf(out->stream, sizeof out->stream, "%s", stream);
        out->sequence = (uint64_t)json_integer_value(sequence);
        out->duplicate = json_is_true(json_object_get(answer, "duplicate"));
    }
    json_decref(answer);
}
