/* The loop's side of a link. See link.h. Loop thread, but for the reference count. */
#include "link/link.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "link/link_private.h"
#include "link/living.h"

void link_retain(struct link *l)
{
    atomic_fetch_add(&l->references, 1);
}

void link_release(struct link *l)
{
    if (atomic_fetch_sub(&l->references, 1) != 1)
        return;
    living_leave(l);
    record_queue_clear(&l->queue);
    free(l->active);
    free(l->token);
    free(l->token_in_use);
    free(l->nkey_public);
    mailbox_destroy(&l->mailbox);
    link_options_release(l->options);
    uv_cond_destroy(&l->changed);
    uv_mutex_destroy(&l->lock);
    free(l);
}

static struct link *link_new(link_options *options, uv_async_t *wake)
{
    struct link *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    if (mailbox_init(&l->mailbox, wake) != 0)
        goto no_mailbox;
    if (uv_mutex_init(&l->lock) != 0)
        goto no_lock;
    if (uv_cond_init(&l->changed) != 0)
        goto no_cond;
    l->options = link_options_retain(options);
    atomic_store(&l->references, 1);
    living_enter(l);
    return l;

no_cond:
    uv_mutex_destroy(&l->lock);
no_lock:
    mailbox_destroy(&l->mailbox);
no_mailbox:
    free(l);
    return NULL;
}

struct link *link_start(link_options *options, uint64_t number, unsigned first_server,
                        const char *token, uv_async_t *wake, error *e)
{
    struct link *l = link_new(options, wake);
    if (l == NULL) {
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a link");
        return NULL;
    }
    l->number = number;
    l->first_server = first_server;
    if (token != NULL && (l->token = strdup(token)) == NULL) {
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a link's token");
        link_release(l);
        return NULL;
    }
    link_retain(l); /* the worker's */
    int failed = thread_start(&l->thread, link_worker, l);
    if (failed != 0) {
        error_set(e, "no_thread", ERROR_CLASS_LIMIT,
                  "cannot start a link's thread: %s; look at the limit of tasks (ulimit -u)",
                  uv_strerror(failed));
        link_release(l);
        link_release(l);
        return NULL;
    }
    return l;
}

uint64_t link_number(const struct link *l)
{
    return l->number;
}

mailbox *link_mailbox(struct link *l)
{
    return &l->mailbox;
}

void link_send(struct link *l, record_queue *q)
{
    if (q->head == NULL)
        return;
    atomic_fetch_add_explicit(&l->given_bytes, q->bytes, memory_order_relaxed);
    uv_mutex_lock(&l->lock);
    record_queue_append(&l->queue, q);
    uv_cond_signal(&l->changed);
    uv_mutex_unlock(&l->lock);
}

size_t link_unsent_at_most(const struct link *l)
{
    return atomic_load_explicit(&l->given_bytes, memory_order_relaxed) - l->done_seen;
}

size_t link_unsent_bytes(struct link *l)
{
    l->done_seen = atomic_load_explicit(&l->done_bytes, memory_order_relaxed);
    return link_unsent_at_most(l);
}

void link_sent(const struct link *l, uint64_t *messages, uint64_t *bytes)
{
    *messages = atomic_load_explicit(&l->sent_messages, memory_order_relaxed);
    *bytes = atomic_load_explicit(&l->sent_bytes, memory_order_relaxed);
}

void link_ask(struct link *l, unsigned bits)
{
    uv_mutex_lock(&l->lock);
    l->asks |= bits;
    uv_cond_broadcast(&l->changed);
    uv_mutex_unlock(&l->lock);
}

void link_set_token(struct link *l, const char *token)
{
    char *copy = token == NULL ? NULL : strdup(token);
    uv_mutex_lock(&l->lock);
    char *old = l->token;
    l->token = copy;
    uv_mutex_unlock(&l->lock);
    free(old);
}

