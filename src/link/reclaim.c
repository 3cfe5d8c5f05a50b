/* Getting links back that hang inside nats.c. See reclaim.h. A thread of libuv's pool. */
#include "link/reclaim.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_ESTABLISHED                                                                          \
    1 /* of the kernel; glibc's name for it is in a header that excludes ours */

static uint16_t port_of(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)address)->sin_port);
    if (address->ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)address)->sin6_port);
    return 0;
}

static bool contains(const uint16_t *list, unsigned count, uint16_t port)
{
    for (unsigned i = 0; i < count; i++)
        if (list[i] == port)
            return true;
    return false;
}

/* nats.c sets SO_LINGER to 0 s on each of its sockets; hardly anyone else does. */
static bool has_marks(int fd)
{
    struct linger linger = {0};
    socklen_t size = sizeof linger;
    return getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &size) == 0 && linger.l_onoff != 0 &&
           linger.l_linger == 0;
}

/* The peer said INFO at most, and no more; or it goes on and on, and got CONNECT, and no more. */
static bool is_in_handshake(const reclaim *r, int fd)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
        info.tcpi_state != STATE_ESTABLISHED)
        return false;
    if (info.tcpi_data_segs_in <= 1)
        return info.tcpi_last_data_recv >= r->silent_ms;
    return info.tcpi_data_segs_out == 1 && info.tcpi_last_data_sent >= r->sent_ms;
}

static bool hangs(const reclaim *r, int fd)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    return getpeername(fd, (struct sockaddr *)&peer, &size) == 0 &&
           contains(r->hanging, r->hanging_count, port_of(&peer)) && has_marks(fd) &&
           is_in_handshake(r, fd);
}

/* Closing any descriptor of a file drops the process's locks on that file, so files are left alone:
 * even one whose number was a socket's a moment ago stays open. */
static bool is_socket(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

void reclaim_run(reclaim *r)
{
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
            continue;
        int number = (int)strtol(entry->d_name, NULL, 10);
        if (!is_socket(number))
            continue;
        /* A descriptor of our own: its number cannot become another socket's between look and act.
         */
        int fd = fcntl(number, F_DUPFD_CLOEXEC, 0);
        if (fd < 0 || !is_socket(fd))
            continue;
        if (hangs(r, fd) && shutdown(fd, SHUT_RDWR) == 0)
            r->shut_down++;
        close(fd);
    }
    closedir(folder);
}
