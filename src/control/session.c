/* One client of the control socket. See session.h. Loop thread. */
#include "control/session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/streams.h"
#include "report.h"

#define TURN_NS 500000u          /* of requests of one client, before the loop goes on */
#define FLUSH_BYTES (32u * 1024) /* of frames do not wait for the end of the turn */

/* ---- life ---- */

static void session_release(struct session *s)
{
    if (--s->references > 0)
        return;
    struct control *control = s->control;
    s->streams->paused -= s->paused;
    frame_clear(&s->reader);
    free(s->out);
    *s->back = s->next;
    if (s->next != NULL)
        s->next->back = s->back;
    free(s);
    control_session_ended(control);
}

static void request_free(struct request *r)
{
    *r->back = r->next;
    if (r->next != NULL)
        r->next->back = r->back;
    r->session->request_count--;
    json_decref(r->id);
    free(r->id_text);
    free(r);
}

/* Its requests end here, and not when it is closed: that may happen while Lua runs. */
static void on_closed(uv_handle_t *handle)
{
    struct session *s = handle->data;
    while (s->requests != NULL) {
        struct request *r = s->requests;
        if (r->cancel != NULL)
            r->cancel(r);
        request_free(r);
    }
    console_close(&s->console, s->rt->generation);
    session_release(s);
}

struct write {
    uv_write_t request;
    char *frames;
};

static void resume_requests(struct session *s)
{
    s->held = false;
    for (struct request *r = s->requests, *next; r != NULL && !s->closing && !s->held; r = next) {
        next = r->next;
        if (r->resume != NULL)
            r->resume(r);
    }
}

static void on_written(uv_write_t *request, int status)
{
    struct write *w = (struct write *)request;
    struct session *s = request->handle->data;
    size_t left = s->pipe.write_queue_size + s->out_length;
    free(w->frames);
    free(w);
    if (status != 0 || (s->last_words && left == 0))
        session_close(s);
    else if (s->held && left < SESSION_EVENT_BYTES_MAX / 2)
        resume_requests(s);
}

/* In one go: a write for each frame would cost more than all else. */
static void flush(struct session *s)
{
    struct write *w = s->closing || s->out_length == 0 ? NULL : calloc(1, sizeof *w);
    if (w == NULL)
        return;
    uv_buf_t buffer = uv_buf_init(s->out, (unsigned)s->out_length);
    w->frames = s->out;
    s->out = NULL;
    s->out_length = s->out_capacity = 0;
    if (uv_write(&w->request, (uv_stream_t *)&s->pipe, &buffer, 1, on_written) == 0)
        return;
    free(w->frames);
    free(w);
    session_close(s);
}

void session_close(struct session *s)
{
    if (s->closing)
        return;
    flush(s); /* as far as the socket takes it */
    if (s->closing)
        return; /* it takes nothing any more */
    s->closing = true;
    uv_close((uv_handle_t *)&s->pipe, on_closed);
}

void sessions_flush(struct streams *streams)
{
    while (streams->unflushed != NULL) {
        struct session *s = streams->unflushed;
        streams->unflushed = s->unflushed;
        s->is_unflushed = false;
        flush(s);
        session_release(s);
    }
}

/* ---- writing ---- */

static size_t unread(const struct session *s)
{
    return s->pipe.write_queue_size + s->out_length;
}

static void flush_later(struct session *s)
{
    if (s->is_unflushed)
        return;
    s->is_unflushed = true;
    s->references++;
    s->unflushed = s->streams->unflushed;
    s->streams->unflushed = s;
    hub_again(&s->rt->hub);
}

static void send_text(struct session *s, const char *json, size_t length)
{
    size_t need = s->out_length + FRAME_HEAD + length;
    if (s->closing)
        return;
    if (need > s->out_capacity) {
        size_t capacity = need + need / 2;
        char *more = realloc(s->out, capacity);
        if (more == NULL) {
            session_close(s); /* an answer that does not come must not be waited for */
            return;
        }
        s->out = more;
        s->out_capacity = capacity;
    }
    frame_write(json, length, s->out + s->out_length);
    s->out_length = need;
    if (unread(s) > SESSION_ANSWER_BYTES_MAX)
        session_close(s); /* it does not read */
    else if (s->out_length > FLUSH_BYTES)
        flush(s);
    else
        flush_later(s);
}

