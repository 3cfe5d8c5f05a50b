/* Ledgers of consumers, and the subjects that acknowledge. */
#include "jetstream/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "jetstream/ack_subject.h"
#include "jetstream/acked.h"

#define WAIT_MS 1000u

static struct ledgers *all;

static int set_up(void **state)
{
    (void)state;
    all = ledgers_new();
    return all == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    ledgers_free(all);
    return 0;
}

static struct ledger *open_ledger(const char *key)
{
    struct ledger *l = ledger_get(all, key);
    assert_non_null(l);
    ledger_set_ack_wait(l, WAIT_MS);
    return l;
}

static void test_floor(void **state)
{
    (void)state;
    struct ledger *l = open_ledger("a");
    assert_int_equal(ledger_floor(l), 1);
    for (uint64_t seq = 1; seq <= 5; seq++)
        assert_int_equal(ledger_delivered(l, seq, seq * 10, 0), LEDGER_NEW);
    assert_int_equal(ledger_floor(l), 1);
    ledger_acked(l, 1, 10);
    ledger_acked(l, 3, 30);
    assert_int_equal(ledger_floor(l), 2);
    assert_int_equal(ledger_unacked(l), 3);
    ledger_acked(l, 2, 20);
    ledger_acked(l, 4, 40);
    ledger_acked(l, 5, 50);
    assert_int_equal(ledger_floor(l), 6);
    ledger_release(l, 0);
}

static void test_floor_before_anything_came(void **state)
{
    (void)state;
    struct ledger *l = open_ledger("a");
    ledger_note_floor(l, 41);
    assert_int_equal(ledger_floor(l), 42);
    assert_int_equal(ledger_delivered(l, 43, 430, 0), LEDGER_NEW);
    ledger_note_floor(l, 7); /* never back */
    assert_int_equal(ledger_floor(l), 43);
    ledger_release(l, 0);
}

static void test_acknowledged_together(void **state)
{
    (void)state;
    struct ledger *l = open_ledger("a");
    ledger_set_acks_all(l, true);
    for (uint64_t seq = 1; seq <= 4; seq++)
        ledger_delivered(l, seq, seq * 10, 0);
    ledger_acked(l, 3, 30);
    assert_int_equal(ledger_unacked(l), 1);
    for (uint64_t seq = 1; seq <= 3; seq++)
        assert_int_equal(ledger_delivered(l, seq, seq * 10, 0), LEDGER_ACKED);
    assert_int_equal(ledger_floor(l), 4);
    ledger_release(l, 0);
}

static void test_acknowledged_before(void **state)
{
    (void)state;
    struct ledger *l = open_ledger("a");
    ledger_delivered(l, 7, 70, 0);
    ledger_acked(l, 7, 70);
    assert_int_equal(ledger_delivered(l, 7, 70, 5), LEDGER_ACKED);
    /* The same sequence of a stream that has begun anew is another message. */
    assert_int_equal(ledger_delivered(l, 7, 71, 5), LEDGER_NEW);
    assert_int_equal(ledger_delivered(l, 7, 71, 5), LEDGER_IN_HAND);
    ledger_release(l, 0);
}

static void test_in_hand(void **state)
{
    (void)state;
    struct ledger *l = open_ledger("a");
    assert_int_equal(ledger_delivered(l, 1, 10, 100), LEDGER_NEW);
    assert_int_equal(ledger_delivered(l, 1, 10, 100 + WAIT_MS - 1), LEDGER_IN_HAND);
    assert_int_equal(ledger_delivered(l, 1, 10, 100 + WAIT_MS), LEDGER_NEW);
    assert_int_equal(ledger_delivered(l, 1, 10, 100 + WAIT_MS + 1), LEDGER_IN_HAND);
    ledger_returned(l, 1);
    assert_int_equal(ledger_delivered(l, 1, 10, 100 + WAIT_MS + 2), LEDGER_NEW);
    ledger_release(l, 0);
}

