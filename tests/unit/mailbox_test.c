/* The mailbox between several threads and a real loop: nothing is lost or doubled, each thread's
 * order is kept, and the loop is woken once for what it has not fetched yet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "link/mailbox.h"
#include "link/records.h"

#define DEADLINE_MS 60000
#define PRODUCERS 6
#define MESSAGES_EACH 5000
#define EVENTS_EACH 500

/* Only the addresses of link_subs go through a mailbox. */
static char subs[PRODUCERS];

static struct link_sub *sub_of(unsigned producer)
{
    return (struct link_sub *)(void *)&subs[producer];
}

typedef struct {
    uv_loop_t loop;
    uv_async_t async;
    mailbox box;
    unsigned wakes;
} fixture;

static void on_wake(uv_async_t *async)
{
    ((fixture *)async->data)->wakes++;
}

static void fixture_open(fixture *f, uv_async_cb cb)
{
    f->wakes = 0;
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(uv_async_init(&f->loop, &f->async, cb), 0);
    f->async.data = f;
    assert_int_equal(mailbox_init(&f->box, &f->async), 0);
}

static void fixture_close(fixture *f)
{
    mailbox_destroy(&f->box);
    uv_close((uv_handle_t *)&f->async, NULL);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
}

/* How often the loop was woken since the last time. */
static unsigned wakes(fixture *f)
{
    f->wakes = 0;
    (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    return f->wakes;
}

static natsMsg *message(const void *data, size_t length)
{
    natsMsg *msg = NULL;
    if (natsMsg_Create(&msg, "subject", NULL, data, (int)length) != NATS_OK)
        abort(); /* also on threads, where cmocka must not fail */
    return msg;
}

static void put(mailbox *m, unsigned producer, uint32_t number)
{
    mailbox_item item = {.sub = sub_of(producer), .msg = message(&number, sizeof number)};
    if (mailbox_put(m, &item) != 0)
        abort();
}

static uint32_t number_of(natsMsg *msg)
{
    uint32_t number;
    assert_int_equal(natsMsg_GetDataLength(msg), sizeof number);
    memcpy(&number, natsMsg_GetData(msg), sizeof number);
    return number;
}

static void post(mailbox *m, link_event_type type, unsigned producer, uint64_t number)
{
    link_event event = {.type = type, .max_payload = producer, .number = number};
    mailbox_post(m, &event);
}

/* Takes all messages and expects the numbers first..last-1 of one producer. Chunks go back. */
static void expect_numbers(mailbox *m, unsigned producer, uint32_t first, uint32_t last)
{
    mailbox_chunk *c = mailbox_take_messages(m);
    while (c != NULL) {
        mailbox_chunk *next = c->next;
        for (; c->read < c->count; c->read++, first++) {
            assert_ptr_equal(c->items[c->read].sub, sub_of(producer));
            assert_int_equal(number_of(c->items[c->read].msg), first);
            natsMsg_Destroy(c->items[c->read].msg);
        }
        mailbox_recycle(m, c);
        c = next;
    }
    assert_int_equal(first, last);
}

/* ---- one thread ---- */

static void an_empty_mailbox_gives_nothing(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, on_wake);
    assert_null(mailbox_take_events(&f.box));
    assert_null(mailbox_take_messages(&f.box));
    assert_int_equal(wakes(&f), 0);
    fixture_close(&f);
}

static void messages_keep_their_order_over_chunk_borders(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, on_wake);
    for (uint32_t i = 0; i < 3 * MAILBOX_CHUNK + 1; i++)
        put(&f.box, 1, i);
    expect_numbers(&f.box, 1, 0, 3 * MAILBOX_CHUNK + 1);
    assert_null(mailbox_take_messages(&f.box));
    fixture_close(&f);
}

static void events_are_copied_and_keep_their_order(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, on_wake);
    link_event event = {.type = LINK_EVENT_DIALED, .text = "nats://a:1", .max_payload = 42};
    mailbox_post(&f.box, &event);
    event = (link_event){.type = LINK_EVENT_CLOSED, .number = 7};
    error_set(&event.error, "tls", ERROR_CLASS_TLS, "no certificate");
    mailbox_post(&f.box, &event);
    memset(&event, 'x', sizeof event);

    link_event *first = mailbox_take_events(&f.box);
    assert_non_null(first);
    link_event *second = first->next;
    assert_non_null(second);
    assert_null(second->next);
    assert_int_equal(first->type, LINK_EVENT_DIALED);
    assert_string_equal(first->text, "nats://a:1");
    assert_int_equal(first->max_payload, 42);
    assert_int_equal(second->type, LINK_EVENT_CLOSED);
    assert_int_equal(second->number, 7);
    assert_string_equal(second->error.message, "no certificate");
    free(first);
    free(second);
    assert_null(mailbox_take_events(&f.box));

    post(&f.box, LINK_EVENT_GONE, 0, 0); /* the lane works after it was emptied */
    first = mailbox_take_events(&f.box);
    assert_non_null(first);
    assert_int_equal(first->type, LINK_EVENT_GONE);
    assert_null(first->next);
    free(first);
    fixture_close(&f);
}

