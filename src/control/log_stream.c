/* Log records for clients: the last ones are kept, and each follower reads on from where it is, as
 * fast as it reads; those that were thrown away before it came to them are counted. Loop thread,
 * but on_record(). */
#include <stdlib.h>
#include <string.h>

#include "control/streams.h"

#define RECORDS_IN_TURN 64
#define TURN_NS 500000u /* before the loop goes on */

struct log_follower {
    struct log_follower *next, **back;
    struct request *request;
    log_level level;
    uint64_t at;    /* the number of the next record to look at */
    uint64_t until; /* the number where it ends; 0: it follows */
    uint64_t sent;
};

/* ---- the records ---- */

static void throw_away(struct log_records *r)
{
    unsigned index = (unsigned)(r->first % STREAM_LOG_RECORDS);
    r->bytes -= r->ring[index].length;
    free(r->ring[index].json);
    r->ring[index].json = NULL;
    r->first++;
}

/* In the thread that logs. */
static void on_record(void *closure, log_level level, const char *line, size_t length)
{
    struct streams *s = closure;
    struct log_records *r = &s->log;
    char *copy = malloc(length + 1);
    if (copy == NULL)
        return;
    memcpy(copy, line, length);
    copy[length] = '\0';
    uv_mutex_lock(&r->lock);
    while (r->first < r->next &&
           (r->next - r->first >= STREAM_LOG_RECORDS || r->bytes + length > STREAM_LOG_BYTES))
        throw_away(r);
    unsigned index = (unsigned)(r->next++ % STREAM_LOG_RECORDS);
    r->ring[index].json = copy;
    r->ring[index].length = length;
    r->ring[index].level = level;
    r->bytes += length;
    uv_mutex_unlock(&r->lock);
    uv_async_send(&s->log_wake);
}

/* A copy of the next record of the follower, to be freed, or NULL. */
static char *take_next(struct log_records *r, struct log_follower *f)
{
    char *copy = NULL;
    uv_mutex_lock(&r->lock);
    if (f->at < r->first) {
        request_drop(f->request, r->first - f->at);
        f->at = r->first;
    }
    uint64_t end = f->until != 0 && f->until < r->next ? f->until : r->next;
    for (; copy == NULL && f->at < end; f->at++) {
        unsigned index = (unsigned)(f->at % STREAM_LOG_RECORDS);
        if (r->ring[index].level >= f->level)
            copy = strdup(r->ring[index].json);
    }
    uv_mutex_unlock(&r->lock);
    return copy;
}

/* The number behind the last record that the follower is to get. */
static uint64_t last_of(struct log_records *r, const struct log_follower *f)
{
    uv_mutex_lock(&r->lock);
    uint64_t end = f->until != 0 && f->until < r->next ? f->until : r->next;
    uv_mutex_unlock(&r->lock);
    return end;
}

/* Where the last `count` records of the level begin. */
static uint64_t find_recent(struct log_records *r, log_level level, uint64_t count)
{
    uv_mutex_lock(&r->lock);
    uint64_t at = r->next;
    while (at > r->first && count > 0)
        if (r->ring[--at % STREAM_LOG_RECORDS].level >= level)
            count--;
    uv_mutex_unlock(&r->lock);
    return at;
}

/* ---- followers ---- */

/* The output's level is what is kept; followers may want more. */
static void set_level(struct streams *s)
{
    log_level level = log_get_level(s->rt->log);
    if (level == LOG_OFF)
        level = LOG_INFO;
    for (const struct log_follower *f = s->log_followers; f != NULL; f = f->next)
        if (f->level < level)
            level = f->level;
    log_observe(s->rt->log, level, on_record, s);
}

static void forget(struct request *request)
{
    struct log_follower *f = request->closure;
    struct streams *s = request->session->streams;
    if (s->log_turn == f)
        s->log_turn = f->next;
    *f->back = f->next;
    if (f->next != NULL)
        f->next->back = f->back;
    free(f);
    request->cancel = NULL;
    if (!s->closing)
        set_level(s);
}

