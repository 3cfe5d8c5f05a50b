/* What a service manager is told: real datagrams to a real socket. */
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

#include "base/notify.h"
#include "cli/child_socket.h"
#include "support/manager.h"

static int manager;

static int open_manager(void **state)
{
    char address[MANAGER_ADDRESS_SIZE];
    (void)state;
    manager = manager_open(address);
    setenv("NOTIFY_SOCKET", address, 1);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return manager >= 0 ? 0 : -1;
}

static int close_manager(void **state)
{
    (void)state;
    close(manager);
    return 0;
}

static void expect_text(const char *wanted, int *fd)
{
    char text[CHILD_TEXT_SIZE];
    assert_int_equal(child_socket_receive(manager, text, fd), 1);
    assert_string_equal(text, wanted);
}

static void expect_nothing(void)
{
    char text[CHILD_TEXT_SIZE];
    int fd;
    assert_int_equal(child_socket_receive(manager, text, &fd), 0);
}

static void what_is_told_arrives_in_order(void **state)
{
    (void)state;
    int fd;
    notify *n = notify_open();
    notify_send(n, -1, "READY=%d", 1);
    notify_send(n, -1, "STATUS=%s\nX=y", "up");
    expect_text("READY=1", &fd);
    assert_int_equal(fd, -1);
    expect_text("STATUS=up\nX=y", &fd);
    expect_nothing();
    notify_close(n);
}

static void a_descriptor_comes_along(void **state)
{
    (void)state;
    char byte = 0;
    int ends[2], fd;
    notify *n = notify_open();
    assert_int_equal(pipe(ends), 0);
    notify_send(n, ends[1], "FDSTORE=1"); /* which closes it here */
    expect_text("FDSTORE=1", &fd);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "x", 1), 1);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    close(fd);
    assert_int_equal(read(ends[0], &byte, 1), 0); /* nobody else has it */
    close(ends[0]);
    notify_close(n);
}

/* Without blocking: what does not fit is kept, then dropped and counted. */
static void a_manager_that_does_not_read_is_not_waited_for(void **state)
{
    (void)state;
    char text[CHILD_TEXT_SIZE];
    int fd;
    unsigned number, expected = 0;
    notify *n = notify_open();
    for (unsigned i = 0; notify_dropped(n) == 0; i++)
        notify_send(n, -1, "%u", i);
    assert_int_equal(notify_dropped(n), 1);
    for (;;) { /* all but the dropped one, in order */
        notify_flush(n);
        if (child_socket_receive(manager, text, &fd) == 0)
            break;
        assert_int_equal(sscanf(text, "%u", &number), 1);
        assert_int_equal(number, expected++);
    }
    assert_in_range(expected, NOTIFY_QUEUE, 100000);
    notify_send(n, -1, "again");
    expect_text("again", &fd);
    notify_close(n);
}

static void a_manager_that_is_gone_is_not_missed(void **state)
{
    (void)state;
    notify *n = notify_open();
    close(manager);
    for (unsigned i = 0; i < 2 * NOTIFY_QUEUE; i++)
        notify_send(n, -1, "READY=1");
    assert_int_equal(notify_dropped(n), 0);
    notify_close(n);
    open_manager(NULL);
}

static void without_a_manager_nothing_happens(void **state)
{
    static const char *const bad[] = {"", "@", "relative/path", "vsock:2:3"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setenv("NOTIFY_SOCKET", bad[i], 1);
        assert_null(notify_open());
    }
    unsetenv("NOTIFY_SOCKET");
    assert_null(notify_open());
    notify_send(NULL, dup(STDERR_FILENO), "READY=1");
    notify_flush(NULL);
    assert_int_equal(notify_watchdog_ns(NULL), 0);
    notify_close(NULL);
}

static uint64_t watchdog_with(const char *usec, const char *pid)
{
    setenv("WATCHDOG_USEC", usec, 1);
    if (pid != NULL)
        setenv("WATCHDOG_PID", pid, 1);
    notify *n = notify_open();
    uint64_t ns = notify_watchdog_ns(n);
    notify_close(n);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return ns;
}

