/* The supervisor. See supervise.h. Main thread of the parent process, which has no other but that
 * of its log. */
#include "cli/supervise.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"
#include "cli/args.h"
#include "cli/child_socket.h"
#include "cli/supervised.h"
#include "cli/versions.h"

#define START_GRACE_MS 30000u /* over the load budget: until the child is ready */
#define STOP_GRACE_MS 5000u   /* over the drain's deadline: until the child has ended */
#define LOG_FLUSH_MS 1000u
#define LATE_MS 500u /* of a timer: we did not run, nor did the child, maybe */
#define REASON_SIZE 384
#define HASH_SHOWN 12
#define FAILED_STARTS 3u /* then the file has its turn */

/* Variables of the environment that the child gets from us alone. */
static const char *const replaced[] = {NOTIFY_FD_VARIABLE, "NOTIFY_SOCKET", "WATCHDOG_USEC",
                                       "WATCHDOG_PID",     SUPERVISOR_PID,  SUPERVISOR_RESTARTS,
                                       SUPERVISOR_REASON,  SUPERVISOR_AT,   SUPERVISOR_SCRIPT};
#define REPLACED (sizeof replaced / sizeof replaced[0])

typedef enum { RESTART_CRASHED, RESTART_WEDGED, RESTART_ENDED, RESTART_KINDS } restart_kind;

struct supervisor {
    uv_loop_t loop;
    char **argv;
    int socket; /* our end of the child's; -1: there is no child */
    uv_poll_t poll;
    uv_signal_t signals[3];
    uv_timer_t timer;   /* until the child is started, ready, heard of again, or ended */
    uv_timer_t feeding; /* our own service manager is told that we are there */
    uv_process_t child;
    struct logger *log;
    notify *manager; /* NULL: none */
    uint32_t wedged_ms, start_ms, stop_ms;
    uint64_t due; /* ms: when the timer shall fire */
    bool running, ready, was_ready, stopping;
    unsigned failed_starts; /* one after the other: the child ended before it was ready */
    bool reload;            /* is wanted, and the child is not ready for it */
    versions versions;
    int chosen; /* version to start with; -1: the file */
    unsigned long restarts[RESTART_KINDS];
    restart_kind kind;                /* of the next one */
    bool its_fault;                   /* of the script's version, as far as can be told */
    unsigned recent;                  /* within VERSION_FORGET_MS */
    uint64_t last_restart;            /* ms */
    char stall[256];                  /* what holds the child's loop, as it said; "": nothing */
    char killed_because[REASON_SIZE]; /* "": not by us */
    char reason[REASON_SIZE];         /* of the last restart */
    int64_t reason_at;                /* ms since 1970 */
    int exit_code;
};

static void on_timer(uv_timer_t *timer);

static void wait_ms(struct supervisor *s, uint32_t ms)
{
    uv_update_time(&s->loop);
    s->due = clock_ms() + ms;
    uv_timer_start(&s->timer, on_timer, ms, 0);
}

static int64_t restarts_of(const struct supervisor *s)
{
    unsigned long all = 0;
    for (int i = 0; i < RESTART_KINDS; i++)
        all += s->restarts[i];
    return (int64_t)all;
}

static void finish(struct supervisor *s, int code)
{
    s->exit_code = code;
    uv_stop(&s->loop);
}

/* ---- starting ---- */