static void the_lanes_do_not_mix(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, on_wake);
    for (uint32_t i = 0; i < 1000; i++)
        put(&f.box, 0, i);
    post(&f.box, LINK_EVENT_CLOSED, 0, 0);
    link_event *event = mailbox_take_events(&f.box); /* with all those messages before it */
    assert_non_null(event);
    assert_int_equal(event->type, LINK_EVENT_CLOSED);
    free(event);
    post(&f.box, LINK_EVENT_GONE, 0, 0);
    expect_numbers(&f.box, 0, 0, 1000);
    event = mailbox_take_events(&f.box);
    assert_non_null(event);
    assert_int_equal(event->type, LINK_EVENT_GONE);
    free(event);
    fixture_close(&f);
}

static void a_last_word_comes_behind_the_messages(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, on_wake);
    put(&f.box, 2, 5);
    assert_int_equal(mailbox_put_last_word(&f.box, sub_of(2)), 0);
    mailbox_chunk *c = mailbox_take_messages(&f.box);
    assert_non_null(c);
    assert_int_equal(c->count, 2);
    assert_int_equal(number_of(c->items[0].msg), 5);
    assert_ptr_equal(c->items[1].sub, sub_of(2));
    assert_null(c->items[1].msg);
    natsMsg_Destroy(c->items[0].msg);
    mailbox_recycle(&f.box, c);
    fixture_close(&f);
}

/* ---- waking ---- */

static void the_loop_is_woken_when_messages_start_to_wait(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, on_wake);
    for (uint32_t round = 0; round < 3; round++) {
        put(&f.box, 0, 0);
        assert_int_equal(wakes(&f), 1);
        for (uint32_t i = 1; i < 2 * MAILBOX_CHUNK + 5; i++) {
            put(&f.box, 0, i);
            assert_int_equal(wakes(&f), 0); /* it knows already */
        }
        expect_numbers(&f.box, 0, 0, 2 * MAILBOX_CHUNK + 5);
        assert_int_equal(wakes(&f), 0);
    }
    fixture_close(&f);
}

static void events_wake_the_loop_whatever_messages_wait(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, on_wake);
    put(&f.box, 0, 0);
    assert_int_equal(wakes(&f), 1);
    post(&f.box, LINK_EVENT_CLOSED, 0, 0);
    assert_int_equal(wakes(&f), 1);
    free(mailbox_take_events(&f.box));
    assert_int_equal(wakes(&f), 0);
    post(&f.box, LINK_EVENT_GONE, 0, 0);
    assert_int_equal(wakes(&f), 1);
    fixture_close(&f);
}

static void a_detached_mailbox_wakes_nobody_and_still_takes(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, on_wake);
    mailbox_detach(&f.box);
    put(&f.box, 0, 0);
    post(&f.box, LINK_EVENT_GONE, 0, 0);
    assert_int_equal(wakes(&f), 0);
    expect_numbers(&f.box, 0, 0, 1);
    link_event *event = mailbox_take_events(&f.box);
    assert_non_null(event);
    free(event);
    fixture_close(&f);
}

static void a_mailbox_may_have_nobody_to_wake(void **state)
{
    (void)state;
    mailbox m;
    assert_int_equal(mailbox_init(&m, NULL), 0);
    put(&m, 0, 0);
    post(&m, LINK_EVENT_GONE, 0, 0);
    expect_numbers(&m, 0, 0, 1);
    mailbox_destroy(&m);
}

/* ---- memory ---- */

