/* The mailbox between a link's threads and the loop. See mailbox.h for the threads. */
#include "link/mailbox.h"

#include <stdlib.h>

#include "link/inner.h"

int mailbox_init(mailbox *m, uv_async_t *wake)
{
    *m = (mailbox){.wake = wake};
    m->events_end = &m->events;
    return uv_mutex_init(&m->lock);
}

static void drop_item(const mailbox_item *item, mailbox_last_word last_word)
{
    if (item->msg != NULL)
        message_free(item->msg);
    else if (last_word != NULL)
        last_word(item->sub);
}

static void drop_chunks(mailbox_chunk *c, mailbox_last_word last_word)
{
    while (c != NULL) {
        mailbox_chunk *next = c->next;
        for (uint32_t i = c->read; i < c->count; i++)
            drop_item(&c->items[i], last_word);
        free(c);
        c = next;
    }
}

void mailbox_free_chunks(mailbox_chunk *c)
{
    drop_chunks(c, NULL);
}

void mailbox_destroy(mailbox *m)
{
    for (link_event *e = m->events; e != NULL;) {
        link_event *next = e->next;
        free(e->records);
        free(e);
        e = next;
    }
    mailbox_free_chunks(m->messages);
    free(m->spare);
    uv_mutex_destroy(&m->lock);
}

void mailbox_detach(mailbox *m)
{
    uv_mutex_lock(&m->lock);
    m->wake = NULL;
    uv_mutex_unlock(&m->lock);
}

void mailbox_abandon(mailbox *m, mailbox_chunk *taken, mailbox_last_word last_word)
{
    uv_mutex_lock(&m->lock);
    mailbox_chunk *rest = m->messages;
    m->messages = m->last = NULL;
    m->wake = NULL;
    m->abandoned = last_word;
    uv_mutex_unlock(&m->lock);
    drop_chunks(taken, last_word);
    drop_chunks(rest, last_word);
}

/* With the lock held, so that the handle cannot be closed in between. */
static void wake(mailbox *m)
{
    if (m->wake != NULL)
        uv_async_send(m->wake);
}

void mailbox_post(mailbox *m, const link_event *event)
{
    link_event *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return;
    *copy = *event;
    copy->next = NULL;
    uv_mutex_lock(&m->lock);
    *m->events_end = copy;
    m->events_end = &copy->next;
    wake(m);
    uv_mutex_unlock(&m->lock);
}

int mailbox_put(mailbox *m, const mailbox_item *item)
{
    uv_mutex_lock(&m->lock);
    if (m->abandoned != NULL) {
        uv_mutex_unlock(&m->lock); /* for ever: it stays so */
        drop_item(item, m->abandoned);
        return 0;
    }
    mailbox_chunk *c = m->last;
    if (c == NULL || c->count == MAILBOX_CHUNK) {
        mailbox_chunk *fresh = m->spare;
        m->spare = NULL;
        if (fresh == NULL)
            fresh = malloc(sizeof *fresh);
        if (fresh == NULL) {
            uv_mutex_unlock(&m->lock);
            return -1;
        }
        fresh->next = NULL;
        fresh->count = fresh->read = 0;
        if (c != NULL)
            c->next = fresh;
        else
            m->messages = fresh;
        m->last = c = fresh;
        if (m->messages == fresh)
            wake(m);
    }
    c->items[c->count++] = *item;
    m->put++;
    uv_mutex_unlock(&m->lock);
    return 0;
}

int mailbox_put_last_word(mailbox *m, struct link_sub *sub)
{
    return mailbox_put(m, &(mailbox_item){.sub = sub});
}

link_event *mailbox_take_events(mailbox *m)
{
    uv_mutex_lock(&m->lock);
    link_event *events = m->events;
    m->events = NULL;
    m->events_end = &m->events;
    uv_mutex_unlock(&m->lock);
    return events;
}

mailbox_chunk *mailbox_take_messages(mailbox *m)
{
    uv_mutex_lock(&m->lock);
    mailbox_chunk *messages = m->messages;
    m->messages = m->last = NULL;
    uv_mutex_unlock(&m->lock);
    return messages;
}

uint64_t mailbox_count(mailbox *m)
{
    uv_mutex_lock(&m->lock);
    uint64_t count = m->put;
    uv_mutex_unlock(&m->lock);
    return count;
}

void mailbox_recycle(mailbox *m, mailbox_chunk *chunk)
{
    uv_mutex_lock(&m->lock);
    if (m->spare == NULL) {
        m->spare = chunk;
        chunk = NULL;
    }
    uv_mutex_unlock(&m->lock);
    free(chunk);
}
