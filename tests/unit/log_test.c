/* The log, through real pipes and through hooks: what a line looks like in each format, and what
 * happens when nobody reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define DEADLINE_MS 20000

typedef struct {
    int fds[2];
    char *text; /* what was read so far, NUL-terminated */
    size_t length;
    size_t capacity;
} reader;

static reader reader_open(void)
{
    reader r = {.capacity = 4 * LOG_QUEUE_BYTES};
    assert_int_equal(pipe2(r.fds, O_CLOEXEC), 0);
    r.text = calloc(1, r.capacity);
    assert_non_null(r.text);
    return r;
}

static void reader_close(reader *r)
{
    (void)close(r->fds[0]);
    if (r->fds[1] >= 0)
        (void)close(r->fds[1]);
    free(r->text);
}

/* False at the end of the pipe. */
static bool reader_more(reader *r)
{
    struct pollfd p = {.fd = r->fds[0], .events = POLLIN};
    assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
    assert_true(r->length + 1 < r->capacity);
    ssize_t n = read(r->fds[0], r->text + r->length, r->capacity - 1 - r->length);
    assert_true(n >= 0);
    r->length += (size_t)n;
    r->text[r->length] = '\0';
    return n > 0;
}

/* Ends the log first, so that everything is in the pipe; the pipe must be big enough. */
static void read_all(reader *r, logger *l)
{
    log_free(l, DEADLINE_MS);
    (void)close(r->fds[1]);
    r->fds[1] = -1;
    while (reader_more(r)) {
    }
}

static int count_of(const char *text, const char *what)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what))
        count++;
    return count;
}

static int64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What one line looks like after its time. */
static void expect_line(log_format format, const char *message, log_field field, const char *want)
{
    reader r = reader_open();
    logger *l = log_new(r.fds[1], format, LOG_DEBUG);
    log_write(l, LOG_INFO, message, &field, 1);
    read_all(&r, l);
    const char *rest = strstr(r.text, format == LOG_FORMAT_JSON     ? "\"level\""
                                      : format == LOG_FORMAT_LOGFMT ? "level="
                                                                    : "INFO");
    assert_non_null(rest);
    assert_string_equal(rest, want);
    reader_close(&r);
}

/* ---- what a line looks like ---- */

static void logfmt_lines_quote_what_needs_it(void **state)
{
    (void)state;
    expect_line(LOG_FORMAT_LOGFMT, "up", log_str("url", "nats://127.0.0.1:4222"),
                "level=info msg=\"up\" url=nats://127.0.0.1:4222\n");
    expect_line(LOG_FORMAT_LOGFMT, "a \"b\" \\", log_str("k", "v w"),
                "level=info msg=\"a \\\"b\\\" \\\\\" k=\"v w\"\n");
    expect_line(LOG_FORMAT_LOGFMT, NULL, log_str("k", NULL), "level=info msg=\"\" k=\"\"\n");
    expect_line(LOG_FORMAT_LOGFMT, "m", log_str("k", "a=b"), "level=info msg=\"m\" k=\"a=b\"\n");
    expect_line(LOG_FORMAT_LOGFMT, "m", log_str("a b=\"c\n\xff", "v"),
                "level=info msg=\"m\" a_b__c__=v\n");
    expect_line(LOG_FORMAT_LOGFMT, "m", log_str("", "v"), "level=info msg=\"m\" _=v\n");
}

static void every_format_escapes_control_bytes(void **state)
{
    (void)state;
    const char *bad = "a\nb\r\t\x1b[31m\x7f";
    expect_line(LOG_FORMAT_LOGFMT, bad, log_str("k", bad),
                "level=info msg=\"a\\nb\\r\\t\\u001b[31m\\u007f\""
                " k=\"a\\nb\\r\\t\\u001b[31m\\u007f\"\n");
    expect_line(LOG_FORMAT_JSON, bad, log_str(bad, bad),
                "\"level\":\"info\",\"msg\":\"a\\nb\\r\\t\\u001b[31m\\u007f\","
                "\"a\\nb\\r\\t\\u001b[31m\\u007f\":\"a\\nb\\r\\t\\u001b[31m\\u007f\"}\n");
    expect_line(LOG_FORMAT_SHORT, bad, log_bytes("k", "a\0b", 3),
                "INFO  a\\nb\\r\\t\\u001b[31m\\u007f  k=\"a\\u0000b\"\n");
    /* A terminal obeys C1 controls; some viewers end a line at U+2028; U+202E turns text around. */
    expect_line(LOG_FORMAT_LOGFMT, "m", log_str("k", "\xc2\x9b \xe2\x80\xa8 \xe2\x80\xae"),
                "level=info msg=\"m\" k=\"\\u009b \\u2028 \\u202e\"\n");
}

