/* What an outbox makes of a stream's answers, of the subjects that policies name, and of paths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "outbox/ack.h"
#include "outbox/outbox.h"

static ack read_text(const char *text)
{
    ack out;
    ack_read(text, strlen(text), &out);
    return out;
}

static void an_acknowledgement_says_where_it_is(void **state)
{
    (void)state;
    ack a = read_text("{\"stream\":\"S\",\"seq\":12,\"domain\":\"d\"}");
    assert_int_equal(a.kind, ACK_STORED);
    assert_string_equal(a.stream, "S");
    assert_int_equal(a.sequence, 12);
    assert_false(a.duplicate);
    a = read_text("{\"stream\":\"S\",\"seq\":3,\"duplicate\":true}");
    assert_int_equal(a.kind, ACK_STORED);
    assert_true(a.duplicate);
}

static void expect_error(int code, int number, ack_kind kind)
{
    char text[256], name[32];
    snprintf(text, sizeof text,
             "{\"error\":{\"code\":%d,\"err_code\":%d,\"description\":\"so\"},\"stream\":\"S\","
             "\"seq\":0}",
             code, number);
    snprintf(name, sizeof name, "jetstream_%d", number);
    ack a = read_text(text);
    assert_int_equal(a.kind, kind);
    assert_string_equal(a.error.code, name);
    assert_non_null(strstr(a.error.message, ": so"));
}

static void refusals_pass_or_do_not(void **state)
{
    (void)state;
    expect_error(400, 10070, ACK_WRONG_LAST);
    expect_error(503, 10077, ACK_TEMPORARY); /* full, and it does not discard */
    expect_error(503, 10008, ACK_TEMPORARY); /* no leader */
    expect_error(503, 10076, ACK_TEMPORARY); /* JetStream is off */
    expect_error(500, 10047, ACK_TEMPORARY); /* no storage */
    expect_error(503, 10023, ACK_TEMPORARY); /* no resources */
    expect_error(404, 10059, ACK_TEMPORARY); /* no such stream */
    expect_error(409, 10158, ACK_TEMPORARY); /* on its way into the stream */
    expect_error(400, 10054, ACK_REFUSED);   /* too large for the stream */
    expect_error(400, 10060, ACK_REFUSED);   /* another stream was expected */
    expect_error(400, 10071, ACK_WRONG_SEQUENCE);
    expect_error(400, 10109, ACK_REFUSED); /* sealed */
}

static void what_is_no_acknowledgement_is_waited_for(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "hello",
                                        "{}",
                                        "[]",
                                        "7",
                                        "{\"stream\":\"S\"}",
                                        "{\"stream\":\"S\",\"seq\":0}",
                                        "{\"stream\":\"S\",\"seq\":\"1\"}",
                                        "{\"stream\":1,\"seq\":1}",
                                        "{\"error\":1}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ack a = read_text(texts[i]);
        assert_int_equal(a.kind, ACK_TEMPORARY);
        assert_string_equal(a.error.code, "bad_answer");
    }
}

static void what_is_on_its_way_into_a_stream_is_not_stored(void **state)
{
    (void)state;
    ack a = read_text("{\"stream\":\"S\",\"seq\":0,\"duplicate\": true}"); /* 2.10, in a cluster */
    assert_int_equal(a.kind, ACK_TEMPORARY);
    assert_string_equal(a.error.code, "in_process");
}

static void the_most_specific_rule_comes_first(void **state)
{
    (void)state;
    outbox_rule rules[] = {{">", OUTBOX_KEEP_ALL},     {"a.>", OUTBOX_DROP},
                           {"a.b.*", OUTBOX_DROP},     {"a.b.c", OUTBOX_KEEP_LATEST},
                           {"a.*.c", OUTBOX_KEEP_ALL}, {"*", OUTBOX_DROP}};
    outbox_options o = {.rules = rules, .rule_count = 6};
    outbox_sort_rules(&o);
    static const char *const wanted[] = {"a.b.c", "a.b.*", "a.*.c", "a.>", "*", ">"};
    for (int i = 0; i < 6; i++)
        assert_string_equal(rules[i].pattern, wanted[i]);
}

static void paths_of_one_file_are_one(void **state)
{
    (void)state;
    char folder[] = "/tmp/moondog-path-XXXXXX", path[128], other[128];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/out.db", folder);
    snprintf(other, sizeof other, "%s/../%s/./out.db", folder, strrchr(folder, '/') + 1);
    for (int there = 0; there < 2; there++) {
        char *a = outbox_real_path(path), *b = outbox_real_path(other);
        assert_string_equal(a, b);
        free(a);
        free(b);
        if (there == 0)
            fclose(fopen(path, "w"));
    }
    unlink(path);
    rmdir(folder);
    char *missing = outbox_real_path("/no/such/folder/out.db");
    assert_string_equal(missing, "/no/such/folder/out.db");
    free(missing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_acknowledgement_says_where_it_is),
        cmocka_unit_test(refusals_pass_or_do_not),
        cmocka_unit_test(what_is_no_acknowledgement_is_waited_for),
        cmocka_unit_test(what_is_on_its_way_into_a_stream_is_not_stored),
        cmocka_unit_test(the_most_specific_rule_comes_first),
        cmocka_unit_test(paths_of_one_file_are_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
