/* Messages that pass through the runtime, for clients that name a subject: so many a second, the
 * others are counted. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "conn/subscription.h"
#include "conn/tap.h"
#include "control/streams.h"

struct tap {
    struct tap *next, **back;
    struct request *request;
    char *subject; /* with wildcards */
    double room;   /* events that may be sent now */
    uint64_t at;   /* ns: when that was reckoned */
};

static bool has_room(struct tap *t)
{
    uint64_t now = uv_hrtime();
    t->room += (double)(now - t->at) / 1e9 * STREAM_TAP_PER_SECOND;
    t->at = now;
    if (t->room > STREAM_TAP_PER_SECOND)
        t->room = STREAM_TAP_PER_SECOND;
    if (t->room < 1)
        return false;
    t->room -= 1;
    return true;
}

/* Any bytes, as text. */
static json_t *text(const char *bytes, size_t length)
{
    char *copy = utf8_repair(bytes, length);
    json_t *out = copy != NULL ? json_stringn(copy, length) : NULL;
    free(copy);
    return out != NULL ? out : json_null();
}

/* As JSON, to be freed; NULL: no memory. */
static char *describe(const tap_message *m)
{
    size_t shown = m->length < STREAM_TAP_DATA_BYTES ? m->length : STREAM_TAP_DATA_BYTES;
    json_t *one = json_pack("{s:s, s:s, s:o, s:o, s:I}", "dir", m->out ? "out" : "in", "connection",
                            m->connection, "subject", text(m->subject, m->subject_length), "data",
                            text(m->data, shown), "bytes", (json_int_t)m->length);
    if (one != NULL && m->reply != NULL)
        json_object_set_new(one, "reply", text(m->reply, m->reply_length));
    char *json = json_dumps(one, JSON_COMPACT);
    json_decref(one);
    return json;
}

static void on_message(void *closure, const tap_message *m)
{
    struct streams *s = closure;
    char *event = NULL;
    for (struct tap *t = s->taps; t != NULL; t = t->next) {
        if (!subject_matches(t->subject, m->subject, m->subject_length))
            continue;
        if (request_is_held(t->request) || !has_room(t)) {
            request_drop(t->request, 1);
            continue;
        }
        if (event == NULL && (event = describe(m)) == NULL)
            return;
        request_event_text(t->request, "message", event);
    }
    free(event);
}

static void set_tap(struct streams *s)
{
    s->rt->hub.tap = s->taps != NULL ? on_message : NULL;
    s->rt->hub.tap_closure = s;
}

static void forget(struct request *r)
{
    struct tap *t = r->closure;
    *t->back = t->next;
    if (t->next != NULL)
        t->next->back = t->back;
    free(t->subject);
    free(t);
    set_tap(r->session->streams);
}

void stream_tap(struct request *r, json_t *args)
{
    struct streams *s = r->session->streams;
    const char *subject = json_string_value(json_object_get(args, "subject"));
    error e = {0};
    if (subject == NULL)
        error_set(&e, "bad_args", ERROR_CLASS_NONE, "a tap has a subject: > is all of them");
    if (subject == NULL || subject_check(subject, strlen(subject), true, &e) != 0) {
        request_refuse(r, e.code, e.message, "");
        return;
    }
    struct tap *t = calloc(1, sizeof *t);
    if (t == NULL || (t->subject = strdup(subject)) == NULL) {
        free(t);
        request_refuse(r, "no_memory", "no memory for a tap", "");
        return;
    }
    t->request = r;
    t->room = STREAM_TAP_PER_SECOND;
    t->at = uv_hrtime();
    t->next = s->taps;
    if (t->next != NULL)
        t->next->back = &t->next;
    t->back = &s->taps;
    s->taps = t;
    r->closure = t;
    r->cancel = forget;
    set_tap(s);
    request_event(r, "begun", json_object());
}