static void valid_utf8_stays_and_invalid_utf8_is_escaped(void **state)
{
    (void)state;
    const char *good = "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
    expect_line(LOG_FORMAT_LOGFMT, good, log_str(good, good),
                "level=info msg=\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""
                " \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80=\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"\n");
    /* a lone byte, an overlong slash, a surrogate, a character cut off, beyond U+10FFFF */
    const char *bad = "\xff \xc0\xaf \xed\xa0\x80 \xe2\x82 \xf4\x90\x80\x80";
    expect_line(LOG_FORMAT_LOGFMT, "m", log_str("k", bad),
                "level=info msg=\"m\" k=\"\\xff \\xc0\\xaf \\xed\\xa0\\x80 \\xe2\\x82"
                " \\xf4\\x90\\x80\\x80\"\n");
    expect_line(LOG_FORMAT_SHORT, "\xff", log_str("k", "\xfe"), "INFO  \\xff  k=\"\\xfe\"\n");
    expect_line(LOG_FORMAT_JSON, "\xff", log_str("\xfe", "\xe2\x82"),
                "\"level\":\"info\",\"msg\":\"\\ufffd\",\"\\ufffd\":\"\\ufffd\\ufffd\"}\n");
}

static void json_lines_keep_types(void **state)
{
    (void)state;
    expect_line(LOG_FORMAT_JSON, "m", log_int("n", INT64_MIN),
                "\"level\":\"info\",\"msg\":\"m\",\"n\":-9223372036854775808}\n");
    expect_line(LOG_FORMAT_JSON, "m", log_num("n", 0.1),
                "\"level\":\"info\",\"msg\":\"m\",\"n\":0.1}\n");
    expect_line(LOG_FORMAT_JSON, "m", log_num("n", 1.0 / 3),
                "\"level\":\"info\",\"msg\":\"m\",\"n\":0.33333333333333331}\n");
    expect_line(LOG_FORMAT_JSON, "m", log_num("n", __builtin_nan("")),
                "\"level\":\"info\",\"msg\":\"m\",\"n\":null}\n");
    expect_line(LOG_FORMAT_JSON, "m", log_bool("n", true),
                "\"level\":\"info\",\"msg\":\"m\",\"n\":true}\n");
    expect_line(LOG_FORMAT_JSON, "say \"x\\y\"", log_str("q\"", "\"\\"),
                "\"level\":\"info\",\"msg\":\"say \\\"x\\\\y\\\"\",\"q\\\"\":\"\\\"\\\\\"}\n");
    expect_line(LOG_FORMAT_LOGFMT, "m", log_num("n", -__builtin_inf()),
                "level=info msg=\"m\" n=-inf\n");
    expect_line(LOG_FORMAT_SHORT, "m", log_bool("b", false), "INFO  m  b=false\n");
}

static void a_field_cannot_replace_the_lines_own_keys(void **state)
{
    (void)state;
    expect_line(LOG_FORMAT_JSON, "m", log_str("msg", "other"),
                "\"level\":\"info\",\"msg\":\"m\",\"msg_\":\"other\"}\n");
    expect_line(LOG_FORMAT_LOGFMT, "m", log_str("level", "error"),
                "level=info msg=\"m\" level_=error\n");
}

static void lines_start_with_the_time(void **state)
{
    (void)state;
    int year, month, day, hour, minute, second, ms;
    char end;
    reader r = reader_open();
    logger *l = log_new(r.fds[1], LOG_FORMAT_AUTO, LOG_DEBUG); /* a pipe: logfmt */
    log_write(l, LOG_WARN, "m", NULL, 0);
    read_all(&r, l);
    assert_int_equal(sscanf(r.text, "time=%4d-%2d-%2dT%2d:%2d:%2d.%3d%c level=warn msg=\"m\"",
                            &year, &month, &day, &hour, &minute, &second, &ms, &end),
                     8);
    assert_int_equal(end, 'Z');
    reader_close(&r);
    r = reader_open();
    l = log_new(r.fds[1], LOG_FORMAT_SHORT, LOG_DEBUG);
    log_write(l, LOG_ERROR, "m", NULL, 0);
    read_all(&r, l);
    assert_int_equal(
        sscanf(r.text, "%2d:%2d:%2d.%3d ERROR m%c", &hour, &minute, &second, &ms, &end), 5);
    assert_int_equal(end, '\n');
    reader_close(&r);
}

static void long_lines_are_cut_and_stay_whole(void **state)
{
    (void)state;
    static char value[2 * LOG_LINE_MAX + 1];
    const struct {
        log_format format;
        const char *unit; /* repeated to make the value */
        const char *end;
    } cases[] = {
        {LOG_FORMAT_LOGFMT, "x", "xxx...\n"},
        {LOG_FORMAT_LOGFMT, "x y", "...\"\n"},
        {LOG_FORMAT_JSON, "\xe2\x82\xac", "\xe2\x82\xac...\"}\n"},
        {LOG_FORMAT_JSON, "\n", "\\n...\"}\n"},
        {LOG_FORMAT_SHORT, "x", "xxx...\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        value[0] = '\0';
        size_t unit = strlen(cases[i].unit);
        for (size_t at = 0; at + unit < sizeof value; at += unit)
            memcpy(value + at, cases[i].unit, unit + 1);
        for (size_t shift = 0; shift < 4; shift++) { /* the cut falls at each place of a unit */
            reader r = reader_open();
            logger *l = log_new(r.fds[1], cases[i].format, LOG_DEBUG);
            log_field fields[] = {log_bytes("s", value, shift), log_str("k", value),
                                  log_str("never", "seen")};
            log_write(l, LOG_INFO, "m", fields, 3);
            read_all(&r, l);
            assert_true(r.length <= LOG_LINE_MAX + 1);
            assert_true(r.length > LOG_LINE_MAX - 32);
            assert_string_equal(r.text + r.length - strlen(cases[i].end), cases[i].end);
            assert_null(strstr(r.text, "never"));
            reader_close(&r);
        }
    }
}

static void a_cut_between_values_leaves_no_half_field(void **state)
{
    (void)state;
    static char key[LOG_LINE_MAX + 1];
    memset(key, 'k', LOG_LINE_MAX);
    expect_line(LOG_FORMAT_JSON, "m", log_int(key, 1),
                "\"level\":\"info\",\"msg\":\"m\",\"cut\":\"...\"}\n");
    expect_line(LOG_FORMAT_LOGFMT, "m", log_int(key, 1), "level=info msg=\"m\" ...\n");
}

/* ---- who gets a line ---- */

static void levels_filter_and_can_change(void **state)
{
    (void)state;
    reader r = reader_open();
    logger *l = log_new(r.fds[1], LOG_FORMAT_LOGFMT, LOG_WARN);
    assert_false(log_wants(l, LOG_INFO));
    assert_true(log_wants(l, LOG_WARN));
    log_write(l, LOG_INFO, "one", NULL, 0);
    log_emit(l, LOG_WARN, "two", log_str("k", "v"), log_int("n", 2));
    log_set_level(l, LOG_DEBUG);
    assert_int_equal(log_get_level(l), LOG_DEBUG);
    log_write(l, LOG_DEBUG, "three", NULL, 0);
    log_set_level(l, LOG_OFF);
    log_write(l, LOG_ERROR, "four", NULL, 0);
    log_write(l, LOG_OFF, "five", NULL, 0);
    read_all(&r, l);
    assert_null(strstr(r.text, "one"));
    assert_non_null(strstr(r.text, "level=warn msg=\"two\" k=v n=2\n"));
    assert_non_null(strstr(r.text, "level=debug msg=\"three\"\n"));
    assert_null(strstr(r.text, "four"));
    assert_null(strstr(r.text, "five"));
    reader_close(&r);
}

static void names_are_parsed(void **state)
{
    (void)state;
    assert_int_equal(log_level_parse("debug"), LOG_DEBUG);
    assert_int_equal(log_level_parse("off"), LOG_OFF);
    assert_int_equal(log_level_parse("verbose"), -1);
    assert_int_equal(log_level_parse(NULL), -1);
    assert_string_equal(log_level_name(LOG_ERROR), "error");
    assert_int_equal(log_format_parse("auto"), LOG_FORMAT_AUTO);
    assert_int_equal(log_format_parse("json"), LOG_FORMAT_JSON);
    assert_int_equal(log_format_parse("xml"), -1);
}

static void no_log_is_harmless(void **state)
{
    (void)state;
    assert_false(log_wants(NULL, LOG_ERROR));
    log_write(NULL, LOG_ERROR, "m", NULL, 0);
    log_emit(NULL, LOG_ERROR, "m", log_str("k", "v"));
    log_set_level(NULL, LOG_DEBUG);
    assert_int_equal(log_dropped(NULL), 0);
    log_free(NULL, 1000);
}

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool closed; /* the hook waits while it is */
    bool inside;
    int lines;
    log_level last_level;
    char last[LOG_LINE_MAX + 1];
} gate;

static void gate_write(void *closure, log_level level, const char *line, size_t length)
{
    gate *g = closure;
    (void)pthread_mutex_lock(&g->lock);
    g->inside = true;
    (void)pthread_cond_broadcast(&g->change);
    while (g->closed)
        (void)pthread_cond_wait(&g->change, &g->lock);
    g->inside = false;
    g->lines++;
    g->last_level = level;
    memcpy(g->last, line, length);
    g->last[length] = '\0';
    (void)pthread_cond_broadcast(&g->change);
    (void)pthread_mutex_unlock(&g->lock);
}

static void hooks_get_finished_lines_and_levels(void **state)
{
    (void)state;
    static gate g = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};
    logger *l = log_new_hook(gate_write, &g, LOG_FORMAT_SHORT, LOG_DEBUG);
    log_write(l, LOG_INFO, "first", NULL, 0);
    log_emit(l, LOG_ERROR, "a\nb", log_str("k", "v"));
    log_free(l, DEADLINE_MS);
    assert_int_equal(g.lines, 2);
    assert_int_equal(g.last_level, LOG_ERROR);
    assert_string_equal(g.last + 13, "ERROR a\\nb  k=v"); /* after 03:07:58.123 */
}

