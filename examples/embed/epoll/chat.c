/* A chat over TCP on an event loop that is not libuv's: the program's own, with epoll. What
 * somebody types is published to NATS, and what comes from NATS is written to everybody, so that
 * people meet in a room whichever of several such programs they have dialled.
 *
 * moondog is three things in this loop: a descriptor to wait for, a time to wait for at most, and a
 * function to call after that. Its messages go from C to C; the script only says what the
 * connection is, and could be a file that operators change.
 *
 * Build it, with libmoondog installed:
 *   cc -D_GNU_SOURCE chat.c $(pkg-config --cflags --libs moondog) -pthread -o chat
 * In a checkout of moondog, ./scripts/build leaves it in build/examples/embed/epoll/chat.
 *
 * Run it twice, with a nats-server (the port 0 is any that is free):
 *   ./chat --url nats://127.0.0.1:4222 --port 7000
 *   ./chat --url nats://127.0.0.1:4222 --port 7001
 *
 * See:
 *   nc 127.0.0.1 7000, and nc 127.0.0.1 7001       type; the others read it. /name ann, /quit
 *   nats publish chat.lobby hello                  everybody reads it
 *   type into ./chat itself                        the operator's words; /quit ends the program
 *   kill the server, type, start it again          what was typed meanwhile comes then
 *
 * Two threads: the loop's, and the operator's, which reads the terminal and touches nothing of the
 * loop's; it has md_post() and md_wakeup() for that. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <moondog.h>

#define CLIENTS_MAX 64
#define LINE_MAX_BYTES 1024 /* longer lines are not taken */
#define NAME_SIZE 32
#define OUT_MAX 65536  /* bytes that may wait for a client that does not read */
#define POLL_US 2000   /* of moondog's work, before clients have their turn again */
#define DRAIN_MS 2000  /* for what was typed last */
#define EVENTS_MAX 128 /* of one turn */

typedef struct {
    int fd; /* -1: nobody is here */
    char name[NAME_SIZE];
    char in[LINE_MAX_BYTES];
    size_t in_length;
    int skipping; /* the rest of a line that is too long */
    char out[OUT_MAX];
    size_t out_length;
    int gone; /* to be closed after this turn: other events of it may be this client's, too */
} client;

typedef struct {
    md_runtime *runtime;
    int epoll, listener, signals;
    char subject[128];
    const char *room;
    client *clients; /* CLIENTS_MAX of them */
    unsigned guests; /* so far */
    int stopping;
    int operator_end; /* an eventfd: the thread shall end */
    atomic_int quit;  /* the operator wants the program to end */
} chat;

typedef struct {
    const char *url, *room;
    unsigned port;
} arguments;

/* ---- clients ---- */

static void watch(chat *c, int operation, int fd, uint32_t what, void *tag)
{
    struct epoll_event event = {.events = what, .data.ptr = tag};
    epoll_ctl(c->epoll, operation, fd, &event);
}

