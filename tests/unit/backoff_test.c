/* The built-in reconnect policy: the waits people rely on, and that no input makes it return
 * nonsense. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "watch/backoff.h"

#define ALMOST_ONE 0.9999999

static void assert_near(double is, double should)
{
    if (!(fabs(is - should) < 1e-5))
        fail_msg("%.9f is not %.9f", is, should);
}

static double delay(backoff_jitter jitter, uint32_t attempt, double random)
{
    backoff policy = BACKOFF_DEFAULT;
    policy.jitter = jitter;
    return backoff_delay(&policy, attempt, ERROR_CLASS_NETWORK, 0, 0, random);
}

static void test_step_grows_up_to_the_cap(void **state)
{
    (void)state;
    static const double steps[] = {0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5};
    for (uint32_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        assert_near(delay(BACKOFF_JITTER_NONE, i + 1, 0.5), steps[i]);
    assert_near(delay(BACKOFF_JITTER_NONE, UINT32_MAX, 0.5), 5);
    assert_near(delay(BACKOFF_JITTER_NONE, 0, 0.5), 0.05);
}

static void test_full_jitter_is_uniform_from_zero_to_the_step(void **state)
{
    (void)state;
    assert_near(delay(BACKOFF_JITTER_FULL, 3, 0), 0);
    assert_near(delay(BACKOFF_JITTER_FULL, 3, 0.25), 0.05);
    assert_near(delay(BACKOFF_JITTER_FULL, 3, ALMOST_ONE), 0.2);
}

static void test_equal_jitter_keeps_half_of_the_step(void **state)
{
    (void)state;
    assert_near(delay(BACKOFF_JITTER_EQUAL, 3, 0), 0.1);
    assert_near(delay(BACKOFF_JITTER_EQUAL, 3, 0.5), 0.15);
    assert_near(delay(BACKOFF_JITTER_EQUAL, 3, ALMOST_ONE), 0.2);
}

static void test_decorrelated_jitter_follows_the_previous_wait(void **state)
{
    (void)state;
    backoff policy = BACKOFF_DEFAULT;
    policy.jitter = BACKOFF_JITTER_DECORRELATED;
    const error_class cls = ERROR_CLASS_NETWORK;
    assert_near(backoff_delay(&policy, 1, cls, 0, 0, 0), 0.05);
    assert_near(backoff_delay(&policy, 1, cls, 0, 0, ALMOST_ONE), 0.15);
    assert_near(backoff_delay(&policy, 2, cls, 0, 1.0, 0), 0.05);
    assert_near(backoff_delay(&policy, 2, cls, 0, 1.0, ALMOST_ONE), 3.0);
    assert_near(backoff_delay(&policy, 9, cls, 0, 4.0, ALMOST_ONE), 5.0);
}

static double auth_step(uint32_t attempt, double outage)
{
    backoff policy = BACKOFF_DEFAULT;
    policy.jitter = BACKOFF_JITTER_NONE;
    return backoff_delay(&policy, attempt, ERROR_CLASS_AUTH, outage, 0, 0);
}

static void test_auth_errors_wait_by_the_age_of_the_outage(void **state)
{
    (void)state;
    assert_near(auth_step(1, 0), 0.25);
    assert_near(auth_step(40, 4), 0.25); /* a hiccup of 4 s is over within one step */
    assert_near(auth_step(40, 10), 0.5);
    assert_near(auth_step(2, 60), 3);
    assert_near(auth_step(2, 3600), 5);
}

static void test_auth_errors_with_decorrelated_jitter_do_not_grow_with_the_attempts(void **state)
{
    (void)state;
    backoff policy = BACKOFF_DEFAULT;
    policy.jitter = BACKOFF_JITTER_DECORRELATED;
    const error_class cls = ERROR_CLASS_AUTH;
    assert_near(backoff_delay(&policy, 40, cls, 4, 5.0, ALMOST_ONE), 0.25);
    assert_near(backoff_delay(&policy, 40, cls, 4, 5.0, 0), 0.05);
}

static void test_other_classes_wait_by_the_attempt(void **state)
{
    (void)state;
    backoff policy = BACKOFF_DEFAULT;
    policy.jitter = BACKOFF_JITTER_NONE;
    for (int cls = ERROR_CLASS_NONE; cls <= ERROR_CLASS_PROTOCOL; cls++)
        if (cls != ERROR_CLASS_AUTH)
            assert_near(backoff_delay(&policy, 2, (error_class)cls, 3600, 0, 0), 0.1);
}

/* Never negative, never above the cap, never NaN: whatever the script put in. */
static void test_no_input_makes_nonsense(void **state)
{
    (void)state;
    const double odd[] = {NAN, INFINITY, -INFINITY, -1, 0, 1e-310, 0.3, 1, 2, 1e9, 1.7e308};
    const size_t n = sizeof odd / sizeof odd[0];
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < 300000; i++) {
        double v[7];
        for (int k = 0; k < 7; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            v[k] = odd[(seed >> 33) % n];
        }
        backoff policy = {v[0], v[1], v[2], v[3], (backoff_jitter)(seed >> 60)};
        uint32_t attempt = (seed >> 40 & 3) == 0 ? UINT32_MAX : (uint32_t)(seed >> 50);
        error_class cls = (error_class)(seed >> 45 & 7);
        double wait = backoff_delay(&policy, attempt, cls, v[4], v[5], v[6]);
        double cap = isfinite(v[1]) && v[1] > 0 ? v[1] : 5.0;
        if (!(wait >= 0 && wait <= cap))
            fail_msg("%g is not between 0 and %g (case %d)", wait, cap, i);
    }
}

static void test_jitter_names(void **state)
{
    (void)state;
    assert_int_equal(backoff_jitter_parse("none"), BACKOFF_JITTER_NONE);
    assert_int_equal(backoff_jitter_parse("full"), BACKOFF_JITTER_FULL);
    assert_int_equal(backoff_jitter_parse("equal"), BACKOFF_JITTER_EQUAL);
    assert_int_equal(backoff_jitter_parse("decorrelated"), BACKOFF_JITTER_DECORRELATED);
    assert_int_equal(backoff_jitter_parse("Full"), -1);
    assert_int_equal(backoff_jitter_parse(""), -1);
    assert_int_equal(backoff_jitter_parse(NULL), -1);
    for (int i = 0; i <= BACKOFF_JITTER_DECORRELATED; i++)
        assert_int_equal(backoff_jitter_parse(backoff_jitter_name((backoff_jitter)i)), i);
    assert_string_equal(backoff_jitter_name((backoff_jitter)9), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_grows_up_to_the_cap),
        cmocka_unit_test(test_full_jitter_is_uniform_from_zero_to_the_step),
        cmocka_unit_test(test_equal_jitter_keeps_half_of_the_step),
        cmocka_unit_test(test_decorrelated_jitter_follows_the_previous_wait),
        cmocka_unit_test(test_auth_errors_wait_by_the_age_of_the_outage),
        cmocka_unit_test(test_auth_errors_with_decorrelated_jitter_do_not_grow_with_the_attempts),
        cmocka_unit_test(test_other_classes_wait_by_the_attempt),
        cmocka_unit_test(test_no_input_makes_nonsense),
        cmocka_unit_test(test_jitter_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
