/* The options of a link: which server URLs are taken and how they are kept, what logs see of them,
 * and when two connections may share a link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link/options.h"

static link_options *new_options(void)
{
    link_options *o = link_options_new();
    assert_non_null(o);
    return o;
}

static void expect_taken(const char *url, const char *kept, uint16_t port, bool tls)
{
    link_options *o = new_options();
    error e = {0};
    if (link_options_add_server(o, url, &e) != 0)
        fail_msg("\"%s\": %s", url, e.message);
    assert_string_equal(e.code, "");
    assert_int_equal(o->server_count, 1);
    assert_string_equal(o->servers[0], kept);
    assert_int_equal(link_url_port(o->servers[0]), port);
    assert_int_equal(o->tls, tls);
    link_options_release(o);
}

static void expect_refused(const char *url, const char *why)
{
    link_options *o = new_options();
    error e = {0};
    if (link_options_add_server(o, url, &e) != -1)
        fail_msg("\"%s\" was taken as \"%s\"", url, o->servers[0]);
    assert_string_equal(e.code, "bad_url");
    if (strstr(e.message, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", e.message, why);
    if (strstr(e.message, "write it like nats://host:4222") == NULL)
        fail_msg("\"%s\" does not say what to do", e.message);
    assert_int_equal(o->server_count, 0);
    assert_false(o->tls);
    link_options_release(o);
}

/* ---- server URLs ---- */

static void schemes(void **state)
{
    (void)state;
    expect_taken("nats://host:4222", "nats://host:4222", 4222, false);
    expect_taken("tls://host:4222", "tls://host:4222", 4222, true);
    expect_taken("host:4222", "nats://host:4222", 4222, false);
    expect_taken("NATS://host:4222", "NATS://host:4222", 4222, false);
    expect_taken("Tls://host:4222", "Tls://host:4222", 4222, true);
    expect_refused("http://host:4222", "its scheme");
    expect_refused("ws://host:4222", "its scheme");
    expect_refused("natss://host:4222", "its scheme");
    expect_refused("://host:4222", "its scheme");
}

static void a_port_is_added_where_none_is(void **state)
{
    (void)state;
    expect_taken("nats://host", "nats://host:4222", 4222, false);
    expect_taken("nats://host/", "nats://host:4222", 4222, false);
    expect_taken("tls://host", "tls://host:4222", 4222, true);
    expect_taken("host", "nats://host:4222", 4222, false);
    expect_taken("nats://user:1234@host", "nats://user:1234@host:4222", 4222, false);
    expect_taken("nats://[::1]", "nats://[::1]:4222", 4222, false);
}

static void ports(void **state)
{
    (void)state;
    expect_taken("nats://host:1", "nats://host:1", 1, false);
    expect_taken("nats://host:65535", "nats://host:65535", 65535, false);
    static const char *const bad[] = {"",      "0",         "65536",
                                      "-1",    "x",         "4222x",
                                      "42 22", "4222:4222", "99999999999999999999",
                                      "0x10",  "4222//",    "4222/path"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char url[64];
        (void)snprintf(url, sizeof url, "nats://host:%s", bad[i]);
        expect_refused(url, "its port is not a number from 1 to 65535");
        (void)snprintf(url, sizeof url, "[::1]:%s", bad[i]);
        expect_refused(url, "its port");
    }
}

static void a_port_is_digits_only(void **state)
{
    (void)state;
    expect_refused("nats://host: 4222", "its port");
    expect_refused("nats://host:004222", "its port");
    expect_refused("nats://[]:4222", "it has no host");
    expect_refused("nats://host:\n4222", "its port");
    expect_refused("nats://host:+4222", "its port");
}

static void addresses(void **state)
{
    (void)state;
    expect_taken("127.0.0.1:4222", "nats://127.0.0.1:4222", 4222, false);
    expect_taken("nats://[::1]:4333", "nats://[::1]:4333", 4333, false);
    expect_taken("[fe80::1%eth0]:4333", "nats://[fe80::1%eth0]:4333", 4333, false);
    expect_taken("nats://u:p@[2001:db8::1]:4333", "nats://u:p@[2001:db8::1]:4333", 4333, false);
    expect_refused("nats://[::1:4222", "the ] of the address is missing");
    expect_refused("nats://[::1]4222", "there is something behind its host");
    expect_refused("nats://::1", "it has no host");
    expect_refused("nats://fe80::1", "its port");
}

