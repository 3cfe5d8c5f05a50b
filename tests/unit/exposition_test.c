/* Prometheus' text format, and the histograms in it. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "health/exposition.h"
#include "health/user_metrics.h"

static char *text;
static size_t length;

static exposition begin(void)
{
    return (exposition){.out = open_memstream(&text, &length)};
}

static void expect(exposition *x, const char *wanted)
{
    fclose(x->out);
    assert_string_equal(text, wanted);
    free(text);
}

static void families_and_samples_are_written(void **state)
{
    (void)state;
    exposition x = begin();
    exposition_family(&x, "a_total", "counter", "Line one\nand \\two \"quoted\".");
    exposition_count(&x, "", 18446744073709551615ull);
    exposition_sample(&x, "k=\"v\"", 0.1);
    exposition_sample(&x, "k=\"w\"", NAN);
    exposition_sample(&x, "k=\"x\"", -INFINITY);
    expect(&x, "# HELP a_total Line one\\nand \\\\two \"quoted\".\n# TYPE a_total counter\n"
               "a_total 18446744073709551615\na_total{k=\"v\"} 0.10000000000000001\n"
               "a_total{k=\"w\"} NaN\na_total{k=\"x\"} -Inf\n");
}

static void labels_are_escaped(void **state)
{
    (void)state;
    char labels[64] = "";
    assert_true(exposition_label(labels, sizeof labels, "a", "x\"y\\z\nw"));
    assert_true(exposition_label(labels, sizeof labels, "b", "\xff\xc3\xa9"));
    assert_string_equal(labels, "a=\"x\\\"y\\\\z\\nw\",b=\"?\xc3\xa9\"");
}

static void labels_that_do_not_fit_change_nothing(void **state)
{
    (void)state;
    for (size_t size = 6; size < 32; size++) {
        char labels[40] = "k=\"v\"";
        memset(labels + size, 'x', sizeof labels - size);
        bool fits = exposition_label(labels, size, "name", "va\"ue");
        assert_string_equal(fits ? "k=\"v\",name=\"va\\\"ue\"" : "k=\"v\"", labels);
        for (size_t i = size; i < sizeof labels; i++)
            assert_int_equal(labels[i], 'x');
    }
}

static void buckets_add_up(void **state)
{
    (void)state;
    static const histogram_shape shape = {2, {0.5, 1}};
    histogram h = {0}, other = {0};
    histogram_add(&h, &shape, 0.5, 1); /* a bound belongs to the bucket below it */
    histogram_add(&h, &shape, 0.75, 3);
    histogram_add(&other, &shape, 2, 1);
    histogram_merge(&h, &other);
    exposition x = begin();
    exposition_family(&x, "h", "histogram", "H.");
    exposition_histogram(&x, "a=\"b\"", &shape, &h);
    expect(&x, "# HELP h H.\n# TYPE h histogram\n"
               "h_bucket{a=\"b\",le=\"0.5\"} 1\nh_bucket{a=\"b\",le=\"1\"} 4\n"
               "h_bucket{a=\"b\",le=\"+Inf\"} 5\nh_sum{a=\"b\"} 4.75\nh_count{a=\"b\"} 5\n");
}

static void bounds_that_differ_little_are_told_apart(void **state)
{
    (void)state;
    static const histogram_shape shape = {3, {0.1, 12345678901, 12345678902}};
    histogram h = {0};
    exposition x = begin();
    x.family = "h";
    exposition_histogram(&x, "", &shape, &h);
    expect(&x, "h_bucket{le=\"0.1\"} 0\nh_bucket{le=\"12345678901\"} 0\n"
               "h_bucket{le=\"12345678902\"} 0\nh_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\n");
}

static void shapes_are_ascending(void **state)
{
    (void)state;
    const histogram_shape *shapes[] = {&histogram_handler, &histogram_loop, &histogram_trip,
                                       &histogram_outage};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        assert_in_range(shapes[i]->count, 1, HISTOGRAM_BOUNDS_MAX);
        for (unsigned k = 1; k < shapes[i]->count; k++)
            assert_true(shapes[i]->bounds[k] > shapes[i]->bounds[k - 1]);
    }
}

/* ---- metrics of scripts ---- */

static struct metric *declare(struct user_metrics *all, metric_type type, const char *name,
                              error *e)
{
    metric_declaration d = {.type = type, .name = name, .shape = {1, {1}}};
    return metric_declare(all, &d, e);
}

