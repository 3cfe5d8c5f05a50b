/* Publishing and requests of the host. See messages.h. Loop thread. */
#include "host/messages.h"

#include <stdlib.h>
#include <string.h>

#include "conn/connection.h"
#include "conn/request.h"
#include "host/subscriptions.h"
#include "link/headers.h"
#include "link/inner.h"
#include "runtime_private.h"
#include "script/binding.h"

#define REQUEST_TIMEOUT_MS 2000u
#define HEADER_BYTES 1024u /* of all headers; more are put together on the heap */

/* A request that the host has not been told the end of. */
struct request {
    struct request *next, **back; /* in messages->requests; `back` NULL: in messages->failed */
    struct messages *messages;
    struct connection *connection; /* fails what waits before it ends */
    uint64_t number;
    uv_timer_t deadline;
    uint32_t timeout_ms;
    md_answer_fn fn;
    void *closure;
    char code[ERROR_CODE_SIZE]; /* of why it failed */
    char *why;                  /* NULL: no memory for it */
    char subject[];             /* for reports */
};

/* ---- making and ending ---- */

struct messages *messages_new(struct hub *hub, sentinel *watching)
{
    struct messages *m = calloc(1, sizeof *m);
    if (m == NULL)
        return NULL;
    m->hub = hub;
    m->sentinel = watching;
    m->subscriptions_end = &m->subscriptions;
    m->failed_end = &m->failed;
    return m;
}

static void fail_request(struct request *r, const error *e);
static void tell_failure(struct messages *m);

void messages_end(struct messages *m)
{
    error e = {0};
    if (m == NULL)
        return;
    m->ended = true;
    error_set(&e, "closed", ERROR_CLASS_NONE, "the runtime was freed before there was an answer");
    while (m->requests != NULL) {
        connection_request_cancel(m->requests->connection, m->requests->number);
        fail_request(m->requests, &e);
    }
    while (m->failed != NULL)
        tell_failure(m);
    while (m->subscriptions != NULL)
        md_unsubscribe(m->subscriptions);
    m->generation = NULL;
}

bool messages_closed(const struct messages *m)
{
    return m == NULL || m->handles == 0;
}

void messages_free(struct messages *m)
{
    free(m);
}

/* ---- which connection ---- */

/* One that was closed, and then declared again, is there twice. */
static struct binding *find_by_name(const struct generation *g, const char *name)
{
    struct binding *found = NULL;
    for (struct binding *b = g->bindings; b != NULL; b = b->next)
        if (strcmp(b->name, name) == 0 && (found == NULL || b->connection != NULL))
            found = b;
    return found;
}

struct binding *messages_binding(const struct generation *g, const char *name)
{
    if (g == NULL || g->bindings == NULL)
        return NULL;
    return find_by_name(g, name != NULL ? name : g->bindings->name);
}

static struct connection *find_connection(const struct messages *m, const char *name, error *e)
{
    const struct binding *b = messages_binding(m->generation, name);
    if (b != NULL && b->connection != NULL && !m->ended)
        return b->connection;
    if (b != NULL || m->ended)
        error_set(e, "closed", ERROR_CLASS_NONE, "connection %s is closed",
                  b != NULL      ? b->name
                  : name != NULL ? name
                                 : "");
    else if (m->generation == NULL)
        error_set(e, "no_connection", ERROR_CLASS_NONE,
                  "no script is at work, which would declare a connection: load one first");
    else if (name == NULL)
        error_set(e, "no_connection", ERROR_CLASS_NONE,
                  "%s declares no connection: it has to call moondog.connect{...}",
                  m->generation->path);
    else
        error_set(e, "no_connection", ERROR_CLASS_NONE,
                  "%s declares no connection \"%.100s\": give one this name, or ask for another",
                  m->generation->path, name);
    return NULL;
}

/* ---- what is sent ---- */

/* As much of it as both sides know. */
static int read_outgoing(const md_outgoing *message, md_outgoing *out, error *e)
{
    *out = (md_outgoing){0};
    if (message != NULL && message->size > 0)
        memcpy(out, message, message->size < sizeof *out ? message->size : sizeof *out);
    if (out->size == 0)
        error_set(e, "usage", ERROR_CLASS_NONE,
                  "a message without its size: begin with md_outgoing m = {.size = sizeof m}");
    else if (out->subject == NULL)
        error_set(e, "invalid_subject", ERROR_CLASS_NONE, "a message without a subject");
    else if (out->data == NULL && out->length > 0)
        error_set(e, "usage", ERROR_CLASS_NONE, "a message to %.100s with a length, and no data",
                  out->subject);
    else if (out->headers == NULL && out->header_count > 0)
        error_set(e, "usage", ERROR_CLASS_NONE,
                  "a message to %.100s with a number of headers, and no headers", out->subject);
    else
        return 0;
    return -1;
}

