/* `moondog run --dev`: a nats-server of our own. See dev_server.h. Main thread, while no loop runs.
 */
#include "cli/dev_server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/signals.h"

#define DEFAULT_URL "nats://127.0.0.1:4222"
#define INFO_MS 300    /* a NATS server speaks first, and at once */
#define SILENT_MS 2000 /* what is connected and silent may be a server that is busy */
#define START_MS 5000
#define STOP_MS 2000
#define POLL_MS 10
#define HOST_SIZE 256
#define PORT_SIZE 8
#define PATH_SIZE (PATH_MAX + 32)

typedef enum { ANSWER_NATS, ANSWER_OTHER, ANSWER_SILENT, ANSWER_NONE, ANSWER_NO_ADDRESS } answer;

static long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000L + t.tv_nsec / 1000000L;
}

static void wait_ms(int ms)
{
    poll(NULL, 0, ms);
}

/* ---- who is there ---- */

/* Reads the first bytes: "INFO " is what a NATS server says. */
static answer listen_to(int fd)
{
    char text[5];
    size_t got = 0;
    long until = now_ms() + SILENT_MS;
    while (got < sizeof text) {
        long left = until - now_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            return ANSWER_SILENT;
        ssize_t n = recv(fd, text + got, sizeof text - got, 0);
        if (n <= 0)
            return ANSWER_OTHER;
        got += (size_t)n;
    }
    return memcmp(text, "INFO ", sizeof text) == 0 ? ANSWER_NATS : ANSWER_OTHER;
}

static answer try_address(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (fd < 0)
        return ANSWER_NONE;
    answer result = ANSWER_NONE;
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        int failed = 0;
        socklen_t size = sizeof failed;
        if (poll(&p, 1, INFO_MS) == 1 &&
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) == 0 && failed == 0)
            result = listen_to(fd);
    }
    close(fd);
    return result;
}

static bool is_loopback(const struct addrinfo *a)
{
    char host[HOST_SIZE] = "";
    getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

static answer ask(const char *host, const char *port, bool *loopback)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    *loopback = false;
    if (getaddrinfo(host, port, &hints, &list) != 0)
        return ANSWER_NO_ADDRESS;
    answer best = ANSWER_NONE;
    for (struct addrinfo *a = list; a != NULL && best != ANSWER_NATS; a = a->ai_next) {
        *loopback |= is_loopback(a);
        answer one = try_address(a);
        if (one < best)
            best = one;
    }
    freeaddrinfo(list);
    return best;
}

/* ---- the URL ---- */

/* "nats://user@host:port,..." to host and port. */
static int split_url(const char *url, char *host, char *port, error *e)
{
    char text[HOST_SIZE + 64];
    snprintf(text, sizeof text, "%.*s", (int)strcspn(url, ", "), url);
    char *scheme = strstr(text, "://");
    char *start = scheme != NULL ? scheme + 3 : text;
    char *at = strrchr(start, '@');
    if (at != NULL)
        start = at + 1;
    start[strcspn(start, "/")] = '\0';
    char *colon = strrchr(start, ':');
    char *bracket = strrchr(start, ']');
    if (colon != NULL && (bracket == NULL || colon > bracket))
        *colon++ = '\0';
    else
        colon = NULL;
    if (start[0] == '[' && bracket != NULL) {
        start++;
        *bracket = '\0';
    }
    snprintf(host, HOST_SIZE, "%.255s", start);
    snprintf(port, PORT_SIZE, "%.7s", colon != NULL ? colon : "4222");
    long number = strtol(port, NULL, 10);
    if (host[0] == '\0' || number < 1 || number > 65535)
        return error_set(e, "bad_url", ERROR_CLASS_NONE,
                         "--dev: \"%s\" is not the address of a server; write it like %s", start,
                         DEFAULT_URL);
    return 0;
}

/* ---- the process ---- */

static const char *find_program(void)
{
    static const char *const places[] = {"/usr/sbin/nats-server", "/usr/bin/nats-server",
                                         "/usr/local/bin/nats-server",
                                         "/usr/local/sbin/nats-server"};
    static char found[PATH_SIZE];
    const char *path = getenv("PATH");
    char *copy = strdup(path != NULL ? path : "");
    char *rest = NULL;
    for (char *folder = copy != NULL ? strtok_r(copy, ":", &rest) : NULL; folder != NULL;
         folder = strtok_r(NULL, ":", &rest)) {
        snprintf(found, sizeof found, "%s/nats-server", folder);
        if (access(found, X_OK) == 0) {
            free(copy);
            return found;
        }
    }
    free(copy);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    return NULL;
}

/* Between fork and exec: only what is safe there. It ends with us, and not by our terminal's
 * Ctrl-C: we drain first. */