static void a_recycled_chunk_is_used_again(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, on_wake);
    for (uint32_t i = 0; i < MAILBOX_CHUNK + 1; i++)
        put(&f.box, 0, i);
    mailbox_chunk *c = mailbox_take_messages(&f.box);
    assert_non_null(c);
    mailbox_chunk *second = c->next;
    assert_non_null(second);
    for (mailbox_chunk *at = c; at != NULL; at = at->next)
        for (; at->read < at->count; at->read++)
            natsMsg_Destroy(at->items[at->read].msg);
    mailbox_recycle(&f.box, c);
    mailbox_recycle(&f.box, second); /* one is enough: this one is freed */
    put(&f.box, 3, 9);
    mailbox_chunk *again = mailbox_take_messages(&f.box);
    assert_ptr_equal(again, c);
    assert_null(again->next);
    assert_int_equal(again->count, 1);
    assert_int_equal(again->read, 0);
    assert_int_equal(number_of(again->items[0].msg), 9);
    natsMsg_Destroy(again->items[0].msg);
    mailbox_recycle(&f.box, again);
    fixture_close(&f); /* and the spare one is freed, as the leak checker sees */
}

/* The leak checker says whether it does. */
static void destroying_frees_what_is_inside(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, on_wake);
    for (uint32_t i = 0; i < 2 * MAILBOX_CHUNK; i++)
        put(&f.box, 0, i);
    assert_int_equal(mailbox_put_last_word(&f.box, sub_of(0)), 0);
    for (unsigned i = 0; i < 10; i++)
        post(&f.box, LINK_EVENT_ERROR, 0, i);
    link_event returned = {.type = LINK_EVENT_RETURNED, .records = calloc(1, sizeof(record_chunk))};
    assert_non_null(returned.records);
    mailbox_post(&f.box, &returned);
    fixture_close(&f);
}

/* ---- many threads ---- */

typedef struct {
    mailbox *box;
    unsigned number;
} producer;

static void produce(void *arg)
{
    const producer *p = arg;
    for (uint32_t i = 0; i < MESSAGES_EACH; i++) {
        put(p->box, p->number, i);
        if (i % (MESSAGES_EACH / EVENTS_EACH) == 0)
            post(p->box, LINK_EVENT_FLUSHED, p->number, i / (MESSAGES_EACH / EVENTS_EACH));
    }
    if (mailbox_put_last_word(p->box, sub_of(p->number)) != 0)
        abort();
    post(p->box, LINK_EVENT_GONE, p->number, EVENTS_EACH);
    nats_ReleaseThreadMemory();
}

/* What the loop got of each producer. */
typedef struct {
    fixture f; /* first: the handle's data is the fixture */
    uint32_t messages[PRODUCERS], last_words[PRODUCERS];
    uint64_t events[PRODUCERS], gone[PRODUCERS];
    bool out_of_order, late;
    uv_timer_t deadline;
} consumer;

static unsigned producer_of(const struct link_sub *sub)
{
    return (unsigned)((const char *)(const void *)sub - subs);
}

static void consume_events(consumer *c)
{
    for (link_event *e = mailbox_take_events(&c->f.box); e != NULL;) {
        link_event *next = e->next;
        unsigned from = (unsigned)e->max_payload;
        c->out_of_order |= e->number != c->events[from] || c->gone[from] > 0;
        if (e->type == LINK_EVENT_GONE)
            c->gone[from]++;
        else
            c->events[from]++;
        free(e);
        e = next;
    }
}

static void consume_messages(consumer *c)
{
    for (mailbox_chunk *chunk = mailbox_take_messages(&c->f.box); chunk != NULL;) {
        mailbox_chunk *next = chunk->next;
        for (; chunk->read < chunk->count; chunk->read++) {
            mailbox_item item = chunk->items[chunk->read];
            unsigned from = producer_of(item.sub);
            c->out_of_order |= c->last_words[from] > 0;
            if (item.msg == NULL)
                c->last_words[from]++;
            else
                c->out_of_order |= number_of(item.msg) != c->messages[from]++;
            natsMsg_Destroy(item.msg);
        }
        mailbox_recycle(&c->f.box, chunk);
        chunk = next;
    }
}

static bool consumer_has_all(const consumer *c)
{
    for (unsigned i = 0; i < PRODUCERS; i++)
        if (c->gone[i] == 0 || c->last_words[i] == 0)
            return false;
    return true;
}

/* It only ever looks when it is woken: a wake that is missing ends in the deadline. */
static void consume(uv_async_t *async)
{
    consumer *c = async->data;
    consume_events(c);
    consume_messages(c);
}

static void on_deadline(uv_timer_t *timer)
{
    ((consumer *)timer->data)->late = true;
}

