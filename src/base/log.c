/* The log: a bounded queue of finished lines between the threads that log and the log's own
 * thread, which is the only one that writes, and so the only one that a stuck terminal or pipe
 * holds.
 *
 * The queue is two buffers: callers add to `fill`, the thread writes out `out`; they change places
 * when `out` is empty. What both hold together never exceeds LOG_QUEUE_BYTES. */
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log_line.h"
#include "base/thread.h"

#define REPORT_ROOM 256      /* no report of dropped lines is longer */
#define WRITE_CHUNK PIPE_BUF /* whole lines up to here reach a shared pipe in one piece */
#define POLL_MS 100

struct logger {
    int fd;
    log_write_fn hook; /* NULL: fd. With a hook, each line in the queue follows a byte: its level */
    void *closure;
    log_format format;
    bool coloured;
    wall_clock clock;
    bool torn;                 /* the thread's own: the last write failed within a line */
    _Atomic int level;         /* of the output */
    _Atomic int observe_level; /* LOG_OFF: no observer */
    _Atomic uint64_t dropped;

    pthread_t thread;
    pthread_mutex_t lock; /* what follows; never held while writing */
    pthread_cond_t work;  /* for the thread: lines, or stopping */
    pthread_cond_t ended; /* for log_free */
    char *fill;
    char *out;
    log_write_fn observe;
    void *observe_closure;
    size_t fill_length;
    size_t out_left;     /* bytes of `out` that are not written yet */
    uint64_t unreported; /* lines dropped since the last report */
    bool stopping;       /* write what is queued, then end */
    bool discard;        /* end without writing anything more */
    bool writing;        /* in a call that may hang */
    bool done;
    bool abandoned; /* log_free has gone: the thread frees */
};

/* ---- fields and names ---- */

log_field log_bytes(const char *key, const char *value, size_t length)
{
    return (log_field){.key = key, .type = LOG_FIELD_STRING, .string = value, .length = length};
}

log_field log_str(const char *key, const char *value)
{
    return log_bytes(key, value, value == NULL ? 0 : strlen(value));
}

log_field log_int(const char *key, int64_t value)
{
    return (log_field){.key = key, .type = LOG_FIELD_INTEGER, .integer = value};
}

log_field log_num(const char *key, double value)
{
    return (log_field){.key = key, .type = LOG_FIELD_NUMBER, .number = value};
}

log_field log_bool(const char *key, bool value)
{
    return (log_field){.key = key, .type = LOG_FIELD_BOOLEAN, .integer = value ? 1 : 0};
}

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};
static const char *const format_names[] = {"auto", "logfmt", "short", "json"};

static int find_name(const char *const *names, int count, const char *name)
{
    for (int i = 0; name != NULL && i < count; i++) {
        if (strcmp(names[i], name) == 0)
            return i;
    }
    return -1;
}

int log_level_parse(const char *name)
{
    return find_name(level_names, LOG_OFF + 1, name);
}

const char *log_level_name(log_level level)
{
    return (unsigned)level > LOG_OFF ? "?" : level_names[level];
}

int log_format_parse(const char *name)
{
    return find_name(format_names, LOG_FORMAT_JSON + 1, name);
}

/* ---- the queue; the caller holds the lock ---- */

static size_t queue_room(const logger *l)
{
    return LOG_QUEUE_BYTES - l->fill_length - l->out_left;
}

static void queue_put(logger *l, log_level level, const char *text, size_t length)
{
    if (l->hook != NULL)
        l->fill[l->fill_length++] = (char)level;
    memcpy(l->fill + l->fill_length, text, length);
    l->fill_length += length;
    l->fill[l->fill_length++] = '\n';
}

