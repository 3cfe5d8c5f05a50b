/* What an outbox sends and asks, and what it makes of the answers. See outbox_private.h. Loop
 * thread.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "conn/connection.h"
#include "conn/hub.h"
#include "conn/request.h"
#include "link/inner.h"
#include "outbox/outbox_private.h"
#include "watch/backoff.h"

#define ANSWER_MS 5000u /* for an acknowledgement */
#define BEHIND_MS 20000u
#define ENTRY_BYTES 512u /* of one on its way, beside its texts */

static outbox_entry *entry_of(const forward_entry *f)
{
    return f->data;
}

size_t outbox_entry_size(const outbox_entry *entry)
{
    return entry->subject_length + entry->header_length + entry->data_length + ENTRY_BYTES;
}

/* It is not on its way any more. */
static void leave_flight(struct outbox *o, outbox_entry *entry)
{
    entry->via = NULL;
    o->flight_bytes -= outbox_entry_size(entry);
}

/* ---- failing ---- */

static uint32_t next_delay(struct outbox *o, const error *e)
{
    static const backoff policy = {
        .base = 0.05, .cap = 5, .factor = 2, .auth_base = 0.25, .jitter = BACKOFF_JITTER_EQUAL};
    o->delay =
        backoff_delay(&policy, o->forward.failures + 1, e->cls, 0, o->delay, hub_random(o->hub));
    return (uint32_t)(o->delay * 1000) + 1;
}

static void fail_entry(struct outbox *o, forward_entry *f, const error *e)
{
    uint32_t delay = next_delay(o, e);
    if (strcmp(e->code, "disconnected") != 0 && strcmp(e->code, "closed") != 0)
        o->why = *e;             /* otherwise the state says it */
    streams_forget(&o->streams); /* something may have changed */
    forward_forget_streams(&o->forward);
    forward_failed(&o->forward, f, FORWARD_TEMPORARY, clock_ms(), delay);
}

/* Errors before anything was sent that will not pass. */
static bool is_refusal(const error *e)
{
    return strcmp(e->code, "too_large") == 0 || strcmp(e->code, "invalid_subject") == 0;
}

static void refuse_entry(struct outbox *o, forward_entry *f, const error *e)
{
    outbox_set_aside(o, entry_of(f), e);
    forward_failed(&o->forward, f, FORWARD_REFUSED, clock_ms(), 0);
}

/* ---- answers ---- */

static void note_stored(struct outbox *o, int64_t id, const char *stream, uint64_t sequence,
                        bool duplicate)
{
    bool further = !duplicate || sequence > store_places_get(&o->places, stream);
    o->forwarded++;
    o->duplicates += duplicate;
    o->why.code[0] = '\0';
    o->delay = 0;
    outbox_remove_entry(o, id, stream, further ? sequence : 0);
    if (!further) /* it was stored long ago, as another entry with its id */
        return;
    store_places_note(&o->places, stream, sequence);
    streams_note_last(&o->streams, stream, sequence);
}

static void take_ack(struct outbox *o, forward_entry *f, ack *answer)
{
    switch (answer->kind) {
    case ACK_STORED:
        note_stored(o, f->id, answer->stream, answer->sequence, answer->duplicate);
        forward_acked(&o->forward, f, answer->duplicate);
        break;
    case ACK_WRONG_LAST:
        if (f->expects)
            forward_failed(&o->forward, f, FORWARD_WRONG_LAST, clock_ms(), 0);
        else
            fail_entry(o, f, &answer->error);
        break;
    case ACK_WRONG_SEQUENCE: /* the condition was ours, or the script's */
        if (f->looked)
            fail_entry(o, f, &answer->error);
        else
            refuse_entry(o, f, &answer->error);
        break;
    case ACK_TEMPORARY:
        fail_entry(o, f, &answer->error);
        break;
    case ACK_REFUSED:
        refuse_entry(o, f, &answer->error);
        break;
    }
}

static void on_answer(void *closure, natsMsg *msg, const error *e)
{
    outbox_entry *entry = closure;
    struct outbox *o = entry->owner;
    forward_entry *f = forward_find(&o->forward, entry->id);
    leave_flight(o, entry);
    if (msg != NULL) {
        ack answer;
        ack_read(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), &answer);
        message_free(msg);
        take_ack(o, f, &answer);
    } else {
        error why = *e;
        if (strcmp(e->code, "no_responders") == 0)
            error_set(&why, "no_stream", ERROR_CLASS_NONE,
                      "no stream takes %s now, or there is no JetStream", entry->subject);
        fail_entry(o, f, &why);
    }
}

