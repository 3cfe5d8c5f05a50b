/* The worker of a link: the one thread that makes the nats.c calls that can block. It dials,
 * carries out records in order, answers what it is asked, and at the end destroys everything. It
 * may hang in any of these calls for as long as nats.c likes: the watchdog then gives the link up.
 */
#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "link/inner.h"
#include "link/link_private.h"

#define PROBE_END_NS 250000000u /* far below the watchdog's grace for a link that ends */
#define DEAD_SUBS_MAX 128       /* so many unsubscribed ones are destroyed at a time */
#define DEAD_SUBS_WAIT_NS 1000000000u
#define INBOX_ID_SIZE 40

/* ---- events ---- */

static void post_server(struct link *l, link_event_type type)
{
    link_event event = {.type = type};
    char url[LINK_URL_SIZE] = "";
    if (natsConnection_GetConnectedUrl(l->nats, url, sizeof url) == NATS_OK)
        link_redact_url(url, event.text, sizeof event.text);
    event.max_payload = natsConnection_GetMaxPayload(l->nats);
    mailbox_post(&l->mailbox, &event);
}

void link_fill_error(error *e, natsStatus status)
{
    natsStatus last = NATS_OK;
    const char *text = nats_GetLastError(&last);
    error_from_nats(e, (int)status, last == status ? text : NULL);
}

static void post_publish_failures(struct link *l)
{
    if (l->publish_failures == 0)
        return;
    link_event event = {.type = LINK_EVENT_PUBLISH_FAILED,
                        .number = l->publish_failures,
                        .error = l->publish_error};
    l->publish_failures = 0;
    mailbox_post(&l->mailbox, &event);
}

/* ---- dialling ---- */

static void make_probe_subject(struct link *l)
{
    char id[INBOX_ID_SIZE] = "probe";
    natsInbox *inbox = NULL;
    if (natsInbox_Create(&inbox) == NATS_OK) {
        const char *dot = strrchr(inbox, '.');
        snprintf(id, sizeof id, "%s", dot != NULL ? dot + 1 : inbox);
        natsInbox_Destroy(inbox);
    }
    snprintf(l->probe_subject, sizeof l->probe_subject, "%s%s", l->options->inbox_prefix, id);
}

/* With no_echo the server would not send us our own probe: a PING has to do. */
static void subscribe_probe(struct link *l)
{
    if (l->options->no_echo) {
        atomic_store(&l->probe_by_ping, true);
        return;
    }
    natsStatus status =
        natsConnection_Subscribe(&l->probe_sub, l->nats, l->probe_subject, link_on_probe, l);
    if (status != NATS_OK) {
        atomic_store(&l->probe_by_ping, true);
        return;
    }
    link_retain(l); /* until the delivery thread is done with it */
    l->probe_going = true;
    if (natsSubscription_SetOnCompleteCB(l->probe_sub, link_on_probe_complete, l) != NATS_OK) {
        l->probe_going = false;
        link_release(l);
    }
}

static void dial(struct link *l)
{
    link_event event = {.type = LINK_EVENT_DIAL_FAILED};
    l->stalled = true;
    l->batches = inner_is_known();
    if (link_build_options(l, &event.error) != 0) {
        mailbox_post(&l->mailbox, &event);
        return;
    }
    make_probe_subject(l); /* the error callback compares with it, from now on */
    natsStatus status = natsConnection_Connect(&l->nats, l->nats_options);
    if (status != NATS_OK) {
        natsStatus last = NATS_OK;
        const char *text = nats_GetLastError(&last);
        l->nats = NULL;
        error_from_dial(&event.error, (int)status, last == status ? text : NULL);
        mailbox_post(&l->mailbox, &event);
        return;
    }
    l->stalled = false;
    subscribe_probe(l);
    post_server(l, LINK_EVENT_DIALED);
}

/* ---- records ---- */

/* It was not sent, because there is no connection now: it can be sent later. */
static bool is_not_now(natsStatus status)
{
    return status == NATS_INSUFFICIENT_BUFFER || status == NATS_CONNECTION_CLOSED;
}

static void count_published(struct link *l, natsStatus status, size_t count, size_t data_length)
{
    if (status != NATS_OK) {
        link_fill_error(&l->publish_error, status);
        l->publish_failures += count;
        return;
    }
    link_add(&l->sent_messages, count);
    link_add(&l->sent_bytes, data_length);
}

/* False: not now. `more`: what follows sends this one, too. */
static bool do_publish(struct link *l, const record *r, bool more)
{
    natsStatus status = link_publish(l, r, more);
    if (is_not_now(status))
        return false;
    count_published(l, status, 1, r->data_length);
    return true;
}