/* Some of what there is for it; true: that was not all. */
static bool send_some(struct request *request)
{
    struct log_follower *f = request->closure;
    struct log_records *records = &request->session->streams->log;
    for (int i = 0; i < RECORDS_IN_TURN; i++) {
        char *json = request_is_held(request) ? NULL : take_next(records, f);
        if (json == NULL)
            break;
        request_event_text(request, "log", json);
        f->sent++;
        free(json);
    }
    bool more = !request_is_held(request) && f->at < last_of(records, f);
    if (f->until != 0 && f->at >= f->until) {
        json_t *result = json_pack("{s:I}", "count", (json_int_t)f->sent);
        forget(request);
        request_answer(request, result);
        return false;
    }
    return more;
}

static void resume(struct request *request)
{
    uv_async_send(&request->session->streams->log_wake);
}

/* One follower after the other, until nobody gets any more, or the time is over. */
static void on_wake(uv_async_t *wake)
{
    struct streams *s = wake->data;
    uint64_t until = uv_hrtime() + TURN_NS;
    bool more = false;
    unsigned left = 0;
    for (const struct log_follower *f = s->log_followers; f != NULL; f = f->next)
        left++;
    for (; left > 0 && uv_hrtime() < until; left--) {
        struct log_follower *f = s->log_turn != NULL ? s->log_turn : s->log_followers;
        s->log_turn = f->next;
        more |= send_some(f->request);
    }
    if (more || left > 0)
        uv_async_send(wake);
}

static uint64_t whole(const json_t *args, const char *name)
{
    json_int_t value = json_integer_value(json_object_get(args, name));
    return value > 0 ? (uint64_t)value : 0;
}

void stream_log(struct request *r, json_t *args)
{
    struct streams *s = r->session->streams;
    const json_t *wanted = json_object_get(args, "level");
    int level = wanted == NULL ? LOG_DEBUG : log_level_parse(json_string_value(wanted));
    if (level < 0 || level >= LOG_OFF) {
        request_refuse(r, "bad_args", "there are the levels debug, info, warn and error", "");
        return;
    }
    struct log_follower *f = calloc(1, sizeof *f);
    if (f == NULL) {
        request_refuse(r, "no_memory", "no memory to follow the log", "");
        return;
    }
    f->request = r;
    f->level = (log_level)level;
    f->at = find_recent(&s->log, f->level, whole(args, "recent"));
    if (!json_is_true(json_object_get(args, "follow"))) {
        uv_mutex_lock(&s->log.lock);
        f->until = s->log.next;
        uv_mutex_unlock(&s->log.lock);
    }
    f->next = s->log_followers;
    if (f->next != NULL)
        f->next->back = &f->next;
    f->back = &s->log_followers;
    s->log_followers = f;
    r->closure = f;
    r->cancel = forget;
    r->resume = resume;
    if (f->until == 0)
        set_level(s);
    resume(r);
}

/* ---- making and ending ---- */

int log_stream_init(struct streams *s)
{
    if (uv_mutex_init(&s->log.lock) != 0)
        return -1;
    if (uv_async_init(s->rt->loop, &s->log_wake, on_wake) != 0) {
        uv_mutex_destroy(&s->log.lock);
        return -1;
    }
    s->log_wake.data = s;
    s->log.first = s->log.next = 1;
    uv_unref((uv_handle_t *)&s->log_wake);
    s->handles++;
    set_level(s);
    return 0;
}

void log_stream_close(struct streams *s)
{
    log_observe(s->rt->log, LOG_OFF, NULL, NULL);
}

void log_stream_free(struct streams *s)
{
    while (s->log.first < s->log.next)
        throw_away(&s->log);
    uv_mutex_destroy(&s->log.lock);
}
