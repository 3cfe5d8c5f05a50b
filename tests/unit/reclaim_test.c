/* Reclaiming links that hang, with real sockets: what hangs is shut down, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "link/reclaim.h"

#define DEADLINE_MS 20000
#define FOR_EVER UINT32_MAX

/* A connection to a server of our own. */
typedef struct {
    int listener, client, server;
    uint16_t port;
} pair;

static void set_linger(int fd, int on, int seconds)
{
    struct linger linger = {.l_onoff = on, .l_linger = seconds};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
}

static socklen_t loopback(struct sockaddr_storage *address, sa_family_t family)
{
    memset(address, 0, sizeof *address);
    address->ss_family = family;
    if (family == AF_INET6) {
        ((struct sockaddr_in6 *)(void *)address)->sin6_addr = in6addr_loopback;
        return sizeof(struct sockaddr_in6);
    }
    ((struct sockaddr_in *)(void *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sizeof(struct sockaddr_in);
}

static uint16_t port_of(const struct sockaddr_storage *address)
{
    return ntohs(address->ss_family == AF_INET6
                     ? ((const struct sockaddr_in6 *)(const void *)address)->sin6_port
                     : ((const struct sockaddr_in *)(const void *)address)->sin_port);
}

/* False when this machine does not have the family. */
static bool pair_open_family(pair *p, sa_family_t family)
{
    struct sockaddr_storage address;
    socklen_t size = loopback(&address, family);
    p->listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (p->listener < 0 || bind(p->listener, (struct sockaddr *)&address, size) != 0) {
        if (p->listener >= 0)
            (void)close(p->listener);
        return false;
    }
    assert_int_equal(listen(p->listener, 8), 0);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&address, &size), 0);
    p->port = port_of(&address);
    p->client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(p->client >= 0);
    set_linger(p->client, 1, 0); /* as nats.c does */
    assert_int_equal(connect(p->client, (struct sockaddr *)&address, size), 0);
    p->server = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(p->server >= 0);
    int on = 1; /* what is sent in two calls comes in two segments */
    assert_int_equal(setsockopt(p->server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    return true;
}

static pair pair_open(void)
{
    pair p;
    assert_true(pair_open_family(&p, AF_INET));
    return p;
}

static void pair_close(pair *p)
{
    (void)close(p->client);
    (void)close(p->server);
    (void)close(p->listener);
}

static void wait_for(int fd, short events)
{
    struct pollfd f = {.fd = fd, .events = events};
    assert_int_equal(poll(&f, 1, DEADLINE_MS), 1);
}

/* One segment, and it has arrived. */
static void send_segment(pair *p, const char *text)
{
    char got[64];
    size_t length = strlen(text);
    assert_int_equal(send(p->server, text, length, MSG_NOSIGNAL), length);
    wait_for(p->client, POLLIN);
    assert_int_equal(recv(p->client, got, sizeof got, 0), length);
    assert_memory_equal(got, text, length);
}

static unsigned run(const pair *p, uint32_t silent_ms)
{
    reclaim r = {
        .hanging = {p->port}, .hanging_count = 1, .silent_ms = silent_ms, .sent_ms = silent_ms};
    reclaim_run(&r);
    return r.shut_down;
}

static void assert_shut_down(const pair *p)
{
    char byte;
    wait_for(p->server, POLLIN);
    assert_int_equal(recv(p->server, &byte, 1, 0), 0); /* the end, not a reset */
    assert_int_equal(recv(p->client, &byte, 1, 0), 0);
}

/* Nothing came, and data goes both ways. */
static void assert_works(const pair *p)
{
    char byte = 0;
    assert_int_equal(recv(p->server, &byte, 1, MSG_DONTWAIT), -1);
    assert_true(errno == EAGAIN || errno == EWOULDBLOCK);
    assert_int_equal(send(p->client, "c", 1, MSG_NOSIGNAL), 1);
    wait_for(p->server, POLLIN);
    assert_int_equal(recv(p->server, &byte, 1, 0), 1);
    assert_int_equal(byte, 'c');
    assert_int_equal(send(p->server, "s", 1, MSG_NOSIGNAL), 1);
    wait_for(p->client, POLLIN);
    assert_int_equal(recv(p->client, &byte, 1, 0), 1);
    assert_int_equal(byte, 's');
}

/* ---- what hangs ---- */

static void a_socket_with_one_segment_is_shut_down(void **state)
{
    (void)state;
    pair p = pair_open();
    send_segment(&p, "INFO {}\r\n");
    assert_int_equal(run(&p, 0), 1);
    assert_shut_down(&p);
    assert_int_equal(run(&p, 0), 0); /* and that is enough */
    pair_close(&p);
}

static void a_socket_that_got_nothing_is_shut_down(void **state)
{
    (void)state;
    pair p = pair_open();
    assert_int_equal(run(&p, 0), 1);
    assert_shut_down(&p);
    pair_close(&p);
}

static void say(const pair *p, const char *text)
{
    char got[64];
    size_t length = strlen(text);
    assert_int_equal(send(p->client, text, length, MSG_NOSIGNAL), length);
    wait_for(p->server, POLLIN);
    assert_int_equal(recv(p->server, got, sizeof got, 0), length);
}

static void a_peer_that_goes_on_and_on_after_one_word_is_shut_down(void **state)
{
    (void)state;
    pair p = pair_open();
    send_segment(&p, "INFO {}\r\n");
    say(&p, "CONNECT {}\r\nPING\r\n");
    send_segment(&p, "and on");
    send_segment(&p, "and on");
    assert_int_equal(run(&p, FOR_EVER), 0);
    assert_int_equal(run(&p, 0), 1);
    assert_shut_down(&p);
    pair_close(&p);
}

static void one_that_heard_more_than_one_word_is_left_alone(void **state)
{
    (void)state;
    pair p = pair_open();
    int on = 1;
    assert_int_equal(setsockopt(p.client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    send_segment(&p, "INFO {}\r\n");
    say(&p, "CONNECT {}\r\nPING\r\n");
    send_segment(&p, "PONG\r\n");
    say(&p, "SUB a 1\r\n");
    assert_int_equal(run(&p, 0), 0);
    assert_works(&p);
    pair_close(&p);
}

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void silence_is_measured(void **state)
{
    (void)state;
    pair p = pair_open();
    send_segment(&p, "INFO {}\r\n");
    int64_t start = now_ms();
    while (run(&p, 200) == 0) {
        assert_true(now_ms() - start < DEADLINE_MS);
        (void)poll(NULL, 0, 5);
    }
    assert_true(now_ms() - start >= 150); /* the kernel counts in ticks */
    assert_shut_down(&p);
    pair_close(&p);
}

static void ipv6_too(void **state)
{
    (void)state;
    pair p;
    if (!pair_open_family(&p, AF_INET6))
        skip();
    send_segment(&p, "INFO {}\r\n");
    assert_int_equal(run(&p, FOR_EVER), 0);
    assert_works(&p);
    pair_close(&p);
    assert_true(pair_open_family(&p, AF_INET6));
    assert_int_equal(run(&p, 0), 1);
    assert_shut_down(&p);
    pair_close(&p);
}

static void all_that_hang_are_found_and_no_other(void **state)
{
    (void)state;
    enum { PAIRS = 6 };
    pair p[PAIRS];
    reclaim r = {.silent_ms = 0};
    for (unsigned i = 0; i < PAIRS; i++) {
        p[i] = pair_open();
        if (i % 2 == 0)
            r.hanging[r.hanging_count++] = p[i].port;
    }
    reclaim_run(&r);
    assert_int_equal(r.shut_down, PAIRS / 2);
    for (unsigned i = 0; i < PAIRS; i++) {
        if (i % 2 == 0)
            assert_shut_down(&p[i]);
        else
            assert_works(&p[i]);
        pair_close(&p[i]);
    }
}

/* ---- what does not ---- */

static void a_socket_with_two_segments_is_left_alone(void **state)
{
    (void)state;
    pair p = pair_open();
    send_segment(&p, "INFO {}\r\n");
    send_segment(&p, "PONG\r\n");
    assert_int_equal(run(&p, 0), 0);
    assert_works(&p);
    pair_close(&p);
}

static void a_socket_to_another_port_is_left_alone(void **state)
{
    (void)state;
    pair p = pair_open();
    send_segment(&p, "INFO {}\r\n");
    pair other = p;
    other.port = (uint16_t)(p.port ^ 1u);
    assert_int_equal(run(&other, 0), 0);
    reclaim nothing = {.hanging = {p.port}, .hanging_count = 0};
    reclaim_run(&nothing);
    assert_int_equal(nothing.shut_down, 0);
    assert_works(&p);
    pair_close(&p);
}

static void a_socket_without_the_marks_is_left_alone(void **state)
{
    (void)state;
    static const struct {
        int on, seconds;
    } lingers[] = {{0, 0}, {1, 5}};
    for (size_t i = 0; i < sizeof lingers / sizeof lingers[0]; i++) {
        pair p = pair_open();
        set_linger(p.client, lingers[i].on, lingers[i].seconds);
        send_segment(&p, "INFO {}\r\n");
        assert_int_equal(run(&p, 0), 0);
        assert_works(&p);
        pair_close(&p);
    }
}

static void a_socket_that_is_not_silent_long_enough_is_left_alone(void **state)
{
    (void)state;
    pair p = pair_open();
    send_segment(&p, "INFO {}\r\n");
    assert_int_equal(run(&p, FOR_EVER), 0);
    assert_int_equal(run(&p, 3600 * 1000), 0);
    assert_works(&p);
    pair_close(&p);
}

/* The port of a link's peer, not of the link: our own servers go on. */
static void the_other_end_is_left_alone(void **state)
{
    (void)state;
    pair p = pair_open();
    set_linger(p.client, 0, 0);
    set_linger(p.server, 1, 0);
    set_linger(p.listener, 1, 0);
    assert_int_equal(run(&p, 0), 0);
    int listening = 0; /* still */
    socklen_t size = sizeof listening;
    assert_int_equal(getsockopt(p.listener, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size), 0);
    assert_int_equal(listening, 1);
    assert_works(&p);
    pair_close(&p);
}

static void a_socket_that_the_peer_closed_is_left_alone(void **state)
{
    (void)state;
    pair p = pair_open();
    assert_int_equal(shutdown(p.server, SHUT_WR), 0);
    wait_for(p.client, POLLRDHUP);
    assert_int_equal(run(&p, 0), 0);
    pair_close(&p);
}

static void other_descriptors_are_left_alone(void **state)
{
    (void)state;
    pair p = pair_open();
    set_linger(p.client, 0, 0);
    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    int local[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, local), 0);
    set_linger(local[0], 1, 0);
    struct sockaddr_storage address;
    socklen_t size = loopback(&address, AF_INET);
    ((struct sockaddr_in *)(void *)&address)->sin_port = htons(p.port);
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(udp >= 0);
    assert_int_equal(connect(udp, (struct sockaddr *)&address, size), 0);
    set_linger(udp, 1, 0);
    assert_int_equal(run(&p, 0), 0);
    assert_int_equal(write(pipes[1], "x", 1), 1);
    assert_int_equal(send(local[0], "x", 1, MSG_NOSIGNAL), 1);
    assert_works(&p);
    const int fds[] = {pipes[0], pipes[1], local[0], local[1], udp};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        (void)close(fds[i]);
    pair_close(&p);
}

/* The lowest descriptor that is free says whether any was left open below. */
static void no_descriptor_is_leaked(void **state)
{
    (void)state;
    pair p = pair_open();
    int before = dup(p.client);
    assert_true(before >= 0);
    (void)close(before);
    for (int i = 0; i < 50; i++)
        assert_int_equal(run(&p, FOR_EVER), 0);
    int after = dup(p.client);
    assert_int_equal(after, before);
    (void)close(after);
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_socket_with_one_segment_is_shut_down),
        cmocka_unit_test(a_peer_that_goes_on_and_on_after_one_word_is_shut_down),
        cmocka_unit_test(one_that_heard_more_than_one_word_is_left_alone),
        cmocka_unit_test(a_socket_that_got_nothing_is_shut_down),
        cmocka_unit_test(silence_is_measured),
        cmocka_unit_test(ipv6_too),
        cmocka_unit_test(all_that_hang_are_found_and_no_other),
        cmocka_unit_test(a_socket_with_two_segments_is_left_alone),
        cmocka_unit_test(a_socket_to_another_port_is_left_alone),
        cmocka_unit_test(a_socket_without_the_marks_is_left_alone),
        cmocka_unit_test(a_socket_that_is_not_silent_long_enough_is_left_alone),
        cmocka_unit_test(the_other_end_is_left_alone),
        cmocka_unit_test(a_socket_that_the_peer_closed_is_left_alone),
        cmocka_unit_test(other_descriptors_are_left_alone),
        cmocka_unit_test(no_descriptor_is_leaked),
    };
    return cmocka_run_group_tests_name("reclaim", tests, NULL, NULL);
}
