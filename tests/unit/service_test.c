/* What a service manager hears of the program from its start to its end: a real process, and the
 * socket of a manager. */
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/child_socket.h"
#include "support/manager.h"

#define DEADLINE_MS 30000

struct service {
    int manager;
    pid_t pid;
    char folder[64], script[96], words[CHILD_TEXT_SIZE];
};

static void write_script(const struct service *s, const char *text)
{
    FILE *file = fopen(s->script, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void start(struct service *s, const char *watchdog_usec, const char *text)
{
    char address[MANAGER_ADDRESS_SIZE];
    snprintf(s->folder, sizeof s->folder, "/tmp/moondog-service-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    snprintf(s->script, sizeof s->script, "%s/service.lua", s->folder);
    write_script(s, text);
    s->manager = manager_open(address);
    assert_true(s->manager >= 0);
    s->pid = fork();
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setenv("NOTIFY_SOCKET", address, 1);
        setenv("WATCHDOG_USEC", watchdog_usec, 1);
        execl(MOONDOG_PROGRAM, "moondog", "run", "--control", "none", "--level", "error", "--stall",
              "0.4", s->script, (char *)NULL);
        _exit(127);
    }
}

static void end(struct service *s, int signal_number)
{
    int status = 0;
    kill(s->pid, signal_number);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    if (signal_number == SIGTERM) {
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    close(s->manager);
    unlink(s->script);
    rmdir(s->folder);
}

/* The next words into s->words; false: none within so many ms. */
static bool hear(struct service *s, int ms)
{
    int fd;
    struct pollfd p = {.fd = s->manager, .events = POLLIN};
    while (child_socket_receive(s->manager, s->words, &fd) == 0)
        if (poll(&p, 1, ms) <= 0)
            return false;
    return true;
}

/* Waits for words that begin so; those before are skipped. */
static void wait_for(struct service *s, const char *wanted)
{
    do {
        if (!hear(s, DEADLINE_MS))
            fail_msg("not heard: %s", wanted);
    } while (strncmp(s->words, wanted, strlen(wanted)) != 0);
}

static const char quiet[] = "require('moondog').state.x = 1\n";

static void ready_reloading_ready_and_stopping_are_told(void **state)
{
    struct service s;
    (void)state;
    start(&s, "0", quiet);
    wait_for(&s, "STATUS=running; generation 1; 0 of 0 connections ready");
    wait_for(&s, "READY=1");
    kill(s.pid, SIGHUP);
    wait_for(&s, "RELOADING=1\nMONOTONIC_USEC=");
    wait_for(&s, "READY=1");
    write_script(&s, "not Lua at all");
    kill(s.pid, SIGHUP);
    wait_for(&s, "RELOADING=1"); /* and refused: the one before goes on */
    wait_for(&s, "READY=1");
    kill(s.pid, SIGTERM);
    wait_for(&s, "STOPPING=1");
    end(&s, SIGTERM);
}

static void the_watchdog_is_fed_while_the_loop_turns(void **state)
{
    struct service s;
    (void)state;
    start(&s, "200000", quiet);
    for (int i = 0; i < 5; i++)
        wait_for(&s, "WATCHDOG=1");
    end(&s, SIGTERM);
}

/* The timer's function hangs in C; its line is 2. */
static void the_watchdog_is_not_fed_while_the_loop_is_stuck(void **state)
{
    struct service s;
    (void)state;
    start(&s, "200000",
          "require('moondog').after(0.2, function()\n"
          "  (('a'):rep(100000) .. 'b'):find('.-.-.-.-.-.-c') end)\n");
    wait_for(&s, "WATCHDOG=1");
    wait_for(&s, "STATUS=stalled: timer ");
    assert_non_null(strstr(s.words, "service.lua:1) holds the loop"));
    while (hear(&s, 2000)) /* ten times its interval; what was said before may still come */
        assert_int_not_equal(strncmp(s.words, "WATCHDOG", 8), 0);
    end(&s, SIGKILL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready_reloading_ready_and_stopping_are_told),
        cmocka_unit_test(the_watchdog_is_fed_while_the_loop_turns),
        cmocka_unit_test(the_watchdog_is_not_fed_while_the_loop_is_stuck),
    };
    return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
