/* The pending limits of a subscription: what its delivery thread lets into the mailbox while the
 * loop takes some out, or changes the limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "link/headers.h"
#include "link/inner.h"
#include "link/link_private.h"

typedef struct {
    struct link link;
    struct link_sub sub;
} fixture;

static void fixture_open(fixture *f, uint64_t messages, uint64_t bytes)
{
    memset(f, 0, sizeof *f);
    assert_int_equal(mailbox_init(&f->link.mailbox, NULL), 0);
    f->sub.link = &f->link;
    f->sub.interest = interest_new(&(interest_options){.subject = "a.b"});
    assert_non_null(f->sub.interest);
    f->sub.max_messages = (uint32_t)messages;
    f->sub.max_bytes = bytes;
}

static void fixture_close(fixture *f)
{
    mailbox_destroy(&f->link.mailbox);
    interest_release(f->sub.interest);
}

static natsMsg *new_message(size_t length)
{
    static const char data[4096];
    natsMsg *msg = NULL;
    assert_true(length <= sizeof data);
    assert_int_equal(natsMsg_Create(&msg, "a.b", NULL, data, (int)length), NATS_OK);
    return msg;
}

/* Returns how many of these got in. */
static uint64_t deliver(fixture *f, unsigned count, size_t length)
{
    uint64_t before = f->sub.put_messages;
    for (unsigned i = 0; i < count; i++)
        link_on_message(NULL, NULL, new_message(length), &f->sub);
    return f->sub.put_messages - before;
}

/* As the loop does. */
static void take(fixture *f, uint64_t messages, uint64_t bytes)
{
    f->sub.taken_messages += messages;
    f->sub.taken_bytes += bytes;
}

static unsigned reports(fixture *f)
{
    unsigned count = 0;
    for (link_event *e = mailbox_take_events(&f->link.mailbox), *next; e != NULL; e = next) {
        next = e->next;
        assert_int_equal(e->type, LINK_EVENT_SLOW);
        assert_string_equal(e->text, "a.b");
        free(e);
        count++;
    }
    return count;
}

static void as_many_messages_get_in_as_the_limit_says(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, 100, 0);
    assert_int_equal(deliver(&f, 150, 8), 100);
    assert_int_equal(f.sub.dropped, 50);
    assert_int_equal(reports(&f), 1);
    take(&f, 30, 0);
    assert_int_equal(deliver(&f, 150, 8), 30);
    take(&f, 100, 0);
    assert_int_equal(deliver(&f, 150, 8), 100);
    fixture_close(&f);
}

static void as_many_bytes_get_in_as_the_limit_says(void **state)
{
    (void)state;
    fixture f;
    natsMsg *msg = new_message(1000);
    uint32_t weight = message_weight(msg);
    message_free(msg);
    assert_int_equal(weight, sizeof "a.b" + 1000);
    fixture_open(&f, 0, 10 * (uint64_t)weight + 500);
    assert_int_equal(deliver(&f, 20, 1000), 10);
    assert_int_equal(deliver(&f, 1, 100), 1); /* a small one still does */
    take(&f, 2, 2 * (uint64_t)weight);
    assert_int_equal(deliver(&f, 20, 1000), 2);
    fixture_close(&f);
}

static void without_limits_all_get_in(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, 0, 0);
    assert_int_equal(deliver(&f, 10000, 16), 10000);
    assert_int_equal(f.sub.dropped, 0);
    fixture_close(&f);
}

static void a_lower_limit_counts_soon(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, 100000, 0);
    assert_int_equal(deliver(&f, 1000, 8), 1000);
    f.sub.max_messages = 1000;
    assert_true(deliver(&f, 1000, 8) < 100);
    fixture_close(&f);
}

static void a_higher_limit_counts_at_once(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, 10, 0);
    assert_int_equal(deliver(&f, 20, 8), 10);
    f.sub.max_messages = 30;
    assert_int_equal(deliver(&f, 40, 8), 20);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_messages_get_in_as_the_limit_says),
        cmocka_unit_test(as_many_bytes_get_in_as_the_limit_says),
        cmocka_unit_test(without_limits_all_get_in),
        cmocka_unit_test(a_lower_limit_counts_soon),
        cmocka_unit_test(a_higher_limit_counts_at_once),
    };
    return cmocka_run_group_tests_name("pending_limit", tests, NULL, NULL);
}