static struct timespec now(const logger *l)
{
    int64_t ns = wall_clock_ns(&l->clock);
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

/* Says where lines are missing, and how many. Needs REPORT_ROOM. Whoever hides warnings still sees
 * it: it is about lines that they wanted. */
static void queue_report(logger *l)
{
    char text[LOG_LINE_MAX];
    const log_field fields[] = {
        log_int("dropped", (int64_t)l->unreported),
        log_int("dropped_total", (int64_t)atomic_load(&l->dropped)),
    };
    log_event event = {.level = LOG_WARN,
                       .message = "log lines dropped: the output does not keep up",
                       .fields = fields,
                       .count = 2};
    event.time = now(l);
    size_t length = log_line(text, l->format, l->coloured, &event);
    queue_put(l, LOG_WARN, text, length);
    l->unreported = 0;
}

static void count_dropped(logger *l, uint64_t lines)
{
    atomic_fetch_add(&l->dropped, lines);
    l->unreported += lines;
}

bool log_wants(const logger *l, log_level level)
{
    if (l == NULL)
        return false;
    int wanted = (int)level;
    return wanted >= atomic_load_explicit(&l->level, memory_order_relaxed) ||
           wanted >= atomic_load_explicit(&l->observe_level, memory_order_relaxed);
}

static void put_line(logger *l, log_level level, const char *text, size_t length)
{
    size_t need = length + 2 + (l->unreported > 0 ? REPORT_ROOM : 0);
    if (need > queue_room(l)) {
        count_dropped(l, 1);
        return;
    }
    if (l->unreported > 0) /* before the next line, where the gap is */
        queue_report(l);
    queue_put(l, level, text, length);
    (void)pthread_cond_signal(&l->work);
}

static void observe(logger *l, const log_event *event)
{
    if ((int)event->level < atomic_load_explicit(&l->observe_level, memory_order_relaxed))
        return;
    char text[LOG_LINE_MAX];
    size_t length = log_line(text, LOG_FORMAT_JSON, false, event);
    (void)pthread_mutex_lock(&l->lock);
    if (l->observe != NULL)
        l->observe(l->observe_closure, event->level, text, length);
    (void)pthread_mutex_unlock(&l->lock);
}

void log_write(logger *l, log_level level, const char *message, const log_field *fields, int count)
{
    if (!log_wants(l, level) || (unsigned)level >= LOG_OFF)
        return;
    log_event event = {.level = level, .message = message, .fields = fields, .count = count};
    event.time = now(l);
    observe(l, &event);
    if (level < log_get_level(l))
        return;
    char text[LOG_LINE_MAX];
    size_t length = log_line(text, l->format, l->coloured, &event);
    (void)pthread_mutex_lock(&l->lock);
    put_line(l, level, text, length);
    (void)pthread_mutex_unlock(&l->lock);
}

void log_observe(logger *l, log_level level, log_write_fn write, void *closure)
{
    (void)pthread_mutex_lock(&l->lock);
    l->observe = write;
    l->observe_closure = closure;
    atomic_store_explicit(&l->observe_level, write != NULL ? (int)level : LOG_OFF,
                          memory_order_relaxed);
    (void)pthread_mutex_unlock(&l->lock);
}

/* ---- the log's thread ---- */

static bool must_discard(logger *l)
{
    (void)pthread_mutex_lock(&l->lock);
    bool discard = l->discard;
    (void)pthread_mutex_unlock(&l->lock);
    return discard;
}

/* How many of the bytes are written: all, unless the descriptor fails. Somebody else may have made
 * it non-blocking (a shared terminal): then this waits, as write would. */
static size_t write_bytes(logger *l, const char *data, size_t length)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = write(l->fd, data + done, length - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = l->fd, .events = POLLOUT};
            (void)poll(&p, 1, POLL_MS);
            if (must_discard(l))
                break;
        } else if (n == 0 || errno != EINTR) {
            break;
        }
    }
    return done;
}

static uint64_t count_lines(const char *data, size_t length)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < length; i++)
        lines += data[i] == '\n';
    return lines;
}

/* The length of the next part of the queue: one line for a hook, as many whole lines as fit into
 * WRITE_CHUNK (but at least one) for a descriptor. */
static size_t next_part(const logger *l, const char *data, size_t length)
{
    size_t part = 0;
    while (part < length) {
        const char *end = memchr(data + part, '\n', length - part);
        size_t with_line = (size_t)(end - data) + 1;
        if (part > 0 && (l->hook != NULL || with_line > WRITE_CHUNK))
            break;
        part = with_line;
    }
    return part;
}

/* Returns the number of lines that are lost. */
static uint64_t write_part(logger *l, const char *data, size_t length)
{
    if (l->hook != NULL) {
        l->hook(l->closure, (log_level)data[0], data + 1, length - 2);
        return 0;
    }
    if (l->torn && write_bytes(l, "\n", 1) == 0)
        return count_lines(data, length);
    size_t done = write_bytes(l, data, length);
    l->torn = done > 0 && data[done - 1] != '\n';
    return count_lines(data + done, length - done);
}

/* Writes `out`; holds the lock at the beginning and at the end. */
static void drain(logger *l)
{
    const char *at = l->out;
    while (l->out_left > 0 && !l->discard) {
        size_t part = next_part(l, at, l->out_left);
        l->writing = true;
        (void)pthread_mutex_unlock(&l->lock);
        uint64_t lost = write_part(l, at, part);
        (void)pthread_mutex_lock(&l->lock);
        l->writing = false;
        at += part;
        l->out_left -= part;
        if (lost > 0)
            count_dropped(l, lost);
        else if (l->unreported > 0 && queue_room(l) >= REPORT_ROOM)
            queue_report(l); /* only after a write that worked: else it would never end */
    }
    l->out_left = 0;
}

