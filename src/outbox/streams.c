/* An outbox's questions about streams. See streams.h. Loop thread. */
#include "outbox/streams.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "conn/request.h"
#include "conn/subscription.h"
#include "link/inner.h"

#define API "$JS.API.STREAM."

enum { STAGE_NAME, STAGE_INFO, STAGE_LOOK, STAGE_LAST };

static void on_answer(void *closure, natsMsg *msg, const error *e);

/* ---- what is known ---- */

const struct known_stream *streams_find(const struct streams *s, const char *subject, size_t length)
{
    for (unsigned i = 0; i < s->count; i++)
        for (size_t k = 0; k < s->known[i].subject_count; k++)
            if (subject_matches(s->known[i].subjects[k], subject, length))
                return &s->known[i];
    return NULL;
}

const struct known_stream *streams_get(const struct streams *s, unsigned number)
{
    for (unsigned i = 0; i < s->count; i++)
        if (s->known[i].number == number)
            return &s->known[i];
    return NULL;
}

void streams_note_last(struct streams *s, const char *name, uint64_t sequence)
{
    for (unsigned i = 0; i < s->count; i++)
        if (s->known[i].last < sequence && strcmp(s->known[i].name, name) == 0)
            s->known[i].last = sequence;
}

static void clear_known(struct known_stream *k)
{
    for (size_t i = 0; i < k->subject_count; i++)
        free(k->subjects[i]);
    free(k->subjects);
    *k = (struct known_stream){0};
}

void streams_forget(struct streams *s)
{
    for (unsigned i = 0; i < s->count; i++)
        clear_known(&s->known[i]);
    s->count = 0;
}

static void forget_first(struct streams *s)
{
    clear_known(&s->known[0]);
    memmove(&s->known[0], &s->known[1], (s->count - 1) * sizeof s->known[0]);
    s->count--;
    s->known[s->count] = (struct known_stream){0};
}

static int copy_subjects(struct known_stream *k, const json_t *subjects)
{
    size_t i;
    json_t *one;
    k->subjects = calloc(json_array_size(subjects) + 2, sizeof k->subjects[0]);
    if (k->subjects == NULL)
        return -1;
    json_array_foreach(subjects, i, one)
    {
        char *copy = json_is_string(one) ? strdup(json_string_value(one)) : NULL;
        if (copy == NULL)
            return -1;
        k->subjects[k->subject_count++] = copy;
    }
    return 0;
}

/* From the answer to INFO. NULL: no memory. */
static const struct known_stream *remember(struct streams *s, const json_t *info)
{
    const json_t *config = json_object_get(info, "config");
    while (s->count == STREAMS_MAX)
        forget_first(s);
    struct known_stream *k = &s->known[s->count];
    *k = (struct known_stream){.number = ++s->next_number};
    memcpy(k->name, s->name, sizeof k->name);
    k->replicated = json_integer_value(json_object_get(config, "num_replicas")) > 1;
    k->last =
        (uint64_t)json_integer_value(json_object_get(json_object_get(info, "state"), "last_seq"));
    k->window =
        (int64_t)(json_integer_value(json_object_get(config, "duplicate_window")) / 1000000);
    int failed = copy_subjects(k, json_object_get(config, "subjects"));
    /* It takes the subject that was asked for, whatever its patterns look like. */
    if (failed == 0 && !streams_find(&(struct streams){.count = 1, .known = {*k}}, s->subject,
                                     strlen(s->subject))) {
        k->subjects[k->subject_count] = strdup(s->subject);
        failed = k->subjects[k->subject_count++] == NULL ? -1 : 0;
    }
    if (failed != 0) {
        clear_known(k);
        return NULL;
    }
    s->count++;
    return k;
}

/* ---- asking ---- */

bool streams_busy(const struct streams *s)
{
    return s->connection != NULL;
}

static void end(struct streams *s)
{
    free(s->subject);
    free(s->msg_id);
    s->subject = s->msg_id = NULL;
    s->connection = NULL;
    s->request = 0;
}

void streams_cancel(struct streams *s)
{
    if (s->connection != NULL && s->request != 0)
        connection_request_cancel(s->connection, s->request);
    end(s);
}

