/* What the doctor decides without looking at anything: JWTs, moments, limits, addresses, and the
 * answer of JetStream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "doctor/account.h"
#include "doctor/jwt.h"
#include "doctor/machine.h"
#include "doctor/moment.h"
#include "doctor/server.h"

/* {"sub":"UABC","iat":1700000000,"exp":1800000000,"name":"bob?>","nats":{"type":"user"}} */
#define CLAIMS                                                                                     \
    "eyJzdWIiOiJVQUJDIiwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjE4MDAwMDAwMDAsIm5hbWUiOiJib2I_PiIsIm5hdHM"  \
    "iOnsidHlwZSI6InVzZXIifX0"
#define TOKEN "eyJ0eXAiOiJKV1QifQ." CLAIMS ".c2lnbmVk"

/* ---- JWTs ---- */

static void a_jwt_is_decoded(void **state)
{
    (void)state;
    jwt_claims c;
    assert_int_equal(jwt_parse(TOKEN, strlen(TOKEN), &c, NULL), 0);
    assert_string_equal(c.subject, "UABC");
    assert_string_equal(c.name, "bob?>");
    assert_string_equal(c.type, "user");
    assert_true(c.issued == 1700000000 && c.expires == 1800000000 && c.not_before == 0);
    assert_false(c.bearer);
}

static void what_is_no_jwt_is_refused_and_not_shown(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",      "secret",   "secret.secret", "..",
        "a.b.c", "a.!!!!.c", "a.c2VjcmV0.c",  "eyJ0.W10.secret", /* [] */
        "a..c",  "eyJ.e30",  "a.e30=.secret",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        jwt_claims c;
        error e = {0};
        if (jwt_parse(bad[i], strlen(bad[i]), &c, &e) != -1)
            fail_msg("\"%s\" is taken", bad[i]);
        assert_string_equal(e.code, "bad_jwt");
        assert_null(strstr(e.message, "secret"));
    }
}

static void claims_of_other_types_count_as_not_there(void **state)
{
    (void)state;
    /* {"exp":"never","sub":7,"nats":[]} */
    static const char token[] = "a.eyJleHAiOiJuZXZlciIsInN1YiI6NywibmF0cyI6W119.c";
    jwt_claims c;
    assert_int_equal(jwt_parse(token, strlen(token), &c, NULL), 0);
    assert_true(c.expires == 0);
    assert_string_equal(c.subject, "");
    assert_string_equal(c.type, "");
}

static void the_jwt_of_a_credentials_file_is_found(void **state)
{
    (void)state;
    size_t length = 0;
    const char *found =
        jwt_find("-----BEGIN NATS USER JWT-----\r\n  " TOKEN "\r\n------END", &length);
    assert_non_null(found);
    assert_int_equal(length, strlen(TOKEN));
    assert_memory_equal(found, TOKEN, length);
    assert_null(jwt_find("", &length));
    assert_null(jwt_find("-----BEGIN NATS USER JWT-----\nxeyJ\n", &length));
}

/* ---- moments ---- */

static void a_moment_is_judged(void **state)
{
    (void)state;
    const int64_t now = 1000000000;
    assert_int_equal(moment_judge(0, 0, now), MOMENT_GOOD);
    assert_int_equal(moment_judge(now - 5, now + MOMENT_SOON_S, now), MOMENT_GOOD);
    assert_int_equal(moment_judge(0, now + MOMENT_SOON_S - 1, now), MOMENT_SOON);
    assert_int_equal(moment_judge(0, now + 1, now), MOMENT_SOON);
    assert_int_equal(moment_judge(0, now, now), MOMENT_EXPIRED);
    assert_int_equal(moment_judge(now + MOMENT_SKEW_S, 0, now), MOMENT_GOOD);
    assert_int_equal(moment_judge(now + MOMENT_SKEW_S + 1, 0, now), MOMENT_NOT_YET);
    assert_int_equal(moment_judge(now + 900, now - 1, now), MOMENT_EXPIRED);
}

static void times_are_for_people(void **state)
{
    (void)state;
    char text[MOMENT_TEXT_SIZE];
    assert_string_equal(moment_text(1700000000, text), "2023-11-14 22:13:20 UTC");
    assert_string_equal(moment_span(0, text), "0 seconds");
    assert_string_equal(moment_span(1, text), "1 second");
    assert_string_equal(moment_span(119, text), "1 minute");
    assert_string_equal(moment_span(7200, text), "2 hours");
    assert_string_equal(moment_span(-3 * 86400, text), "3 days");
}

/* ---- limits ---- */

static void limits_of_a_process_are_read(void **state)
{
    (void)state;
    uint64_t soft = 1, hard = 1;
    static const char text[] =
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max processes             63432                63432                processes \n"
        "Max open files            1024                 unlimited            files     \n";
    assert_int_equal(machine_parse_limits(text, &soft, &hard), 0);
    assert_true(soft == 1024 && hard == MACHINE_NO_LIMIT);
    assert_int_equal(machine_parse_limits("Max open files  unlimited 7 files", &soft, &hard), 0);
    assert_true(soft == MACHINE_NO_LIMIT && hard == 7);
    assert_int_equal(machine_parse_limits("", &soft, &hard), -1);
    assert_int_equal(machine_parse_limits("Max open files   files", &soft, &hard), -1);
    assert_int_equal(machine_parse_limits("Max open files   12 files", &soft, &hard), -1);
}