static void flush(chat *c, client *k)
{
    ssize_t sent = send(k->fd, k->out, k->out_length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        k->gone = 1;
    if (sent > 0) {
        k->out_length -= (size_t)sent;
        memmove(k->out, k->out + sent, k->out_length);
    }
    watch(c, EPOLL_CTL_MOD, k->fd, k->out_length > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN, k);
}

/* One line. A client that does not read is not waited for: at OUT_MAX it goes. */
__attribute__((format(printf, 3, 4))) static void tell(chat *c, client *k, const char *format, ...)
{
    char line[LINE_MAX_BYTES + 2 * NAME_SIZE];
    va_list args;
    va_start(args, format);
    int written = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (written < 0 || k->fd < 0 || k->gone)
        return;
    size_t length = (size_t)written < sizeof line - 1 ? (size_t)written : sizeof line - 2;
    line[length++] = '\n';
    if (k->out_length + length > OUT_MAX) {
        fprintf(stderr, "chat: %s does not read, and goes\n", k->name);
        k->gone = 1;
        return;
    }
    memcpy(k->out + k->out_length, line, length);
    k->out_length += length;
    flush(c, k);
}

static void accept_client(chat *c)
{
    int fd = accept4(c->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    for (client *k = c->clients; k < c->clients + CLIENTS_MAX; k++) {
        if (k->fd >= 0)
            continue;
        memset(k, 0, sizeof *k);
        k->fd = fd;
        snprintf(k->name, sizeof k->name, "guest-%u", ++c->guests);
        watch(c, EPOLL_CTL_ADD, fd, EPOLLIN, k);
        tell(c, k, "* you are %s in the room %s; /name NAME, /quit", k->name, c->room);
        return;
    }
    static const char full[] = "* the room is full, come again later\n";
    send(fd, full, sizeof full - 1, MSG_NOSIGNAL);
    close(fd);
}

/* After a turn. */
static void sweep(chat *c)
{
    for (client *k = c->clients; k < c->clients + CLIENTS_MAX; k++)
        if (k->fd >= 0 && k->gone) {
            close(k->fd);
            k->fd = -1;
        }
}

/* ---- NATS ---- */

/* Into the room, by NATS. Taken is not sent: while there is no link it waits, in order. */
static int say(chat *c, const char *from, const char *text, md_error *e)
{
    md_header headers[] = {{"From", from}};
    md_outgoing m = {.size = sizeof m};
    m.subject = c->subject;
    m.data = text;
    m.length = strlen(text);
    m.headers = headers;
    m.header_count = 1;
    return md_publish(c->runtime, &m, e);
}

/* From NATS, also what was said here. It is valid until this returns. */
static void on_message(void *closure, md_subscription *subscription, const md_message *m)
{
    chat *c = closure;
    char text[LINE_MAX_BYTES];
    size_t length;
    const char *data = md_message_data(m, &length);
    const char *from = md_message_header(m, "From");
    (void)subscription;
    size_t shown = length < sizeof text ? length : sizeof text - 1;
    for (size_t i = 0; i < shown; i++)
        text[i] = iscntrl((unsigned char)data[i]) ? ' ' : data[i];
    text[shown] = '\0';
    for (client *k = c->clients; k < c->clients + CLIENTS_MAX; k++)
        tell(c, k, "%s: %s", from != NULL ? from : "NATS", text);
}

/* ---- what clients type ---- */

static void rename_client(chat *c, client *k, const char *name)
{
    size_t length =
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    if (length == 0 || length >= NAME_SIZE || name[length] != '\0') {
        tell(c, k, "* a name is 1 to %d letters, digits, - and _", NAME_SIZE - 1);
        return;
    }
    memcpy(k->name, name, length + 1);
    tell(c, k, "* you are %s", k->name);
}

static void take_line(chat *c, client *k, const char *line)
{
    md_error e;
    if (strncmp(line, "/name ", 6) == 0)
        rename_client(c, k, line + 6);
    else if (strcmp(line, "/quit") == 0)
        k->gone = 1;
    else if (*line != '\0' && say(c, k->name, line, &e) != 0)
        tell(c, k, "* not said: %s", e.message); /* such as: too much waits for a link */
}

static void take_lines(chat *c, client *k)
{
    char *line = k->in, *end;
    while ((end = memchr(line, '\n', k->in_length - (size_t)(line - k->in))) != NULL) {
        *end = '\0';
        line[strcspn(line, "\r")] = '\0';
        if (!k->skipping)
            take_line(c, k, line);
        k->skipping = 0;
        line = end + 1;
    }
    k->in_length -= (size_t)(line - k->in);
    memmove(k->in, line, k->in_length);
    if (k->in_length == sizeof k->in) {
        if (!k->skipping)
            tell(c, k, "* a line has %d bytes at most", LINE_MAX_BYTES - 1);
        k->skipping = 1;
        k->in_length = 0;
    }
}

static void serve(chat *c, client *k, uint32_t events)
{
    if (events & EPOLLOUT)
        flush(c, k);
    if (k->gone || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    ssize_t got = recv(k->fd, k->in + k->in_length, sizeof k->in - k->in_length, 0);
    if (got > 0) {
        k->in_length += (size_t)got;
        take_lines(c, k);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        k->gone = 1;
    }
}

/* ---- the operator: a thread of its own, because a terminal can only be waited for ---- */

typedef struct {
    chat *chat;
    char line[LINE_MAX_BYTES];
} announcement;

/* On the loop's thread. */
static void announce(md_runtime *runtime, void *closure)
{
    announcement *a = closure;
    md_error e;
    if (runtime != NULL && say(a->chat, "operator", a->line, &e) != 0)
        fprintf(stderr, "chat: not said: %s\n", e.message);
    free(a);
}

static void take_operator_line(chat *c, const char *line)
{
    if (*line == '\0')
        return;
    if (strcmp(line, "/quit") == 0) {
        atomic_store(&c->quit, 1); /* the loop looks at it whenever it turns: so let it turn */
        md_wakeup(c->runtime);
        return;
    }
    announcement *a = malloc(sizeof *a);
    if (a == NULL)
        return;
    a->chat = c;
    snprintf(a->line, sizeof a->line, "%s", line);
    if (md_post(c->runtime, announce, a) != 0) {
        fprintf(stderr, "chat: too much is to be said: this was left out\n");
        free(a);
    }
}

/* Takes the whole lines out of the buffer, and returns what is left in it. One that fills it is
 * said in pieces. */
static size_t take_operator_lines(chat *c, char *in, size_t length)
{
    char *line = in, *end;
    while ((end = memchr(line, '\n', length - (size_t)(line - in))) != NULL) {
        *end = '\0';
        take_operator_line(c, line);
        line = end + 1;
    }
    length -= (size_t)(line - in);
    memmove(in, line, length);
    if (length < LINE_MAX_BYTES - 1)
        return length;
    in[length] = '\0';
    take_operator_line(c, in);
    return 0;
}

static void *operator_main(void *closure)
{
    chat *c = closure;
    char in[LINE_MAX_BYTES];
    size_t length = 0;
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = c->operator_end, .events = POLLIN}};
    while ((poll(fds, 2, -1) >= 0 || errno == EINTR) && fds[1].revents == 0) {
        ssize_t got = read(STDIN_FILENO, in + length, sizeof in - 1 - length);
        if (got <= 0)
            break; /* nobody types any more; the program goes on */
        length = take_operator_lines(c, in, length + (size_t)got);
    }
    return NULL;
}

/* ---- the loop ---- */

static void stop(chat *c)
{
    if (!c->stopping) {
        c->stopping = 1;
        close(c->listener);
        c->listener = -1;
        for (client *k = c->clients; k < c->clients + CLIENTS_MAX; k++)
            tell(c, k, "* good night");
    }
    md_stop(c->runtime); /* what was said is sent; the second time: at once */
}

static void take_signal(chat *c)
{
    struct signalfd_siginfo info;
    if (read(c->signals, &info, sizeof info) == sizeof info)
        stop(c);
}

static void turn(chat *c)
{
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(c->epoll, events, EVENTS_MAX, md_backend_timeout(c->runtime));
    for (int i = 0; i < count; i++) {
        void *tag = events[i].data.ptr;
        if (tag == &c->listener)
            accept_client(c);
        else if (tag == &c->signals)
            take_signal(c);
        else if (tag != c->runtime)
            serve(c, tag, events[i].events);
    }
    if (atomic_exchange(&c->quit, 0))
        stop(c);
}

/* Whether moondog's descriptor was ready does not matter: a poll with nothing to do is next to
 * nothing. If it did not get done within its time, md_backend_timeout() says 0, and clients have
 * their turn in between. */
static void run_loop(chat *c)
{
    do {
        turn(c);
        sweep(c);
    } while (md_poll(c->runtime, POLL_US) >= 0);
}

/* ---- beginning and end ---- */

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "chat: %s: %s\n", what, why);
    return -1;
}