static void tell(struct streams *s, const streams_answer *answer, const error *e)
{
    end(s);
    s->done(s->closure, answer, e);
}

static void fail(struct streams *s, const error *e)
{
    streams_answer none = {.sequence = s->sequence};
    error copy = *e;
    tell(s, &none, &copy);
}

/* Takes `body`. */
static int question(struct streams *s, const char *verb, const char *name, json_t *body, error *e)
{
    char subject[sizeof API + 32 + STREAM_NAME_SIZE];
    int length =
        snprintf(subject, sizeof subject, API "%s%s%s", verb, name[0] != '\0' ? "." : "", name);
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : strdup("");
    json_decref(body);
    s->request = 0;
    if (text == NULL)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a question");
    record_message m = {.subject = subject,
                        .subject_length = (size_t)length,
                        .data = text,
                        .data_length = strlen(text)};
    s->request = connection_request(s->connection, &m, on_answer, s, e);
    s->deadline = clock_ms() + STREAMS_TIMEOUT_MS;
    free(text);
    return s->request != 0 ? 0 : -1;
}

static int begin(struct streams *s, struct connection *c, int stage, const char *subject,
                 const char *msg_id)
{
    s->connection = c;
    s->stage = stage;
    s->looked = 0;
    s->last = 0;
    s->subject = strdup(subject);
    s->msg_id = strdup(msg_id);
    return s->subject != NULL && s->msg_id != NULL ? 0 : -1;
}

static int ask_next_message(struct streams *s, error *e)
{
    return question(
        s, "MSG.GET", s->name,
        json_pack("{s:I, s:s}", "seq", (json_int_t)s->sequence, "next_by_subj", s->subject), e);
}

static int ask_last_message(struct streams *s, error *e)
{
    s->stage = STAGE_LAST;
    return question(s, "MSG.GET", s->name, json_pack("{s:s}", "last_by_subj", s->subject), e);
}

static int begun(struct streams *s, int failed)
{
    if (failed != 0)
        end(s);
    return failed;
}

int streams_ask(struct streams *s, struct connection *c, const char *subject, error *e)
{
    if (begin(s, c, STAGE_NAME, subject, "") != 0) {
        end(s);
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a question");
    }
    return begun(s, question(s, "NAMES", "", json_pack("{s:s}", "subject", subject), e));
}

int streams_look(struct streams *s, struct connection *c, const struct known_stream *stream,
                 const char *subject, const char *msg_id, uint64_t from, error *e)
{
    if (begin(s, c, STAGE_LOOK, subject, msg_id) != 0) {
        end(s);
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a question");
    }
    memcpy(s->name, stream->name, sizeof s->name);
    s->sequence = from > 0 ? from : 1;
    return begun(s, ask_next_message(s, e));
}

void streams_check(struct streams *s, uint64_t now)
{
    error e = {0};
    if (s->connection == NULL || now < s->deadline)
        return;
    connection_request_cancel(s->connection, s->request);
    error_set(&e, "timeout", ERROR_CLASS_TIMEOUT,
              "JetStream does not answer in time: is it there, and may this user ask %s%s?", API,
              s->stage == STAGE_NAME   ? "NAMES"
              : s->stage == STAGE_INFO ? "INFO.>"
                                       : "MSG.GET.>");
    fail(s, &e);
}

/* ---- answers ---- */

static int take_name(struct streams *s, const json_t *answer, error *e)
{
    const char *name = json_string_value(json_array_get(json_object_get(answer, "streams"), 0));
    if (name == NULL || strlen(name) >= sizeof s->name)
        return error_set(e, "no_stream", ERROR_CLASS_NONE,
                         "no stream takes %s: make one, and it goes on by itself", s->subject);
    snprintf(s->name, sizeof s->name, "%s", name);
    s->stage = STAGE_INFO;
    return question(s, "INFO", s->name, NULL, e);
}

static int take_info(struct streams *s, const json_t *answer, error *e)
{
    static const error none;
    streams_answer found = {.stream = remember(s, answer)};
    if (found.stream == NULL)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a stream");
    tell(s, &found, &none);
    return 0;
}