void outbox_check_overdue(struct outbox *o, uint64_t now)
{
    forward_entry *f;
    streams_check(&o->streams, now);
    while ((f = forward_oldest(&o->forward)) != NULL && now >= f->sent_at + ANSWER_MS) {
        outbox_entry *entry = entry_of(f);
        error e = {0};
        connection_request_cancel(entry->via, f->request);
        leave_flight(o, entry);
        error_set(&e, "timeout", ERROR_CLASS_TIMEOUT,
                  "no stream has acknowledged a message on %s in time", entry->subject);
        fail_entry(o, f, &e);
    }
}

/* ---- sending ---- */

static char *put_pair(char *at, const char *name, const char *value)
{
    size_t name_length = strlen(name) + 1, value_length = strlen(value) + 1;
    memcpy(at, name, name_length);
    memcpy(at + name_length, value, value_length);
    return at + name_length + value_length;
}

static uint32_t count_headers(const char *headers, size_t length)
{
    uint32_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += headers[i] == '\0';
    return count / 2;
}

int outbox_headers(struct outbox *o, record_message *m, const outbox_header_wish *wish)
{
    const char *const pairs[][2] = {{"Nats-Msg-Id", wish->msg_id},
                                    {"Nats-Expected-Last-Msg-Id", wish->expected},
                                    {"Nats-Expected-Last-Subject-Sequence", wish->after}};
    size_t size = wish->own_length, count = sizeof pairs / sizeof pairs[0];
    for (size_t i = 0; i < count; i++)
        size += pairs[i][1] != NULL ? strlen(pairs[i][0]) + strlen(pairs[i][1]) + 2 : 0;
    if (size > o->scratch_size) {
        char *larger = realloc(o->scratch, size * 2);
        if (larger == NULL)
            return -1;
        o->scratch = larger;
        o->scratch_size = size * 2;
    }
    char *at = o->scratch;
    m->header_count = count_headers(wish->own, wish->own_length);
    for (size_t i = 0; i < count; i++) {
        if (pairs[i][1] == NULL)
            continue;
        at = put_pair(at, pairs[i][0], pairs[i][1]);
        m->header_count++;
    }
    if (wish->own_length > 0)
        memcpy(at, wish->own, wish->own_length);
    m->headers = o->scratch;
    m->header_length = size;
    return 0;
}

/* False: nothing more can be sent now. */
static bool send_entry(struct outbox *o, const forward_step *step, uint64_t now)
{
    outbox_entry *entry = entry_of(step->entry);
    char after[24];
    snprintf(after, sizeof after, "%llu", (unsigned long long)step->entry->after);
    const outbox_header_wish wish = {
        .msg_id = entry->msg_id,
        .expected = step->expected != NULL ? entry_of(step->expected)->msg_id : NULL,
        .after = step->entry->looked ? after : NULL,
        .own = entry->headers,
        .own_length = entry->header_length};
    record_message m = {.subject = entry->subject,
                        .subject_length = entry->subject_length,
                        .data = entry->data,
                        .data_length = entry->data_length};
    error e = {0};
    uint64_t number = 0;
    if (outbox_headers(o, &m, &wish) != 0)
        error_set(&e, "no_memory", ERROR_CLASS_LIMIT, "no memory to send a message");
    else
        number = connection_request(o->connection, &m, on_answer, entry, &e);
    if (number == 0 && is_refusal(&e)) {
        refuse_entry(o, step->entry, &e);
        return true;
    }
    if (number == 0) {
        fail_entry(o, step->entry, &e);
        return false;
    }
    entry->owner = o;
    entry->via = o->connection;
    o->flight_bytes += outbox_entry_size(entry);
    step->entry->request = number;
    forward_sent(&o->forward, step->entry, now, clock_wall_ms());
    o->tokens -= 1;
    return true;
}

/* ---- questions ---- */

static forward_entry *asked_entry(struct outbox *o)
{
    forward_entry *f = forward_find(&o->forward, o->asked);
    if (f == NULL || f->state != FORWARD_WAITS) { /* it was replaced meanwhile */
        forward_end(&o->forward);
        return NULL;
    }
    return f;
}