static int begin_runtime(chat *c, const arguments *a)
{
    static const char path[] = "chat.lua", script[] = "require 'moondog'.connect { name = 'chat' }";
    md_error e;
    md_options options;
    if (a->url != NULL)
        setenv("NATS_URL", a->url, 1);
    md_options_init(&options);
    options.name = "chat";
    options.drain_ms = DRAIN_MS;
    if ((c->runtime = md_create(&options, &e)) == NULL)
        return fail("no runtime", e.message);
    /* A script does not have to be a file. */
    if (md_set_file(c->runtime, path, script, strlen(script), &e) != 0 ||
        md_load(c->runtime, path, &e) != 0)
        return fail("the script cannot be loaded", e.message);
    md_interest interest = {.size = sizeof interest};
    interest.subject = c->subject;
    if (md_subscribe(c->runtime, &interest, on_message, c, &e) == NULL)
        return fail("no subscription", e.message);
    watch(c, EPOLL_CTL_ADD, md_backend_fd(c->runtime), EPOLLIN, c->runtime);
    return 0;
}

static int begin_listening(chat *c, unsigned port)
{
    int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->listener < 0)
        return fail("no socket", strerror(errno));
    setsockopt(c->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(c->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(c->listener, CLIENTS_MAX) != 0 ||
        getsockname(c->listener, (struct sockaddr *)&address, &size) != 0)
        return fail("cannot listen; is the port taken? See --port", strerror(errno));
    watch(c, EPOLL_CTL_ADD, c->listener, EPOLLIN, &c->listener);
    printf("chat: listening on 127.0.0.1:%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return 0;
}

/* Before there is any thread, so that none of them gets these signals. */
static int begin_descriptors(chat *c)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    c->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    c->operator_end = eventfd(0, EFD_CLOEXEC);
    c->clients = malloc(CLIENTS_MAX * sizeof *c->clients);
    for (int i = 0; c->clients != NULL && i < CLIENTS_MAX; i++)
        c->clients[i].fd = -1;
    if (c->epoll < 0 || c->signals < 0 || c->operator_end < 0 || c->clients == NULL)
        return fail("cannot begin", strerror(errno));
    watch(c, EPOLL_CTL_ADD, c->signals, EPOLLIN, &c->signals);
    return 0;
}