/* Whether the headers of a message that was got, in base64, have this id. */
static bool has_msg_id(const char *encoded, const char *msg_id)
{
    static const char name[] = "\r\nNats-Msg-Id:";
    size_t length = encoded != NULL ? strlen(encoded) : 0;
    char *text = length > 0 ? calloc(1, length + 1) : NULL;
    bool same = false;
    if (text != NULL &&
        EVP_DecodeBlock((unsigned char *)text, (const unsigned char *)encoded, (int)length) > 0) {
        const char *at = strcasestr(text, name);
        size_t id = strlen(msg_id);
        if (at != NULL) {
            at += sizeof name - 1;
            at += strspn(at, " ");
            same = strncmp(at, msg_id, id) == 0 && at[id] == '\r';
        }
    }
    free(text);
    return same;
}

static int take_message(struct streams *s, const json_t *answer, error *e)
{
    static const error none;
    const json_t *message = json_object_get(answer, "message");
    json_int_t sequence = json_integer_value(json_object_get(message, "seq"));
    if (sequence < (json_int_t)s->sequence)
        return error_set(e, "bad_answer", ERROR_CLASS_PROTOCOL,
                         "JetStream's answer to a question for a message cannot be read");
    s->sequence = s->last = (uint64_t)sequence;
    if (has_msg_id(json_string_value(json_object_get(message, "hdrs")), s->msg_id)) {
        streams_answer found = {.found = true, .sequence = s->sequence};
        tell(s, &found, &none);
        return 0;
    }
    if (++s->looked >= STREAMS_LOOK_MAX)
        return error_set(e, "look_too_long", ERROR_CLASS_LIMIT,
                         "it may be in the stream %s already: it is not among the %u messages of "
                         "its subject up to number %llu, and no more were looked at",
                         s->name, STREAMS_LOOK_MAX, (unsigned long long)s->sequence);
    s->sequence++;
    return ask_next_message(s, e);
}

static void tell_absent(struct streams *s)
{
    static const error none;
    streams_answer absent = {.sequence = s->sequence, .last = s->last};
    tell(s, &absent, &none);
}

/* The subject's last message is one before those that were looked at, or has come meanwhile. */
static int take_last(struct streams *s, const json_t *answer, error *e)
{
    const json_t *message = json_object_get(answer, "message");
    uint64_t sequence = (uint64_t)json_integer_value(json_object_get(message, "seq"));
    if (sequence >= s->sequence) {
        s->stage = STAGE_LOOK;
        return ask_next_message(s, e);
    }
    s->last = sequence;
    tell_absent(s);
    return 0;
}

/* No message that was asked for. */
static int take_none(struct streams *s, error *e)
{
    if (s->stage == STAGE_LOOK && s->last == 0)
        return ask_last_message(s, e);
    tell_absent(s);
    return 0;
}

static int take(struct streams *s, const json_t *answer, error *e)
{
    int number = 0;
    if (!json_is_object(answer))
        return error_set(e, "bad_answer", ERROR_CLASS_PROTOCOL,
                         "JetStream's answer about a stream cannot be read");
    if (ack_error(answer, "a question about a stream", e, &number)) {
        bool gets = s->stage == STAGE_LOOK || s->stage == STAGE_LAST;
        return gets && number == JETSTREAM_NO_MESSAGE ? take_none(s, e) : -1;
    }
    switch (s->stage) {
    case STAGE_NAME:
        return take_name(s, answer, e);
    case STAGE_INFO:
        return take_info(s, answer, e);
    case STAGE_LAST:
        return take_last(s, answer, e);
    default:
        return take_message(s, answer, e);
    }
}

static void on_answer(void *closure, natsMsg *msg, const error *failed)
{
    struct streams *s = closure;
    error e = *failed;
    s->request = 0;
    if (msg == NULL) {
        if (strcmp(e.code, "no_responders") == 0)
            error_set(&e, "no_jetstream", ERROR_CLASS_NONE,
                      "nobody answers for JetStream: the server, or this account, has none now");
        fail(s, &e);
        return;
    }
    json_t *answer =
        json_loadb(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), JSON_ALLOW_NUL, NULL);
    message_free(msg);
    if (take(s, answer, &e) != 0)
        fail(s, &e);
    json_decref(answer);
}
