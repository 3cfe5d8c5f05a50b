/* Subscriptions of the host, without a server: what is asked for wrongly, and which connections
 * they are on while a generation is about to take over, and does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/subscriptions.h"
#include "runtime_private.h"
#include "script/binding.h"

#define CONNECT "moondog.connect { name = \"%s\", servers = { \"nats://127.0.0.1:1\" } }\n"

typedef struct {
    char folder[64], path[96];
    md_runtime *runtime;
    struct generation *fresh; /* loaded, and not put to work */
} fixture;

static void nothing(void *closure, int level, const char *line, size_t length)
{
    (void)closure;
    (void)level;
    (void)line;
    (void)length;
}

static void never(void *closure, md_subscription *subscription, const md_message *message)
{
    (void)closure;
    (void)subscription;
    (void)message;
    fail_msg("there is no server that a message could come from");
}

/* A script that declares these two connections. */
static void write_script(const fixture *f, const char *first, const char *second)
{
    FILE *out = fopen(f->path, "w");
    assert_non_null(out);
    assert_true(fprintf(out, "local moondog = require 'moondog'\n" CONNECT CONNECT, first, second) >
                0);
    assert_int_equal(fclose(out), 0);
}

static void begin(fixture *f)
{
    md_options o;
    md_error e = {0};
    *f = (fixture){0};
    snprintf(f->folder, sizeof f->folder, "/tmp/moondog-unit-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/script.lua", f->folder);
    md_options_init(&o);
    o.log_write = nothing;
    f->runtime = md_create(&o, &e);
    if (f->runtime == NULL)
        fail_msg("%s", e.message);
}

static void load(fixture *f)
{
    md_error e = {0};
    write_script(f, "a", "b");
    if (md_load(f->runtime, f->path, &e) != 0)
        fail_msg("%s", e.message);
}

static void end(fixture *f)
{
    md_free(f->runtime);
    unlink(f->path);
    assert_int_equal(rmdir(f->folder), 0);
}

static md_subscription *subscribe(fixture *f, const char *connection, const char *subject)
{
    md_error e = {0};
    md_interest i = {.size = sizeof i, .connection = connection, .subject = subject};
    md_subscription *s = md_subscribe(f->runtime, &i, never, NULL, &e);
    if (s == NULL)
        fail_msg("%s", e.message);
    return s;
}

static unsigned count_attachments(const md_subscription *s)
{
    unsigned count = 0;
    for (const struct attachment *a = s->attachments; a != NULL; a = a->next)
        count++;
    return count;
}

static const struct connection *connection(const struct generation *g, const char *name)
{
    const struct binding *b = messages_binding(g, name);
    assert_non_null(b);
    assert_non_null(b->connection);
    return b->connection;
}

/* Another generation, as far as takeover() has come when it fails. */
static void prepare_fresh(fixture *f, const char *first, const char *second)
{
    char traceback[64];
    error e = {0};
    write_script(f, first, second);
    f->fresh = generation_new(&f->runtime->limits, 2);
    assert_non_null(f->fresh);
    assert_int_equal(generation_load(f->fresh, f->path, NULL, &e, traceback, sizeof traceback), 0);
    for (struct binding *b = f->fresh->bindings; b != NULL; b = b->next) {
        struct binding *older = messages_binding(f->runtime->generation, b->name);
        assert_int_equal(binding_prepare(b, older, &e), 0);
    }
    assert_int_equal(subscriptions_prepare(f->runtime->messages, f->fresh, &e), 0);
}

static void undo_fresh(fixture *f)
{
    for (struct binding *b = f->fresh->bindings; b != NULL; b = b->next)
        binding_undo(b);
    subscriptions_undo(f->runtime->messages);
    retire_discard(f->runtime, f->fresh);
}

