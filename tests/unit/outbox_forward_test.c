/* What an outbox forwards when: against a stream that is played here, with messages and answers
 * that are lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "outbox/forward.h"

#define WALL 1700000000000
#define WINDOW_MS 120000

static forward f;

static int set_up(void **state)
{
    (void)state;
    forward_init(&f, 8);
    return 0;
}

static void add(int64_t id, bool doubt, int64_t age)
{
    assert_non_null(forward_add(&f, id, WALL - age, doubt, NULL));
}

static void add_many(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        add(f.last + 1, false, 0);
}

/* The next step, once the streams are known. */
static forward_step step(uint64_t now)
{
    for (;;) {
        forward_step s = forward_next(&f, now, WALL + (int64_t)now);
        if (s.action != FORWARD_FIND)
            return s;
        forward_found(&f, s.entry, 1, WINDOW_MS);
    }
}

static void expect_send(int64_t id, int64_t expected, uint64_t now)
{
    forward_step s = step(now);
    assert_int_equal(s.action, FORWARD_SEND);
    assert_int_equal(s.entry->id, id);
    assert_int_equal(s.expected != NULL ? s.expected->id : 0, expected);
    forward_sent(&f, s.entry, now, WALL + (int64_t)now);
}

static void expect_nothing(uint64_t now, uint64_t until)
{
    forward_step s = step(now);
    assert_int_equal(s.action, FORWARD_NOTHING);
    assert_int_equal(s.at, until);
}

static void ack(int64_t id)
{
    forward_entry out;
    forward_acked(&f, forward_find(&f, id), false);
    while (forward_take(&f, &out))
        ;
}

static void lose(int64_t id, uint64_t now)
{
    forward_failed(&f, forward_find(&f, id), FORWARD_TEMPORARY, now, 100);
}

static void the_first_goes_alone_and_the_others_expect_the_one_before(void **state)
{
    (void)state;
    add_many(4);
    expect_send(1, 0, 1);
    expect_nothing(1, 0);
    ack(1);
    expect_send(2, 0, 2);
    expect_send(3, 2, 2);
    ack(2);
    expect_send(4, 3, 3);
    ack(3);
    ack(4);
    assert_int_equal(f.count, 0);
    add_many(2);
    expect_send(5, 0, 4);
    expect_send(6, 5, 4);
}

static void the_window_is_the_most_in_flight(void **state)
{
    (void)state;
    add_many(20);
    expect_send(1, 0, 1);
    ack(1);
    for (int64_t id = 2; id < 10; id++)
        expect_send(id, id > 2 ? id - 1 : 0, 2);
    expect_nothing(2, 0);
    ack(5); /* out of order */
    expect_send(10, 9, 2);
    expect_nothing(2, 0);
    assert_int_equal(forward_oldest(&f)->id, 2);
    assert_int_equal(forward_sent_max(&f), 10);
}

static void after_a_failure_it_goes_back_and_sends_one(void **state)
{
    (void)state;
    add_many(5);
    expect_send(1, 0, 1);
    ack(1);
    expect_send(2, 0, 2);
    expect_send(3, 2, 2);
    expect_send(4, 3, 2);
    lose(2, 10);
    expect_nothing(10, 0); /* the others are not answered yet */
    ack(3);                /* so 2 was stored: only its answer was lost */
    expect_nothing(11, 0);
    lose(4, 20);
    expect_nothing(20, 120);
    expect_send(2, 0, 130);
    assert_true(forward_find(&f, 4)->doubt);
    expect_nothing(130, 0);
    ack(2);
    expect_send(4, 0, 131); /* 3 is done */
    expect_send(5, 4, 131);
}

static void another_publisher_halves_the_window(void **state)
{
    (void)state;
    add_many(400);
    expect_send(1, 0, 1);
    ack(1);
    for (int64_t id = 2; id < 10; id++)
        expect_send(id, id > 2 ? id - 1 : 0, 1);
    ack(2);
    for (int64_t id = 3; id < 10; id++)
        forward_failed(&f, forward_find(&f, id), FORWARD_WRONG_LAST, 2, 0);
    assert_int_equal(f.limit, 4);
    expect_send(3, 0, 2); /* at once, and not alone */
    expect_send(4, 3, 2);
    expect_send(5, 4, 2);
    expect_send(6, 5, 2);
    expect_nothing(2, 0);
    int64_t done = 3;
    for (int64_t id = 7; id < 200; id++) {
        ack(done++);
        expect_send(id, id - 1, 3);
        for (; step(3).action == FORWARD_SEND; id++)
            expect_send(id + 1, id, 3);
    }
    assert_int_equal(f.limit, 8);
}