static void a_part_of_a_limit_is_in_percent(void **state)
{
    (void)state;
    assert_int_equal(machine_percent(0, 10), 0);
    assert_int_equal(machine_percent(8, 10), 80);
    assert_int_equal(machine_percent(799, 1000), 79);
    assert_int_equal(machine_percent(10, 10), 100);
    assert_int_equal(machine_percent(UINT64_MAX - 1, 1), 1000);
    assert_int_equal(machine_percent(5, MACHINE_NO_LIMIT), 0);
    assert_int_equal(machine_percent(5, 0), 0);
}

/* ---- addresses ---- */

static void expect_address(const char *url, const char *host, const char *port)
{
    server_address a;
    if (server_split(url, &a) != 0)
        fail_msg("\"%s\" is refused", url);
    assert_string_equal(a.host, host);
    assert_string_equal(a.port, port);
}

static void urls_are_split(void **state)
{
    (void)state;
    server_address a;
    expect_address("nats://a.example:4222", "a.example", "4222");
    expect_address("tls://user:p@ss:word@a:1", "a", "1");
    expect_address("nats://[::1]:4222", "::1", "4222");
    expect_address("10.0.0.1:6222", "10.0.0.1", "6222");
    expect_address("nats://a:4222/", "a", "4222");
    static const char *const bad[] = {"",   "nats://", "nats://a", "nats://:4222",
                                      "a:", "a:b",     "a:1234567"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (server_split(bad[i], &a) == 0)
            fail_msg("\"%s\" is taken", bad[i]);
}

/* ---- JetStream ---- */

/* The only finding of a status about it. */
static void expect_finding(const char *answer, const char *status, const char *text)
{
    findings f;
    assert_int_equal(findings_init(&f), 0);
    jetstream_judge(&f, answer, strlen(answer));
    const json_t *one = json_array_get(f.list, 0);
    const char *what = json_string_value(json_object_get(one, "what"));
    assert_string_equal(json_string_value(json_object_get(one, "status")), status);
    if (strstr(what, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", what, text);
    assert_true((json_object_get(one, "remedy") != NULL) == (strcmp(status, "ok") != 0));
    findings_clear(&f);
}

static void the_use_of_an_account_is_judged(void **state)
{
    (void)state;
    expect_finding("{\"memory\":0,\"storage\":2048,\"streams\":1,\"consumers\":2,"
                   "\"limits\":{\"max_memory\":-1,\"max_storage\":4096,\"max_streams\":-1}}",
                   "ok", "0 B memory, 2.0 KiB storage of 4.0 KiB, 1 streams, 2 consumers");
    expect_finding("{\"storage\":80,\"streams\":1,\"limits\":{\"max_storage\":100}}", "warning",
                   "80 B storage are used, of 100 B (80 %)");
    expect_finding("{\"streams\":3,\"limits\":{\"max_streams\":3}}", "problem", "100 %");
    expect_finding("{\"streams\":1,\"tiers\":{\"R3\":{\"storage\":9,\"streams\":1,"
                   "\"limits\":{\"max_storage\":10}}}}",
                   "warning", "in tier R3: 9 B storage");
    /* nats-server 2.10 */
    expect_finding("{\"storage\":0,\"reserved_storage\":18446744073709551615,\"streams\":1,"
                   "\"limits\":{\"max_streams\":5}}",
                   "ok", "1 streams of 5");
}

static void a_refusal_is_told(void **state)
{
    (void)state;
    expect_finding("{\"error\":{\"code\":503,\"err_code\":10076}}", "ok", "at this server");
    expect_finding("{\"error\":{\"code\":503,\"err_code\":10039}}", "ok", "for this account");
    expect_finding("{\"error\":{\"code\":500,\"err_code\":1,\"description\":\"odd\"}}", "warning",
                   "odd");
    expect_finding("{}", "warning", "neither an account nor an error");
    expect_finding("[]", "warning", "neither an account nor an error");
    expect_finding("{", "warning", "neither an account nor an error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_jwt_is_decoded),
        cmocka_unit_test(what_is_no_jwt_is_refused_and_not_shown),
        cmocka_unit_test(claims_of_other_types_count_as_not_there),
        cmocka_unit_test(the_jwt_of_a_credentials_file_is_found),
        cmocka_unit_test(a_moment_is_judged),
        cmocka_unit_test(times_are_for_people),
        cmocka_unit_test(limits_of_a_process_are_read),
        cmocka_unit_test(a_part_of_a_limit_is_in_percent),
        cmocka_unit_test(urls_are_split),
        cmocka_unit_test(the_use_of_an_account_is_judged),
        cmocka_unit_test(a_refusal_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