static void many_threads_lose_and_double_nothing(void **state)
{
    (void)state;
    static consumer c;
    fixture_open(&c.f, consume);
    assert_int_equal(uv_timer_init(&c.f.loop, &c.deadline), 0);
    c.deadline.data = &c;
    assert_int_equal(uv_timer_start(&c.deadline, on_deadline, DEADLINE_MS, 0), 0);
    uv_thread_t threads[PRODUCERS];
    producer producers[PRODUCERS];
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producers[i] = (producer){.box = &c.f.box, .number = i};
        assert_int_equal(uv_thread_create(&threads[i], produce, &producers[i]), 0);
    }
    while (!c.late && !consumer_has_all(&c))
        (void)uv_run(&c.f.loop, UV_RUN_ONCE);
    for (unsigned i = 0; i < PRODUCERS; i++)
        assert_int_equal(uv_thread_join(&threads[i]), 0);
    assert_false(c.late);
    assert_false(c.out_of_order);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        assert_int_equal(c.messages[i], MESSAGES_EACH);
        assert_int_equal(c.last_words[i], 1);
        assert_int_equal(c.events[i], EVENTS_EACH);
        assert_int_equal(c.gone[i], 1);
    }
    assert_null(mailbox_take_events(&c.f.box));
    assert_null(mailbox_take_messages(&c.f.box));
    uv_close((uv_handle_t *)&c.deadline, NULL);
    fixture_close(&c.f);
}

/* The handle goes while threads still put: none of them touches it afterwards. */
static void detaching_is_safe_while_threads_put(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, on_wake);
    uv_thread_t threads[PRODUCERS];
    producer producers[PRODUCERS];
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producers[i] = (producer){.box = &f.box, .number = i};
        assert_int_equal(uv_thread_create(&threads[i], produce, &producers[i]), 0);
    }
    (void)uv_run(&f.loop, UV_RUN_ONCE); /* they are at it */
    mailbox_detach(&f.box);
    uv_close((uv_handle_t *)&f.async, NULL);
    (void)uv_run(&f.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f.loop), 0);
    memset(&f.async, 0xee, sizeof f.async);
    for (unsigned i = 0; i < PRODUCERS; i++)
        assert_int_equal(uv_thread_join(&threads[i]), 0);
    mailbox_destroy(&f.box);
}

static _Atomic unsigned last_words;

static void count_last_word(struct link_sub *sub)
{
    (void)sub;
    last_words++;
}

/* Each last word is told once, whether it was taken, waits, or is still to come; messages are
 * freed, which the sanitizer looks at. */
static void nothing_of_an_abandoned_mailbox_is_lost(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, on_wake);
    uv_thread_t threads[PRODUCERS];
    producer producers[PRODUCERS];
    last_words = 0;
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producers[i] = (producer){.box = &f.box, .number = i};
        assert_int_equal(uv_thread_create(&threads[i], produce, &producers[i]), 0);
    }
    (void)uv_run(&f.loop, UV_RUN_ONCE); /* they are at it */
    mailbox_abandon(&f.box, mailbox_take_messages(&f.box), count_last_word);
    uv_close((uv_handle_t *)&f.async, NULL);
    (void)uv_run(&f.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f.loop), 0);
    for (unsigned i = 0; i < PRODUCERS; i++)
        assert_int_equal(uv_thread_join(&threads[i]), 0);
    assert_int_equal(last_words, PRODUCERS);
    assert_null(mailbox_take_messages(&f.box));
    mailbox_destroy(&f.box);
}

/* Messages are freed by a thread of the library. */
static int open_library(void **state)
{
    (void)state;
    return nats_Open(-1) == NATS_OK ? 0 : -1;
}

static int close_library(void **state)
{
    (void)state;
    nats_ReleaseThreadMemory();
    return nats_CloseAndWait(DEADLINE_MS) == NATS_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_mailbox_gives_nothing),
        cmocka_unit_test(messages_keep_their_order_over_chunk_borders),
        cmocka_unit_test(events_are_copied_and_keep_their_order),
        cmocka_unit_test(the_lanes_do_not_mix),
        cmocka_unit_test(a_last_word_comes_behind_the_messages),
        cmocka_unit_test(the_loop_is_woken_when_messages_start_to_wait),
        cmocka_unit_test(events_wake_the_loop_whatever_messages_wait),
        cmocka_unit_test(a_detached_mailbox_wakes_nobody_and_still_takes),
        cmocka_unit_test(a_mailbox_may_have_nobody_to_wake),
        cmocka_unit_test(a_recycled_chunk_is_used_again),
        cmocka_unit_test(destroying_frees_what_is_inside),
        cmocka_unit_test(many_threads_lose_and_double_nothing),
        cmocka_unit_test(detaching_is_safe_while_threads_put),
        cmocka_unit_test(nothing_of_an_abandoned_mailbox_is_lost),
    };
    return cmocka_run_group_tests_name("mailbox", tests, open_library, close_library);
}