/* Takes `message`. */
static bool send_json(struct session *s, json_t *message)
{
    char *text =
        message != NULL ? json_dumps(message, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(message);
    size_t length = text != NULL ? strlen(text) : 0;
    bool fits = length > 0 && length <= FRAME_BYTES_MAX;
    if (fits)
        send_text(s, text, length);
    free(text);
    return fits;
}

static json_t *refusal(json_t *id, const char *code, const char *message, const char *traceback)
{
    json_t *e = json_pack("{s:s, s:o}", "code", code, "message", report_text(message));
    if (traceback[0] != '\0')
        json_object_set_new(e, "traceback", report_text(traceback));
    return json_pack("{s:O, s:b, s:o}", "id", id, "ok", 0, "error", e);
}

/* Events are missing: that is said as soon as there is room, and before the answer. */
static void tell_dropped(struct request *r)
{
    uint64_t count = r->dropped;
    r->dropped = 0;
    if (count > 0)
        send_json(r->session, json_pack("{s:O, s:s, s:{s:I}}", "id", r->id, "event", "dropped",
                                        "data", "count", (json_int_t)count));
}

void request_answer(struct request *r, json_t *result)
{
    struct session *s = r->session;
    tell_dropped(r);
    json_t *message = json_pack("{s:O, s:b, s:o}", "id", r->id, "ok", 1, "result", result);
    if (!send_json(s, message) &&
        !send_json(s, refusal(r->id, "too_large",
                              "the answer does not fit into a frame, or into memory", "")))
        session_close(s);
    request_free(r);
}

void request_refuse(struct request *r, const char *code, const char *message, const char *traceback)
{
    tell_dropped(r);
    if (!send_json(r->session, refusal(r->id, code, message, traceback)))
        session_close(r->session);
    request_free(r);
}

/* ---- events ---- */

bool request_is_held(const struct request *r)
{
    struct session *s = r->session;
    if (s->closing || unread(s) > SESSION_EVENT_BYTES_MAX)
        s->held = true;
    return s->held;
}

void request_drop(struct request *r, uint64_t count)
{
    r->dropped += count;
}

void request_event_text(struct request *r, const char *name, const char *json)
{
    struct session *s = r->session;
    if (request_is_held(r)) {
        request_drop(r, 1);
        return;
    }
    tell_dropped(r);
    char *text = NULL;
    int length =
        asprintf(&text, "{\"id\":%s,\"event\":\"%s\",\"data\":%s}", r->id_text, name, json);
    if (length > 0 && (size_t)length <= FRAME_BYTES_MAX)
        send_text(s, text, (size_t)length);
    else
        request_drop(r, 1);
    if (length > 0)
        free(text);
}

void request_event(struct request *r, const char *name, json_t *data)
{
    char *json = json_dumps(data, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(data);
    if (json != NULL)
        request_event_text(r, name, json);
    else
        request_drop(r, 1);
    free(json);
}

/* ---- reading ---- */

static void end_with(struct session *s, const char *code, const char *message)
{
    s->last_words = true;
    s->partial_since = clock_ms(); /* they have to be read in time, too */
    uv_read_stop((uv_stream_t *)&s->pipe);
    json_t *id = json_null();
    if (!send_json(s, refusal(id, code, message, "")))
        session_close(s);
    flush(s);
}

static struct request *find_request(const struct session *s, const json_t *id)
{
    for (struct request *r = s->requests; r != NULL; r = r->next)
        if (json_equal(r->id, id))
            return r;
    return NULL;
}

static void refuse_at_once(struct session *s, json_t *id, const char *code, const char *message)
{
    send_json(s, refusal(id, code, message, ""));
}

/* It is told what became of the one that it names. */
static void cancel(struct session *s, json_t *id, const json_t *args)
{
    struct request *target = find_request(s, json_object_get(args, "id"));
    if (target != NULL) {
        if (target->cancel != NULL)
            target->cancel(target);
        request_refuse(target, "cancelled", "it was cancelled", "");
    }
    send_json(s, json_pack("{s:O, s:b, s:{s:b}}", "id", id, "ok", 1, "result", "cancelled",
                           target != NULL));
}

static void begin(struct session *s, json_t *id, const char *verb, json_t *args)
{
    if (s->request_count >= SESSION_REQUESTS_MAX) {
        refuse_at_once(s, id, "too_many", "64 requests of this client are under way: no more");
        return;
    }
    struct request *r = calloc(1, sizeof *r);
    if (r != NULL)
        r->id_text = json_dumps(id, JSON_ENCODE_ANY | JSON_COMPACT);
    if (r == NULL || r->id_text == NULL) {
        free(r);
        refuse_at_once(s, id, "no_memory", "no memory for a request");
        return;
    }
    r->session = s;
    r->id = json_incref(id);
    r->next = s->requests;
    if (r->next != NULL)
        r->next->back = &r->next;
    r->back = &s->requests;
    s->requests = r;
    s->request_count++;
    verb_begin(r, verb, args);
}

/* False: it is no request. */
static bool take_request(struct session *s, const json_t *request)
{
    const char *verb = json_string_value(json_object_get(request, "verb"));
    json_t *args = json_object_get(request, "args");
    json_t *id = json_object_get(request, "id");
    if (verb == NULL)
        return false;
    if (!json_is_integer(id) && !json_is_string(id))
        refuse_at_once(s, json_null(), "bad_id", "a request has an id: a whole number or a string");
    else if (find_request(s, id) != NULL)
        refuse_at_once(s, id, "bad_id", "a request with this id is under way");
    else if (strcmp(verb, "cancel") == 0)
        cancel(s, id, args);
    else
        begin(s, id, verb, args);
    return true;
}

/* A client that asks without an end has its share of the loop, and no more. */
static void pause_reading(struct session *s)
{
    s->paused = true;
    s->streams->paused++;
    uv_read_stop((uv_stream_t *)&s->pipe);
    hub_again(&s->rt->hub);
}

static void take_frames(struct session *s)
{
    size_t length;
    bool bad = false;
    uint64_t until = hub_slice(&s->streams->rt->hub, TURN_NS);
    for (char *json; !s->closing && (json = frame_take(&s->reader, &length, &bad)) != NULL;) {
        json_t *request = json_loadb(json, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        bool good = json_is_object(request) && take_request(s, request);
        json_decref(request);
        if (!good) {
            end_with(s, "malformed", "a frame is a JSON object with id, verb and args");
            return;
        }
        if (uv_hrtime() >= until && !s->closing) {
            pause_reading(s);
            return;
        }
    }
    if (bad && !s->closing)
        end_with(s, "too_large", "a frame has at most 1048576 bytes");
}

static void on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
    struct session *s = handle->data;
    (void)size;
    *buffer = uv_buf_init(s->read, sizeof s->read);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
    struct session *s = stream->data;
    if (length == 0)
        return;
    hub_awake(&s->streams->rt->hub);
    if (length == UV_EOF && frame_is_partial(&s->reader) && !s->last_words) {
        end_with(s, "truncated", "the last frame has no end");
        return;
    }
    if (length < 0 || frame_add(&s->reader, buffer->base, (size_t)length) != 0) {
        session_close(s);
        return;
    }
    s->references++; /* an answer may close it */
    take_frames(s);
    if (!frame_is_partial(&s->reader))
        s->partial_since = 0;
    else if (s->partial_since == 0)
        s->partial_since = clock_ms();
    session_release(s);
}

void session_go_on(struct session *s)
{
    if (!s->paused)
        return;
    s->paused = false;
    s->streams->paused--;
    if (s->closing)
        return;
    s->references++;
    take_frames(s);
    if (!s->paused && !s->closing && !s->last_words)
        uv_read_start((uv_stream_t *)&s->pipe, on_allocate, on_read);
    session_release(s);
}

void session_check(struct session *s, uint64_t now)
{
    if (s->closing || s->partial_since == 0 || now - s->partial_since < SESSION_FRAME_MS)
        return;
    if (s->last_words)
        session_close(s); /* it does not read them */
    else
        end_with(s, "truncated", "the rest of the frame did not come in time");
}

/* ---- accepting ---- */

static bool is_ours(struct session *s)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    uv_os_fd_t fd;
    if (uv_fileno((const uv_handle_t *)&s->pipe, &fd) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return false;
    s->peer = peer.pid;
    s->uid = peer.uid;
    return peer.uid == 0 || peer.uid == geteuid();
}

struct session *session_accept(struct control *control, struct streams *streams,
                               uv_stream_t *listener)
{
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->references = 1;
    s->control = control;
    s->streams = streams;
    s->rt = streams->rt;
    uv_pipe_init(s->rt->loop, &s->pipe, 0);
    s->pipe.data = s;
    if (uv_accept(listener, (uv_stream_t *)&s->pipe) != 0 || !is_ours(s) ||
        uv_read_start((uv_stream_t *)&s->pipe, on_allocate, on_read) != 0)
        session_close(s);
    else
        uv_unref((uv_handle_t *)&s->pipe);
    return s;
}