void link_answer_delay(struct link *l, uint32_t delay_ms)
{
    uv_mutex_lock(&l->lock);
    l->delay_answered = true;
    l->delay_ms = delay_ms;
    uv_cond_broadcast(&l->changed);
    uv_mutex_unlock(&l->lock);
}

/* A subscription that never reached the library has its last word now; each record that names one
 * holds a reference. */
static void end_unsent_subs(struct link *l, const record_chunk *c, size_t first)
{
    for (size_t i = first; i < c->count; i++) {
        const record *r = record_at(c, i);
        if (r->type == RECORD_PUBLISH || r->pointer == NULL)
            continue;
        if (r->type == RECORD_SUBSCRIBE)
            mailbox_put_last_word(&l->mailbox, r->pointer);
        link_sub_release(r->pointer);
    }
}

static uint64_t salvage_chunk(struct link *l, record_queue *rest, const record_chunk *c,
                              size_t first)
{
    end_unsent_subs(l, c, first);
    return record_queue_salvage(rest, c, first);
}

uint64_t link_close(struct link *l, record_queue *queue)
{
    uint64_t lost = 0;
    if (!atomic_exchange(&l->closing, true)) {
        bool nothing =
            atomic_load(&l->given_bytes) == 0; /* a dial that failed: nothing to sort out */
        uv_mutex_lock(&l->lock);
        record_queue rest = {0};
        if (nothing)
            record_queue_append(&rest, queue);
        if (l->active != NULL) {
            size_t first = atomic_exchange(&l->active_read, LINK_ALL_CLAIMED);
            lost += salvage_chunk(l, &rest, l->active, first);
        }
        /* What the worker has is older than what waits in the connection. */
        record_queue_append(&l->queue, queue);
        for (record_chunk *c; (c = record_queue_take(&l->queue)) != NULL; free(c))
            lost += salvage_chunk(l, &rest, c, 0);
        uv_mutex_unlock(&l->lock);
        *queue = rest;
    }
    link_ask(l, LINK_ASK_CLOSE);
    return lost;
}

void link_join(struct link *l)
{
    uv_thread_join(&l->thread);
    mailbox_detach(&l->mailbox);
    link_release(l);
}

void link_leave(struct link *l, mailbox_chunk *taken)
{
    pthread_detach(l->thread);
    mailbox_abandon(&l->mailbox, taken, link_sub_release);
    link_release(l);
}

_Static_assert(offsetof(struct link_sub, taken_messages) == 64, "no cache line has both halves");

struct link_sub *link_sub_new(struct link *l, void *owner, struct interest *interest)
{
    struct link_sub *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->interest = interest_retain(interest);
    s->max_messages = interest->pending_messages;
    s->max_bytes = interest->pending_bytes;
    atomic_init(&s->references, 1);
    s->owner = owner;
    s->link = l;
    l->loop_subs++;
    link_retain(l);
    return s;
}

void link_sub_done(struct link_sub *s)
{
    s->link->loop_subs--;
    link_sub_release(s);
}

unsigned link_subs(const struct link *l)
{
    return l->loop_subs;
}

struct link_sub *link_sub_retain(struct link_sub *s)
{
    atomic_fetch_add(&s->references, 1);
    return s;
}

void link_sub_release(struct link_sub *s)
{
    if (atomic_fetch_sub(&s->references, 1) != 1)
        return;
    struct link *l = s->link;
    interest_release(s->interest);
    free(s);
    link_release(l);
}

watchdog_link_status link_status_of(natsConnStatus status)
{
    switch (status) {
    case NATS_CONN_STATUS_CONNECTED:
        return WATCHDOG_LINK_CONNECTED;
    case NATS_CONN_STATUS_RECONNECTING:
        return WATCHDOG_LINK_RECONNECTING;
    case NATS_CONN_STATUS_CLOSED:
    case NATS_CONN_STATUS_DISCONNECTED:
        return WATCHDOG_LINK_CLOSED;
    default:
        return WATCHDOG_LINK_OTHER;
    }
}