/* One round trip answers all flushes that were asked for before it. */
static void answer_flushes(struct link *l)
{
    if (l->flush_count == 0)
        return;
    link_event event = {.type = LINK_EVENT_FLUSHED};
    post_publish_failures(l);
    natsStatus status = natsConnection_FlushTimeout(l->nats, l->flush_ms > 0 ? l->flush_ms : 1);
    if (status != NATS_OK)
        link_fill_error(&event.error, status);
    for (size_t i = 0; i < l->flush_count; i++) {
        event.number = l->flush_tokens[i];
        mailbox_post(&l->mailbox, &event);
    }
    l->flush_count = 0;
    l->flush_ms = 0;
}

static void do_flush(struct link *l, const record *r)
{
    if (l->flush_count == l->flush_capacity) {
        size_t capacity = l->flush_capacity == 0 ? 16 : l->flush_capacity * 2;
        uint64_t *tokens = realloc(l->flush_tokens, capacity * sizeof *tokens);
        if (tokens == NULL) {
            link_event event = {.type = LINK_EVENT_FLUSHED, .number = r->number};
            link_fill_error(&event.error, NATS_NO_MEMORY);
            mailbox_post(&l->mailbox, &event);
            return;
        }
        l->flush_tokens = tokens;
        l->flush_capacity = capacity;
    }
    l->flush_tokens[l->flush_count++] = r->number;
    if ((int64_t)r->value > l->flush_ms)
        l->flush_ms = (int64_t)r->value;
}

/* False: the record was a publish that cannot be sent now. */
static bool process(struct link *l, const record *r, bool more)
{
    switch ((record_type)r->type) {
    case RECORD_PUBLISH:
        return do_publish(l, r, more);
    case RECORD_SUBSCRIBE:
        link_subscribe(l, r->pointer, r->number);
        return true;
    case RECORD_UNSUBSCRIBE:
        link_unsubscribe(l, r->pointer);
        return true;
    case RECORD_DRAIN:
        link_drain_sub(l, r->pointer);
        return true;
    case RECORD_FLUSH:
        do_flush(l, r);
        return true;
    }
    return true;
}

/* A publish that could not be sent now goes back to where it was. When the loop has taken the rest
 * of the chunk meanwhile, it gets this one, too. */
static void put_back(struct link *l, const record *r, size_t index)
{
    size_t next = index + 1;
    if (atomic_compare_exchange_strong(&l->active_read, &next, index))
        return;
    link_event event = {.type = LINK_EVENT_RETURNED};
    record_queue queue = {0};
    if (record_queue_copy(&queue, r) == 0)
        event.records = record_queue_take(&queue);
    else
        event.number = 1;
    mailbox_post(&l->mailbox, &event);
}

/* Whether another publish comes after this one, and so sends it, too. Where a chunk ends, that is
 * what the loop has handed over meanwhile; when it begins with something else, the library's
 * flusher sends within a millisecond. A lone publish before a flush is sent by itself: waking the
 * flusher costs more. */
static bool has_more(const struct link *l, const record_chunk *c, size_t index)
{
    if (index + 1 < c->count)
        return record_at(c, index + 1)->type == RECORD_PUBLISH;
    return atomic_load_explicit(&l->given_bytes, memory_order_relaxed) -
               atomic_load_explicit(&l->done_bytes, memory_order_relaxed) >
           record_size(record_at(c, index));
}

/* What follows each other is published as a batch. */
static bool process_in_batch(struct link *l, const record_chunk *c, size_t index)
{
    const record *r = record_at(c, index);
    bool more = has_more(l, c, index);
    if (r->type != RECORD_PUBLISH)
        link_batch_end(l);
    else if (more)
        link_batch_begin(l);
    return process(l, r, more);
}

/* A record is claimed before it is processed: link_close() takes what is not claimed, at once and
 * for good, so each record is either processed or salvaged. */
static bool claim(struct link *l, size_t index, size_t count)
{
    return atomic_compare_exchange_strong(&l->active_read, &index, index + count);
}

/* False: the chunk's end for now. */
static bool process_next(struct link *l, const record_chunk *c, size_t *index)
{
    const record *r = record_at(c, *index);
    link_run run;
    if (link_next_run(l, c, *index, &run)) {
        if (!claim(l, *index, run.count))
            return false;
        count_published(l, link_publish_run(l, &run), run.count, run.data_length);
        link_add(&l->done_bytes, run.length + run.count * sizeof *r);
        *index += run.count;
        return true;
    }
    if (!claim(l, *index, 1))
        return false;
    if (!process_in_batch(l, c, *index)) {
        link_batch_end(l); /* put_back() takes a lock */
        l->stalled = true;
        put_back(l, r, *index);
        return false;
    }
    link_add(&l->done_bytes, record_size(r));
    ++*index;
    return true;
}

