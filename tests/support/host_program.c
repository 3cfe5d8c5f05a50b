/* A program that embeds moondog and uses messages without Lua, for scenarios: it does what it
 * reads, a line at a time, with fields between tabs ("-": NULL), and answers each with "ok" or with
 * "no", the code and the message; what comes later are lines of its own. See
 * tests/support/host.lua. What it is told is done between two turns of the loop, which is the
 * program's own. An argument: "poll", and it polls the runtime instead of running it; or where
 * health and metrics are served. One thread. */
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "moondog.h"

#define FIELDS_MAX 12
#define LINE_MAX_BYTES (1u << 20)
#define NUMBERS_MAX (1u << 20)
#define NAME_SIZE 64
#define POLL_US 1 /* each call does one thing */

typedef struct listener {
    struct listener *next;
    md_subscription *subscription; /* NULL: not any more */
    char id[NAME_SIZE], mode[NAME_SIZE];
    unsigned char *seen; /* how often each number came */
    unsigned long handled, disordered, highest;
} listener;

static uv_loop_t loop;
static uv_pipe_t input;
static md_runtime *runtime;
static listener *listeners;
static char line[LINE_MAX_BYTES];
static size_t line_length;
static int has_read; /* the loop was stopped because of that */
static int ended;

static const char *text(const char *s)
{
    return s != NULL ? s : "-";
}

static const char *field(char **fields, int index)
{
    return fields[index] == NULL || strcmp(fields[index], "-") == 0 ? NULL : fields[index];
}

static unsigned long number(char **fields, int index)
{
    return fields[index] != NULL ? strtoul(fields[index], NULL, 10) : 0;
}

static void answer(int failed, const md_error *e)
{
    if (failed)
        printf("no\t%s\t%s\n", e->code, e->message);
    else
        printf("ok\n");
}

/* ---- messages ---- */

static void count_number(listener *l, unsigned long n)
{
    if (n >= NUMBERS_MAX)
        return;
    if (l->seen[n] < 255)
        l->seen[n]++;
    l->disordered += n < l->highest && l->seen[n] == 1;
    if (n > l->highest)
        l->highest = n;
}

static void print_message(const listener *l, const md_message *m)
{
    size_t length;
    const char *data = md_message_data(m, &length);
    printf("message\t%s\t%s\t%s\t%s\t%.*s\n", l->id, md_message_subject(m),
           text(md_message_reply(m)), text(md_message_header(m, "Colour")), (int)length, data);
}

/* Answers with what came; its headers are two values of one name, and more. */
static void echo(const md_message *m)
{
    md_error e = {0};
    size_t length;
    char big[4096];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    const md_header headers[] = {{"Colour", "green"}, {"Colour", "blue"}, {"Big", big}};
    md_outgoing out = {.size = sizeof out};
    out.subject = md_message_reply(m);
    out.data = md_message_data(m, &length);
    out.length = length;
    out.headers = headers;
    out.header_count = 3;
    if (md_publish(runtime, &out, &e) != 0)
        printf("echo failed\t%s\t%s\n", e.code, e.message);
}

/* Holds the loop, as a function of the host should not. */
static void hang(unsigned long ms)
{
    uint64_t until = uv_hrtime() + ms * 1000000ull;
    while (uv_hrtime() < until) {
        struct timespec t = {.tv_nsec = 1000000};
        nanosleep(&t, NULL);
    }
}

static unsigned long as_number(const md_message *m)
{
    char digits[24];
    size_t length;
    const void *data = md_message_data(m, &length);
    snprintf(digits, sizeof digits, "%.*s", (int)length, (const char *)data);
    return strtoul(digits, NULL, 10);
}

static void on_message(void *closure, md_subscription *subscription, const md_message *m)
{
    listener *l = closure;
    l->handled++;
    if (strcmp(l->mode, "count") == 0) {
        count_number(l, as_number(m));
        return;
    }
    if (strcmp(l->mode, "echo") == 0) {
        echo(m);
        return;
    }
    if (strcmp(l->mode, "hang") == 0)
        hang(as_number(m));
    if (strcmp(l->mode, "stop") == 0)
        md_stop(runtime);
    if (strcmp(l->mode, "once") == 0) {
        l->subscription = NULL;
        md_unsubscribe(subscription); /* the message is good until we return */
    }
    print_message(l, m);
}