static void the_watchdog_is_fed_at_half_of_its_time_by_whom_it_is_meant_for(void **state)
{
    char own[24];
    (void)state;
    snprintf(own, sizeof own, "%d", (int)getpid());
    assert_int_equal(watchdog_with("2000000", NULL), 1000000000);
    assert_int_equal(watchdog_with("2000000", own), 1000000000);
    assert_int_equal(watchdog_with("2000000", "1"), 0);
    assert_int_equal(watchdog_with("soon", NULL), 0);
    assert_int_equal(watchdog_with("", NULL), 0);
}

/* The child's end is open as a descriptor with a number; each that opens it has one of its own. */
static void a_supervisor_is_told_through_a_descriptor(void **state)
{
    (void)state;
    char text[CHILD_TEXT_SIZE], number[24];
    int ours, childs, fd;
    assert_int_equal(child_socket_pair(&ours, &childs), 0);
    snprintf(number, sizeof number, "%d", childs);
    setenv(NOTIFY_FD_VARIABLE, number, 1);
    for (int i = 0; i < 2; i++) {
        notify *n = notify_open();
        notify_send(n, -1, "READY=%d", i);
        notify_close(n);
        assert_int_equal(child_socket_receive(ours, text, &fd), 1);
        assert_int_equal(text[strlen("READY=")], '0' + i);
    }
    expect_nothing(); /* at $NOTIFY_SOCKET */
    close(ours);
    notify *n = notify_open();
    for (unsigned i = 0; i < 2 * NOTIFY_QUEUE; i++)
        notify_send(n, -1, "READY=1"); /* to nobody */
    assert_int_equal(notify_dropped(n), 0);
    notify_close(n);
    close(childs);
    unsetenv(NOTIFY_FD_VARIABLE);
}

static void a_descriptor_that_is_none_of_these_is_not_written_to(void **state)
{
    static const char *const bad[] = {"", "1", "2", "-1", "9999", "x"};
    (void)state;
    int fd;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setenv(NOTIFY_FD_VARIABLE, bad[i], 1);
        notify *n = notify_open();
        notify_send(n, -1, "READY=1");
        expect_text("READY=1", &fd); /* at $NOTIFY_SOCKET */
        notify_close(n);
    }
    unsetenv(NOTIFY_FD_VARIABLE);
}

static void lines_are_found_by_name(void **state)
{
    (void)state;
    char out[16];
    const char *text = "READY=1\nSTATUS=a=b\nEMPTY=\nXSTATUS=c";
    assert_string_equal(child_socket_value(text, "READY", out, sizeof out), "1");
    assert_string_equal(child_socket_value(text, "STATUS", out, sizeof out), "a=b");
    assert_string_equal(child_socket_value(text, "EMPTY", out, sizeof out), "");
    assert_string_equal(child_socket_value(text, "XSTATUS", out, sizeof out), "c");
    assert_null(child_socket_value(text, "REA", out, sizeof out));
    assert_null(child_socket_value("", "READY", out, sizeof out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_told_arrives_in_order, open_manager, close_manager),
        cmocka_unit_test_setup_teardown(a_descriptor_comes_along, open_manager, close_manager),
        cmocka_unit_test_setup_teardown(a_manager_that_does_not_read_is_not_waited_for,
                                        open_manager, close_manager),
        cmocka_unit_test_setup_teardown(a_manager_that_is_gone_is_not_missed, open_manager,
                                        close_manager),
        cmocka_unit_test_setup_teardown(without_a_manager_nothing_happens, open_manager,
                                        close_manager),
        cmocka_unit_test_setup_teardown(
            the_watchdog_is_fed_at_half_of_its_time_by_whom_it_is_meant_for, open_manager,
            close_manager),
        cmocka_unit_test_setup_teardown(a_supervisor_is_told_through_a_descriptor, open_manager,
                                        close_manager),
        cmocka_unit_test_setup_teardown(a_descriptor_that_is_none_of_these_is_not_written_to,
                                        open_manager, close_manager),
        cmocka_unit_test(lines_are_found_by_name),
    };
    return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