static void hosts(void **state)
{
    (void)state;
    expect_taken("nats://a-b.example.org:4222", "nats://a-b.example.org:4222", 4222, false);
    expect_refused("", "it has no host");
    expect_refused("nats://", "it has no host");
    expect_refused("nats://:4222", "it has no host");
    expect_refused("nats:///x", "it has no host");
    expect_refused("nats://user:secret@", "it has no host");
    expect_refused("nats://user:secret@:4222", "it has no host");
    expect_refused("nats://host/path", "something behind its host");
    static const char foreign[] = " \t\n\x01\x7f\"\\";
    for (size_t i = 0; i < sizeof foreign - 1; i++) {
        char url[64];
        (void)snprintf(url, sizeof url, "nats://ho%cst:4222", foreign[i]);
        expect_refused(url, "a character that no host has");
    }
}

static void user_info_is_kept(void **state)
{
    (void)state;
    expect_taken("nats://user:pass@host:4222", "nats://user:pass@host:4222", 4222, false);
    expect_taken("nats://token@host", "nats://token@host:4222", 4222, false);
    expect_taken("user:pass@host", "nats://user:pass@host:4222", 4222, false);
    expect_taken("nats://user:p@ss:w/rd@host:1", "nats://user:p@ss:w/rd@host:1", 1, false);
    expect_taken("user:p://x@host", "nats://user:p://x@host:4222", 4222, false);
}

static void too_long_urls_are_refused(void **state)
{
    (void)state;
    char url[1024];
    memset(url, 'h', sizeof url);
    url[sizeof url - 1] = '\0';
    expect_refused(url, "it is too long");
    memcpy(url, "nats://s3cret@", 14);
    expect_refused(url, "it is too long");
    url[500] = '\0'; /* and what is taken is taken whole */
    link_options *o = new_options();
    assert_int_equal(link_options_add_server(o, url, NULL), 0);
    assert_int_equal(strlen(o->servers[0]), 500 + strlen(":4222"));
    assert_int_equal(link_url_port(o->servers[0]), 4222);
    link_options_release(o);
}

static void the_list_has_an_end(void **state)
{
    (void)state;
    link_options *o = new_options();
    error e = {0};
    for (int i = 0; i < LINK_SERVERS_MAX; i++) {
        char url[64];
        (void)snprintf(url, sizeof url, "host%d", i);
        assert_int_equal(link_options_add_server(o, url, &e), 0);
    }
    assert_int_equal(link_options_add_server(o, "one.more", &e), -1);
    assert_string_equal(e.code, "too_many_servers");
    assert_non_null(strstr(e.message, "64"));
    assert_int_equal(o->server_count, LINK_SERVERS_MAX);
    assert_string_equal(o->servers[0], "nats://host0:4222"); /* in the order given */
    assert_string_equal(o->servers[LINK_SERVERS_MAX - 1], "nats://host63:4222");
    link_options_release(o);
}

static void one_tls_url_is_enough_for_tls(void **state)
{
    (void)state;
    link_options *o = new_options();
    assert_int_equal(link_options_add_server(o, "tls://a", NULL), 0);
    assert_int_equal(link_options_add_server(o, "nats://b", NULL), 0);
    assert_true(o->tls);
    link_options_release(o);
}

/* ---- redaction ---- */

static void redacted_urls_have_no_user_info(void **state)
{
    (void)state;
    static const struct {
        const char *url, *shown;
    } cases[] = {
        {"nats://host:4222", "nats://host:4222"},
        {"nats://user:s3cret@host:4222", "nats://host:4222"},
        {"tls://t0ken@host", "tls://host"},
        {"user:s3cret@host", "host"},
        {"nats://user:s3@cret@host:1", "nats://host:1"},
        {"nats://user:s3cret://x@host:1", "nats://host:1"},
        {"nats://user:s3cret@[::1]:4222", "nats://[::1]:4222"},
        {"nats://user:s3cret@", "nats://"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char shown[128];
        assert_ptr_equal(link_redact_url(cases[i].url, shown, sizeof shown), shown);
        assert_string_equal(shown, cases[i].shown);
    }
}

/* What stands before "://" may be user info, too, when the scheme is missing or misplaced. */
static void redaction_of_odd_urls_shows_no_user_info(void **state)
{
    (void)state;
    static const char *const urls[] = {"user:s3cret@host://4222", "user:s3cret://x@host:4222"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        char shown[128];
        (void)link_redact_url(urls[i], shown, sizeof shown);
        if (strstr(shown, "s3cret") != NULL)
            fail_msg("\"%s\" is shown as \"%s\"", urls[i], shown);
    }
}

static void redaction_stays_in_its_buffer(void **state)
{
    (void)state;
    for (unsigned size = 1; size < 24; size++) {
        char shown[32];
        memset(shown, 'x', sizeof shown);
        (void)link_redact_url("nats://u:s3cret@host:4222", shown, size);
        assert_int_equal(shown[size], 'x');
        assert_memory_equal(shown, "nats://host:4222", strlen(shown));
    }
}

static void refusals_show_no_user_info(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "http://joe:s3cret@host",     "nats://joe:s3cret@host:x",   "joe:s3cret@host:0",
        "nats://joe:s3cret@ho st",    "nats://joe:s3cret@host:1/p", "joe:s3cret@",
        "nats://joe:s3cret@[::1:422", "nats://s3cret@:1",           "joe:s3cret@host://4222",
        "joe:s3cret://x@ho st",
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        link_options *o = new_options();
        error e = {0};
        assert_int_equal(link_options_add_server(o, urls[i], &e), -1);
        if (strstr(e.message, "s3cret") != NULL || strstr(e.message, "joe") != NULL)
            fail_msg("\"%s\" shows user info", e.message);
        link_options_release(o);
    }
}

