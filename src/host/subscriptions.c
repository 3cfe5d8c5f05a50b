/* Subscriptions of the host. See subscriptions.h. Loop thread. */
#include "host/subscriptions.h"

#include <stdlib.h>
#include <string.h>

#include "conn/connection.h"
#include "link/inner.h"
#include "runtime_private.h"
#include "script/binding.h"

/* ---- on connections ---- */

static struct attachment *find_attachment(const md_subscription *s, const struct connection *c)
{
    for (struct attachment *a = s->attachments; a != NULL; a = a->next)
        if (subscription_connection(a->subscription) == c)
            return a;
    return NULL;
}

struct subscription *subscriptions_on(const md_subscription *s, const struct connection *c)
{
    const struct attachment *a = c != NULL ? find_attachment(s, c) : NULL;
    return a != NULL ? a->subscription : NULL;
}

const struct binding *subscriptions_place(const md_subscription *s)
{
    const struct binding *b = messages_binding(s->messages->generation, s->connection);
    return b != NULL && subscriptions_on(s, b->connection) != NULL ? b : NULL;
}

/* It ended, or is about to: what it has counted is kept. */
static void detach(struct attachment *a)
{
    md_subscription *s = a->owner;
    subscription_state state;
    subscription_get_state(a->subscription, &state);
    s->dropped += state.dropped;
    s->bursts += state.bursts;
    for (struct attachment **at = &s->attachments; *at != NULL; at = &(*at)->next)
        if (*at == a) {
            *at = a->next;
            break;
        }
    free(a);
}

static void on_ended(void *closure, struct subscription *subscription)
{
    (void)subscription;
    detach(closure);
}

static void free_subscription(md_subscription *s)
{
    sentinel_settle(s->messages->sentinel); /* it may be about to name it */
    free(s->connection);
    interest_release(s->interest);
    free(s);
}

static void on_message(void *closure, struct subscription *subscription, natsMsg *msg,
                       uint32_t weight)
{
    (void)subscription, (void)weight;
    const struct attachment *a = closure;
    md_subscription *s = a->owner;
    struct messages *m = s->messages;
    md_message message = {msg};
    uint32_t stands_for = latency_wants(&s->sampling, hub_is_busy(m->hub), &m->hub->random);
    uint64_t begun = stands_for > 0 ? uv_hrtime() : 0;
    s->callback.calls++;
    s->running++;
    const struct callback *outer = sentinel_host_enters(m->sentinel, &s->callback);
    s->fn(s->closure, s, &message);
    sentinel_host_leaves(m->sentinel, outer);
    s->running--;
    message_free(msg);
    if (s->over && s->running == 0)
        free_subscription(s);
    else if (stands_for > 0)
        latency_add(&s->latency, uv_hrtime() - begun, stands_for);
}

/* Unless it is there already, or the connection takes none any more. */
static int attach(md_subscription *s, struct connection *c, error *e)
{
    if (c == NULL || !connection_is_open(c) || find_attachment(s, c) != NULL)
        return 0;
    struct attachment *a = malloc(sizeof *a);
    if (a == NULL)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a subscription");
    *a = (struct attachment){.owner = s, .subscription = subscription_new(c, s->interest, e)};
    if (a->subscription == NULL) {
        free(a);
        return -1;
    }
    static const subscription_observer observer = {.message = on_message, .ended = on_ended};
    subscription_handle(a->subscription, &observer, a);
    a->next = s->attachments;
    s->attachments = a;
    return 0;
}

/* Wherever `g` wants it. */
static int attach_to(md_subscription *s, const struct generation *g, error *e)
{
    const struct binding *b = messages_binding(g, s->connection);
    if (b == NULL)
        return 0;
    return attach(s, b->connection, e) != 0 || attach(s, b->successor, e) != 0 ? -1 : 0;
}

/* Takes leave of all connections but those on which the generation at work wants it. */
static void leave_others(md_subscription *s, void (*leave)(struct subscription *))
{
    const struct binding *b = messages_binding(s->messages->generation, s->connection);
    for (struct attachment *a = s->attachments, *next; a != NULL; a = next) {
        const struct connection *c = subscription_connection(a->subscription);
        next = a->next;
        if (b == NULL || (c != b->connection && c != b->successor))
            leave(a->subscription); /* may end it, and free this */
    }
}

/* ---- one generation after another ---- */

int subscriptions_prepare(struct messages *m, const struct generation *g, error *e)
{
    if (m == NULL)
        return 0;
    for (md_subscription *s = m->subscriptions; s != NULL; s = s->next)
        if (attach_to(s, g, e) != 0)
            return -1;
    return 0;
}

void subscriptions_undo(struct messages *m)
{
    if (m == NULL)
        return;
    for (md_subscription *s = m->subscriptions; s != NULL; s = s->next)
        leave_others(s, subscription_unsubscribe);
}

void subscriptions_put_to_work(struct messages *m, struct generation *g)
{
    if (m != NULL)
        m->generation = g;
}