/* ---- nobody reads ---- */

static void fill_until_dropped(logger *l, int *written)
{
    char text[200];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    while (log_dropped(l) < 100) {
        log_emit(l, LOG_INFO, text, log_int("n", *written));
        ++*written;
    }
}

/* The dropped= of every report, added up. */
static uint64_t reported_drops(const char *text)
{
    uint64_t sum = 0;
    for (const char *at = text; (at = strstr(at, " dropped=")) != NULL;)
        sum += strtoull(at += strlen(" dropped="), NULL, 10);
    return sum;
}

static void a_pipe_that_nobody_reads_does_not_block(void **state)
{
    (void)state;
    reader r = reader_open();
    logger *l = log_new(r.fds[1], LOG_FORMAT_LOGFMT, LOG_DEBUG);
    int written = 0;
    fill_until_dropped(l, &written); /* it would never end if it blocked */
    assert_true((uint64_t)written > log_dropped(l));

    /* Somebody reads again: the report comes without another line being written. */
    while (strstr(r.text, " dropped=") == NULL)
        assert_true(reader_more(&r));
    log_write(l, LOG_INFO, "after", NULL, 0);
    uint64_t dropped = log_dropped(l);
    while (strstr(r.text, "msg=\"after\"") == NULL)
        assert_true(reader_more(&r));
    read_all(&r, l);
    assert_true(dropped >= 100);
    assert_int_equal(reported_drops(r.text), dropped);
    assert_non_null(strstr(r.text, "level=warn msg=\"log lines dropped"));
    assert_int_equal((uint64_t)count_of(r.text, "msg=\"xxx") + dropped, (uint64_t)written);
    assert_true(strstr(r.text, "msg=\"after\"") > strstr(r.text, " dropped="));
    reader_close(&r);
}

