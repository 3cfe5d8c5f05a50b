/* What nats.c calls: messages on its delivery thread, lifecycle on its callback thread, the token
 * and the delay on the thread that connects. The first two are shared by every link of the process,
 * so nothing here waits: it is noted in the mailbox or in an atomic, and that is all. */
#include <stdlib.h>
#include <string.h>

#include "link/headers.h"
#include "link/inner.h"
#include "link/link_private.h"
#include "link/living.h"

#define LAST_ERROR_SIZE 512u /* twice the library's */
#define LOOK_EVERY 64u       /* messages: then a limit that the loop has changed counts, too */

static void post(struct link *l, link_event_type type)
{
    link_event event = {.type = type};
    mailbox_post(&l->mailbox, &event);
}

/* What still fits in, between `held` and `limit` (0: none), but not more than `most`. */
static uint64_t room(uint64_t held, uint64_t limit, uint64_t most)
{
    uint64_t left = limit == 0 ? most : limit > held ? limit - held : 0;
    return left < most ? left : most;
}

/* The pending limits of a subscription, and what the loop has taken meanwhile. A burst of drops is
 * over when the queue has shrunk to half of the limit. */
static void look_at_limits(struct link_sub *s)
{
    uint64_t max_messages = atomic_load_explicit(&s->max_messages, memory_order_relaxed);
    uint64_t max_bytes = atomic_load_explicit(&s->max_bytes, memory_order_relaxed);
    uint64_t messages = atomic_load_explicit(&s->put_messages, memory_order_relaxed) -
                        atomic_load_explicit(&s->taken_messages, memory_order_relaxed);
    uint64_t bytes = atomic_load_explicit(&s->put_bytes, memory_order_relaxed) -
                     atomic_load_explicit(&s->taken_bytes, memory_order_relaxed);
    if (s->slow && (max_messages == 0 || messages <= max_messages / 2) &&
        (max_bytes == 0 || bytes <= max_bytes / 2))
        s->slow = false;
    s->room_messages = (uint8_t)room(messages, max_messages, LOOK_EVERY);
    s->room_bytes = (uint32_t)room(bytes, max_bytes, UINT32_MAX);
}

static bool has_room(const struct link_sub *s, uint32_t weight)
{
    return s->room_messages > 0 && s->room_bytes >= weight && !s->slow;
}

/* Whether it fits in: then its room is taken. */
static bool take_room(struct link_sub *s, uint32_t weight)
{
    if (!has_room(s, weight)) {
        look_at_limits(s);
        if (s->room_messages == 0 || s->room_bytes < weight)
            return false;
    }
    s->room_messages--;
    s->room_bytes -= weight;
    return true;
}

/* The newest is dropped. A burst of drops is reported once. With a small limit there can be a
 * thousand bursts a second: those that begin within a second of a report are not reported. */
static void drop(struct link_sub *s, natsMsg *msg)
{
    atomic_fetch_add_explicit(&s->dropped, 1, memory_order_relaxed);
    message_free(msg);
    if (s->slow)
        return;
    s->slow = true;
    uint16_t now = (uint16_t)(uv_hrtime() / 1000000000u);
    if (s->slow_at != 0 && (uint16_t)(now - s->slow_at) <= 1)
        return;
    s->slow_at = now != 0 ? now : 1;
    link_event event = {.type = LINK_EVENT_SLOW};
    snprintf(event.text, sizeof event.text, "%s", s->interest->subject);
    mailbox_post(&s->link->mailbox, &event);
}

void link_on_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *link_sub)
{
    (void)nc;
    (void)sub;
    struct link_sub *s = link_sub;
    if (msg == NULL)
        return;
    if (atomic_load_explicit(&s->link->closing, memory_order_relaxed)) {
        /* A fresh link has this subscription now: what still comes here would come twice. */
        message_free(msg);
        return;
    }
    mailbox_item item = {s, msg, message_weight(msg), (uint32_t)natsMsg_GetDataLength(msg)};
    if (!take_room(s, item.weight) || mailbox_put(&s->link->mailbox, &item) != 0) {
        drop(s, msg);
        return;
    }
    link_add(&s->put_messages, 1);
    link_add(&s->put_bytes, item.weight);
}

