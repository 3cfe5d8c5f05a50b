/* Addresses to listen at. See address.h. */
#include "health/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/unix_socket.h"

/* As many as the kernel keeps (net.core.somaxconn): whoever finds the queue full asks again after a
 * second, and that is the whole time that a probe waits. */
#define BACKLOG SOMAXCONN

static int bad(error *e, const char *text, const char *why)
{
    return error_set(e, "usage", ERROR_CLASS_NONE,
                     "--http \"%.100s\": %s; give PORT, ADDRESS:PORT or unix:PATH, such as "
                     "127.0.0.1:8080",
                     text, why);
}

static int parse_unix(const char *text, listen_address *out, error *e)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&out->address;
    const char *path = text + strlen("unix:");
    if (path[0] == '\0' || strlen(path) >= sizeof un->sun_path)
        return bad(e, text, "the path is empty, or longer than 107 bytes");
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, strlen(path) + 1);
    out->length = sizeof *un;
    out->path = path;
    return 0;
}

static int parse_port(const char *digits)
{
    if (digits[0] == '\0' || strlen(digits) > 5 || strspn(digits, "0123456789") != strlen(digits))
        return -1;
    long port = strtol(digits, NULL, 10);
    return port <= 65535 ? (int)port : -1;
}

static int fill_host(const char *host, int port, listen_address *out)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&out->address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->address;
    if (host[0] == '\0' || strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        out->length = sizeof *in;
        return 0;
    }
    if (inet_pton(AF_INET6, host, &in6->sin6_addr) != 1)
        return -1;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons((uint16_t)port);
    out->length = sizeof *in6;
    return 0;
}

int listen_parse(const char *text, listen_address *out, error *e)
{
    char host[64] = "";
    *out = (listen_address){0};
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text, out, e);
    const char *colon = strrchr(text, ':');
    const char *from = text, *end = colon;
    if (colon != NULL && text[0] == '[' && colon[-1] == ']') {
        from++;
        end--;
        if (memchr(from, ':', (size_t)(end - from)) == NULL)
            return bad(e, text, "only an IPv6 address stands in brackets");
    } else if (colon != NULL && memchr(text, ':', (size_t)(colon - text)) != NULL) {
        return bad(e, text, "an IPv6 address stands in brackets, with a port behind them");
    }
    if (colon != NULL) {
        if ((size_t)(end - from) >= sizeof host)
            return bad(e, text, "this is no address");
        memcpy(host, from, (size_t)(end - from));
    }
    int port = parse_port(colon != NULL ? colon + 1 : text);
    if (port < 0)
        return bad(e, text, "the port is a number from 0 to 65535");
    if (fill_host(host, port, out) != 0)
        return bad(e, text, "this is no address (names are not looked up)");
    return 0;
}

static int try_to_bind(int fd, const listen_address *a)
{
    int failed = bind(fd, (const struct sockaddr *)&a->address, a->length);
    if (failed == 0 || errno != EADDRINUSE || a->path == NULL)
        return failed;
    if (!unix_socket_is_left_over(a->path)) {
        errno = EADDRINUSE;
        return -1;
    }
    unlink(a->path);
    return bind(fd, (const struct sockaddr *)&a->address, a->length);
}

int listen_open(const listen_address *a, error *e)
{
    char text[LISTEN_TEXT_SIZE];
    int on = 1, off = 0;
    int fd = socket(a->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (a->address.ss_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        if (try_to_bind(fd, a) == 0 && listen(fd, BACKLOG) == 0)
            return fd;
    }
    int reason = errno;
    if (fd >= 0)
        close(fd);
    listen_describe(-1, a, text);
    return error_set(e, "http", ERROR_CLASS_NONE,
                     "cannot listen at %s for health: %s; give another address with --http", text,
                     strerror(reason));
}

void listen_describe(int fd, const listen_address *a, char out[LISTEN_TEXT_SIZE])
{
    struct sockaddr_storage bound = a->address;
    socklen_t length = sizeof bound;
    char host[INET6_ADDRSTRLEN] = "?";
    if (a->path != NULL) {
        snprintf(out, LISTEN_TEXT_SIZE, "unix:%s", a->path);
        return;
    }
    if (fd >= 0)
        getsockname(fd, (struct sockaddr *)&bound, &length);
    if (bound.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&bound;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(out, LISTEN_TEXT_SIZE, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&bound;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(out, LISTEN_TEXT_SIZE, "%s:%u", host, ntohs(in->sin_port));
    }
}