static void freeing_a_log_that_hangs_in_a_pipe_returns(void **state)
{
    (void)state;
    reader r = reader_open();
    logger *l = log_new(r.fds[1], LOG_FORMAT_LOGFMT, LOG_DEBUG);
    int written = 0;
    fill_until_dropped(l, &written);
    int64_t start = now_ms();
    log_free(l, 100);
    assert_true(now_ms() - start >= 100);
    assert_true(now_ms() - start < DEADLINE_MS);
    /* The thread comes back with EPIPE, and frees the log. It may still be in write for a moment,
     * so the end it writes to stays open, as log.h wants it. */
    (void)close(r.fds[0]);
    free(r.text);
}

static void a_non_blocking_pipe_loses_nothing(void **state)
{
    (void)state;
    reader r = reader_open();
    assert_int_equal(fcntl(r.fds[1], F_SETFL, O_NONBLOCK), 0);
    logger *l = log_new(r.fds[1], LOG_FORMAT_JSON, LOG_DEBUG);
    for (int i = 0; i < 2000; i++) /* more than a pipe holds, less than the queue */
        log_emit(l, LOG_INFO, "a line for a pipe that is full", log_int("n", i));
    while (strstr(r.text, "\"n\":1999}\n") == NULL)
        assert_true(reader_more(&r));
    assert_int_equal(log_dropped(l), 0);
    log_free(l, DEADLINE_MS);
    assert_int_equal(count_of(r.text, "\n"), 2000);
    reader_close(&r);
}

