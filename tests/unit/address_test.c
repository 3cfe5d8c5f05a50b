/* Where HTTP is served: what people write. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "health/address.h"

static void expect_address(const char *text, const char *wanted)
{
    char out[LISTEN_TEXT_SIZE];
    listen_address a;
    error e = {0};
    assert_int_equal(listen_parse(text, &a, &e), 0);
    listen_describe(-1, &a, out);
    assert_string_equal(out, wanted);
}

static void addresses_are_read(void **state)
{
    (void)state;
    expect_address("8080", "127.0.0.1:8080");
    expect_address(":8080", "127.0.0.1:8080");
    expect_address("localhost:8080", "127.0.0.1:8080");
    expect_address("0.0.0.0:1", "0.0.0.0:1");
    expect_address("10.1.2.3:65535", "10.1.2.3:65535");
    expect_address("[::1]:80", "[::1]:80");
    expect_address("[::]:0", "[::]:0");
    expect_address("unix:/run/x.sock", "unix:/run/x.sock");
    expect_address("unix:relative", "unix:relative");
}

static void what_is_no_address_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      ":",
                                      "x",
                                      "65536",
                                      "-1",
                                      "1.2.3:80",
                                      "example.com:80",
                                      "::1:80",
                                      "[::1]",
                                      "[]:80",
                                      "[127.0.0.1]:80",
                                      "[::1:80",
                                      "unix:",
                                      "80:",
                                      "80 ",
                                      "1.2.3.4:",
                                      ":99999",
                                      "[1.2.3]:5",
                                      "1.2.3.4:0x50",
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaa:1"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        listen_address a;
        error e = {0};
        if (listen_parse(bad[i], &a, &e) == 0)
            fail_msg("taken: \"%s\"", bad[i]);
        assert_string_equal(e.code, "usage");
    }
}

static void a_port_is_held_until_it_is_closed(void **state)
{
    (void)state;
    char where[LISTEN_TEXT_SIZE];
    listen_address any, same;
    error e = {0};
    assert_int_equal(listen_parse("0", &any, &e), 0);
    int fd = listen_open(&any, &e);
    assert_true(fd >= 0);
    listen_describe(fd, &any, where);
    assert_int_equal(listen_parse(where, &same, &e), 0);
    assert_int_equal(listen_open(&same, &e), -1);
    assert_string_equal(e.code, "http");
    close(fd);
    fd = listen_open(&same, &e);
    assert_true(fd >= 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(a_port_is_held_until_it_is_closed),
    };
    return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
