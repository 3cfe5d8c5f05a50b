/* Errors: what the server and the library say, and what programs, policies and people get of it. */
#include <nats/status.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static void assert_error(const error *e, const char *code, error_class cls, const char *message)
{
    assert_string_equal(e->code, code);
    assert_string_equal(error_class_name(e->cls), error_class_name(cls));
    assert_string_equal(e->message, message);
}

static void expect(int status, const char *text, const char *code, error_class cls,
                   const char *message)
{
    error e;
    memset(&e, 'x', sizeof e);
    error_from_nats(&e, status, text);
    assert_error(&e, code, cls, message);
}

/* ---- values ---- */

static void test_set_fills_and_clear_empties(void **state)
{
    (void)state;
    error e = {0};
    assert_int_equal(error_set(&e, "timeout", ERROR_CLASS_TIMEOUT, "no answer in %d ms", 5), -1);
    assert_error(&e, "timeout", ERROR_CLASS_TIMEOUT, "no answer in 5 ms");
    error_clear(&e);
    assert_error(&e, "", ERROR_CLASS_NONE, "");
}

static void test_null_error_is_allowed(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, "x", ERROR_CLASS_NONE, "%s", "y"), -1);
    error_clear(NULL);
    error_from_nats(NULL, NATS_TIMEOUT, NULL);
}

static void test_too_long_is_truncated(void **state)
{
    (void)state;
    char code[100], text[1000];
    memset(code, 'c', sizeof code);
    memset(text, 't', sizeof text);
    code[sizeof code - 1] = text[sizeof text - 1] = '\0';
    error e;
    error_set(&e, code, ERROR_CLASS_NONE, "%s", text);
    assert_int_equal(strlen(e.code), ERROR_CODE_SIZE - 1);
    assert_int_equal(strlen(e.message), ERROR_TEXT_SIZE - 1);
    error_from_nats(&e, NATS_ERR, text);
    assert_int_equal(strlen(e.message), ERROR_TEXT_SIZE - 1);
}

/* Where the cut falls into a character, the character goes as a whole. */
static void test_truncation_keeps_utf8_whole(void **state)
{
    (void)state;
    static const char *const characters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\x95"};
    for (size_t i = 0; i < sizeof characters / sizeof characters[0]; i++) {
        size_t size = strlen(characters[i]);
        for (size_t before = ERROR_TEXT_SIZE - 8; before < ERROR_TEXT_SIZE + 2; before++) {
            char text[ERROR_TEXT_SIZE * 2];
            memset(text, 't', before);
            strcpy(text + before, characters[i]);
            error e;
            error_set(&e, "x", ERROR_CLASS_NONE, "%s", text);
            size_t whole = before + size < ERROR_TEXT_SIZE ? before + size : before;
            assert_int_equal(strlen(e.message),
                             whole < ERROR_TEXT_SIZE ? whole : ERROR_TEXT_SIZE - 1);
        }
    }
}

static void test_error_may_be_made_of_itself(void **state)
{
    (void)state;
    error e;
    error_set(&e, "tls", ERROR_CLASS_TLS, "no certificate");
    error_set(&e, e.code, e.cls, "dial: %s", e.message);
    assert_error(&e, "tls", ERROR_CLASS_TLS, "dial: no certificate");
}

static void test_class_names(void **state)
{
    (void)state;
    static const char *const names[] = {"none",  "auth", "network", "timeout",
                                        "stale", "tls",  "limit",   "protocol"};
    for (int i = ERROR_CLASS_NONE; i <= ERROR_CLASS_PROTOCOL; i++)
        assert_string_equal(error_class_name((error_class)i), names[i]);
    assert_string_equal(error_class_name((error_class)99), "unknown");
}

/* ---- the texts of nats-server ---- */