static void do_subscribe(char **fields)
{
    md_error e = {0};
    listener *l = calloc(1, sizeof *l);
    if (l == NULL)
        abort();
    snprintf(l->id, sizeof l->id, "%s", fields[1]);
    snprintf(l->mode, sizeof l->mode, "%s", text(field(fields, 5)));
    if (strcmp(l->mode, "count") == 0 && (l->seen = calloc(NUMBERS_MAX, 1)) == NULL)
        abort();
    md_interest i = {.size = sizeof i};
    i.connection = field(fields, 2);
    i.subject = field(fields, 3);
    i.queue = field(fields, 4);
    i.pending_messages = number(fields, 6);
    l->subscription = md_subscribe(runtime, &i, on_message, l, &e);
    l->next = listeners;
    listeners = l;
    answer(l->subscription == NULL, &e);
}

static listener *find(const char *id)
{
    for (listener *l = listeners; l != NULL; l = l->next)
        if (strcmp(l->id, id) == 0)
            return l;
    fprintf(stderr, "no listener %s\n", id);
    abort();
}

static void do_unsubscribe(char **fields)
{
    listener *l = find(fields[1]);
    md_unsubscribe(l->subscription);
    l->subscription = NULL;
    answer(0, NULL);
}

static void do_numbers(char **fields)
{
    listener *l = find(fields[1]);
    unsigned long missing = 0, twice = 0;
    for (unsigned long n = 1; n <= number(fields, 2); n++) {
        missing += l->seen[n] == 0;
        twice += l->seen[n] > 1;
    }
    printf("numbers\t%lu\t%lu\t%lu\t%lu\n", l->handled, missing, twice, l->disordered);
    answer(0, NULL);
}

/* ---- sending ---- */

static void do_publish(char **fields)
{
    md_error e = {0};
    md_outgoing m = {.size = sizeof m};
    md_header header = {field(fields, 5), field(fields, 6)};
    m.connection = field(fields, 1);
    m.subject = field(fields, 2);
    m.reply = field(fields, 3);
    m.data = field(fields, 4);
    m.length = m.data != NULL ? strlen(m.data) : 0;
    m.headers = &header;
    m.header_count = header.name != NULL;
    answer(md_publish(runtime, &m, &e), &e);
}

/* So many numbers from one on, until one is refused. */
static void do_flow(char **fields)
{
    md_error e = {0};
    char digits[24];
    md_outgoing m = {.size = sizeof m};
    m.connection = field(fields, 1);
    m.subject = field(fields, 2);
    m.data = digits;
    unsigned long n = number(fields, 3), end = n + number(fields, 4);
    for (; n < end; n++) {
        m.length = (size_t)snprintf(digits, sizeof digits, "%lu", n);
        if (md_publish(runtime, &m, &e) != 0)
            break;
    }
    printf("accepted\t%lu\n", n - 1);
    answer(e.code[0] != '\0', &e);
}

/* What an older header knows is enough; without a size it is a mistake. */
static void do_old(char **fields)
{
    md_error e = {0};
    md_outgoing m = {.size = offsetof(md_outgoing, reply)};
    m.subject = field(fields, 1);
    m.reply = "not.looked.at";
    m.header_count = 77;
    int failed = md_publish(runtime, &m, &e);
    m.size = 0;
    if (!failed && md_publish(runtime, &m, NULL) == 0)
        abort();
    if (!failed)
        failed = md_publish(runtime, &m, &e) == 0;
    printf("old\t%s\t%s\n", e.code, e.message);
    answer(failed, &e);
}

static int asking; /* inside md_request() */

static void on_answer(void *closure, const md_message *m, const md_error *e)
{
    size_t length;
    if (asking || (m == NULL) == (e == NULL))
        abort();
    if (m != NULL && strcmp(closure, "hang") == 0)
        hang(as_number(m));
    if (m != NULL) {
        const char *data = md_message_data(m, &length);
        printf("answer\t%s\t%s\t%.*s\n", (char *)closure, text(md_message_header(m, "Colour")),
               (int)length, data);
    } else {
        printf("failed\t%s\t%s\t%s\n", (char *)closure, e->code, e->message);
    }
    free(closure);
}

static void do_request(char **fields)
{
    md_error e = {0};
    md_outgoing m = {.size = sizeof m};
    char *tag = strdup(fields[1]);
    m.connection = field(fields, 2);
    m.subject = field(fields, 3);
    m.data = field(fields, 4);
    m.length = m.data != NULL ? strlen(m.data) : 0;
    m.timeout_ms = (uint32_t)number(fields, 5);
    asking = 1;
    int failed = md_request(runtime, &m, on_answer, tag, &e);
    asking = 0;
    if (failed)
        free(tag);
    answer(failed, &e);
}