static void down_to_one_that_expects_nothing(void **state)
{
    (void)state;
    add_many(30);
    expect_send(1, 0, 1);
    ack(1);
    for (int round = 0; round < 3; round++) {
        forward_step s;
        int64_t from = 0, to = 0;
        while ((s = step(1)).action == FORWARD_SEND) {
            from = from == 0 ? s.entry->id : from;
            to = s.entry->id;
            forward_sent(&f, s.entry, 1, WALL);
        }
        ack(from);
        for (int64_t id = from + 1; id <= to; id++)
            forward_failed(&f, forward_find(&f, id), FORWARD_WRONG_LAST, 1, 0);
    }
    assert_int_equal(f.limit, 1);
    forward_step s = step(1);
    assert_null(s.expected);
    forward_sent(&f, s.entry, 1, WALL);
    expect_nothing(1, 0);
}

static void what_is_refused_for_good_does_not_stop_the_others(void **state)
{
    (void)state;
    add_many(4);
    expect_send(1, 0, 1);
    ack(1);
    expect_send(2, 0, 1);
    expect_send(3, 2, 1);
    forward_failed(&f, forward_find(&f, 2), FORWARD_REFUSED, 1, 0);
    assert_int_equal(forward_find(&f, 2)->state, FORWARD_DONE);
    expect_nothing(1, 0);
    forward_failed(&f, forward_find(&f, 3), FORWARD_WRONG_LAST, 1, 0);
    assert_int_equal(f.limit, 8); /* nobody else publishes */
    expect_send(3, 0, 1);
    expect_send(4, 3, 1);
}

static void what_may_be_stored_and_is_old_is_looked_for(void **state)
{
    (void)state;
    add(1, true, WINDOW_MS + 1);
    add(2, true, WINDOW_MS);
    add(3, true, 1000);
    forward_step s = step(1);
    assert_int_equal(s.action, FORWARD_LOOK);
    assert_int_equal(s.entry->id, 1);
    forward_begin(&f);
    expect_nothing(1, 0);
    forward_looked(&f, s.entry, true, 0);
    s = step(1);
    assert_int_equal(s.action, FORWARD_LOOK); /* within the margin */
    assert_int_equal(s.entry->id, 2);
    forward_begin(&f);
    forward_failed(&f, s.entry, FORWARD_TEMPORARY, 1, 50);
    expect_nothing(1, 51);
    s = step(60);
    assert_int_equal(s.action, FORWARD_LOOK);
    forward_begin(&f);
    forward_looked(&f, s.entry, false, 7);
    assert_int_equal(s.entry->after, 7);
    expect_send(2, 0, 60);
    assert_true(forward_find(&f, 3)->doubt); /* 2 may have been refused before, and 3 stored */
    ack(2);
    assert_false(forward_find(&f, 3)->doubt); /* nothing behind it was stored either */
    expect_send(3, 0, 60);
    add(4, true, WINDOW_MS + 1); /* nor of what is read later */
    expect_send(4, 3, 60);
}

static void what_is_young_is_sent_again(void **state)
{
    (void)state;
    add(1, true, 1000);
    add(2, true, 999);
    expect_send(1, 0, 1);
    forward_acked(&f, forward_find(&f, 1), true);
    assert_true(forward_find(&f, 2)->doubt);
    expect_send(2, 0, 1);
    forward_acked(&f, forward_find(&f, 2), false);
    add(3, false, 0);
    expect_send(3, 0, 1);
    lose(3, 5);
    expect_nothing(5, 105);
    expect_send(3, 0, 200);
    lose(3, 300);
    assert_int_equal(step(WINDOW_MS + 1000).action, FORWARD_LOOK); /* an outage later */
}

static void different_streams_are_not_in_flight_together(void **state)
{
    (void)state;
    add_many(3);
    for (int64_t id = 1; id <= 3; id++)
        forward_found(&f, forward_find(&f, id), id == 2 ? 2 : 1, WINDOW_MS);
    expect_send(1, 0, 1);
    ack(1);
    expect_send(2, 0, 1);
    expect_nothing(1, 0);
    ack(2);
    expect_send(3, 0, 1);
}