/* Works through the active chunk. */
static void process_chunk(struct link *l, const record_chunk *c)
{
    size_t index = atomic_load(&l->active_read);
    while (index < c->count && process_next(l, c, &index))
        continue;
    link_batch_end(l);
}

/* ---- questions ---- */

static void probe(struct link *l)
{
    uint64_t now = uv_hrtime();
    atomic_store(&l->probe_at, now);
    if (atomic_load(&l->probe_by_ping)) {
        if (natsConnection_FlushTimeout(l->nats, l->options->probe_timeout_ms) == NATS_OK) {
            link_event event = {.type = LINK_EVENT_PROBE_ANSWERED, .number = uv_hrtime() - now};
            mailbox_post(&l->mailbox, &event);
        }
        return;
    }
    link_publish_probe(l);
}

static void audit(struct link *l)
{
    link_event event = {.type = LINK_EVENT_AUDITED};
    event.status = link_status_of(natsConnection_Status(l->nats));
    mailbox_post(&l->mailbox, &event);
    link_count_library_drops(l);
}

static void answer(struct link *l, unsigned asks)
{
    if (asks & LINK_ASK_RESUME) {
        l->stalled = false;
        post_server(l, LINK_EVENT_SERVER);
    }
    if (asks & LINK_ASK_AUDIT)
        audit(l);
    if (asks & LINK_ASK_PROBE)
        probe(l);
}

/* ---- the thread ---- */

/* Waits for work. Returns what is asked; makes the next chunk the active one. */
static unsigned wait_for_work(struct link *l)
{
    uv_mutex_lock(&l->lock);
    if (l->active != NULL && atomic_load(&l->active_read) >= l->active->count) {
        free(l->active);
        l->active = NULL;
    }
    while (l->asks == 0) {
        bool more = l->active != NULL || l->queue.head != NULL;
        if (more && !l->stalled)
            break;
        if (l->drains != NULL && l->drains_running < LINK_DRAINS_AT_ONCE)
            break;
        if (l->dead_count == 0) {
            uv_cond_wait(&l->changed, &l->lock);
        } else if (uv_cond_timedwait(&l->changed, &l->lock, DEAD_SUBS_WAIT_NS) != 0) {
            uv_mutex_unlock(&l->lock);
            link_destroy_dead_subs(l);
            uv_mutex_lock(&l->lock);
        }
    }
    if (l->active == NULL && !l->stalled && (l->active = record_queue_take(&l->queue)) != NULL)
        atomic_store(&l->active_read, 0);
    unsigned asks = l->asks;
    l->asks = 0;
    uv_mutex_unlock(&l->lock);
    return asks;
}

static void work(struct link *l)
{
    for (;;) {
        unsigned asks = wait_for_work(l);
        if (asks & LINK_ASK_CLOSE)
            return;
        if (l->nats == NULL)
            continue; /* the dial failed: there is only the end to wait for */
        answer(l, asks);
        if (l->active != NULL && !l->stalled)
            process_chunk(l, l->active);
        answer_flushes(l);
        post_publish_failures(l);
        link_start_drains(l);
        if (l->dead_count >= DEAD_SUBS_MAX)
            link_destroy_dead_subs(l);
    }
}

/* Subscriptions of scripts are waited for by the loop. What the delivery thread throws away after
 * the library was closed is never freed. */
static void wait_for_probe_sub(struct link *l)
{
    uint64_t until = uv_hrtime() + PROBE_END_NS;
    uv_mutex_lock(&l->lock);
    for (uint64_t now; l->probe_going && (now = uv_hrtime()) < until;)
        uv_cond_timedwait(&l->changed, &l->lock, until - now);
    uv_mutex_unlock(&l->lock);
}

static void tear_down(struct link *l)
{
    if (l->nats != NULL)
        natsConnection_Close(l->nats); /* joins the reader: nothing looks at the subs any more */
    natsSubscription_Destroy(l->probe_sub);
    wait_for_probe_sub(l);
    link_destroy_subs(l);
    natsConnection_Destroy(l->nats);
    natsOptions_Destroy(l->nats_options);
    free(l->flush_tokens);
    nats_ReleaseThreadMemory();
}

void link_worker(void *link)
{
    struct link *l = link;
    char name[16];
    snprintf(name, sizeof name, "md-link-%u", (unsigned)(l->number % 1000000u));
    pthread_setname_np(pthread_self(), name);
    thread_become_patient(); /* and so do the library's threads that it starts */
    dial(l);
    work(l);
    tear_down(l);
    link_event gone = {.type = LINK_EVENT_GONE};
    mailbox_post(&l->mailbox, &gone);
    link_release(l);
}
