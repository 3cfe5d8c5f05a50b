/* Interests: what a subscription asks for, kept once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "link/interest.h"

static struct interest *ask(const char *subject, const char *queue)
{
    struct interest *i = interest_new(&(interest_options){.subject = subject, .queue = queue});
    assert_non_null(i);
    return i;
}

static void the_texts_are_its_own(void **state)
{
    (void)state;
    char subject[] = "orders.*", queue[] = "workers";
    struct interest *i = ask(subject, queue), *alone = ask(subject, NULL);
    subject[0] = queue[0] = 'x';
    assert_string_equal(i->subject, "orders.*");
    assert_string_equal(interest_queue(i), "workers");
    assert_null(interest_queue(alone));
    interest_release(i);
    interest_release(alone);
}

static void it_lives_as_long_as_anybody_has_it(void **state)
{
    (void)state;
    struct interest *i = ask("a", NULL);
    assert_ptr_equal(interest_retain(i), i);
    interest_release(i);
    assert_string_equal(i->subject, "a");
    interest_release(i);
    interest_release(NULL);
}

static void limits_that_do_not_fit_are_the_largest(void **state)
{
    (void)state;
    struct interest *i = interest_new(&(interest_options){.subject = "a",
                                                          .max = UINT64_MAX,
                                                          .pending_messages = 1ull << 32,
                                                          .pending_bytes = UINT64_MAX});
    assert_non_null(i);
    assert_int_equal(i->pending_messages, UINT32_MAX);
    assert_true(i->max == UINT64_MAX && i->pending_bytes == UINT64_MAX);
    interest_release(i);
}

static void expect_alike(bool alike, struct interest *a, struct interest *b)
{
    assert_int_equal(interest_is_alike(a, b), alike);
    assert_int_equal(interest_hash(a) == interest_hash(b), alike);
    interest_release(a);
    interest_release(b);
}

static void alike_are_those_of_one_subject_and_queue(void **state)
{
    (void)state;
    expect_alike(true, ask("a.b", NULL), ask("a.b", NULL));
    expect_alike(true, ask("a.b", "q"), ask("a.b", "q"));
    expect_alike(false, ask("a.b", NULL), ask("a.c", NULL));
    expect_alike(false, ask("a.b", "q"), ask("a.b", NULL));
    expect_alike(false, ask("a.b", "q"), ask("a.b", "r"));
    expect_alike(false, ask("ab", "c"), ask("a", "bc"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_texts_are_its_own),
        cmocka_unit_test(it_lives_as_long_as_anybody_has_it),
        cmocka_unit_test(limits_that_do_not_fit_are_the_largest),
        cmocka_unit_test(alike_are_those_of_one_subject_and_queue),
    };
    return cmocka_run_group_tests_name("interest", tests, NULL, NULL);
}