static void end(chat *c)
{
    for (int i = 0; c->clients != NULL && i < CLIENTS_MAX; i++)
        if (c->clients[i].fd >= 0)
            close(c->clients[i].fd);
    int fds[] = {c->epoll, c->listener, c->signals, c->operator_end};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(c->clients);
}

/* The operator's thread uses the runtime, so it ends first. */
static int run(chat *c, const arguments *a)
{
    if (begin_descriptors(c) != 0 || begin_runtime(c, a) != 0 || begin_listening(c, a->port) != 0)
        return 1;
    pthread_t operator_thread;
    if (pthread_create(&operator_thread, NULL, operator_main, c) != 0) {
        fail("no thread for the operator", "are there too many?");
        return 1;
    }
    run_loop(c);
    eventfd_write(c->operator_end, 1);
    pthread_join(operator_thread, NULL);
    return 0;
}

static void read_arguments(arguments *a, int argc, char **argv)
{
    static const struct option known[] = {{"url", required_argument, NULL, 'u'},
                                          {"port", required_argument, NULL, 'p'},
                                          {"room", required_argument, NULL, 'r'},
                                          {NULL, 0, NULL, 0}};
    int wrong = 0;
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        char *rest = "";
        if (option == 'u')
            a->url = optarg;
        else if (option == 'p')
            a->port = (unsigned)strtoul(optarg, &rest, 10);
        else if (option == 'r')
            a->room = optarg;
        wrong |= option == '?' || *rest != '\0' || a->port > 65535;
    }
    if (!wrong && optind == argc)
        return;
    fprintf(stderr, "usage: chat [--url URL] [--port PORT] [--room NAME]\n");
    exit(2);
}

int main(int argc, char **argv)
{
    static chat c = {.epoll = -1, .listener = -1, .signals = -1, .operator_end = -1};
    arguments a = {.room = "lobby", .port = 7000};
    read_arguments(&a, argc, argv);
    c.room = a.room;
    snprintf(c.subject, sizeof c.subject, "chat.%s", a.room);
    int code = run(&c, &a);
    md_free(c.runtime);
    end(&c);
    return code;
}
