/* The subscriptions of a link, as the library has them: each is in one of three lists, until it is
 * destroyed. Its worker thread. */
#include "link/link_private.h"

#define FENCE_TIMEOUT_MS 1000
#define DRAIN_TIMEOUT_MS 5000
#define LIBRARY_ROOM (16u * 1024 * 1024)

/* ---- lists ---- */

static void list_put(struct link_sub **list, struct link_sub *s)
{
    s->next = *list;
    s->back = list;
    if (s->next != NULL)
        s->next->back = &s->next;
    *list = s;
}

static void list_remove(struct link_sub *s)
{
    if (s->back == NULL)
        return;
    *s->back = s->next;
    if (s->next != NULL)
        s->next->back = s->back;
    s->next = NULL;
    s->back = NULL;
}

static void destroy_list(struct link_sub **list)
{
    while (*list != NULL) {
        struct link_sub *s = *list;
        list_remove(s);
        natsSubscription_Destroy(s->nats);
        s->nats = NULL;
        link_sub_release(s);
    }
}

void link_destroy_subs(struct link *l)
{
    destroy_list(&l->subs);
    destroy_list(&l->drains);
    destroy_list(&l->dead_subs);
}

/* nats.c before 3.6.1 looks a subscription up and then uses it without holding a reference, so
 * destroying an unsubscribed one can crash its reader. A round trip started after the unsubscribe
 * is the proof that the reader is past it. */
void link_destroy_dead_subs(struct link *l)
{
    if (l->dead_count == 0 || natsConnection_FlushTimeout(l->nats, FENCE_TIMEOUT_MS) != NATS_OK)
        return;
    destroy_list(&l->dead_subs);
    l->dead_count = 0;
}

/* ---- subscribing, unsubscribing ---- */

/* Our own limit, at the mailbox, is the one that counts and reports. The library's queue before it
 * is emptied as fast as one of its threads can; its limit is there in case that thread does not
 * come. */
static int library_limit(uint64_t ours)
{
    uint64_t limit = ours + LIBRARY_ROOM;
    return ours == 0 || limit > INT32_MAX ? -1 : (int)limit;
}

void link_count_library_drops(struct link *l)
{
    for (struct link_sub *s = l->subs; s != NULL; s = s->next) {
        int64_t dropped = 0;
        if (natsSubscription_GetDropped(s->nats, &dropped) != NATS_OK)
            continue;
        uint32_t fresh = (uint32_t)dropped - s->library_dropped;
        s->library_dropped += fresh;
        if (fresh > 0)
            atomic_fetch_add(&s->dropped, fresh);
    }
}

void link_subscribe(struct link *l, struct link_sub *s, uint64_t max)
{
    const char *subject = s->interest->subject, *queue = interest_queue(s->interest);
    natsStatus status =
        queue == NULL
            ? natsConnection_Subscribe(&s->nats, l->nats, subject, link_on_message, s)
            : natsConnection_QueueSubscribe(&s->nats, l->nats, subject, queue, link_on_message, s);
    if (status != NATS_OK) {
        link_event event = {.type = LINK_EVENT_SUB_FAILED};
        s->failed = true;
        link_fill_error(&event.error, status);
        mailbox_post(&l->mailbox, &event);
        mailbox_put_last_word(&l->mailbox, s);
        link_sub_release(s);
        return;
    }
    list_put(&l->subs, s); /* the record's reference is the worker's now */
    natsSubscription_SetPendingLimits(s->nats, library_limit(s->max_messages),
                                      library_limit(s->max_bytes));
    if (natsSubscription_SetOnCompleteCB(s->nats, link_on_sub_complete, s) != NATS_OK)
        mailbox_put_last_word(&l->mailbox,
                              s); /* the connection has closed: there is nothing to come */
    if (max > 0 && max < INT32_MAX)
        natsSubscription_AutoUnsubscribe(s->nats, (int)max);
}

static void bury(struct link *l, struct link_sub *s)
{
    list_remove(s);
    list_put(&l->dead_subs, s);
    l->dead_count++;
}

void link_unsubscribe(struct link *l, struct link_sub *s)
{
    if (s->nats != NULL && s->back != NULL) {
        natsSubscription_Unsubscribe(s->nats);
        bury(l, s);
    }
    link_sub_release(s); /* the record's */
}

void link_drain_sub(struct link *l, struct link_sub *s)
{
    if (s->nats != NULL && s->back != NULL) {
        list_remove(s);
        list_put(&l->drains, s);
    }
    link_sub_release(s);
}

void link_start_drains(struct link *l)
{
    while (l->drains != NULL) {
        struct link_sub *s = l->drains;
        uv_mutex_lock(&l->lock);
        bool room = l->drains_running < LINK_DRAINS_AT_ONCE;
        if (room) {
            s->draining = true;
            l->drains_running++;
        }
        uv_mutex_unlock(&l->lock);
        if (!room)
            return;
        list_remove(s);
        list_put(&l->subs, s); /* until its last word: the loop unsubscribes it then */
        if (natsSubscription_DrainTimeout(s->nats, DRAIN_TIMEOUT_MS) == NATS_OK)
            continue;
        uv_mutex_lock(&l->lock);
        if (s->draining) {
            s->draining = false;
            l->drains_running--;
        }
        uv_mutex_unlock(&l->lock);
        natsSubscription_Unsubscribe(s->nats);
    }
}
