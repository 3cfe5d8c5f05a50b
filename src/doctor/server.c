/* A server of a connection, from the outside: name, connection, INFO. See server.h. Main thread. */
#include "doctor/server.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"

#define ADDRESSES_MAX 8u   /* of one name that are tried */
#define DISCOVERED_MAX 16u /* servers that it told of */
#define INFO_MAX 65536u
#define TROUBLE_SIZE 1024
#define SHOWN 48 /* bytes of what says no INFO */

/* ---- addresses ---- */

int server_split(const char *url, server_address *out)
{
    const char *scheme = strstr(url, "://");
    const char *rest = scheme != NULL ? scheme + 3 : url;
    const char *at = strrchr(rest, '@');
    const char *host = at != NULL ? at + 1 : rest;
    const char *colon = strrchr(host, ':');
    if (colon == NULL || colon == host)
        return -1;
    size_t length = (size_t)(colon - host), digits = strspn(colon + 1, "0123456789");
    if (host[0] == '[' && host[length - 1] == ']') {
        host++;
        length -= 2;
    }
    if (length == 0 || length >= sizeof out->host || digits == 0 || digits >= sizeof out->port)
        return -1;
    snprintf(out->host, sizeof out->host, "%.*s", (int)length, host);
    snprintf(out->port, sizeof out->port, "%.*s", (int)digits, colon + 1);
    return 0;
}

static const char *address_text(const struct addrinfo *a, char out[INET6_ADDRSTRLEN])
{
    if (getnameinfo(a->ai_addr, a->ai_addrlen, out, INET6_ADDRSTRLEN, NULL, 0, NI_NUMERICHOST) != 0)
        snprintf(out, INET6_ADDRSTRLEN, "?");
    return out;
}

static bool is_number(const char *host)
{
    struct in6_addr ignored;
    return inet_pton(AF_INET, host, &ignored) == 1 || inet_pton(AF_INET6, host, &ignored) == 1;
}

/* ---- sockets ---- */

int server_poll(int fd, short events, uint64_t deadline)
{
    for (;;) {
        uint64_t now = clock_ms();
        struct pollfd p = {.fd = fd, .events = events};
        int ready = poll(&p, 1, now < deadline ? (int)(deadline - now) : 0);
        if (ready >= 0 || errno != EINTR)
            return ready;
    }
}

/* The descriptor; -1 and errno, at the deadline ETIMEDOUT. */
static int connect_to(const struct addrinfo *a, uint64_t deadline)
{
    int failed = 0;
    socklen_t size = sizeof failed;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
        failed = errno;
        if (failed == EINPROGRESS) {
            int ready = server_poll(fd, POLLOUT, deadline);
            failed = ready < 0 ? errno : ETIMEDOUT;
            if (ready > 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) != 0)
                failed = errno;
        }
    }
    if (failed == 0)
        return fd;
    close(fd);
    errno = failed;
    return -1;
}

/* The first address that takes a connection. What was said on the way is in `trouble`. */
static int connect_any(const struct addrinfo *list, uint64_t deadline, char *trouble, size_t size)
{
    char address[INET6_ADDRSTRLEN];
    unsigned tried = 0;
    size_t used = 0;
    int fd = -1, failed = 0;
    trouble[0] = '\0';
    for (const struct addrinfo *a = list; a != NULL && fd < 0 && tried < ADDRESSES_MAX;
         a = a->ai_next, tried++) {
        fd = connect_to(a, deadline);
        if (fd >= 0 || used + 1 >= size)
            continue;
        failed = errno;
        int n = snprintf(trouble + used, size - used, "%s%s: %s", used > 0 ? ", " : "",
                         address_text(a, address), strerror(failed));
        used = n < 0 || (size_t)n >= size - used ? size - 1 : used + (size_t)n;
    }
    errno = failed;
    return fd;
}

static void connect_remedy(findings *f, int failed, const server_address *a)
{
    if (failed == ECONNREFUSED)
        finding_remedy(f, "nothing listens there: start the server, or correct the port; on its "
                          "machine, ss -ltn shows what listens");
    else if (failed == ETIMEDOUT)
        finding_remedy(f,
                       "a firewall may drop the packets, or the machine is off: try nc -vz %s "
                       "%s from here",
                       a->host, a->port);
    else
        finding_remedy(f, "look at the routes and the network of this machine");
}

/* ---- INFO ---- */

/* A line, without its end, into `line`. Its length; -1: the deadline has passed; -2: the server has
 * hung up. What is no INFO from the first byte on is not read to its end. */