static void set_variable(char **env, size_t *count, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void set_variable(char **env, size_t *count, const char *name, const char *format, ...)
{
    char value[REASON_SIZE], *text;
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    if (asprintf(&text, "%s=%s", name, value) >= 0)
        env[(*count)++] = text;
}

static bool is_replaced(const char *variable)
{
    for (size_t i = 0; i < REPLACED; i++) {
        size_t length = strlen(replaced[i]);
        if (strncmp(variable, replaced[i], length) == 0 && variable[length] == '=')
            return true;
    }
    return false;
}

static const char *script_name(const struct supervisor *s)
{
    return s->chosen < 0 ? "file" : s->chosen == 0 ? "same" : "last_good";
}

/* Ours, with what the child is told: to be freed with free_environment(). NULL: no memory. */
static char **make_environment(const struct supervisor *s, size_t *own)
{
    extern char **environ;
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    char **env = calloc(count + REPLACED + 1, sizeof env[0]);
    if (env == NULL)
        return NULL;
    count = 0;
    set_variable(env, &count, NOTIFY_FD_VARIABLE, "%d", SUPERVISOR_NOTIFY_FD);
    set_variable(env, &count, "WATCHDOG_USEC", "%u000", s->wedged_ms);
    set_variable(env, &count, SUPERVISOR_PID, "%d", (int)getpid());
    set_variable(env, &count, SUPERVISOR_RESTARTS, "%lu,%lu,%lu", s->restarts[RESTART_CRASHED],
                 s->restarts[RESTART_WEDGED], s->restarts[RESTART_ENDED]);
    set_variable(env, &count, SUPERVISOR_REASON, "%s", s->reason);
    set_variable(env, &count, SUPERVISOR_AT, "%lld", (long long)s->reason_at);
    set_variable(env, &count, SUPERVISOR_SCRIPT, "%s", script_name(s));
    *own = count;
    for (char **at = environ; *at != NULL; at++)
        if (!is_replaced(*at))
            env[count++] = *at;
    return env;
}

static void free_environment(char **env, size_t own)
{
    for (size_t i = 0; i < own; i++)
        free(env[i]);
    free(env);
}

static void on_child_exit(uv_process_t *process, int64_t status, int signal_number);

static void on_readable(uv_poll_t *poll, int status, int events);

static void listen_to_child(struct supervisor *s)
{
    uv_poll_init(&s->loop, &s->poll, s->socket);
    s->poll.data = s;
    uv_poll_start(&s->poll, UV_READABLE, on_readable);
}

static void stop_listening(struct supervisor *s)
{
    uv_close((uv_handle_t *)&s->poll, NULL);
    close(s->socket);
    s->socket = -1;
}

/* `childs`: its end of the sockets. */
static int spawn(struct supervisor *s, int childs)
{
    size_t own;
    char **env = make_environment(s, &own);
    if (env == NULL)
        return UV_ENOMEM;
    uv_stdio_container_t descriptors[SUPERVISOR_SCRIPT_FD + 1] = {
        {.flags = UV_INHERIT_FD, .data.fd = 0},
        {.flags = UV_INHERIT_FD, .data.fd = 1},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
        {.flags = UV_INHERIT_FD, .data.fd = childs},
    };
    if (s->chosen >= 0)
        descriptors[SUPERVISOR_SCRIPT_FD] = (uv_stdio_container_t){
            .flags = UV_INHERIT_FD, .data.fd = s->versions.list[s->chosen].fd};
    uv_process_options_t options = {
        .file = "/proc/self/exe",
        .args = s->argv,
        .env = env,
        .exit_cb = on_child_exit,
        /* Not of our process group: what a terminal interrupts is told to us, and by us to it. */
        .flags = UV_PROCESS_DETACHED,
        .stdio = descriptors,
        .stdio_count = s->chosen >= 0 ? SUPERVISOR_SCRIPT_FD + 1 : SUPERVISOR_SCRIPT_FD,
    };
    int failed = uv_spawn(&s->loop, &s->child, &options);
    s->child.data = s;
    free_environment(env, own);
    if (failed != 0)
        uv_close((uv_handle_t *)&s->child, NULL);
    return failed;
}

static void plan_restart(struct supervisor *s);

static void start(struct supervisor *s)
{
    int childs, failed = UV_ENFILE;
    s->ready = false;
    if (child_socket_pair(&s->socket, &childs) == 0) {
        listen_to_child(s);
        failed = spawn(s, childs);
        close(childs);
        if (failed != 0)
            stop_listening(s);
    }
    if (failed != 0) {
        snprintf(s->reason, sizeof s->reason, "the process could not be started: %s",
                 uv_strerror(failed));
        s->kind = RESTART_ENDED;
        s->its_fault = false;
        plan_restart(s);
        return;
    }
    if (s->chosen >= 0)
        versions_begin(&s->versions, s->chosen, clock_ms());
    s->running = true;
    s->stall[0] = s->killed_because[0] = '\0';
    log_emit(s->log, LOG_INFO, "child started", log_int("child", s->child.pid),
             log_int("restarts", restarts_of(s)));
    wait_ms(s, s->start_ms);
}

/* ---- the child's words ---- */

/* Between two of them, the child was stuck for that long at most. */
static void heard(struct supervisor *s)
{
    if (!s->stopping && s->ready)
        wait_ms(s, s->wedged_ms);
}

static void take_status(struct supervisor *s, const char *text)
{
    static const char stalled[] = "stalled: ";
    char status[sizeof s->stall];
    if (child_socket_value(text, "STATUS", status, sizeof status) == NULL)
        return;
    bool is_stall = strncmp(status, stalled, sizeof stalled - 1) == 0;
    snprintf(s->stall, sizeof s->stall, "%s", is_stall ? status + sizeof stalled - 1 : "");
    notify_send(s->manager, -1, "STATUS=%.400s", status);
}

/* It would end by the signal before it is ready. */
static void pass_on_reload(struct supervisor *s)
{
    if (!s->reload || !s->running || !s->ready)
        return;
    s->reload = false;
    uv_process_kill(&s->child, SIGHUP);
}

/* From here on, its end is the end of all. */
static void note_stop(struct supervisor *s)
{
    if (s->stopping)
        return;
    s->stopping = true;
    notify_send(s->manager, -1, "STOPPING=1");
    wait_ms(s, s->stop_ms);
}

static void take_words(struct supervisor *s, const char *text, int fd)
{
    char value[CHILD_TEXT_SIZE];
    if (child_socket_value(text, "FDNAME", value, sizeof value) != NULL && fd >= 0)
        versions_note(&s->versions, value, fd, clock_ms());
    else if (fd >= 0)
        close(fd);
    if (child_socket_value(text, "READY", value, sizeof value) != NULL) {
        s->ready = s->was_ready = true;
        s->failed_starts = 0;
        notify_send(s->manager, -1, "READY=1");
        heard(s);
        pass_on_reload(s);
    }
    if (child_socket_value(text, "RELOADING", value, sizeof value) != NULL)
        notify_send(s->manager, -1, "%.400s", text);
    if (child_socket_value(text, "STOPPING", value, sizeof value) != NULL)
        note_stop(s); /* it was told so by somebody else */
    if (child_socket_value(text, "X_MOONDOG_WORKS", value, sizeof value) != NULL)
        versions_worked(&s->versions);
    if (child_socket_value(text, "WATCHDOG", value, sizeof value) != NULL)
        heard(s);
    take_status(s, text);
}

static void hear(struct supervisor *s)
{
    char text[CHILD_TEXT_SIZE];
    int fd;
    while (s->running && child_socket_receive(s->socket, text, &fd) > 0)
        take_words(s, text, fd);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    hear(poll->data);
}

/* ---- ending ---- */

static void kill_child(struct supervisor *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void kill_child(struct supervisor *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(s->killed_because, sizeof s->killed_because, format, args);
    va_end(args);
    uv_process_kill(&s->child, SIGKILL);
}

static void on_timer(uv_timer_t *timer)
{
    struct supervisor *s = timer->data;
    hear(s); /* after a stall of our own, its words may be here already */
    if (uv_is_active((uv_handle_t *)timer))
        return;
    if (!s->running)
        start(s);
    else if (clock_ms() >= s->due + LATE_MS)
        wait_ms(s, s->stopping ? s->stop_ms : s->ready ? s->wedged_ms : s->start_ms);
    else if (s->stopping)
        kill_child(s, "it did not end within %u s after it was told to", s->stop_ms / 1000);
    else if (!s->ready)
        kill_child(s, "it was not ready within %u s", s->start_ms / 1000);
    else
        kill_child(s, "wedged for %.1f s: %s", s->wedged_ms / 1000.0,
                   s->stall[0] != '\0' ? s->stall
                                       : "nothing was heard of it, and it did not say why");
}

/* Why is in s->reason: the log, the service manager and the next child are told. */
static void plan_restart(struct supervisor *s)
{
    uint64_t now = clock_ms();
    s->reason_at = clock_wall_ms();
    if (now >= s->last_restart + VERSION_FORGET_MS)
        s->recent = 0;
    s->chosen = versions_choose(&s->versions, s->its_fault, now);
    if (!s->ready && ++s->failed_starts % FAILED_STARTS == 0)
        s->chosen = -1; /* what was kept does not work any more: the file may be mended */
    uint32_t delay = restart_delay_ms(s->recent++);
    s->last_restart = now + delay;
    s->restarts[s->kind]++;
    log_emit(s->log, LOG_ERROR, "child ended", log_str("reason", s->reason),
             log_num("restart_in", delay / 1000.0), log_str("script", script_name(s)),
             log_bytes("hash", s->chosen < 0 ? "" : s->versions.list[s->chosen].name,
                       s->chosen < 0 ? 0 : HASH_SHOWN),
             log_str("plan", s->chosen > 0 ? "an older script, until moondog reload takes the file"
                                           : "it is started again"),
             log_int("restarts", restarts_of(s)));
    notify_send(s->manager, -1, "STATUS=restarting in %.1f s: %.300s", delay / 1000.0, s->reason);
    wait_ms(s, delay);
}

static void explain_exit(struct supervisor *s, int64_t status, int signal_number)
{
    bool by_us = s->killed_because[0] != '\0';
    s->kind = by_us ? RESTART_WEDGED : signal_number != 0 ? RESTART_CRASHED : RESTART_ENDED;
    s->its_fault = by_us || (signal_number != SIGKILL && signal_number != SIGTERM);
    if (by_us)
        memcpy(s->reason, s->killed_because, sizeof s->reason);
    else if (signal_number == SIGKILL)
        snprintf(s->reason, sizeof s->reason,
                 "killed: signal 9, by a person, or by the system for want of memory");
    else if (signal_number != 0)
        snprintf(s->reason, sizeof s->reason, "crashed: signal %d (%s)", signal_number,
                 strsignal(signal_number));
    else
        snprintf(s->reason, sizeof s->reason, "ended with exit code %d", (int)status);
}

static void give_up_stop(struct supervisor *s)
{
    log_emit(s->log, LOG_ERROR, "child killed at the deadline of the stop",
             log_str("reason", s->killed_because), log_str("held_by", s->stall));
    finish(s, EXIT_FAILED);
}

static void on_child_exit(uv_process_t *process, int64_t status, int signal_number)
{
    struct supervisor *s = process->data;
    hear(s); /* its last words */
    stop_listening(s);
    s->running = false;
    uv_timer_stop(&s->timer);
    uv_close((uv_handle_t *)process, NULL);
    explain_exit(s, status, signal_number);
    /* A first start that fails in good order has said why: it would fail again. */
    if (s->stopping && !s->ready && signal_number == SIGTERM)
        finish(s, EXIT_DONE); /* ours, before it knew what to do about it */
    else if (s->stopping && s->killed_because[0] != '\0')
        give_up_stop(s);
    else if (s->stopping || (signal_number == 0 && (status == 0 || !s->was_ready)))
        finish(s, signal_number == 0 ? (int)status : EXIT_FAILED);
    else
        plan_restart(s);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct supervisor *s = handle->data;
    if (number == SIGHUP) {
        s->reload = true;
        pass_on_reload(s);
        return;
    }
    if (!s->running) {
        finish(s, EXIT_DONE);
        return;
    }
    note_stop(s);
    uv_process_kill(&s->child, SIGTERM);
}

static void on_feeding(uv_timer_t *timer)
{
    struct supervisor *s = timer->data;
    notify_send(s->manager, -1, "WATCHDOG=1");
}

/* ---- all ---- */

static void read_arguments(struct supervisor *s, lua_State *L)
{
    int format = log_format_parse(args_string(L, "log", "auto"));
    int level = log_level_parse(args_string(L, "level", "info"));
    s->log = log_new(STDERR_FILENO, (log_format)format, (log_level)level);
    s->wedged_ms = (uint32_t)(args_number(L, "wedged", 5) * 1000);
    s->start_ms = (uint32_t)args_number(L, "load_budget", 1000) + START_GRACE_MS;
    s->stop_ms = (uint32_t)(args_number(L, "drain", 10) * 1000) + STOP_GRACE_MS;
}

static int open_all(struct supervisor *s)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    if (s->log == NULL || uv_loop_init(&s->loop) != 0)
        return -1;
    uv_timer_init(&s->loop, &s->timer);
    uv_timer_init(&s->loop, &s->feeding);
    s->timer.data = s->feeding.data = s;
    for (int i = 0; i < 3; i++) {
        uv_signal_init(&s->loop, &s->signals[i]);
        s->signals[i].data = s;
        uv_signal_start(&s->signals[i], on_signal, numbers[i]);
    }
    uint64_t feed_ms = notify_watchdog_ns(s->manager) / 1000000u;
    if (feed_ms > 0)
        uv_timer_start(&s->feeding, on_feeding, feed_ms, feed_ms);
    return 0;
}

static void close_handle(uv_handle_t *handle, void *closure)
{
    (void)closure;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void close_all(struct supervisor *s)
{
    uv_walk(&s->loop, close_handle, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    uv_loop_close(&s->loop);
    versions_clear(&s->versions);
    log_free(s->log, LOG_FLUSH_MS);
    notify_close(s->manager);
}

int supervise(lua_State *L, char **argv)
{
    struct supervisor s = {.argv = argv, .chosen = -1, .socket = -1};
    s.manager = notify_open();
    read_arguments(&s, L);
    if (open_all(&s) != 0) {
        fprintf(stderr, "moondog: cannot supervise: no descriptor, thread or memory\n");
        return EXIT_FAILED;
    }
    start(&s);
    uv_run(&s.loop, UV_RUN_DEFAULT);
    close_all(&s);
    return s.exit_code;
}