static void a_closed_reader_ends_nothing(void **state)
{
    (void)state;
    reader r = reader_open();
    (void)close(r.fds[0]);
    logger *l = log_new(r.fds[1], LOG_FORMAT_LOGFMT, LOG_DEBUG);
    log_write(l, LOG_INFO, "lost", NULL, 0);
    int64_t deadline = now_ms() + DEADLINE_MS;
    while (log_dropped(l) == 0 && now_ms() < deadline)
        (void)poll(NULL, 0, 1);
    assert_int_equal(log_dropped(l), 1);
    log_free(l, DEADLINE_MS);
    (void)close(r.fds[1]);
    free(r.text);
}

static void freeing_without_time_drops_what_hangs_in_a_hook(void **state)
{
    (void)state;
    static gate g = {
        .lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER, .closed = true};
    logger *l = log_new_hook(gate_write, &g, LOG_FORMAT_LOGFMT, LOG_DEBUG);
    log_write(l, LOG_INFO, "hangs", NULL, 0);
    (void)pthread_mutex_lock(&g.lock);
    while (!g.inside)
        (void)pthread_cond_wait(&g.change, &g.lock);
    (void)pthread_mutex_unlock(&g.lock);
    log_write(l, LOG_INFO, "never", NULL, 0);
    log_free(l, 0);
    (void)pthread_mutex_lock(&g.lock);
    g.closed = false; /* it comes back, long after */
    (void)pthread_cond_broadcast(&g.change);
    while (g.lines == 0)
        (void)pthread_cond_wait(&g.change, &g.lock);
    assert_non_null(strstr(g.last, "hangs"));
    (void)pthread_mutex_unlock(&g.lock);
    /* An idle log needs no time to end. */
    log_free(log_new_hook(gate_write, &g, LOG_FORMAT_LOGFMT, LOG_DEBUG), 0);
}

/* ---- many writers ---- */

#define WRITERS 8
#define LINES_EACH 2000

typedef struct {
    logger *log;
    int id;
} writer;

static void *write_lines(void *arg)
{
    const writer *w = arg;
    for (int i = 0; i < LINES_EACH; i++)
        log_emit(w->log, LOG_INFO, "line", log_int("writer", w->id), log_int("n", i));
    return NULL;
}

static void concurrent_writers_lose_no_line_and_keep_their_order(void **state)
{
    (void)state;
    reader r = reader_open();
    logger *l = log_new(r.fds[1], LOG_FORMAT_LOGFMT, LOG_DEBUG);
    pthread_t threads[WRITERS];
    writer writers[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (writer){.log = l, .id = i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &writers[i]), 0);
    }
    uint64_t want = (uint64_t)WRITERS * LINES_EACH;
    while ((uint64_t)count_of(r.text, "msg=\"line\"") + log_dropped(l) < want)
        assert_true(reader_more(&r));
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    read_all(&r, l);
    int next[WRITERS] = {0};
    char *save = NULL;
    for (char *s = strtok_r(r.text, "\n", &save); s != NULL; s = strtok_r(NULL, "\n", &save)) {
        int id = 0;
        int n = 0;
        const char *fields = strstr(s, " msg=\"line\"");
        if (fields == NULL)
            continue; /* a report */
        assert_memory_equal(s, "time=", 5);
        assert_int_equal(sscanf(fields, " msg=\"line\" writer=%d n=%d", &id, &n), 2);
        assert_true(n >= next[id]);
        next[id] = n + 1;
    }
    reader_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logfmt_lines_quote_what_needs_it),
        cmocka_unit_test(every_format_escapes_control_bytes),
        cmocka_unit_test(valid_utf8_stays_and_invalid_utf8_is_escaped),
        cmocka_unit_test(json_lines_keep_types),
        cmocka_unit_test(a_field_cannot_replace_the_lines_own_keys),
        cmocka_unit_test(lines_start_with_the_time),
        cmocka_unit_test(long_lines_are_cut_and_stay_whole),
        cmocka_unit_test(a_cut_between_values_leaves_no_half_field),
        cmocka_unit_test(levels_filter_and_can_change),
        cmocka_unit_test(names_are_parsed),
        cmocka_unit_test(no_log_is_harmless),
        cmocka_unit_test(hooks_get_finished_lines_and_levels),
        cmocka_unit_test(a_pipe_that_nobody_reads_does_not_block),
        cmocka_unit_test(freeing_a_log_that_hangs_in_a_pipe_returns),
        cmocka_unit_test(a_non_blocking_pipe_loses_nothing),
        cmocka_unit_test(a_closed_reader_ends_nothing),
        cmocka_unit_test(freeing_without_time_drops_what_hangs_in_a_hook),
        cmocka_unit_test(concurrent_writers_lose_no_line_and_keep_their_order),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