static void become_server(const char *program, char *const *arguments, int log, pid_t parent)
{
    signals_unblock();
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    int null = open("/dev/null", O_RDONLY);
    dup2(null, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execv(program, arguments);
    _exit(127);
}

static int launch(dev_server *s, const char *program, const char *host, const char *port, error *e)
{
    char store[PATH_SIZE], log_path[PATH_SIZE];
    snprintf(store, sizeof store, "%s/jetstream", s->folder);
    snprintf(log_path, sizeof log_path, "%s/nats-server.log", s->folder);
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0)
        return error_set(e, "unwritable", ERROR_CLASS_NONE, "--dev: cannot write %s: %s", log_path,
                         strerror(errno));
    char *arguments[] = {(char *)program, (char *)"-a",  (char *)host, (char *)"-p", (char *)port,
                         (char *)"-js",   (char *)"-sd", store,        NULL};
    pid_t parent = getpid();
    s->pid = fork();
    if (s->pid == 0)
        become_server(program, arguments, log, parent);
    close(log);
    if (s->pid < 0) {
        s->pid = 0;
        return error_set(e, "no_process", ERROR_CLASS_NONE, "--dev: cannot start %s: %s", program,
                         strerror(errno));
    }
    return 0;
}

static int wait_for_start(dev_server *s, const char *host, const char *port, error *e)
{
    long until = now_ms() + START_MS;
    bool loopback;
    while (now_ms() < until) {
        int status;
        if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
            s->pid = 0;
            return error_set(e, "no_server", ERROR_CLASS_NONE,
                             "--dev: nats-server ended at once; is %s:%s free?", host, port);
        }
        if (ask(host, port, &loopback) == ANSWER_NATS)
            return 0;
        wait_ms(POLL_MS);
    }
    return error_set(e, "no_server", ERROR_CLASS_NONE,
                     "--dev: nats-server did not answer on %s:%s within %d ms", host, port,
                     START_MS);
}

static int make_folder(dev_server *s, error *e)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(s->folder, sizeof s->folder, "%s/moondog-dev-XXXXXX",
             tmp != NULL && tmp[0] != '\0' ? tmp : "/tmp");
    if (mkdtemp(s->folder) != NULL)
        return 0;
    error_set(e, "unwritable", ERROR_CLASS_NONE,
              "--dev: cannot make a temporary folder like %s: %s; set TMPDIR", s->folder,
              strerror(errno));
    s->folder[0] = '\0';
    return -1;
}

static int refuse(answer got, bool loopback, const char *host, const char *port, error *e)
{
    if (got == ANSWER_NO_ADDRESS)
        return error_set(e, "no_address", ERROR_CLASS_NETWORK,
                         "--dev: there is no address for %s; look at $NATS_URL", host);
    if (got == ANSWER_OTHER)
        return error_set(e, "address_in_use", ERROR_CLASS_NONE,
                         "--dev: %s:%s is in use by a program that does not speak NATS; stop it, "
                         "or set $NATS_URL to another address",
                         host, port);
    if (got == ANSWER_SILENT)
        return error_set(e, "address_in_use", ERROR_CLASS_NONE,
                         "--dev: what listens on %s:%s says nothing; stop it, or set $NATS_URL to "
                         "another address",
                         host, port);
    if (!loopback)
        return error_set(e, "not_local", ERROR_CLASS_NONE,
                         "--dev: nothing answers on %s:%s, and a server is only started on this "
                         "machine; set $NATS_URL to an address such as %s",
                         host, port, DEFAULT_URL);
    return 0;
}

int dev_server_start(dev_server *s, const char *url, error *e)
{
    char host[HOST_SIZE], port[PORT_SIZE];
    *s = (dev_server){0};
    if (url == NULL)
        url = getenv("NATS_URL");
    if (url == NULL || url[0] == '\0')
        url = DEFAULT_URL;
    if (split_url(url, host, port, e) != 0)
        return -1;
    bool loopback;
    answer got = ask(host, port, &loopback);
    if (got == ANSWER_NATS)
        return 0;
    if (refuse(got, loopback, host, port, e) != 0)
        return -1;
    const char *program = find_program();
    if (program == NULL)
        return error_set(e, "no_server", ERROR_CLASS_NONE,
                         "--dev: there is no nats-server; install Debian's package nats-server");
    if (make_folder(s, e) != 0)
        return -1;
    if (launch(s, program, host, port, e) != 0 || wait_for_start(s, host, port, e) != 0) {
        dev_server_stop(s);
        return -1;
    }
    setenv("NATS_URL", url, 0);
    fprintf(stderr, "moondog: started a nats-server of its own on %s:%s (pid %d)\n", host, port,
            (int)s->pid);
    return 0;
}

/* ---- the end ---- */

static void remove_tree(const char *path)
{
    DIR *folder = opendir(path);
    if (folder != NULL) {
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            char inside[PATH_SIZE + 256];
            struct stat info;
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
            if (lstat(inside, &info) == 0 && S_ISDIR(info.st_mode))
                remove_tree(inside);
            else
                unlink(inside);
        }
        closedir(folder);
    }
    rmdir(path);
}

static bool ended(dev_server *s, long deadline_ms)
{
    long until = now_ms() + deadline_ms;
    do {
        if (waitpid(s->pid, NULL, WNOHANG) == s->pid)
            return true;
        wait_ms(POLL_MS);
    } while (now_ms() < until);
    return false;
}

void dev_server_stop(dev_server *s)
{
    if (s->pid > 0) {
        kill(s->pid, SIGTERM);
        if (!ended(s, STOP_MS)) {
            kill(s->pid, SIGKILL);
            waitpid(s->pid, NULL, 0);
        }
    }
    s->pid = 0;
    if (s->folder[0] != '\0')
        remove_tree(s->folder);
    s->folder[0] = '\0';
}