void link_on_sub_complete(void *link_sub)
{
    struct link_sub *s = link_sub;
    struct link *l = s->link;
    link_retain(l); /* once its last word is out, the loop may free the sub */
    uv_mutex_lock(&l->lock);
    if (s->draining) {
        s->draining = false;
        l->drains_running--;
        uv_cond_broadcast(&l->changed);
    }
    uv_mutex_unlock(&l->lock);
    mailbox_put_last_word(&l->mailbox, s);
    link_release(l);
}

void link_on_probe(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *link)
{
    (void)nc;
    (void)sub;
    struct link *l = link;
    if (msg == NULL)
        return;
    message_free(msg);
    if (atomic_load(&l->closing))
        return;
    link_event event = {.type = LINK_EVENT_PROBE_ANSWERED,
                        .number = uv_hrtime() - atomic_load(&l->probe_at)};
    mailbox_post(&l->mailbox, &event);
}

void link_on_probe_complete(void *link)
{
    struct link *l = link;
    uv_mutex_lock(&l->lock);
    l->probe_going = false;
    uv_cond_broadcast(&l->changed);
    uv_mutex_unlock(&l->lock);
    link_release(l);
}

/* ---- lifecycle: closure is a link's number, and it may be gone ---- */

static void post_of(void *closure, link_event_type type)
{
    struct link *l = living_find(closure);
    if (l == NULL)
        return;
    post(l, type);
    link_release(l);
}

static void on_disconnected(natsConnection *nc, void *closure)
{
    (void)nc; /* asking it anything could wait for its lock, which a reconnect holds for seconds */
    post_of(closure, LINK_EVENT_DISCONNECTED);
}

static void on_reconnected(natsConnection *nc, void *closure)
{
    (void)nc;
    struct link *l = living_find(closure);
    if (l == NULL)
        return;
    post(l, LINK_EVENT_RECONNECTED);
    link_ask(l, LINK_ASK_RESUME);
    link_release(l);
}

static void on_closed(natsConnection *nc, void *closure)
{
    struct link *l = living_find(closure);
    if (l == NULL)
        return;
    if (!atomic_load(&l->closing)) {
        link_event event = {.type = LINK_EVENT_CLOSED};
        char text[LAST_ERROR_SIZE];
        /* Closed: nobody holds its lock for long any more. */
        natsStatus status = last_error_copy(nc, text, sizeof text);
        error_from_nats(&event.error, status == NATS_OK ? NATS_CONNECTION_CLOSED : (int)status,
                        text);
        mailbox_post(&l->mailbox, &event);
    }
    link_release(l);
}

static void post_error(struct link *l, natsStatus status)
{
    const char *text = nats_GetLastError(NULL);
    if (text != NULL && strstr(text, l->probe_subject) != NULL) {
        atomic_store(&l->probe_by_ping, true);
        link_ask(l, LINK_ASK_PROBE);
        return;
    }
    link_event event = {.type = LINK_EVENT_ERROR};
    error_from_nats(&event.error, (int)status, text);
    mailbox_post(&l->mailbox, &event);
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *closure)
{
    (void)nc;
    (void)sub;
    if (status == NATS_SLOW_CONSUMER)
        return; /* the library's own queue; our limits count and report */
    struct link *l = living_find(closure);
    if (l == NULL)
        return;
    if (!atomic_load(&l->closing))
        post_error(l, status);
    link_release(l);
}

static void on_discovered(natsConnection *nc, void *closure)
{
    (void)nc;
    post_of(closure, LINK_EVENT_DISCOVERED);
}

static void on_lame_duck(natsConnection *nc, void *closure)
{
    (void)nc;
    post_of(closure, LINK_EVENT_LAME_DUCK);
}

/* ---- on the threads that connect: the worker waits for their end before it lets the link go ----
 */

