/* Handlers: subscriptions as a script declared them, and how they change hands. See handler.h. Loop
 * thread. */
#include "script/handler.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "link/inner.h"
#include "script/binding.h"
#include "script/signal.h"
#include "script/takeover.h"
#include "script/task.h"

const char *handler_label(const struct handler *h)
{
    const char *inboxes = h->binding->options.link->inbox_prefix;
    return strncmp(h->interest->subject, inboxes, strlen(inboxes)) == 0 ? h->callback.name
                                                                        : h->interest->subject;
}

void handler_retain(struct handler *h)
{
    h->references++;
}

void handler_release(struct handler *h)
{
    if (--h->references > 0)
        return;
    callback_clear(&h->callback, h->binding->generation->L);
    message_clear_slot(&h->slot, h->binding->generation->L);
    if (h->waker != NULL)
        luaL_unref(h->binding->generation->L, LUA_REGISTRYINDEX, h->waker->ref);
    generation_discharge(h->binding->generation, HANDLER_BYTES);
    interest_release(h->interest);
    free(h->latency);
    free(h->waker);
    free(h);
}

static void unlink_handler(struct handler *h)
{
    *h->back = h->next;
    if (h->next != NULL)
        h->next->back = h->back;
    h->back = NULL;
}

/* Out of the binding's list, when no subscription is left. */
static void leave_list(struct handler *h)
{
    if (h->back == NULL || h->subscription != NULL || h->successor != NULL || h->leaving != NULL)
        return;
    unlink_handler(h);
    handler_release(h);
}

static void unsubscribe(struct subscription *s)
{
    if (s != NULL)
        subscription_unsubscribe(s);
}

static void on_subscription_ended(void *closure, struct subscription *s)
{
    struct handler *h = closure;
    handler_retain(h);
    if (h->subscription == s) {
        h->subscription = NULL;
        signal_link(h->binding);
        unsubscribe(h->successor); /* it has handled all that it shall */
    } else if (h->successor == s) {
        h->successor = NULL;
    } else if (h->leaving == s) {
        h->leaving = NULL;
    }
    handler_release(h); /* the subscription's */
    leave_list(h);
    handler_release(h);
}

static void on_task_finished(void *closure)
{
    struct handler *h = closure;
    h->binding->busy--;
    h->running--;
    if (h->waker != NULL && h->running <= h->waker->at)
        signal_set(h->waker->signal);
    handler_release(h);
}

/* Most of many subscriptions never get a message: it is made with the first one. */
static latency *latency_of(struct handler *h)
{
    if (h->latency == NULL)
        h->latency = calloc(1, sizeof *h->latency);
    return h->latency;
}

static void on_message(void *closure, struct subscription *s, natsMsg *msg, uint32_t weight)
{
    (void)s;
    struct handler *h = closure;
    struct generation *g = h->binding->generation;
    struct task *t = task_begin(g, &h->callback);
    if (t == NULL) {
        message_free(msg);
        return;
    }
    t->message = message_deliver(&h->slot, t->co, h->binding, msg, weight);
    if (t->message == NULL)
        lua_pushnil(t->co);
    handler_retain(h);
    h->binding->busy++;
    h->running++;
    g->handled++;
    t->finished = on_task_finished;
    t->finished_closure = h;
    t->weight = latency_wants(&h->sampling, hub_is_busy(g->limits.hub), &g->random);
    if (t->weight > 0) {
        t->latency = latency_of(h);
        t->begun = uv_hrtime();
    }
    task_start_now(t, 1);
}

struct handler *handler_new(struct binding *b, const interest_options *options, const char *name,
                            error *e)
{
    size_t name_size = name != NULL ? strnlen(name, CALLBACK_TEXT - 1) + 1 : 0;
    struct handler *h = calloc(1, sizeof *h + name_size);
    if (h != NULL)
        h->interest = interest_new(options);
    if (h == NULL || h->interest == NULL) {
        free(h);
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a subscription");
        return NULL;
    }
    h->references = 1; /* the caller's */
    h->binding = b;
    if (name != NULL)
        memcpy(h->name, name, name_size - 1);
    callback_init(&h->callback, "handler", name != NULL ? h->name : h->interest->subject);
    h->next = b->handlers;
    if (h->next != NULL)
        h->next->back = &h->next;
    h->back = &b->handlers;
    b->handlers = h;
    handler_retain(h); /* the list's */
    return h;
}