static void log_destroy(logger *l)
{
    (void)pthread_mutex_destroy(&l->lock);
    (void)pthread_cond_destroy(&l->work);
    (void)pthread_cond_destroy(&l->ended);
    free(l->fill);
    free(l->out);
    free(l);
}

static void *log_main(void *arg)
{
    logger *l = arg;
    (void)pthread_mutex_lock(&l->lock);
    for (;;) {
        while (l->fill_length == 0 && !l->stopping)
            (void)pthread_cond_wait(&l->work, &l->lock);
        if (l->fill_length == 0 || l->discard)
            break;
        char *empty = l->out;
        l->out = l->fill;
        l->fill = empty;
        l->out_left = l->fill_length;
        l->fill_length = 0;
        drain(l);
    }
    l->done = true;
    bool abandoned = l->abandoned;
    (void)pthread_cond_signal(&l->ended);
    (void)pthread_mutex_unlock(&l->lock);
    if (abandoned)
        log_destroy(l);
    return NULL;
}

/* ---- making and freeing ---- */

/* It takes no signal: a SIGPIPE of ours must not end the program. */
static int start_thread(logger *l)
{
    sigset_t before;
    thread_block_signals(&before);
    int failed = pthread_create(&l->thread, NULL, log_main, l);
    thread_restore_signals(&before);
    if (failed == 0)
        (void)pthread_setname_np(l->thread, "moondog-log");
    return failed == 0 ? 0 : -1;
}

/* Takes what *like says; NULL when there is no memory or no thread. */
static logger *log_make(const logger *like, log_level level)
{
    logger *l = malloc(sizeof *l);
    if (l == NULL)
        return NULL;
    *l = *like;
    atomic_init(&l->level, (int)level);
    atomic_init(&l->observe_level, LOG_OFF);
    atomic_init(&l->dropped, 0);
    /* Pages that no burst ever reached cost nothing: malloc maps blocks of this size. */
    l->fill = malloc(LOG_QUEUE_BYTES);
    l->out = malloc(LOG_QUEUE_BYTES);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&l->lock, NULL);
    (void)pthread_cond_init(&l->work, NULL);
    (void)pthread_cond_init(&l->ended, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    if (l->fill == NULL || l->out == NULL || start_thread(l) != 0) {
        log_destroy(l);
        return NULL;
    }
    return l;
}

bool log_wants_colour(int fd)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return isatty(fd) && (no_color == NULL || *no_color == '\0') &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

logger *log_new(int fd, log_format format, log_level level)
{
    if (format == LOG_FORMAT_AUTO)
        format = isatty(fd) ? LOG_FORMAT_SHORT : LOG_FORMAT_LOGFMT;
    tzset(); /* localtime_r need not do it */
    return log_make(&(logger){.fd = fd, .format = format, .coloured = log_wants_colour(fd)}, level);
}

logger *log_new_hook(log_write_fn write, void *closure, log_format format, log_level level)
{
    if (format == LOG_FORMAT_AUTO)
        format = LOG_FORMAT_LOGFMT;
    tzset();
    return log_make(&(logger){.fd = -1, .hook = write, .closure = closure, .format = format},
                    level);
}

bool log_free(logger *l, unsigned flush_ms)
{
    if (l == NULL)
        return true;
    struct timespec deadline;
    (void)clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += flush_ms / 1000;
    deadline.tv_nsec += (long)(flush_ms % 1000) * 1000000;
    if (deadline.tv_nsec >= 1000000000) {
        deadline.tv_sec++;
        deadline.tv_nsec -= 1000000000;
    }
    (void)pthread_mutex_lock(&l->lock);
    l->stopping = true;
    (void)pthread_cond_signal(&l->work);
    int waited = 0;
    while (!l->done && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&l->ended, &l->lock, &deadline);
    l->discard = true;
    /* A thread that hangs in write may come back in a year; it frees the log then. */
    bool hangs = !l->done && l->writing;
    l->abandoned = hangs;
    pthread_t thread = l->thread;
    (void)pthread_mutex_unlock(&l->lock);
    if (hangs) {
        (void)pthread_detach(thread);
        return false;
    }
    (void)pthread_join(thread, NULL);
    log_destroy(l);
    return true;
}

void log_set_clock(logger *l, wall_clock clock)
{
    l->clock = clock;
}

void log_set_level(logger *l, log_level level)
{
    if (l != NULL)
        atomic_store_explicit(&l->level, (int)level, memory_order_relaxed);
}

log_level log_get_level(const logger *l)
{
    return (log_level)atomic_load_explicit(&l->level, memory_order_relaxed);
}

uint64_t log_dropped(const logger *l)
{
    return l == NULL ? 0 : atomic_load(&l->dropped);
}
