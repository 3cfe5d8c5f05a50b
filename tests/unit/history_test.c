/* The last outages: what belongs to one, how it ends, and what is left when there were many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "conn/history.h"

#define WALL 1700000000000

static const int owners[HISTORY_MAX + 2]; /* only their addresses count */

static void lose(history *h, unsigned owner, bool closed, uint64_t now)
{
    char name[24];
    error e = {0};
    snprintf(name, sizeof name, "c%u", owner);
    error_set(&e, closed ? "auth_failed" : "disconnected",
              closed ? ERROR_CLASS_AUTH : ERROR_CLASS_NETWORK, "of %s", name);
    history_loss loss = {.owner = &owners[owner],
                         .connection = name,
                         .server = "nats://a:4222",
                         .closed = closed,
                         .reason = closed ? WATCHDOG_REASON_CLOSED : WATCHDOG_REASON_NONE,
                         .error = &e};
    history_lost(h, &loss, WALL + (int64_t)now, now);
}

static void a_loss_and_a_closure_are_one_outage(void **state)
{
    (void)state;
    history h = {0};
    lose(&h, 0, false, 1000);
    lose(&h, 0, true, 1500);
    assert_int_equal(history_count(&h), 1);
    const history_entry *one = history_at(&h, 0);
    assert_true(one->closed);
    assert_int_equal(one->reason, WATCHDOG_REASON_CLOSED);
    assert_string_equal(one->error.code, "auth_failed");
    assert_string_equal(one->connection, "c0");
    assert_string_equal(one->server, "nats://a:4222");
    assert_true(one->at == WALL + 1000);
    assert_true(one->outage < 0);
    assert_null(history_end_name(one->end));
}

static void what_was_closed_is_not_closed_again(void **state)
{
    (void)state;
    history h = {0};
    lose(&h, 0, true, 1000);
    lose(&h, 0, false, 1100);
    assert_int_equal(history_count(&h), 1);
    assert_string_equal(history_at(&h, 0)->error.code, "auth_failed");
}

static void dials_that_fail_are_counted_with_the_last_error(void **state)
{
    (void)state;
    history h = {0};
    error e = {0};
    error_set(&e, "no_server", ERROR_CLASS_NETWORK, "nobody there");
    history_dial_failed(&h, &owners[0], &e); /* no outage is known */
    assert_int_equal(history_count(&h), 0);
    lose(&h, 0, true, 1000);
    history_dial_failed(&h, &owners[0], &e);
    history_dial_failed(&h, &owners[0], &e);
    history_dial_failed(&h, &owners[1], &e);
    assert_int_equal(history_at(&h, 0)->dials_failed, 2);
    assert_string_equal(history_at(&h, 0)->last_error.code, "no_server");
}

static void an_end_is_one_of_its_connection_alone(void **state)
{
    (void)state;
    history h = {0};
    lose(&h, 0, true, 1000);
    lose(&h, 1, false, 2000);
    history_over(&h, &owners[1], HISTORY_LIBRARY, 2250);
    assert_true(history_at(&h, 0)->outage < 0);
    assert_true(history_at(&h, 1)->outage == 0.25);
    assert_string_equal(history_end_name(history_at(&h, 1)->end), "library");
    history_over(&h, &owners[0], HISTORY_FRESH_LINK, 4000);
    assert_true(history_at(&h, 0)->outage == 3);
    history_over(&h, &owners[0], HISTORY_STOPPED, 9000); /* it is over already */
    assert_string_equal(history_end_name(history_at(&h, 0)->end), "fresh");
    lose(&h, 0, true, 10000); /* the next one is another one */
    assert_int_equal(history_count(&h), 3);
}

static void the_oldest_gives_way(void **state)
{
    (void)state;
    history h = {0};
    for (unsigned i = 0; i < HISTORY_MAX + 2; i++)
        lose(&h, i, true, 1000 + i);
    assert_int_equal(history_count(&h), HISTORY_MAX);
    assert_true(h.total == HISTORY_MAX + 2);
    assert_string_equal(history_at(&h, 0)->connection, "c2");
    history_over(&h, &owners[0], HISTORY_FRESH_LINK, 5000); /* its entry is gone */
    history_over(&h, &owners[HISTORY_MAX + 1], HISTORY_FRESH_LINK, 5000);
    for (unsigned i = 0; i + 1 < HISTORY_MAX; i++)
        assert_true(history_at(&h, i)->outage < 0);
    assert_true(history_at(&h, HISTORY_MAX - 1)->outage >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loss_and_a_closure_are_one_outage),
        cmocka_unit_test(what_was_closed_is_not_closed_again),
        cmocka_unit_test(dials_that_fail_are_counted_with_the_last_error),
        cmocka_unit_test(an_end_is_one_of_its_connection_alone),
        cmocka_unit_test(the_oldest_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