/* Under nats.c's own lock, on the thread that connects. The text must live until the next call. */
static const char *on_token(void *link)
{
    struct link *l = link;
    uv_mutex_lock(&l->lock);
    const char *now = l->token != NULL ? l->token : l->options->token;
    char *copy = now == NULL ? NULL : strdup(now);
    uv_mutex_unlock(&l->lock);
    if (copy != NULL) {
        free(l->token_in_use);
        l->token_in_use = copy;
    }
    return l->token_in_use;
}

#define DELAY_ANSWER_NS 250000000u
#define LAST_DELAY_MS 1000

/* The library read certificates and keys once, when this link was dialled, and tries for ever with
 * these: once it fails by them, or there are others, a fresh link is the way. Its last error is
 * that of this thread, which reconnects and does nothing else. */
static bool needs_fresh_files(struct link *l)
{
    if (!l->options->tls)
        return false;
    link_event event = {.type = LINK_EVENT_CLOSED};
    natsStatus status = NATS_OK;
    const char *text = nats_GetLastError(&status);
    error_from_nats(&event.error, (int)status, text);
    /* What a server offers is in no file. */
    bool failed = event.error.cls == ERROR_CLASS_TLS && status != NATS_SECURE_CONNECTION_WANTED &&
                  status != NATS_SECURE_CONNECTION_REQUIRED;
    if (!failed && !link_tls_files_changed(l))
        return false;
    if (!failed)
        error_set(&event.error, "tls_files_changed", ERROR_CLASS_TLS,
                  "the files of certificates and keys have changed since the link was made");
    mailbox_post(&l->mailbox, &event);
    return true;
}

/* On the link's reconnect thread, without locks: this one may wait for the policy, but not for
 * long; a loop that is stuck must not stop the reconnecting. */
static int64_t on_delay(natsConnection *nc, int attempt, void *link)
{
    (void)nc;
    struct link *l = link;
    if (needs_fresh_files(l))
        return LAST_DELAY_MS; /* the link is destroyed meanwhile, which wakes the library */
    uv_mutex_lock(&l->lock);
    l->delay_answered = false;
    uv_mutex_unlock(&l->lock);
    link_event event = {.type = LINK_EVENT_DELAY_WANTED, .number = (uint64_t)attempt};
    natsStatus last = NATS_OK;
    const char *text = nats_GetLastError(&last); /* this thread's: why the attempt before failed */
    if (attempt > 1 && last != NATS_OK)
        error_from_dial(&event.error, (int)last, text);
    mailbox_post(&l->mailbox, &event);

    uint64_t until = uv_hrtime() + DELAY_ANSWER_NS;
    uv_mutex_lock(&l->lock);
    while (!l->delay_answered && !atomic_load(&l->closing) && uv_hrtime() < until)
        uv_cond_timedwait(&l->changed, &l->lock, until - uv_hrtime());
    bool answered = l->delay_answered;
    uint32_t delay = l->delay_ms;
    uv_mutex_unlock(&l->lock);
    if (atomic_load(&l->closing))
        return 0;
    if (answered)
        return delay;
    double random = (double)(uv_hrtime() % 1009) / 1009.0;
    return (int64_t)(1000.0 * backoff_delay(&l->options->fallback, (uint32_t)attempt,
                                            ERROR_CLASS_NETWORK, 0, 0, random));
}

void link_set_callbacks(struct link *l, natsOptions *o)
{
    void *number = (void *)l->living_number;
    natsOptions_SetDisconnectedCB(o, on_disconnected, number);
    natsOptions_SetReconnectedCB(o, on_reconnected, number);
    natsOptions_SetClosedCB(o, on_closed, number);
    natsOptions_SetErrorHandler(o, on_error, number);
    natsOptions_SetDiscoveredServersCB(o, on_discovered, number);
    natsOptions_SetLameDuckModeCB(o, on_lame_duck, number);
    natsOptions_SetCustomReconnectDelay(o, on_delay, l);
    if (l->token != NULL || l->options->token != NULL)
        natsOptions_SetTokenHandler(o, on_token, l);
}
