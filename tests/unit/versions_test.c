/* Which version of a script a process is started with after it has ended badly. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/versions.h"

#define SECOND 1000u

static void note(versions *v, const char *name, uint64_t now)
{
    versions_note(v, name, dup(STDERR_FILENO), now);
}

static void expect(versions *v, uint64_t now, const char *name)
{
    int chosen = versions_choose(v, true, now);
    assert_in_range(chosen, 0, VERSIONS_MAX - 1);
    assert_string_equal(v->list[chosen].name, name);
}

/* What the process does that is started with it. */
static void begin(versions *v, const char *name, uint64_t now)
{
    note(v, name, now);
    assert_string_equal(v->list[0].name, name);
}

static void without_any_the_file_is_taken(void **state)
{
    (void)state;
    versions v = {0};
    assert_int_equal(versions_choose(&v, true, 5), -1);
}

static void the_only_one_is_taken_again(void **state)
{
    (void)state;
    versions v = {0};
    note(&v, "one", 0);
    for (unsigned i = 1; i < 20; i++) {
        expect(&v, i * SECOND, "one");
        begin(&v, "one", i * SECOND);
    }
    assert_int_equal(v.count, 1);
    versions_clear(&v);
}

static void a_new_one_that_fails_gives_way_to_the_one_before(void **state)
{
    (void)state;
    versions v = {0};
    note(&v, "good", 0);
    note(&v, "bad", 10 * SECOND);
    expect(&v, 20 * SECOND, "good");
    begin(&v, "good", 20 * SECOND);
    /* Tried again by the operator, with the same end. */
    note(&v, "bad", 60 * SECOND);
    expect(&v, 70 * SECOND, "good");
    versions_clear(&v);
}

static void the_last_good_one_is_kept_when_it_fails_too(void **state)
{
    (void)state;
    versions v = {0};
    note(&v, "good", 0);
    note(&v, "bad", 1 * SECOND);
    expect(&v, 2 * SECOND, "good");
    begin(&v, "good", 2 * SECOND);
    expect(&v, 3 * SECOND, "good"); /* one failure each: no reason to change */
    versions_clear(&v);
}

static void one_that_has_proven_itself_may_fail_once(void **state)
{
    (void)state;
    versions v = {0};
    note(&v, "old", 0);
    note(&v, "proven", SECOND);
    uint64_t at = SECOND + VERSION_PROVEN_MS;
    expect(&v, at, "proven");
    begin(&v, "proven", at);
    expect(&v, at + SECOND, "old"); /* twice in a short time */
    versions_clear(&v);
}

static void one_that_ends_before_it_is_at_work_is_not_tried_for_ever(void **state)
{
    (void)state;
    versions v = {0};
    note(&v, "old", 0);
    note(&v, "new", 0);
    for (unsigned i = 1; i < 10; i++) {
        static const char *const wanted[] = {"new", "old", "old", "new"};
        int chosen = versions_choose(&v, true, i * SECOND);
        assert_string_equal(v.list[chosen].name, wanted[i % 4]);
        versions_begin(&v, chosen, i * SECOND);
    }
    assert_int_equal(v.count, 2);
    versions_clear(&v);
}

static void one_that_was_taken_back_is_not_the_last_good_one(void **state)
{
    (void)state;
    versions v = {0};
    note(&v, "good", 0);
    note(&v, "bad", 10 * SECOND);
    note(&v, "good", 20 * SECOND);
    expect(&v, 30 * SECOND, "good");
    versions_clear(&v);
}

static void failures_are_forgotten(void **state)
{
    (void)state;
    versions v = {0};
    note(&v, "old", 0);
    note(&v, "steady", 0);
    for (unsigned i = 1; i < 5; i++) {
        uint64_t at = i * (VERSION_FORGET_MS + VERSION_PROVEN_MS);
        expect(&v, at, "steady");
        begin(&v, "steady", at);
    }
    versions_clear(&v);
}

static void the_oldest_is_forgotten_and_its_descriptor_closed(void **state)
{
    (void)state;
    versions v = {0};
    int first = dup(STDERR_FILENO);
    versions_note(&v, "0", first, 0);
    for (int i = 1; i <= VERSIONS_MAX; i++) {
        char name[8] = {(char)('0' + i)};
        note(&v, name, 0);
    }
    assert_int_equal(v.count, VERSIONS_MAX);
    int reused = dup(STDERR_FILENO); /* the lowest that is free */
    assert_int_equal(reused, first);
    close(reused);
    versions_clear(&v);
    assert_int_equal(v.count, 0);
}

static void one_that_has_worked_does_not_give_way_to_one_that_never_did(void **state)
{
    (void)state;
    versions v = {0};
    note(&v, "wrong password", 0);
    note(&v, "corrected", SECOND);
    versions_worked(&v);
    expect(&v, 2 * SECOND, "corrected");
    begin(&v, "corrected", 2 * SECOND);
    note(&v, "new", 3 * SECOND);
    expect(&v, 4 * SECOND, "corrected"); /* and not the first one, which has failed less often */
    versions_clear(&v);
}

static void one_that_was_killed_is_not_to_blame(void **state)
{
    (void)state;
    versions v = {0};
    note(&v, "old", 0);
    versions_worked(&v);
    note(&v, "new", SECOND);
    versions_worked(&v);
    for (unsigned i = 2; i < 6; i++) {
        assert_int_equal(versions_choose(&v, false, i * SECOND), 0);
        begin(&v, "new", i * SECOND);
    }
    expect(&v, 7 * SECOND, "old");
    versions_clear(&v);
}

static void restarts_slow_down_and_never_end(void **state)
{
    (void)state;
    uint32_t before = 0;
    assert_int_equal(restart_delay_ms(0), 0);
    for (unsigned i = 1; i < 1000; i++) {
        uint32_t delay = restart_delay_ms(i);
        assert_in_range(delay, before, 30000);
        before = delay;
    }
    assert_int_equal(before, 30000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_any_the_file_is_taken),
        cmocka_unit_test(the_only_one_is_taken_again),
        cmocka_unit_test(a_new_one_that_fails_gives_way_to_the_one_before),
        cmocka_unit_test(the_last_good_one_is_kept_when_it_fails_too),
        cmocka_unit_test(one_that_has_proven_itself_may_fail_once),
        cmocka_unit_test(one_that_ends_before_it_is_at_work_is_not_tried_for_ever),
        cmocka_unit_test(one_that_was_taken_back_is_not_the_last_good_one),
        cmocka_unit_test(failures_are_forgotten),
        cmocka_unit_test(the_oldest_is_forgotten_and_its_descriptor_closed),
        cmocka_unit_test(one_that_has_worked_does_not_give_way_to_one_that_never_did),
        cmocka_unit_test(one_that_was_killed_is_not_to_blame),
        cmocka_unit_test(restarts_slow_down_and_never_end),
    };
    return cmocka_run_group_tests_name("versions", tests, NULL, NULL);
}