/* ---- values ---- */

static void defaults(void **state)
{
    (void)state;
    link_options *o = new_options();
    assert_int_equal(o->server_count, 0);
    assert_true(o->library_reconnect);
    assert_false(o->tls || o->tls_insecure || o->no_echo || o->ignore_discovered);
    assert_null(o->user);
    assert_null(o->password);
    assert_null(o->token);
    assert_true(o->ping_ms > 0 && o->dial_timeout_ms > 0 && o->probe_timeout_ms > 0);
    link_options_release(o);
}

static void the_last_release_frees(void **state)
{
    (void)state;
    link_options *o = new_options();
    o->password = strdup("s3cret");
    assert_ptr_equal(link_options_retain(o), o);
    link_options_release(o);
    assert_string_equal(o->password, "s3cret");
    link_options_release(o); /* and the leak checker is content */
    link_options_release(NULL);
}

static link_options *full_options(void)
{
    link_options *o = new_options();
    assert_int_equal(link_options_add_server(o, "a:1", NULL), 0);
    assert_int_equal(link_options_add_server(o, "b:2", NULL), 0);
    char **const texts[] = {&o->name,    &o->user,           &o->password,    &o->token,
                            &o->creds,   &o->nkey_seed_file, &o->tls_ca,      &o->tls_cert,
                            &o->tls_key, &o->tls_hostname,   &o->inbox_prefix};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        *texts[i] = strdup("text");
        assert_non_null(*texts[i]);
    }
    return o;
}

static void options_are_equal_by_value(void **state)
{
    (void)state;
    link_options *a = full_options();
    link_options *b = full_options();
    link_options *c = new_options();
    assert_true(link_options_equal(a, a));
    assert_true(link_options_equal(a, b));
    assert_false(link_options_equal(a, c));
    b->fallback.base *= 2; /* does not concern the link */
    assert_true(link_options_equal(a, b));
    link_options_release(a);
    link_options_release(b);
    link_options_release(c);
}

/* All the same but one text, which differs, and which is missing. */
static void every_text_counts(void **state)
{
    (void)state;
    static const size_t texts[] = {
        offsetof(link_options, name),         offsetof(link_options, user),
        offsetof(link_options, password),     offsetof(link_options, token),
        offsetof(link_options, creds),        offsetof(link_options, nkey_seed_file),
        offsetof(link_options, tls_ca),       offsetof(link_options, tls_cert),
        offsetof(link_options, tls_key),      offsetof(link_options, tls_hostname),
        offsetof(link_options, inbox_prefix), offsetof(link_options, servers[0]),
        offsetof(link_options, servers[1]),
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        link_options *a = full_options();
        link_options *b = full_options();
        char **text = (char **)(void *)((char *)b + texts[i]);
        (*text)[0] = 'x';
        assert_false(link_options_equal(a, b));
        assert_false(link_options_equal(b, a));
        free(*text);
        *text = NULL;
        assert_false(link_options_equal(a, b));
        assert_false(link_options_equal(b, a));
        *text = strdup("");
        link_options_release(a);
        link_options_release(b);
    }
}

