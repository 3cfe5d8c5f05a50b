/* Requests over one inbox. See request.h. A request is a slot of a table; the number of the slot
 * and its serial are the last token of the reply subject, so an answer is found without a search,
 * and a late answer never meets the next request in the same slot. Loop thread. */
#include "conn/request.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "conn/connection_private.h"
#include "link/headers.h"
#include "link/inner.h"

static void give_back(struct inbox *in, uint32_t index)
{
    struct request_slot *slot = &in->slots[index];
    slot->done = NULL;
    slot->serial++;
    slot->next_free = in->free;
    in->free = index + 1;
    in->waiting--;
}

/* The slot that this number means, or NULL. */
static struct request_slot *find(struct inbox *in, uint64_t number, uint32_t *index)
{
    *index = (uint32_t)(number >> 32) - 1;
    if (*index >= in->count)
        return NULL;
    struct request_slot *slot = &in->slots[*index];
    return slot->done != NULL && slot->serial == (uint32_t)number ? slot : NULL;
}

static void finish(struct connection *c, uint32_t index, natsMsg *answer, const error *e)
{
    struct request_slot slot = c->inbox.slots[index];
    give_back(&c->inbox, index);
    slot.done(slot.closure, answer, e);
}

static void on_answer(void *closure, struct subscription *s, natsMsg *msg, uint32_t weight)
{
    (void)s, (void)weight;
    struct connection *c = closure;
    uint32_t index;
    const char *token = natsMsg_GetSubject(msg) + c->inbox.prefix_length;
    if (find(&c->inbox, strtoull(token, NULL, 16), &index) == NULL) {
        message_free(msg); /* too late */
        return;
    }
    if (headers_say_nobody(msg)) {
        message_free(msg);
        error e = {0};
        error_set(&e, "no_responders", ERROR_CLASS_NONE, "nobody is subscribed to this subject");
        finish(c, index, NULL, &e);
        return;
    }
    static const error none;
    finish(c, index, msg, &none);
}

static void on_ended(void *closure, struct subscription *s)
{
    (void)s;
    struct connection *c = closure;
    c->inbox.subscription = NULL;
}

static int open_inbox(struct connection *c, error *e)
{
    struct inbox *in = &c->inbox;
    if (in->subscription != NULL)
        return 0;
    char subject[sizeof in->prefix + 2];
    uint64_t id = (uint64_t)(hub_random(c->hub) * 9007199254740992.0);
    in->prefix_length = (size_t)snprintf(in->prefix, sizeof in->prefix, "%s%014" PRIx64 ".",
                                         c->options.link->inbox_prefix, id);
    snprintf(subject, sizeof subject, "%s*", in->prefix);
    struct interest *interest = interest_new(&(interest_options){.subject = subject});
    if (interest == NULL)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a subscription");
    in->subscription = subscription_new(c, interest, e);
    interest_release(interest);
    if (in->subscription == NULL)
        return -1;
    static const subscription_observer observer = {.message = on_answer, .ended = on_ended};
    subscription_handle(in->subscription, &observer, c);
    return 0;
}

static int take_slot(struct connection *c, uint32_t *index, error *e)
{
    struct inbox *in = &c->inbox;
    if (in->free != 0) {
        *index = in->free - 1;
        in->free = in->slots[*index].next_free;
        return 0;
    }
    if (in->count == REQUESTS_MAX)
        return error_set(e, "too_many", ERROR_CLASS_LIMIT,
                         "connection %s has %u requests waiting: no more", c->name, in->count);
    if (in->count == in->capacity) {
        uint32_t capacity = in->capacity == 0 ? 16 : in->capacity * 2;
        struct request_slot *slots = realloc(in->slots, capacity * sizeof *slots);
        if (slots == NULL)
            return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a request");
        in->slots = slots;
        in->capacity = capacity;
    }
    *index = in->count++;
    in->slots[*index] = (struct request_slot){0};
    return 0;
}

uint64_t connection_request(struct connection *c, const record_message *message, request_done done,
                            void *closure, error *e)
{
    if (!connection_can_ask(c, e))
        return 0;
    uint32_t index = 0;
    if (open_inbox(c, e) != 0 || take_slot(c, &index, e) != 0)
        return 0;
    struct inbox *in = &c->inbox;
    struct request_slot *slot = &in->slots[index];
    slot->done = done;
    slot->closure = closure;
    in->waiting++;
    uint64_t number = ((uint64_t)(index + 1) << 32) | slot->serial;
    char reply[sizeof in->prefix + 20];
    record_message m = *message;
    m.reply = reply;
    m.reply_length = (size_t)snprintf(reply, sizeof reply, "%s%" PRIx64, in->prefix, number);
    if (connection_publish(c, &m, e) != 0) {
        give_back(in, index);
        return 0;
    }
    return number;
}

void connection_request_cancel(struct connection *c, uint64_t number)
{
    uint32_t index;
    if (find(&c->inbox, number, &index) != NULL)
        give_back(&c->inbox, index);
}

void connection_fail_requests(struct connection *c, const error *e)
{
    /* Those that begin while these are told are not among them: there is no link. */
    for (uint32_t i = 0; i < c->inbox.count && c->inbox.waiting > 0; i++)
        if (c->inbox.slots[i].done != NULL)
            finish(c, i, NULL, e);
}

uint32_t connection_requests(const struct connection *c)
{
    return c->inbox.waiting;
}