void subscriptions_drain_rest(struct messages *m)
{
    if (m == NULL)
        return;
    for (md_subscription *s = m->subscriptions; s != NULL; s = s->next)
        leave_others(s, subscription_drain);
}

void subscriptions_hand_over(struct messages *m, const struct connection *c,
                             const struct connection *heir)
{
    if (m == NULL)
        return;
    for (const md_subscription *s = m->subscriptions; s != NULL; s = s->next) {
        struct subscription *from = subscriptions_on(s, c), *to = subscriptions_on(s, heir);
        if (from != NULL && to != NULL)
            subscription_inherit(to, from);
    }
}

unsigned subscriptions_waiting(const struct messages *m)
{
    unsigned count = 0;
    for (const md_subscription *s = m->subscriptions; s != NULL; s = s->next)
        count += subscriptions_place(s) == NULL;
    return count;
}

void subscriptions_get_state(const md_subscription *s, subscription_state *out)
{
    *out = (subscription_state){
        .handled = s->callback.calls, .dropped = s->dropped, .bursts = s->bursts};
    for (const struct attachment *a = s->attachments; a != NULL; a = a->next) {
        subscription_state one;
        subscription_get_state(a->subscription, &one);
        out->dropped += one.dropped;
        out->bursts += one.bursts;
        out->queued += one.queued;
        out->active |= one.active;
    }
}

/* ---- what the host asks for ---- */

/* As much of it as both sides know. */
static int read_interest(const md_interest *interest, md_interest *out, error *e)
{
    *out = (md_interest){0};
    if (interest == NULL || interest->size == 0)
        return error_set(
            e, "usage", ERROR_CLASS_NONE,
            "an interest without its size: begin with md_interest i = {.size = sizeof i}");
    memcpy(out, interest, interest->size < sizeof *out ? interest->size : sizeof *out);
    if (out->subject == NULL)
        return error_set(e, "invalid_subject", ERROR_CLASS_NONE, "an interest without a subject");
    if (subject_check(out->subject, strlen(out->subject), true, e) != 0)
        return -1;
    return out->queue != NULL ? subject_check(out->queue, strlen(out->queue), false, e) : 0;
}

static md_subscription *new_subscription(struct messages *m, const md_interest *wish)
{
    md_subscription *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->messages = m;
    s->connection = wish->connection != NULL ? strdup(wish->connection) : NULL;
    s->interest = interest_new(&(interest_options){
        .subject = wish->subject,
        .queue = wish->queue,
        .pending_messages = wish->pending_messages > 0 ? wish->pending_messages : PENDING_MESSAGES,
        .pending_bytes = wish->pending_bytes > 0 ? wish->pending_bytes : PENDING_BYTES});
    if (s->interest == NULL || (wish->connection != NULL && s->connection == NULL)) {
        free_subscription(s);
        return NULL;
    }
    callback_init(&s->callback, "host handler", s->interest->subject);
    return s;
}

static void add_to_list(struct messages *m, md_subscription *s)
{
    s->back = m->subscriptions_end;
    *m->subscriptions_end = s;
    m->subscriptions_end = &s->next;
    m->subscription_count++;
}

static void take_from_list(struct messages *m, md_subscription *s)
{
    *s->back = s->next;
    if (s->next != NULL)
        s->next->back = s->back;
    else
        m->subscriptions_end = s->back;
    m->subscription_count--;
}

md_subscription *md_subscribe(md_runtime *rt, const md_interest *interest, md_message_fn fn,
                              void *closure, md_error *out)
{
    struct messages *m = rt->messages;
    md_interest i;
    error e = {0};
    md_subscription *s = NULL;
    if (fn == NULL)
        error_set(&e, "usage", ERROR_CLASS_NONE, "a subscription without a function");
    else if (m->ended)
        error_set(&e, "closed", ERROR_CLASS_NONE, "the runtime is being freed");
    else if (m->subscription_count >= SUBSCRIPTIONS_MAX)
        error_set(&e, "too_many", ERROR_CLASS_LIMIT, "the host has %u subscriptions: no more",
                  m->subscription_count);
    else if (read_interest(interest, &i, &e) == 0 && (s = new_subscription(m, &i)) == NULL)
        error_set(&e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a subscription");
    if (s != NULL) {
        s->fn = fn;
        s->closure = closure;
        add_to_list(m, s);
        hub_again(m->hub); /* the host may be between two turns, and wait next */
        if (attach_to(s, m->generation, &e) == 0)
            return s;
        md_unsubscribe(s);
    }
    runtime_error(out, &e, "");
    return NULL;
}

void md_unsubscribe(md_subscription *s)
{
    if (s == NULL || s->over)
        return;
    struct messages *m = s->messages;
    s->over = true;
    take_from_list(m, s);
    while (s->attachments != NULL) {
        struct subscription *one = s->attachments->subscription;
        detach(s->attachments);
        subscription_handle(one, NULL, NULL);
        subscription_unsubscribe(one);
    }
    hub_again(m->hub);
    if (s->running == 0)
        free_subscription(s);
}