static void on_found(void *closure, const streams_answer *answer, const error *e)
{
    struct outbox *o = closure;
    forward_entry *f = asked_entry(o);
    if (f != NULL && e->code[0] != '\0')
        fail_entry(o, f, e);
    else if (f != NULL)
        forward_found(&o->forward, f, answer->stream->number, answer->stream->window);
    hub_again(o->hub);
}

static void on_looked(void *closure, const streams_answer *answer, const error *e)
{
    struct outbox *o = closure;
    forward_entry *f = asked_entry(o);
    if (f == NULL) {
        hub_again(o->hub);
        return;
    }
    const struct known_stream *stream = streams_get(&o->streams, f->stream);
    if (strcmp(e->code, "look_too_long") == 0) {
        if (stream != NULL) /* the next one lies behind it, if anywhere */
            store_places_note(&o->places, stream->name, answer->sequence);
        refuse_entry(o, f, e);
    } else if (e->code[0] != '\0' || stream == NULL) {
        fail_entry(o, f, e);
    } else if (answer->found) {
        note_stored(o, f->id, stream->name, answer->sequence, true);
        forward_looked(&o->forward, f, true, 0);
    } else {
        forward_looked(&o->forward, f, false, answer->last);
    }
    hub_again(o->hub);
}

/* False: nothing more can be done now. */
static bool find_stream(struct outbox *o, forward_entry *f)
{
    const outbox_entry *entry = entry_of(f);
    const struct known_stream *k = streams_find(&o->streams, entry->subject, entry->subject_length);
    error e = {0};
    if (k != NULL) {
        forward_found(&o->forward, f, k->number, k->window);
        return true;
    }
    o->asked = f->id;
    o->streams.done = on_found;
    o->streams.closure = o;
    if (streams_ask(&o->streams, o->connection, entry->subject, &e) == 0)
        forward_begin(&o->forward);
    else
        fail_entry(o, f, &e);
    return false;
}

/* The leader of a replicated stream that has taken over from one that died may not have read all of
 * its log yet: what it does not find may be there. One that knows less for long has lost it, or was
 * made anew, as one without replicas was at once. */
static bool is_behind(struct outbox *o, const struct known_stream *k, uint64_t last)
{
    uint64_t now = clock_ms();
    if (last <= k->last || !k->replicated) {
        o->behind_since = 0;
        return false;
    }
    if (o->behind_since == 0)
        o->behind_since = now;
    return now - o->behind_since < BEHIND_MS;
}

static void look_for(struct outbox *o, forward_entry *f)
{
    const outbox_entry *entry = entry_of(f);
    const struct known_stream *k = streams_get(&o->streams, f->stream);
    error e = {0};
    if (k == NULL) { /* forgotten meanwhile */
        forward_found(&o->forward, f, 0, 0);
        hub_again(o->hub);
        return;
    }
    uint64_t last = store_places_get(&o->places, k->name);
    uint64_t from = last <= k->last ? last + 1 : 1;
    if (is_behind(o, k, last)) {
        error_set(&e, "stream_behind", ERROR_CLASS_NONE,
                  "stream %s ends at %llu, and has acknowledged %llu: its leader has not read all "
                  "of it yet",
                  k->name, (unsigned long long)k->last, (unsigned long long)last);
        fail_entry(o, f, &e);
        return;
    }
    o->asked = f->id;
    o->streams.done = on_looked;
    o->streams.closure = o;
    if (streams_look(&o->streams, o->connection, k, entry->subject, entry->msg_id, from, &e) == 0)
        forward_begin(&o->forward);
    else
        fail_entry(o, f, &e);
}

bool outbox_carry_out(struct outbox *o, const forward_step *step, uint64_t now)
{
    switch (step->action) {
    case FORWARD_SEND:
        return send_entry(o, step, now);
    case FORWARD_FIND:
        return find_stream(o, step->entry);
    case FORWARD_LOOK:
        look_for(o, step->entry);
        break;
    case FORWARD_NOTHING:
        break;
    }
    return false;
}

bool outbox_is_looking(const struct outbox *o)
{
    return streams_busy(&o->streams) && o->streams.done == on_looked;
}

uint64_t outbox_next_overdue(struct outbox *o)
{
    const forward_entry *oldest = forward_oldest(&o->forward);
    uint64_t at = oldest != NULL ? oldest->sent_at + ANSWER_MS : 0;
    if (streams_busy(&o->streams) && (at == 0 || o->streams.deadline < at))
        at = o->streams.deadline;
    return at;
}