/* How many bytes the headers are, with a NUL behind each name and value. */
static int measure_headers(const md_outgoing *out, size_t *size, error *e)
{
    *size = 0;
    for (size_t i = 0; i < out->header_count; i++) {
        const md_header *h = &out->headers[i];
        if (h->name == NULL || h->value == NULL)
            return error_set(e, "usage", ERROR_CLASS_NONE,
                             "a message to %.100s with a header that has no %s", out->subject,
                             h->name == NULL ? "name" : "value");
        size_t name = strlen(h->name), value = strlen(h->value);
        if (header_check(h->name, name, h->value, value, e) != 0)
            return -1;
        *size += name + 1 + value + 1;
        if (*size > INT32_MAX)
            return error_set(e, "too_large", ERROR_CLASS_LIMIT,
                             "a message to %.100s with more than 2 GiB of headers", out->subject);
    }
    return 0;
}

static void copy_headers(const md_outgoing *out, char *at)
{
    for (size_t i = 0; i < out->header_count; i++) {
        at = stpcpy(at, out->headers[i].name) + 1;
        at = stpcpy(at, out->headers[i].value) + 1;
    }
}

static record_message as_record(const md_outgoing *out, const char *headers, size_t header_length)
{
    return (record_message){.subject = out->subject,
                            .subject_length = strlen(out->subject),
                            .reply = out->reply,
                            .reply_length = out->reply != NULL ? strlen(out->reply) : 0,
                            .headers = headers,
                            .header_length = header_length,
                            .header_count = (uint32_t)out->header_count,
                            .data = out->data,
                            .data_length = out->length};
}

/* Publishes it, or asks with it: `r` is not NULL then. */
static int send_record(struct connection *c, const record_message *m, struct request *r, error *e);

static int send_outgoing(struct connection *c, const md_outgoing *out, struct request *r, error *e)
{
    char few[HEADER_BYTES], *headers = few;
    size_t size;
    if (measure_headers(out, &size, e) != 0)
        return -1;
    if (size > sizeof few && (headers = malloc(size)) == NULL)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for headers (%zu bytes)",
                         size);
    copy_headers(out, headers);
    record_message m = as_record(out, headers, size);
    int failed = send_record(c, &m, r, e);
    if (headers != few)
        free(headers);
    if (failed == 0)
        hub_again(connection_hub(c)); /* the host may be between two turns, and wait next */
    return failed;
}

int md_publish(md_runtime *rt, const md_outgoing *message, md_error *out)
{
    md_outgoing m;
    error e = {0};
    struct connection *c;
    if (read_outgoing(message, &m, &e) != 0 ||
        (c = find_connection(rt->messages, m.connection, &e)) == NULL ||
        send_outgoing(c, &m, NULL, &e) != 0)
        return runtime_error(out, &e, "");
    return 0;
}

/* ---- requests ---- */

static void on_deadline_closed(uv_handle_t *handle)
{
    struct request *r = handle->data;
    r->messages->handles--;
    free(r->why);
    free(r);
}

/* Out of the list of those that wait. */
static void take_out(struct request *r)
{
    *r->back = r->next;
    if (r->next != NULL)
        r->next->back = r->back;
    r->back = NULL;
}

/* One of answer and why is NULL. It is freed when the loop has closed its timer. */
static void tell(struct request *r, const md_message *answer, const md_error *why)
{
    struct messages *m = r->messages;
    m->request_count--;
    uv_close((uv_handle_t *)&r->deadline, on_deadline_closed);
    callback_init(&m->answering, "host answer", r->subject);
    const struct callback *outer = sentinel_host_enters(m->sentinel, &m->answering);
    r->fn(r->closure, answer, why);
    sentinel_host_leaves(m->sentinel, outer);
    sentinel_settle(m->sentinel); /* it is written to again for the next one */
}

/* Many may fail at once, as when a link is lost: they are told in the turns that follow. */
static void fail_request(struct request *r, const error *e)
{
    struct messages *m = r->messages;
    take_out(r);
    uv_timer_stop(&r->deadline);
    memcpy(r->code, e->code, sizeof r->code);
    r->why = strdup(e->message);
    r->next = NULL;
    *m->failed_end = r;
    m->failed_end = &r->next;
    m->failed_count++;
}