static int64_t read_line(int fd, char *line, uint64_t deadline)
{
    static const char start[] = "INFO ";
    size_t used = 0;
    for (;;) {
        /* What comes behind the line stays where it is: it may belong to a TLS handshake. */
        int ready = server_poll(fd, POLLIN, deadline);
        if (ready <= 0)
            return used > 0 ? (int64_t)used : -1;
        ssize_t n = recv(fd, line + used, INFO_MAX - 1 - used, MSG_PEEK);
        if (n <= 0)
            return used > 0 ? (int64_t)used : -2;
        const char *end = memchr(line + used, '\n', (size_t)n);
        size_t taken = end != NULL ? (size_t)(end - (line + used)) + 1 : (size_t)n;
        if (recv(fd, line + used, taken, 0) != (ssize_t)taken)
            return -2;
        used += taken;
        line[used] = '\0';
        size_t compared = used < sizeof start - 1 ? used : sizeof start - 1;
        if (end != NULL || used == INFO_MAX - 1 || strncmp(line, start, compared) != 0)
            return (int64_t)used;
    }
}

/* The first bytes, as far as they can be shown. */
static const char *show_bytes(const char *bytes, int64_t length, char out[SHOWN + 1])
{
    int64_t n = length < SHOWN ? length : SHOWN;
    for (int64_t i = 0; i < n; i++)
        out[i] = isprint((unsigned char)bytes[i]) ? bytes[i] : '.';
    out[n] = '\0';
    return out;
}

static void describe_info(const server *s, findings *f)
{
    const json_t *i = s->info;
    const char *name = json_string_value(json_object_get(i, "server_name"));
    const char *version = json_string_value(json_object_get(i, "version"));
    const char *cluster = json_string_value(json_object_get(i, "cluster"));
    finding(f, FINDING_OK, "info",
            "nats-server %s, %s%s%s, %s, %s, messages of %lld bytes at most, JetStream %s",
            version != NULL ? version : "(no version)", name != NULL ? name : "without a name",
            cluster != NULL ? ", cluster " : "", cluster != NULL ? cluster : "",
            json_is_true(json_object_get(i, "auth_required")) ? "wants a login" : "wants no login",
            json_is_true(json_object_get(i, "tls_required")) ? "wants TLS" : "wants no TLS",
            (long long)json_integer_value(json_object_get(i, "max_payload")),
            json_is_true(json_object_get(i, "jetstream")) ? "on" : "off");
}

static void no_info(findings *f, int64_t length, const char *line, uint32_t timeout_ms)
{
    char shown[SHOWN + 1];
    if (length == -1)
        finding(f, FINDING_PROBLEM, "info", "it takes the connection and says nothing for %u ms",
                timeout_ms);
    else if (length == -2)
        finding(f, FINDING_PROBLEM, "info", "it hangs up without a word");
    else
        finding(f, FINDING_PROBLEM, "info", "it does not speak NATS: it begins with \"%s\"",
                show_bytes(line, length, shown));
    if (length < 0)
        finding_remedy(f, "a NATS server greets at once: is this the client port of one, does the "
                          "server hang (SIGSTOP, a full disk), does a proxy stand in between, or "
                          "does it want TLS first (handshake_first, which moondog does not do)?");
    else
        finding_remedy(f, "correct the port: 4222 is the usual one for clients, 8222 is the "
                          "monitoring, 6222 the cluster");
}

static bool read_info(server *s, findings *f, uint32_t timeout_ms)
{
    static char line[INFO_MAX];
    int64_t length = read_line(s->fd, line, s->deadline);
    if (length > 5 && strncmp(line, "INFO ", 5) == 0)
        s->info = json_loadb(line + 5, (size_t)length - 5, 0, NULL);
    if (json_is_object(s->info)) {
        describe_info(s, f);
        return true;
    }
    no_info(f, length, line, timeout_ms);
    return false;
}

/* What INFO says, against what the connection wants. False: a login is in vain. */
static bool compare(server *s, findings *f, const link_options *o)
{
    bool required = json_is_true(json_object_get(s->info, "tls_required"));
    bool available = required || json_is_true(json_object_get(s->info, "tls_available"));
    s->wants_tls = required || (o->tls && available);
    if (o->tls && !available) {
        finding(f, FINDING_PROBLEM, "tls", "the connection wants TLS, and the server has none");
        finding_remedy(f, "configure TLS at the server, or take tls out of the connection, and "
                          "tls:// out of its URLs");
        return false;
    }
    if (json_is_true(json_object_get(s->info, "tls_verify")) && o->tls_cert == NULL) {
        finding(f, FINDING_PROBLEM, "tls",
                "the server wants a certificate of the client, and the connection has none");
        finding_remedy(f, "give it one: tls = { cert = ..., key = ... }");
    }
    return true;
}