static void every_flag_counts(void **state)
{
    (void)state;
    link_options *a = full_options();
    link_options *b = full_options();
    bool *const flags[] = {&b->tls, &b->tls_insecure, &b->no_echo, &b->ignore_discovered,
                           &b->library_reconnect};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        *flags[i] = !*flags[i];
        assert_false(link_options_equal(a, b));
        *flags[i] = !*flags[i];
        assert_true(link_options_equal(a, b));
    }
    b->ping_ms++;
    assert_false(link_options_equal(a, b));
    link_options_release(a);
    link_options_release(b);
}

/* A link is as good with other timeouts: they count for the next one. */
static void timeouts_do_not_count(void **state)
{
    (void)state;
    link_options *a = full_options();
    link_options *b = full_options();
    b->dial_timeout_ms++;
    b->probe_timeout_ms++;
    assert_true(link_options_equal(a, b));
    link_options_release(a);
    link_options_release(b);
}

static void number_and_order_of_servers_count(void **state)
{
    (void)state;
    static const char *const lists[][2] = {
        {"a:1", NULL}, {"b:2", NULL}, {"a:1", "b:2"}, {"b:2", "a:1"}};
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) {
            link_options *a = new_options();
            link_options *b = new_options();
            for (size_t k = 0; k < 2; k++) {
                if (lists[i][k] != NULL)
                    assert_int_equal(link_options_add_server(a, lists[i][k], NULL), 0);
                if (lists[j][k] != NULL)
                    assert_int_equal(link_options_add_server(b, lists[j][k], NULL), 0);
            }
            assert_int_equal(link_options_equal(a, b), i == j);
            link_options_release(a);
            link_options_release(b);
        }
}

static void a_copy_with_one_server_is_its_own(void **state)
{
    (void)state;
    link_options *a = full_options();
    link_options *b = link_options_only(a, 1);
    assert_non_null(b);
    assert_int_equal(b->server_count, 1);
    assert_string_equal(b->servers[0], a->servers[1]);
    assert_ptr_not_equal(b->servers[0], a->servers[1]);
    link_options *c = link_options_only(b, 0);
    assert_true(link_options_equal(b, c));
    link_options_release(a); /* a sanitizer sees what they share */
    link_options_release(b);
    assert_string_equal(c->password, "text");
    link_options_release(c);
}

static void a_host_has_no_brackets(void **state)
{
    (void)state;
    char host[16];
    assert_true(link_url_host("nats://u:p@a.b:4222", host, sizeof host));
    assert_string_equal(host, "a.b");
    assert_true(link_url_host("tls://[::1]:4222", host, sizeof host));
    assert_string_equal(host, "::1");
    assert_false(link_url_host("nats://a-host-that-is-long:4222", host, sizeof host));
}

static void servers_are_the_same_by_host_and_port(void **state)
{
    (void)state;
    assert_true(link_url_same_server("nats://a:4222", "nats://a:4222"));
    assert_true(link_url_same_server("tls://u:p@A.b:4222/", "nats://a.B:4222"));
    assert_true(link_url_same_server("nats://[::1]:4222", "[::1]:4222"));
    assert_false(link_url_same_server("nats://a:4222", "nats://a:4223"));
    assert_false(link_url_same_server("nats://a:4222", "nats://ab:4222"));
    assert_false(link_url_same_server("nats://a:4222", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schemes),
        cmocka_unit_test(a_port_is_added_where_none_is),
        cmocka_unit_test(ports),
        cmocka_unit_test(a_port_is_digits_only),
        cmocka_unit_test(addresses),
        cmocka_unit_test(hosts),
        cmocka_unit_test(user_info_is_kept),
        cmocka_unit_test(too_long_urls_are_refused),
        cmocka_unit_test(the_list_has_an_end),
        cmocka_unit_test(one_tls_url_is_enough_for_tls),
        cmocka_unit_test(redacted_urls_have_no_user_info),
        cmocka_unit_test(redaction_of_odd_urls_shows_no_user_info),
        cmocka_unit_test(redaction_stays_in_its_buffer),
        cmocka_unit_test(refusals_show_no_user_info),
        cmocka_unit_test(defaults),
        cmocka_unit_test(the_last_release_frees),
        cmocka_unit_test(options_are_equal_by_value),
        cmocka_unit_test(every_text_counts),
        cmocka_unit_test(a_copy_with_one_server_is_its_own),
        cmocka_unit_test(every_flag_counts),
        cmocka_unit_test(timeouts_do_not_count),
        cmocka_unit_test(number_and_order_of_servers_count),
        cmocka_unit_test(a_host_has_no_brackets),
        cmocka_unit_test(servers_are_the_same_by_host_and_port),
    };
    return cmocka_run_group_tests_name("link_options", tests, NULL, NULL);
}