static void handle(struct handler *h, struct subscription *s)
{
    if (s == NULL)
        return;
    static const subscription_observer observer = {.message = on_message,
                                                   .ended = on_subscription_ended};
    subscription_handle(s, &observer, h);
    handler_retain(h);
}

int handler_prepare(struct handler *h, error *e)
{
    struct binding *b = h->binding;
    h->matched = takeover_match(b, h);
    if (h->matched == NULL) {
        h->subscription = subscription_new(b->connection, h->interest, e);
        if (h->subscription == NULL)
            return -1;
    }
    bool same_successor = b->older != NULL && b->successor == b->older->successor;
    if (b->successor == NULL || (h->matched != NULL && same_successor))
        return 0;
    h->successor = subscription_new(b->successor, h->interest, e);
    return h->successor == NULL ? -1 : 0;
}

static void drop_unhandled(struct subscription *s)
{
    subscription_handle(s, NULL, NULL);
    subscription_unsubscribe(s);
}

/* Not handled by `h` any more. */
static void let_go(struct handler *h, struct subscription **s)
{
    if (*s == NULL)
        return;
    *s = NULL;
    handler_release(h);
}

/* The counters are the subscription's, whoever handles it. */
static void inherit_counters(struct handler *h, struct handler *old)
{
    if (old->running == 0) {
        h->latency = old->latency;
        old->latency = NULL;
    } else if (old->latency != NULL && latency_of(h) != NULL) {
        *h->latency = *old->latency; /* tasks still add to that one */
    }
    h->callback.calls += old->callback.calls;
    h->callback.errors += old->callback.errors;
    h->callback.overruns += old->callback.overruns;
}

/* What is on the wire has the old one's: no second copy is kept when they are the same. */
static void share_interest(struct handler *h, const struct handler *old)
{
    const struct interest *ours = h->interest, *theirs = old->interest;
    if (ours->pending_messages != theirs->pending_messages ||
        ours->pending_bytes != theirs->pending_bytes)
        return;
    if (h->callback.name == ours->subject)
        h->callback.name = theirs->subject;
    interest_release(h->interest);
    h->interest = interest_retain(old->interest);
}

void handler_put_to_work(struct handler *h)
{
    struct handler *old = h->matched;
    struct takeover *t = h->binding->generation->takeover;
    h->matched = NULL;
    if (t != NULL)
        (*(old != NULL ? &t->counts.kept : &t->counts.added))++;
    if (old != NULL) {
        inherit_counters(h, old);
        share_interest(h, old);
        h->subscription = old->subscription;
        subscription_set_interest(h->subscription, h->interest);
        if (h->successor == NULL && h->binding->successor != NULL)
            h->successor = old->successor;
        else if (old->successor != NULL)
            drop_unhandled(old->successor);
        handler_retain(old);
        let_go(old, &old->subscription);
        let_go(old, &old->successor);
        leave_list(old);
        handler_release(old);
    }
    handle(h, h->subscription);
    handle(h, h->successor);
}

static void drop_prepared(struct subscription **s)
{
    unsubscribe(*s);
    *s = NULL;
}

void handler_undo(struct handler *h)
{
    h->matched = NULL;
    drop_prepared(&h->subscription);
    drop_prepared(&h->successor);
}

int handler_commit(struct handler *h, error *e)
{
    int failed =
        h->binding->connection == NULL
            ? error_set(e, "closed", ERROR_CLASS_NONE, "connection %s is closed", h->binding->name)
            : handler_prepare(h, e);
    if (failed == 0) {
        handler_put_to_work(h);
        return 0;
    }
    handler_undo(h);
    leave_list(h);
    return -1;
}

void handler_unsubscribe(struct handler *h)
{
    handler_retain(h); /* each of these may be the last reference */
    unsubscribe(h->successor);
    unsubscribe(h->subscription);
    unsubscribe(h->leaving);
    handler_release(h);
}

void handler_drain(struct handler *h)
{
    handler_retain(h);
    unsubscribe(h->successor);
    if (h->subscription != NULL)
        subscription_drain(h->subscription);
    handler_release(h);
}

void handler_hand_over(struct handler *h)
{
    h->leaving = h->subscription;
    h->subscription = h->successor;
    h->successor = NULL;
    if (h->leaving == NULL)
        return;
    handler_retain(h);
    if (h->subscription != NULL)
        subscription_inherit(h->subscription, h->leaving);
    subscription_drain(h->leaving);
    handler_release(h);
}

void handler_detach(struct handler *h)
{
    handler_retain(h);
    handler_unsubscribe(h);
    leave_list(h); /* one that never had a subscription */
    handler_release(h);
}