static void test_acks_all(void **state)
{
    (void)state;
    struct ledger *l = open_ledger("a");
    ledger_set_acks_all(l, true);
    for (uint64_t seq = 1; seq <= 9; seq++)
        ledger_delivered(l, seq, seq, 0);
    ledger_acked(l, 7, 7);
    assert_int_equal(ledger_floor(l), 8);
    assert_int_equal(ledger_unacked(l), 2);
    ledger_release(l, 0);
}

static void test_caps(void **state)
{
    (void)state;
    struct ledger *l = open_ledger("a");
    for (uint64_t seq = 1; seq <= LEDGER_UNACKED_MAX + 10u; seq++)
        ledger_delivered(l, seq, seq, 0);
    assert_int_equal(ledger_unacked(l), LEDGER_UNACKED_MAX);
    for (uint64_t seq = 1; seq <= LEDGER_UNACKED_MAX; seq++)
        ledger_acked(l, seq, seq);
    assert_int_equal(ledger_unacked(l), 0);
    assert_int_equal(ledger_floor(l), LEDGER_UNACKED_MAX + 1u); /* of those nothing is known */
    ledger_note_floor(l, LEDGER_UNACKED_MAX + 10u);             /* but the server knows */
    assert_int_equal(ledger_floor(l), LEDGER_UNACKED_MAX + 11u);
    /* All that were acknowledged are known. */
    assert_int_equal(ledger_delivered(l, 1, 1, 0), LEDGER_ACKED);
    assert_int_equal(ledger_delivered(l, LEDGER_UNACKED_MAX, LEDGER_UNACKED_MAX, 0), LEDGER_ACKED);
    ledger_release(l, 0);
}

static void test_another_stream(void **state)
{
    (void)state;
    struct ledger *l = open_ledger("a");
    assert_true(ledger_same_stream(l, 11));
    ledger_set_position(l, 5);
    ledger_delivered(l, 5, 5, 0);
    assert_true(ledger_same_stream(l, 11));
    assert_int_equal(ledger_position(l), 5);
    assert_false(ledger_same_stream(l, 12));
    assert_int_equal(ledger_position(l), 0);
    assert_int_equal(ledger_floor(l), 1);
    ledger_release(l, 0);
}

static void test_it_waits_for_the_next_generation(void **state)
{
    (void)state;
    struct ledger *l = open_ledger("a");
    char name[LEDGER_NAME_SIZE];
    strcpy(name, ledger_name(l));
    ledger_set_position(l, 5);
    ledger_release(l, 1000);
    ledgers_sweep(all, 1000 + LEDGER_KEPT_MS - 1);
    l = open_ledger("a");
    assert_int_equal(ledger_position(l), 5);
    assert_string_equal(ledger_name(l), name);
    ledgers_sweep(all, 1000 + 10 * LEDGER_KEPT_MS); /* it is held */
    assert_int_equal(ledger_position(l), 5);
    ledger_release(l, 2000);
    ledgers_sweep(all, 2000 + LEDGER_KEPT_MS);
    l = open_ledger("a");
    assert_int_equal(ledger_position(l), 0);
    assert_string_not_equal(ledger_name(l), name);
    ledger_release(l, 2000);
}

static void test_forgotten(void **state)
{
    (void)state;
    struct ledger *l = open_ledger("a");
    ledger_set_position(l, 5);
    ledger_forget(l);
    ledger_forget(l);
    struct ledger *fresh = open_ledger("a");
    assert_int_equal(ledger_position(fresh), 0);
    assert_int_equal(ledger_position(l), 5); /* whoever holds it still may use it */
    ledger_release(l, 0);
    ledger_release(fresh, 0);
}

static void test_how_many(void **state)
{
    (void)state;
    char key[32];
    for (unsigned i = 0; i < LEDGERS_MAX; i++) {
        snprintf(key, sizeof key, "%u", i);
        ledger_release(ledger_get(all, key), 0);
    }
    assert_null(ledger_get(all, "one more"));
    struct ledger *l = ledger_get(all, "7");
    assert_non_null(l);
    ledger_release(l, 0);
}