static void what_was_dropped_is_not_sent_again(void **state)
{
    (void)state;
    add_many(4);
    expect_send(1, 0, 1);
    ack(1);
    expect_send(2, 0, 1);
    forward_drop(forward_find(&f, 2)); /* in flight: its answer is awaited */
    forward_drop(forward_find(&f, 3));
    expect_send(4, 2, 1);
    lose(2, 1);
    lose(4, 1);
    assert_int_equal(forward_find(&f, 2)->state, FORWARD_DONE);
    expect_send(4, 0, 200);
}

static void a_new_link_begins_with_one(void **state)
{
    (void)state;
    add_many(4);
    expect_send(1, 0, 1);
    ack(1);
    expect_send(2, 0, 1);
    expect_send(3, 2, 1);
    lose(2, 1);
    lose(3, 1);
    forward_link_lost(&f);
    forward_step s = forward_next(&f, 2, WALL);
    assert_int_equal(s.action, FORWARD_FIND); /* streams may be others now */
    expect_send(2, 0, 2);
    expect_nothing(2, 0);
}

/* ---- a stream that is played ---- */

typedef struct {
    int64_t stored[2000];
    unsigned count;
    int64_t last; /* the id of its last message; of another publisher's: 0 */
    bool seen[2000];
} stream;

static bool chance(unsigned *seed, unsigned percent)
{
    return (unsigned)rand_r(seed) % 100 < percent;
}

/* What the server does with a message. */
static int receive(stream *s, int64_t id, int64_t expected, bool *duplicate)
{
    *duplicate = s->seen[id];
    if (*duplicate)
        return 0;
    if (expected != 0 && expected != s->last)
        return -1;
    s->seen[id] = true;
    s->stored[s->count++] = s->last = id;
    return 0;
}

/* Messages are lost, answers are lost, others publish in between. */
static void play(unsigned seed)
{
    static stream s;
    struct {
        int64_t id, expected;
    } wire[FORWARD_WINDOW_MAX];
    unsigned sent;
    memset(&s, 0, sizeof s);
    forward_init(&f, 1 + seed % 40);
    add_many(500);
    uint64_t now = 1;
    for (unsigned rounds = 0; f.count > 0; rounds++) {
        assert_true(rounds < 20000);
        forward_step step_now;
        sent = 0;
        while ((step_now = step(now)).action == FORWARD_SEND) {
            wire[sent].id = step_now.entry->id;
            wire[sent++].expected = step_now.expected != NULL ? step_now.expected->id : 0;
            forward_sent(&f, step_now.entry, now, WALL + (int64_t)now);
        }
        if (step_now.at > now)
            now = step_now.at;
        for (unsigned i = 0; i < sent; i++) {
            forward_entry *entry = forward_find(&f, wire[i].id);
            bool duplicate;
            if (chance(&seed, 2))
                s.last = 0;
            if (chance(&seed, 3)) {
                lose(wire[i].id, now);
                continue;
            }
            int refused = receive(&s, wire[i].id, wire[i].expected, &duplicate);
            if (chance(&seed, 3))
                lose(wire[i].id, now);
            else if (refused != 0)
                forward_failed(&f, entry, FORWARD_WRONG_LAST, now, 0);
            else
                forward_acked(&f, entry, duplicate);
        }
        forward_entry out;
        while (forward_take(&f, &out))
            ;
        now++;
    }
    assert_int_equal(s.count, 500);
    for (unsigned i = 0; i < s.count; i++)
        assert_int_equal(s.stored[i], i + 1);
}

static void whatever_is_lost_each_is_stored_once_and_in_order(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 300; seed++)
        play(seed);
}

#define TEST(f) cmocka_unit_test_setup(f, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_goes_alone_and_the_others_expect_the_one_before),
        TEST(the_window_is_the_most_in_flight),
        TEST(after_a_failure_it_goes_back_and_sends_one),
        TEST(another_publisher_halves_the_window),
        TEST(down_to_one_that_expects_nothing),
        TEST(what_is_refused_for_good_does_not_stop_the_others),
        TEST(what_may_be_stored_and_is_old_is_looked_for),
        TEST(what_is_young_is_sent_again),
        TEST(different_streams_are_not_in_flight_together),
        TEST(what_was_dropped_is_not_sent_again),
        TEST(a_new_link_begins_with_one),
        TEST(whatever_is_lost_each_is_stored_once_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