static void a_takeover_that_fails_leaves_nothing_behind(void **state)
{
    (void)state;
    fixture f;
    begin(&f);
    md_subscription *early = subscribe(&f, NULL, "early");
    assert_int_equal(count_attachments(early), 0);
    assert_int_equal(subscriptions_waiting(f.runtime->messages), 1);
    load(&f);
    md_subscription *named = subscribe(&f, "b", "named");
    md_subscription *later = subscribe(&f, "c", "later");
    const struct generation *g = f.runtime->generation;
    assert_non_null(subscriptions_on(early, connection(g, "a")));
    assert_non_null(subscriptions_on(named, connection(g, "b")));
    assert_int_equal(subscriptions_waiting(f.runtime->messages), 1);

    prepare_fresh(&f, "c", "b");
    assert_non_null(subscriptions_on(early, connection(f.fresh, "c")));
    assert_non_null(subscriptions_on(later, connection(f.fresh, "c")));
    assert_int_equal(count_attachments(early), 2);
    assert_int_equal(count_attachments(named), 1);
    undo_fresh(&f);
    assert_non_null(subscriptions_on(early, connection(g, "a")));
    assert_non_null(subscriptions_on(named, connection(g, "b")));
    assert_int_equal(count_attachments(early), 1);
    assert_int_equal(count_attachments(named), 1);
    assert_int_equal(count_attachments(later), 0);

    /* On a connection that stays, it has to be taken back one by one. */
    prepare_fresh(&f, "b", "a");
    assert_non_null(subscriptions_on(early, connection(g, "b")));
    undo_fresh(&f);
    assert_non_null(subscriptions_on(early, connection(g, "a")));
    assert_int_equal(count_attachments(early), 1);
    md_unsubscribe(early);
    end(&f);
}

static void check_refused(fixture *f, const md_interest *interest, md_message_fn fn,
                          const char *code)
{
    md_error e = {0};
    assert_null(md_subscribe(f->runtime, interest, fn, NULL, &e));
    assert_string_equal(e.code, code);
    assert_null(md_subscribe(f->runtime, interest, fn, NULL, NULL));
    assert_int_equal(f->runtime->messages->subscription_count, 0);
}

static void a_bad_interest_is_refused(void **state)
{
    (void)state;
    fixture f;
    begin(&f);
    md_interest i = {.size = sizeof i, .subject = "a.b"};
    check_refused(&f, NULL, never, "usage");
    check_refused(&f, &i, NULL, "usage");
    i.size = 0;
    check_refused(&f, &i, never, "usage");
    i.size = sizeof i;
    i.queue = "two words";
    check_refused(&f, &i, never, "invalid_subject");
    i.subject = "a..b";
    check_refused(&f, &i, never, "invalid_subject");
    i.subject = NULL;
    check_refused(&f, &i, never, "invalid_subject");
    md_unsubscribe(NULL);
    end(&f);
}

static void an_older_interest_is_read_as_far_as_it_goes(void **state)
{
    (void)state;
    fixture f;
    md_error e = {0};
    begin(&f);
    md_interest i = {.size = offsetof(md_interest, queue),
                     .subject = "a.b",
                     .queue = "two words",
                     .pending_messages = 3};
    const md_subscription *s = md_subscribe(f.runtime, &i, never, NULL, &e);
    assert_non_null(s);
    assert_null(interest_queue(s->interest));
    assert_int_equal(s->interest->pending_messages, PENDING_MESSAGES);
    i = (md_interest){.size = sizeof i + 64, .subject = "a.b", .pending_bytes = 5};
    s = md_subscribe(f.runtime, &i, never, NULL, &e);
    assert_non_null(s);
    assert_int_equal(s->interest->pending_bytes, 5);
    end(&f); /* which frees both */
}

static void on_answer(void *closure, const md_message *answer, const md_error *e)
{
    (void)closure;
    (void)answer;
    (void)e;
    fail_msg("it was not sent");
}

static void a_bad_message_is_refused(void **state)
{
    (void)state;
    fixture f;
    md_error e = {0};
    const md_header bad = {"name", NULL};
    md_outgoing m = {.size = sizeof m, .subject = "a", .length = 1};
    begin(&f);
    load(&f);
    assert_int_equal(md_publish(f.runtime, NULL, &e), -1);
    assert_string_equal(e.code, "usage");
    assert_int_equal(md_publish(f.runtime, &m, &e), -1);
    assert_string_equal(e.code, "usage");
    m.length = 0;
    m.header_count = 1;
    assert_int_equal(md_publish(f.runtime, &m, &e), -1);
    assert_string_equal(e.code, "usage");
    m.headers = &bad;
    assert_int_equal(md_publish(f.runtime, &m, &e), -1);
    assert_string_equal(e.code, "usage");
    m.header_count = 0;
    assert_int_equal(md_publish(f.runtime, &m, &e), 0); /* it waits for a link */
    assert_int_equal(md_request(f.runtime, &m, NULL, NULL, &e), -1);
    assert_string_equal(e.code, "usage");
    assert_int_equal(md_request(f.runtime, &m, on_answer, NULL, &e), -1);
    assert_string_equal(e.code, "disconnected");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_takeover_that_fails_leaves_nothing_behind),
        cmocka_unit_test(a_bad_interest_is_refused),
        cmocka_unit_test(an_older_interest_is_read_as_far_as_it_goes),
        cmocka_unit_test(a_bad_message_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
