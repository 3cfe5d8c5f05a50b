/* The histogram of latencies: how exact it is, and how it forgets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "script/latency.h"

static void an_empty_one_says_so(void **state)
{
    (void)state;
    latency l = {0};
    assert_true(latency_quantile(&l, 0.5) < 0);
}

static void a_value_is_at_most_a_quarter_too_large(void **state)
{
    (void)state;
    for (uint64_t ns = 1000; ns < 16000000000u; ns += ns / 7 + 1) {
        latency l = {0};
        latency_add(&l, ns, 1);
        double got = latency_quantile(&l, 0.99) * 1e9;
        assert_true(got >= (double)ns);
        assert_true(got <= (double)ns * 1.26);
    }
}

static void extremes_have_buckets(void **state)
{
    (void)state;
    latency l = {0};
    latency_add(&l, 0, 1);
    latency_add(&l, 999, 1);
    assert_true(latency_quantile(&l, 1) <= 1e-6);
    latency_add(&l, UINT64_MAX, 1);
    latency_add(&l, 3600u * 1000000000ull, 1);
    assert_true(latency_quantile(&l, 1) > 16);
    assert_true(latency_quantile(&l, 0.5) <= 1e-6);
}

static void quantiles_are_those_of_the_values(void **state)
{
    (void)state;
    latency l = {0};
    for (unsigned i = 1; i <= 1000; i++)
        latency_add(&l, i * 10000u, 1); /* 10 us to 10 ms */
    double p50 = latency_quantile(&l, 0.5), p99 = latency_quantile(&l, 0.99);
    assert_true(p50 >= 0.005 && p50 <= 0.0063);
    assert_true(p99 >= 0.0099 && p99 <= 0.0125);
}

static void what_is_older_counts_less(void **state)
{
    (void)state;
    latency l = {0};
    for (unsigned i = 0; i < 100000; i++)
        latency_add(&l, 1000000, 1);
    assert_true(l.total <= LATENCY_SAMPLES_MAX);
    for (unsigned i = 0; i < 3 * LATENCY_SAMPLES_MAX; i++)
        latency_add(&l, 100000, 1);
    assert_true(latency_quantile(&l, 0.5) < 0.0002);
}

static void an_eighth_of_many_is_measured(void **state)
{
    (void)state;
    latency_sampling s = {0};
    uint64_t random = 1;
    unsigned wanted = 0, weights = 0;
    for (unsigned i = 0; i < 80000; i++) {
        uint32_t weight = latency_wants(&s, true, &random);
        wanted += weight > 0;
        weights += weight;
    }
    assert_in_range(wanted, 9000, 11000);
    assert_in_range(weights, 80000 - 15, 80000); /* they stand for all of them */
}

static void each_of_few_is_measured(void **state)
{
    (void)state;
    latency_sampling s = {0};
    uint64_t random = 1;
    unsigned weights = 0;
    for (unsigned i = 0; i < 1000; i++)
        weights += latency_wants(&s, true, &random);
    weights += latency_wants(&s, false, &random); /* with those before that were not */
    assert_int_equal(weights, 1001);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(latency_wants(&s, false, &random), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_says_so),
        cmocka_unit_test(a_value_is_at_most_a_quarter_too_large),
        cmocka_unit_test(extremes_have_buckets),
        cmocka_unit_test(quantiles_are_those_of_the_values),
        cmocka_unit_test(what_is_older_counts_less),
        cmocka_unit_test(an_eighth_of_many_is_measured),
        cmocka_unit_test(each_of_few_is_measured),
    };
    return cmocka_run_group_tests_name("latency", tests, NULL, NULL);
}