static void a_metric_lives_as_long_as_somebody_declares_it(void **state)
{
    (void)state;
    struct user_metrics *all = user_metrics_new();
    struct metric *one = declare(all, METRIC_COUNTER, "a", NULL);
    struct metric *two = declare(all, METRIC_COUNTER, "a_total", NULL);
    assert_ptr_equal(one, two);
    assert_int_equal(metric_add(one, "", 2, NULL), 0);
    metric_release(one);
    assert_int_equal(metric_add(two, "", 1, NULL), 0);
    struct user_metrics_copy *copy = user_metrics_copy(all);
    metric_release(two);
    exposition x = begin();
    user_metrics_write(copy, x.out); /* of then */
    user_metrics_copy_free(copy);
    copy = user_metrics_copy(all);
    user_metrics_write(copy, x.out); /* nothing */
    user_metrics_copy_free(copy);
    expect(&x, "# HELP a_total A counter of the script.\n# TYPE a_total counter\na_total 3\n");
    user_metrics_free(all);
}

static void help_is_utf8(void **state)
{
    (void)state;
    struct user_metrics *all = user_metrics_new();
    metric_declaration d = {.type = METRIC_GAUGE, .name = "g", .help = "\xff\xc3\xa9"};
    struct metric *g = metric_declare(all, &d, NULL);
    struct user_metrics_copy *copy = user_metrics_copy(all);
    exposition x = begin();
    user_metrics_write(copy, x.out);
    expect(&x, "# HELP g ?\xc3\xa9\n# TYPE g gauge\n");
    user_metrics_copy_free(copy);
    metric_release(g);
    user_metrics_free(all);
}

static void names_have_one_type(void **state)
{
    (void)state;
    error e = {0};
    struct user_metrics *all = user_metrics_new();
    assert_non_null(declare(all, METRIC_GAUGE, "a", &e));
    assert_null(declare(all, METRIC_HISTOGRAM, "a", &e));
    assert_string_equal(e.code, "name_taken");
    assert_non_null(declare(all, METRIC_HISTOGRAM, "h", &e));
    static const char *const taken[] = {"h_sum", "h_count", "h_bucket"};
    for (size_t i = 0; i < 3; i++)
        assert_null(declare(all, METRIC_GAUGE, taken[i], &e));
    assert_non_null(declare(all, METRIC_GAUGE, "x_sum", &e));
    assert_null(declare(all, METRIC_HISTOGRAM, "x", &e));
    static const char *const bad[] = {"", "1a", "a-b", "a b", "\xc3\xa9", "moondog_x", "process_x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_null(declare(all, METRIC_GAUGE, bad[i], &e));
        assert_string_equal(e.code, "bad_name");
    }
    user_metrics_free(all);
}

static void series_and_metrics_have_caps(void **state)
{
    (void)state;
    error e = {0};
    char name[32];
    uint64_t series, refused;
    struct user_metrics *all = user_metrics_new();
    struct metric *m = declare(all, METRIC_GAUGE, "a", &e);
    for (unsigned i = 0; i < USER_SERIES_MAX + 5; i++) {
        snprintf(name, sizeof name, "k=\"%u\"", i);
        assert_int_equal(metric_set(m, name, i, &e), i < USER_SERIES_MAX ? 0 : -1);
    }
    assert_string_equal(e.code, "too_many_series");
    assert_int_equal(metric_set(m, "k=\"7\"", 8, &e), 0); /* one that there is */
    user_metrics_count(all, &series, &refused);
    assert_int_equal(series, USER_SERIES_MAX);
    assert_int_equal(refused, 5);
    assert_true(metric_may_tell(m));
    assert_false(metric_may_tell(m));
    for (unsigned i = 1; i < USER_METRICS_MAX; i++) {
        snprintf(name, sizeof name, "m%u", i);
        assert_non_null(declare(all, METRIC_GAUGE, name, &e));
    }
    assert_null(declare(all, METRIC_GAUGE, "one_more", &e));
    assert_string_equal(e.code, "too_many_metrics");
    user_metrics_free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_and_samples_are_written),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(labels_that_do_not_fit_change_nothing),
        cmocka_unit_test(buckets_add_up),
        cmocka_unit_test(bounds_that_differ_little_are_told_apart),
        cmocka_unit_test(shapes_are_ascending),
        cmocka_unit_test(a_metric_lives_as_long_as_somebody_declares_it),
        cmocka_unit_test(help_is_utf8),
        cmocka_unit_test(names_have_one_type),
        cmocka_unit_test(series_and_metrics_have_caps),
    };
    return cmocka_run_group_tests_name("exposition", tests, NULL, NULL);
}