/* ---- all of it ---- */

static struct addrinfo *look_up(const server_address *a, findings *f, uint32_t timeout_ms)
{
    char text[INET6_ADDRSTRLEN * 4] = "", one[INET6_ADDRSTRLEN];
    unsigned count = 0;
    error e = {0};
    struct addrinfo *list = resolve(a, timeout_ms, &e);
    if (list == NULL) {
        finding(f, FINDING_PROBLEM, "dns", "the name %s is not resolved: %s", a->host, e.message);
        finding_remedy(f, "look at the name, at /etc/resolv.conf and /etc/hosts: getent ahosts %s",
                       a->host);
        return NULL;
    }
    if (is_number(a->host))
        return list;
    for (const struct addrinfo *i = list; i != NULL; i = i->ai_next, count++)
        if (count < 3) {
            size_t used = strlen(text);
            snprintf(text + used, sizeof text - used, "%s%s", count > 0 ? ", " : "",
                     address_text(i, one));
        }
    finding(f, FINDING_OK, "dns", "%s is %s%s", a->host, text, count > 3 ? ", ..." : "");
    return list;
}

bool server_reach(server *s, findings *f, const link_options *o, const char *url,
                  uint32_t timeout_ms)
{
    char trouble[TROUBLE_SIZE];
    *s = (server){.fd = -1};
    if (server_split(url, &s->address) != 0) {
        finding(f, FINDING_PROBLEM, "dns", "its URL has no host and port");
        return false;
    }
    struct addrinfo *list = look_up(&s->address, f, timeout_ms);
    if (list == NULL)
        return false;
    uint64_t begun = clock_ms();
    s->deadline = begun + timeout_ms;
    s->fd = connect_any(list, s->deadline, trouble, sizeof trouble);
    int failed = errno;
    freeaddrinfo(list);
    if (s->fd < 0) {
        finding(f, FINDING_PROBLEM, "tcp", "it cannot be reached: %s", trouble);
        connect_remedy(f, failed, &s->address);
        return false;
    }
    if (trouble[0] != '\0') {
        finding(f, FINDING_WARNING, "tcp", "it is reached, but not at all of its addresses: %s",
                trouble);
        finding_remedy(f, "each dial loses time with these: take them out of the name");
    } else {
        finding(f, FINDING_OK, "tcp", "it takes a connection, after %llu ms",
                (unsigned long long)(clock_ms() - begun));
    }
    s->deadline = clock_ms() + timeout_ms;
    return read_info(s, f, timeout_ms) && compare(s, f, o);
}

void server_leave(server *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    json_decref(s->info);
    s->info = NULL;
}

/* ---- what it told of ---- */

static bool is_listed(const link_options *o, const server_address *a)
{
    server_address one;
    for (int i = 0; i < o->server_count; i++)
        if (server_split(o->servers[i], &one) == 0 && strcmp(one.host, a->host) == 0 &&
            strcmp(one.port, a->port) == 0)
            return true;
    return false;
}

/* Whether it takes a connection; otherwise why not, in `trouble`. */
static bool knock(const server_address *a, uint64_t deadline, char *trouble, size_t size)
{
    error e = {0};
    uint64_t now = clock_ms();
    struct addrinfo *list = resolve(a, deadline > now ? (uint32_t)(deadline - now) : 1, &e);
    if (list == NULL) {
        snprintf(trouble, size, "%s: %s", a->host, e.message);
        return false;
    }
    int fd = connect_any(list, deadline, trouble, size);
    freeaddrinfo(list);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

void server_check_discovered(const server *s, findings *f, const link_options *o,
                             uint32_t timeout_ms)
{
    const json_t *urls = json_object_get(s->info, "connect_urls");
    uint64_t deadline = clock_ms() + timeout_ms;
    unsigned reached = 0;
    char trouble[TROUBLE_SIZE];
    if (o->ignore_discovered)
        return;
    for (size_t i = 0; i < json_array_size(urls) && i < DISCOVERED_MAX; i++) {
        server_address a;
        const char *url = json_string_value(json_array_get(urls, i));
        if (url == NULL || server_split(url, &a) != 0 || is_listed(o, &a))
            continue;
        if (knock(&a, deadline, trouble, sizeof trouble)) {
            reached++;
            continue;
        }
        finding(f, FINDING_WARNING, "discovered",
                "it tells of the server %s, which cannot be reached from here: %s", url, trouble);
        finding_remedy(f, "set client_advertise at that server, or ignore_discovered = true at "
                          "the connection");
    }
    if (reached > 0)
        finding(f, FINDING_OK, "discovered", "it tells of %u more, which can be reached", reached);
}