/* The first of them. */
static void tell_failure(struct messages *m)
{
    struct request *r = m->failed;
    error e = {0};
    md_error why;
    m->failed = r->next;
    if (m->failed == NULL)
        m->failed_end = &m->failed;
    m->failed_count--;
    error_set(&e, r->code, ERROR_CLASS_NONE, "%s",
              r->why != NULL ? r->why : "no memory to say why");
    runtime_error(&why, &e, "");
    tell(r, NULL, &why);
}

void messages_turn(struct messages *m)
{
    uint64_t until = m->failed != NULL ? uv_hrtime() + HUB_BATCH_NS : 0;
    while (m->failed != NULL && !hub_is_late(m->hub) && uv_hrtime() < until) {
        hub_serve(m->hub);
        tell_failure(m);
    }
    if (m->failed != NULL)
        hub_again(m->hub);
}

static void on_answer(void *closure, natsMsg *answer, const error *e)
{
    struct request *r = closure;
    if (answer == NULL) {
        fail_request(r, e);
        return;
    }
    md_message message = {answer};
    take_out(r);
    tell(r, &message, NULL);
    message_free(answer);
}

static void on_deadline(uv_timer_t *timer)
{
    struct request *r = timer->data;
    error e = {0};
    connection_request_cancel(r->connection, r->number);
    error_set(&e, "timeout", ERROR_CLASS_TIMEOUT, "no answer to a request to %.100s within %u ms",
              r->subject, r->timeout_ms);
    fail_request(r, &e);
}

static int send_record(struct connection *c, const record_message *m, struct request *r, error *e)
{
    if (r == NULL)
        return connection_publish(c, m, e);
    r->number = connection_request(c, m, on_answer, r, e);
    return r->number != 0 ? 0 : -1;
}

static struct request *new_request(struct messages *m, const md_outgoing *out, error *e)
{
    size_t length = strlen(out->subject);
    if (subject_check(out->subject, length, false, e) != 0)
        return NULL;
    struct request *r = malloc(sizeof *r + length + 1);
    if (r == NULL) {
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a request");
        return NULL;
    }
    *r = (struct request){.messages = m,
                          .timeout_ms = out->timeout_ms > 0 ? out->timeout_ms : REQUEST_TIMEOUT_MS};
    memcpy(r->subject, out->subject, length + 1);
    return r;
}

/* It was sent. */
static void await_answer(struct request *r)
{
    struct messages *m = r->messages;
    r->next = m->requests;
    if (r->next != NULL)
        r->next->back = &r->next;
    r->back = &m->requests;
    m->requests = r;
    m->request_count++;
    m->handles++;
    uv_timer_init(m->hub->loop, &r->deadline);
    r->deadline.data = r;
    uv_update_time(m->hub->loop);
    uv_timer_start(&r->deadline, on_deadline, r->timeout_ms, 0);
}

int md_request(md_runtime *rt, const md_outgoing *message, md_answer_fn fn, void *closure,
               md_error *out)
{
    md_outgoing m;
    error e = {0};
    struct request *r = NULL;
    struct connection *c;
    if (fn == NULL)
        error_set(&e, "usage", ERROR_CLASS_NONE,
                  "a request without a function for its answer: publish the message instead");
    else if (read_outgoing(message, &m, &e) == 0 &&
             (c = find_connection(rt->messages, m.connection, &e)) != NULL &&
             (r = new_request(rt->messages, &m, &e)) != NULL) {
        r->connection = c;
        r->fn = fn;
        r->closure = closure;
        if (send_outgoing(c, &m, r, &e) == 0) {
            await_answer(r);
            return 0;
        }
    }
    free(r);
    return runtime_error(out, &e, "");
}

/* ---- messages that came ---- */

const char *md_message_subject(const md_message *message)
{
    return natsMsg_GetSubject(message->msg);
}

const char *md_message_reply(const md_message *message)
{
    const char *reply = natsMsg_GetReply(message->msg);
    return reply != NULL && reply[0] != '\0' ? reply : NULL;
}

const void *md_message_data(const md_message *message, size_t *length)
{
    if (length != NULL)
        *length = (size_t)natsMsg_GetDataLength(message->msg);
    return natsMsg_GetData(message->msg);
}

const char *md_message_header(const md_message *message, const char *name)
{
    const char *value = NULL;
    if (!headers_are_readable(message->msg))
        return NULL;
    if (natsMsgHeader_Get(message->msg, name, &value) != NATS_OK)
        return NULL;
    return value != NULL ? value : "";
}