/* ---- what was acknowledged ---- */

static void test_pages(void **state)
{
    (void)state;
    acked_set set = {0};
    uint64_t last = (uint64_t)ACKED_PAGE * ACKED_PAGES_MAX; /* in one page more than there may be */
    assert_false(acked_has(&set, 1, 1));
    acked_add(&set, 1, 10);
    for (uint64_t seq = ACKED_PAGE; seq < last; seq += ACKED_PAGE)
        acked_add(&set, seq, 20);
    assert_true(acked_has(&set, 1, 10));
    assert_false(acked_has(&set, 2, 10));
    assert_false(acked_has(&set, 1, 11)); /* of another stream */
    acked_add(&set, last, 30);
    assert_false(acked_has(&set, 1, 10)); /* the oldest page has gone */
    assert_true(acked_has(&set, ACKED_PAGE, 20));
    assert_true(acked_has(&set, last, 30));
    acked_add(&set, last, 40); /* the stream has begun anew, and nothing of before is known */
    acked_add(&set, last + 1, 41);
    assert_true(acked_has(&set, last + 1, 41));
    acked_clear(&set);
    assert_false(acked_has(&set, last, 30));
    acked_clear(&set);
}

/* ---- subjects ---- */

static void assert_token(ack_token t, const char *text)
{
    assert_int_equal(t.length, strlen(text));
    assert_memory_equal(t.text, text, t.length);
}

static void test_both_forms(void **state)
{
    (void)state;
    static const char *const subjects[] = {
        "$JS.ACK.ORDERS.w.2.7.9.1795613035953051039.4",
        "$JS.ACK._.ACCOUNT.ORDERS.w.2.7.9.1795613035953051039.4",
        "$JS.ACK.hub.ACCOUNT.ORDERS.w.2.7.9.1795613035953051039.4.random",
    };
    static const char *const domains[] = {"", "", "hub"};
    for (size_t i = 0; i < 3; i++) {
        ack_subject a;
        assert_int_equal(ack_subject_parse(subjects[i], &a), 0);
        assert_token(a.domain, domains[i]);
        assert_token(a.stream, "ORDERS");
        assert_token(a.consumer, "w");
        assert_int_equal(a.deliveries, 2);
        assert_int_equal(a.stream_seq, 7);
        assert_int_equal(a.consumer_seq, 9);
        assert_int_equal(a.time, 1795613035953051039u);
        assert_int_equal(a.pending, 4);
    }
}

static void test_other_subjects(void **state)
{
    (void)state;
    static const char *const subjects[] = {
        "",
        "_INBOX.a",
        "$JS.ACK.",
        "$JS.ACK.S.w.1.1.1.1",
        "$JS.ACK.S.w.1.1.1.1.x",
        "$JS.ACK.S.w.1.18446744073709551616.1.1.1",
        "$JS.ACK.S.w.1.-1.1.1.1",
        "$JS.ACK.S..1.1.1.1.1",
        "$JS.ACK.S.w.1.1.1.1.",
        "$JS.ACK.A.S.w.1.1.1.1.1",
        "$JS.ACK.S.w.1.111111111111111111111.1.1.1",
    };
    ack_subject a;
    assert_int_equal(ack_subject_parse(NULL, &a), -1);
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++)
        assert_int_equal(ack_subject_parse(subjects[i], &a), -1);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_floor),
        EACH(test_floor_before_anything_came),
        EACH(test_acknowledged_together),
        EACH(test_acknowledged_before),
        EACH(test_in_hand),
        EACH(test_acks_all),
        EACH(test_caps),
        EACH(test_another_stream),
        EACH(test_it_waits_for_the_next_generation),
        EACH(test_forgotten),
        EACH(test_how_many),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_both_forms),
        cmocka_unit_test(test_other_subjects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