static void test_texts_of_the_server(void **state)
{
    (void)state;
    static const struct {
        const char *text, *code;
        error_class cls;
    } cases[] = {
        {"Authorization Violation", "auth_failed", ERROR_CLASS_AUTH},
        {"User Authentication Expired", "auth_expired", ERROR_CLASS_AUTH},
        {"User Authentication Revoked", "auth_revoked", ERROR_CLASS_AUTH},
        {"Account Authentication Expired", "auth_expired", ERROR_CLASS_AUTH},
        {"Authentication Timeout", "auth_timeout", ERROR_CLASS_AUTH},
        {"Failed Account Registration", "auth_failed", ERROR_CLASS_AUTH},
        {"maximum connections exceeded", "max_connections", ERROR_CLASS_LIMIT},
        {"maximum account active connections exceeded", "max_account_connections",
         ERROR_CLASS_LIMIT},
        {"maximum subscriptions exceeded", "max_subscriptions", ERROR_CLASS_LIMIT},
        {"Maximum Payload Violation", "max_payload", ERROR_CLASS_LIMIT},
        {"maximum control line exceeded", "max_control_line", ERROR_CLASS_LIMIT},
        {"Connection throttling is active. Please try again later.", "throttled",
         ERROR_CLASS_LIMIT},
        {"Slow Consumer", "slow_consumer", ERROR_CLASS_LIMIT},
        {"some new quota exceeded", "limit", ERROR_CLASS_LIMIT},
        {"Stale Connection", "stale_connection", ERROR_CLASS_STALE},
        {"Secure Connection - TLS Required", "tls", ERROR_CLASS_TLS},
        {"Unknown Protocol Operation", "unknown_operation", ERROR_CLASS_PROTOCOL},
        {"Invalid Subject", "invalid_subject", ERROR_CLASS_PROTOCOL},
        {"Invalid Publish Subject", "invalid_subject", ERROR_CLASS_PROTOCOL},
        {"attempted to connect to route port", "wrong_port", ERROR_CLASS_PROTOCOL},
        {"Permissions Violation for Publish to \"a.b\"", "permissions", ERROR_CLASS_PROTOCOL},
        {"Permissions Violation for Subscription to \"a\" using queue \"q\"", "permissions",
         ERROR_CLASS_PROTOCOL},
        {"something nobody has thought of", "protocol", ERROR_CLASS_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect(NATS_ERR, cases[i].text, cases[i].code, cases[i].cls, cases[i].text);
}

static void test_case_does_not_matter(void **state)
{
    (void)state;
    expect(NATS_ERR, "AUTHORIZATION violation", "auth_failed", ERROR_CLASS_AUTH,
           "AUTHORIZATION violation");
    expect(NATS_ERR, "Maximum Connections Exceeded", "max_connections", ERROR_CLASS_LIMIT,
           "Maximum Connections Exceeded");
}

static void test_text_comes_before_status(void **state)
{
    (void)state;
    expect(NATS_CONNECTION_CLOSED, "maximum connections exceeded", "max_connections",
           ERROR_CLASS_LIMIT, "maximum connections exceeded");
    expect(NATS_CONNECTION_AUTH_FAILED, "User Authentication Expired", "auth_expired",
           ERROR_CLASS_AUTH, "User Authentication Expired");
}

static void test_unknown_text_leaves_the_class_to_the_status(void **state)
{
    (void)state;
    expect(NATS_CONNECTION_AUTH_FAILED, "go away", "auth_failed", ERROR_CLASS_AUTH, "go away");
    expect(NATS_SSL_ERROR, "self-signed certificate", "tls", ERROR_CLASS_TLS,
           "self-signed certificate");
}

/* What others chose, a subject or bytes of the stream, does not change the class. */
static void test_quoted_text_does_not_confuse(void **state)
{
    (void)state;
    const char *text = "Permissions Violation for Publish to \"authorization violation\"";
    expect(NATS_NOT_PERMITTED, text, "permissions", ERROR_CLASS_PROTOCOL, text);
    text = "Parse Error [12]: 'MSG stale connection'";
    expect(NATS_PROTOCOL_ERROR, text, "protocol", ERROR_CLASS_PROTOCOL, text);
}

/* ---- the library ---- */

static void test_statuses_without_text(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *code;
        error_class cls;
    } cases[] = {
        {NATS_NO_SERVER, "no_server", ERROR_CLASS_NETWORK},
        {NATS_IO_ERROR, "io_error", ERROR_CLASS_NETWORK},
        {NATS_CONNECTION_CLOSED, "closed", ERROR_CLASS_NETWORK},
        {NATS_CONNECTION_DISCONNECTED, "disconnected", ERROR_CLASS_NETWORK},
        {NATS_TIMEOUT, "timeout", ERROR_CLASS_TIMEOUT},
        {NATS_SSL_ERROR, "tls", ERROR_CLASS_TLS},
        {NATS_SECURE_CONNECTION_REQUIRED, "tls", ERROR_CLASS_TLS},
        {NATS_SECURE_CONNECTION_WANTED, "tls", ERROR_CLASS_TLS},
        {NATS_CONNECTION_AUTH_FAILED, "auth_failed", ERROR_CLASS_AUTH},
        {NATS_STALE_CONNECTION, "stale_connection", ERROR_CLASS_STALE},
        {NATS_PROTOCOL_ERROR, "protocol", ERROR_CLASS_PROTOCOL},
        {NATS_ERR, "protocol", ERROR_CLASS_PROTOCOL},
        {NATS_MAX_PAYLOAD, "max_payload", ERROR_CLASS_LIMIT},
        {NATS_INVALID_SUBJECT, "invalid_subject", ERROR_CLASS_NONE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        error e;
        error_from_nats(&e, cases[i].status, NULL);
        assert_error(&e, cases[i].code, cases[i].cls, e.message);
        assert_true(e.message[0] != '\0');
    }
}

static void test_every_status_has_a_code_and_a_sentence(void **state)
{
    (void)state;
    for (int status = NATS_ERR; status <= NATS_MISSED_HEARTBEAT + 20; status++) {
        error e;
        error_from_nats(&e, status, "");
        assert_true(e.code[0] != '\0' && e.message[0] != '\0');
    }
    expect(-5, NULL, "protocol", ERROR_CLASS_PROTOCOL, "the NATS library failed");
}

static void test_status_in_words_gives_way_to_a_sentence(void **state)
{
    (void)state;
    expect(NATS_TIMEOUT, "Timeout", "timeout", ERROR_CLASS_TIMEOUT, "no answer in time");
    expect(NATS_NO_SERVER, "(conn.c:2088): No server available for connection", "no_server",
           ERROR_CLASS_NETWORK,
           "no server can be reached: is one running there, and does the name resolve?");
}

static void test_no_error(void **state)
{
    (void)state;
    expect(NATS_OK, NULL, "", ERROR_CLASS_NONE, "");
    expect(NATS_OK, "", "", ERROR_CLASS_NONE, "");
    expect(NATS_OK, "odd", "protocol", ERROR_CLASS_PROTOCOL, "odd");
}

/* As nats.c 3.4.1 really says them. */
static void test_failed_dials(void **state)
{
    (void)state;
    expect(NATS_CONNECTION_AUTH_FAILED, "(conn.c:1905): Authorization Violation", "auth_failed",
           ERROR_CLASS_AUTH, "Authorization Violation");
    expect(
        NATS_PROTOCOL_ERROR, "(conn.c:1909): Expected 'PONG', got ''", "ended", ERROR_CLASS_NETWORK,
        "the server ended the connection during the login, without a word: its log says why (does "
        "it accept the certificate of this client?)");
    expect(NATS_SSL_ERROR, "(conn.c:733): SSL handshake error: 18:self-signed certificate", "tls",
           ERROR_CLASS_TLS, "SSL handshake error: 18:self-signed certificate");
    expect(NATS_TIMEOUT, "(unix/sock.c:58): Timeout", "timeout", ERROR_CLASS_TIMEOUT,
           "no answer in time");
    expect(NATS_PROTOCOL_ERROR,
           "(conn.c:802): Unexpected protocol: got 'HTTP/1.1' instead of 'INFO'", "protocol",
           ERROR_CLASS_PROTOCOL, "Unexpected protocol: got 'HTTP/1.1' instead of 'INFO'");
    expect(NATS_ERR, "(util.c:1995): error opening file '/x.creds': No such file or directory",
           "unreadable", ERROR_CLASS_AUTH,
           "error opening file '/x.creds': No such file or directory");
    error e;
    error_from_dial(&e, NATS_CONNECTION_CLOSED, "(comsock.c:417): Connection Closed");
    assert_error(&e, "ended", ERROR_CLASS_NETWORK,
                 "the server hung up in the middle of the handshake");
    error_from_dial(&e, NATS_NO_SERVER, NULL);
    assert_int_equal(e.cls, ERROR_CLASS_NETWORK);
    expect(NATS_SYS_ERROR, "getaddrinfo error: Name or service not known", "dns",
           ERROR_CLASS_NETWORK, "getaddrinfo error: Name or service not known");
}

/* ---- clean messages ---- */

static void test_decoration_is_taken_off(void **state)
{
    (void)state;
    expect(NATS_ERR, "-ERR 'Stale Connection'\r\n", "stale_connection", ERROR_CLASS_STALE,
           "Stale Connection");
    expect(NATS_ERR, "  'odd'  ", "protocol", ERROR_CLASS_PROTOCOL, "odd");
    expect(NATS_ERR, "-ERR", "protocol", ERROR_CLASS_PROTOCOL, "the NATS library failed");
    expect(NATS_ERR, "'", "protocol", ERROR_CLASS_PROTOCOL, "'");
    expect(NATS_ERR, "(see x.c: and y): odd", "protocol", ERROR_CLASS_PROTOCOL,
           "(see x.c: and y): odd");
}

static void test_control_bytes_become_blanks(void **state)
{
    (void)state;
    expect(NATS_ERR, "bad\x1b[31m\nline\x7f!", "protocol", ERROR_CLASS_PROTOCOL, "bad [31m line !");
    expect(NATS_ERR,
           "Gr\xc3\xb6\xc3\x9f"
           "e",
           "protocol", ERROR_CLASS_PROTOCOL,
           "Gr\xc3\xb6\xc3\x9f"
           "e");
}

static void test_messages_hold_no_secret(void **state)
{
    (void)state;
    expect(NATS_ERR, "no way to nats://joe:s3cret@host:4222 or tls://t0ken@b", "protocol",
           ERROR_CLASS_PROTOCOL, "no way to nats://***@host:4222 or tls://***@b");
    expect(NATS_ERR, "nats://u@h", "protocol", ERROR_CLASS_PROTOCOL, "nats://***@h");
    expect(NATS_ERR, "nats://h and a@b", "protocol", ERROR_CLASS_PROTOCOL, "nats://h and a@b");
    expect(NATS_ERR, "(url.c:75): invalid percent encoding in URL: pa%ss", "bad_url",
           ERROR_CLASS_NONE, "a server URL has an invalid percent encoding: write % as %25");
}

/* The @ that makes a secret of what is before it may be behind the cut. */
static void test_a_cut_text_is_good_and_holds_no_secret(void **state)
{
    (void)state;
    static const char url[] = " nats://joe:s3cret@host:4222";
    char text[1200];
    error e = {0};
    for (size_t before = 480; before < 520; before++) {
        memset(text, 'a', before);
        memcpy(text + before, url, sizeof url);
        error_from_nats(&e, NATS_ERR, text);
        assert_null(strstr(e.message, "joe"));
        for (size_t i = before % 2; i < 600; i += 2)
            memcpy(text + i, "\xc3\xb6", 3);
        error_from_nats(&e, NATS_ERR, text);
        assert_int_equal(e.message[strlen(e.message) - 1], '\xb6');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_fills_and_clear_empties),
        cmocka_unit_test(test_null_error_is_allowed),
        cmocka_unit_test(test_too_long_is_truncated),
        cmocka_unit_test(test_truncation_keeps_utf8_whole),
        cmocka_unit_test(test_error_may_be_made_of_itself),
        cmocka_unit_test(test_class_names),
        cmocka_unit_test(test_texts_of_the_server),
        cmocka_unit_test(test_case_does_not_matter),
        cmocka_unit_test(test_text_comes_before_status),
        cmocka_unit_test(test_unknown_text_leaves_the_class_to_the_status),
        cmocka_unit_test(test_quoted_text_does_not_confuse),
        cmocka_unit_test(test_statuses_without_text),
        cmocka_unit_test(test_every_status_has_a_code_and_a_sentence),
        cmocka_unit_test(test_status_in_words_gives_way_to_a_sentence),
        cmocka_unit_test(test_no_error),
        cmocka_unit_test(test_failed_dials),
        cmocka_unit_test(test_decoration_is_taken_off),
        cmocka_unit_test(test_control_bytes_become_blanks),
        cmocka_unit_test(test_messages_hold_no_secret),
        cmocka_unit_test(test_a_cut_text_is_good_and_holds_no_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