/* ---- the runtime ---- */

static void do_load(char **fields)
{
    md_error e = {0};
    answer(md_load(runtime, fields[1], &e), &e);
}

static void on_reloaded(void *closure, const md_reload_result *result, const md_error *e)
{
    (void)closure;
    if (result != NULL)
        printf("reloaded\t%u\n", result->generation);
    else
        printf("not reloaded\t%s\t%s\n", e->code, e->message);
    fflush(stdout);
}

static void do_reload(char **fields)
{
    (void)fields;
    md_error e = {0};
    answer(md_reload(runtime, 0, on_reloaded, NULL, &e), &e);
}

static void do_status(char **fields)
{
    (void)fields;
    char *status = md_status(runtime);
    printf("status\t%s\n", status);
    free(status);
    answer(0, NULL);
}

static void do_stop(char **fields)
{
    (void)fields;
    md_stop(runtime);
    answer(0, NULL);
}

static void do_free(char **fields)
{
    (void)fields;
    ended = 1;
    answer(0, NULL);
}

/* ---- reading ---- */

static const struct {
    const char *name;
    void (*run)(char **fields);
} commands[] = {{"subscribe", do_subscribe}, {"unsubscribe", do_unsubscribe},
                {"numbers", do_numbers},     {"publish", do_publish},
                {"flow", do_flow},           {"old", do_old},
                {"request", do_request},     {"load", do_load},
                {"reload", do_reload},       {"status", do_status},
                {"stop", do_stop},           {"free", do_free}};

static void run_line(char *whole)
{
    char *fields[FIELDS_MAX + 1] = {0};
    for (int i = 0; i < FIELDS_MAX && whole != NULL; i++)
        fields[i] = strsep(&whole, "\t");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(commands[i].name, fields[0]) == 0) {
            commands[i].run(fields);
            fflush(stdout);
            return;
        }
    fprintf(stderr, "unknown command %s\n", fields[0]);
    abort();
}

static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *out)
{
    (void)handle;
    (void)wanted;
    *out = uv_buf_init(line + line_length, (unsigned)(sizeof line - line_length));
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    (void)buffer;
    if (count < 0) {
        uv_read_stop(stream);
        ended = 1;
    } else {
        line_length += (size_t)count;
    }
    has_read = 1;
    uv_stop(&loop);
}

static void run_lines(void)
{
    char *end, *at = line;
    while ((end = memchr(at, '\n', line_length - (size_t)(at - line))) != NULL) {
        *end = '\0';
        run_line(at);
        at = end + 1;
    }
    line_length -= (size_t)(at - line);
    memmove(line, at, line_length);
}

static void on_check(uv_check_t *check)
{
    (void)check;
    fflush(stdout);
}

/* As a program with frames to draw. Whether the runtime has stopped. */
static int poll_once(void)
{
    struct pollfd fd = {.fd = md_backend_fd(runtime), .events = POLLIN};
    poll(&fd, 1, md_backend_timeout(runtime));
    return md_poll(runtime, POLL_US) < 0;
}

int main(int argc, char **argv)
{
    md_options o;
    md_error e = {0};
    uv_check_t check;
    uv_loop_init(&loop);
    md_options_init(&o);
    o.loop = &loop;
    o.log_format = "json";
    int polls = argc > 1 && strcmp(argv[1], "poll") == 0;
    o.http = argc > 1 && !polls ? argv[1] : NULL;
    runtime = md_create(&o, &e);
    if (runtime == NULL) {
        fprintf(stderr, "%s\n", e.message);
        return 1;
    }
    uv_check_init(&loop, &check);
    uv_check_start(&check, on_check);
    uv_pipe_init(&loop, &input, 0);
    uv_pipe_open(&input, 0);
    uv_read_start((uv_stream_t *)&input, on_alloc, on_read);
    do {
        has_read = 0;
        int stopped = polls ? poll_once() : (md_run(runtime), !has_read);
        run_lines();
        ended |= stopped;
    } while (!ended);
    unsigned left = md_free(runtime);
    printf("freed\t%u\n", left);
    uv_close((uv_handle_t *)&check, NULL);
    uv_close((uv_handle_t *)&input, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    for (listener *l = listeners, *next; l != NULL; l = next) {
        next = l->next;
        printf("handled\t%s\t%lu\n", l->id, l->handled);
        free(l->seen);
        free(l);
    }
    return uv_loop_close(&loop) != 0; /* nothing of the runtime is left in it */
}
