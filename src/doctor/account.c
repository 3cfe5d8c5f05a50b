/* A login as moondog makes it: with a link of its own, which has the thread that the NATS library
 * may block, so that each step has a deadline. Then a round trip, and the account's JetStream. See
 * account.h. Main thread. */
#include "doctor/account.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "link/headers.h"
#include "link/inner.h"
#include "link/link.h"

#define FLUSH_TOKEN 1u
#define SECOND_FLUSH_TOKEN 2u
#define LEAVE_MS 2000u
#define CLOCK_TICK_MS 50u
#define NATS_SIGNS_ALWAYS 0x030800 /* the version from which on no signature is left out */

struct login {
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t timer; /* so that the loop turns, and the deadline is seen */
    struct link *link;
    link_options *options; /* with one server of the list */
    bool dialed, failed, flushed, gone;
    uint64_t flush_token;
    error error;   /* the dial's */
    error trouble; /* the last one after it */
    int64_t max_payload;
    struct link_sub *inbox;
    natsMsg *answer;
    bool no_responders;
};

/* ---- what comes ---- */

static void on_event(struct login *l, const link_event *event)
{
    switch (event->type) {
    case LINK_EVENT_DIALED:
        l->dialed = true;
        l->max_payload = event->max_payload;
        break;
    case LINK_EVENT_DIAL_FAILED:
        l->failed = true;
        l->error = event->error;
        break;
    case LINK_EVENT_CLOSED:
        l->failed = true;
        if (l->trouble.code[0] == '\0')
            l->trouble = event->error;
        break;
    case LINK_EVENT_ERROR:
    case LINK_EVENT_SUB_FAILED:
    case LINK_EVENT_PUBLISH_FAILED:
        l->trouble = event->error;
        break;
    case LINK_EVENT_FLUSHED:
        l->flushed |= event->number == l->flush_token;
        if (event->error.code[0] != '\0')
            l->trouble = event->error;
        break;
    case LINK_EVENT_GONE:
        l->gone = true;
        break;
    default:
        break;
    }
}

/* Takes the message. */
static void on_message(struct login *l, natsMsg *msg)
{
    l->no_responders |= headers_say_nobody(msg);
    if (l->answer == NULL && !l->no_responders)
        l->answer = msg;
    else
        message_free(msg);
}

static void take_messages(struct login *l)
{
    mailbox_chunk *all = mailbox_take_messages(link_mailbox(l->link));
    for (mailbox_chunk *c = all; c != NULL; c = c->next)
        for (; c->read < c->count; c->read++) {
            mailbox_item *item = &c->items[c->read];
            if (item->msg == NULL) {
                link_sub_done(item->sub);
                continue;
            }
            on_message(l, item->msg);
        }
    mailbox_free_chunks(all);
}

static void take_events(struct login *l)
{
    for (link_event *e = mailbox_take_events(link_mailbox(l->link)), *next; e != NULL; e = next) {
        next = e->next;
        on_event(l, e);
        free(e->records);
        free(e);
    }
}

static void on_wake(uv_async_t *wake)
{
    (void)wake; /* the loop has turned: that is all */
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

/* Until one of the two is true, or the deadline. */
static bool wait_for(struct login *l, const bool *one, const bool *other, uint64_t timeout_ms)
{
    uint64_t deadline = uv_hrtime() + timeout_ms * 1000000u;
    for (;;) {
        take_events(l);
        take_messages(l);
        if (*one || *other)
            return true;
        if (uv_hrtime() >= deadline)
            return false;
        uv_run(&l->loop, UV_RUN_ONCE);
    }
}

/* ---- the steps ---- */

static void login_remedy(findings *f, error_class cls)
{
    switch (cls) {
    case ERROR_CLASS_AUTH:
        finding_remedy(f, "compare the credentials with the server's users; the server's log says "
                          "which login it refused. An expired or revoked user needs new ones");
        break;
    case ERROR_CLASS_TLS:
        finding_remedy(f, "see what is said about TLS and certificates above");
        break;
    case ERROR_CLASS_LIMIT:
        finding_remedy(f, "raise the limit of the server or of the account, or look for clients "
                          "that do not go away: nats server report connections");
        break;
    case ERROR_CLASS_TIMEOUT:
    case ERROR_CLASS_STALE:
        finding_remedy(f, "the server took the connection and does not answer the login: is it "
                          "overloaded, or stopped, or its auth service not there?");
        break;
    default:
        finding_remedy(f, "look at the log of the server at this time: it says what it did");
        break;
    }
}

static const error *error_of(const struct login *l)
{
    return l->error.code[0] != '\0' ? &l->error : &l->trouble;
}

/* Whether it is logged in. Some versions of the library see by themselves that no answer comes. */
static bool log_in(struct login *l, uint32_t timeout_ms)
{
    uint64_t begun = uv_hrtime();
    bool over = wait_for(l, &l->dialed, &l->failed, timeout_ms);
    if (l->dialed && !l->failed)
        return true;
    if (!over || l->error.cls == ERROR_CLASS_TIMEOUT)
        error_set(&l->error, "timeout", ERROR_CLASS_TIMEOUT, "not done after %" PRIu64 " ms",
                  (uv_hrtime() - begun) / 1000000u);
    return false;
}

/* An older library takes a signature that begins with a zero byte for none, and sends none: of 256
 * logins that are right one is refused. */
static bool may_lack_signature(const struct login *l)
{
    return error_of(l)->cls == ERROR_CLASS_AUTH && nats_GetVersionNumber() < NATS_SIGNS_ALWAYS &&
           (l->options->creds != NULL || l->options->nkey_seed_file != NULL);
}

static bool tell_login(const struct login *l, bool works, findings *f)
{
    if (works) {
        finding(f, FINDING_OK, "login", "the login works; messages may have %" PRId64 " bytes",
                l->max_payload);
        return true;
    }
    finding(f, FINDING_PROBLEM, "login", "the login fails: %s", error_of(l)->message);
    login_remedy(f, error_of(l)->cls);
    return false;
}

/* ns; negative: there was no answer. */
static int64_t round_trip(struct login *l, uint64_t token, uint32_t timeout_ms)
{
    record_queue q = {0};
    l->flushed = false;
    l->flush_token = token;
    if (record_push_command(&q, RECORD_FLUSH, NULL, token, timeout_ms) != 0)
        return -1;
    uint64_t begun = uv_hrtime();
    link_send(l->link, &q);
    bool over = wait_for(l, &l->flushed, &l->failed, timeout_ms);
    return over && l->flushed && !l->failed ? (int64_t)(uv_hrtime() - begun) : -1;
}

static void time_round_trip(struct login *l, findings *f, uint32_t timeout_ms)
{
    int64_t ns = round_trip(l, FLUSH_TOKEN, timeout_ms);
    if (ns >= 0)
        ns = round_trip(l, SECOND_FLUSH_TOKEN, timeout_ms); /* the first one warms up */
    if (ns >= 0) {
        finding(f, FINDING_OK, "round_trip", "a round trip takes %.3f ms", (double)ns / 1e6);
        return;
    }
    finding(f, FINDING_PROBLEM, "round_trip", "after the login there is no answer to a PING%s%s",
            l->trouble.code[0] != '\0' ? ": " : "", l->trouble.message);
    finding_remedy(f, "the server, or a proxy on the way, hangs: look at its log and its load");
}

/* Whether the question is on its way. */
static bool ask_jetstream(struct login *l)
{
    char inbox[LINK_INBOX_PREFIX_MAX + 64];
    static const char subject[] = "$JS.API.INFO";
    record_queue q = {0};
    snprintf(inbox, sizeof inbox, "%sdoctor.%d.%" PRIx64, l->options->inbox_prefix, (int)getpid(),
             uv_hrtime());
    struct interest *interest = interest_new(&(interest_options){.subject = inbox});
    l->inbox = interest != NULL ? link_sub_new(l->link, NULL, interest) : NULL;
    interest_release(interest);
    if (l->inbox == NULL)
        return false;
    record_message m = {.subject = subject,
                        .reply = inbox,
                        .headers = "",
                        .data = "",
                        .subject_length = sizeof subject - 1,
                        .reply_length = strlen(inbox)};
    if (record_push_command(&q, RECORD_SUBSCRIBE, link_sub_retain(l->inbox), 0, 0) != 0) {
        link_sub_release(l->inbox);
        link_sub_done(l->inbox);
        return false;
    }
    bool complete = record_push_message(&q, &m) == 0;
    link_send(l->link, &q); /* without its question a subscription does no harm */
    return complete;
}

static void check_jetstream(struct login *l, findings *f, uint32_t timeout_ms)
{
    l->trouble = (error){0};
    if (!ask_jetstream(l)) {
        finding(f, FINDING_SKIPPED, "jetstream", "no memory to ask for JetStream");
        return;
    }
    uint64_t deadline = uv_hrtime() + (uint64_t)timeout_ms * 1000000u;
    bool refused = false;
    while (l->answer == NULL && !l->no_responders && !l->failed && !refused &&
           uv_hrtime() < deadline) {
        take_events(l);
        take_messages(l);
        refused = l->trouble.code[0] != '\0';
        if (l->answer == NULL && !l->no_responders && !refused)
            uv_run(&l->loop, UV_RUN_ONCE);
    }
    if (l->answer != NULL) {
        jetstream_judge(f, natsMsg_GetData(l->answer), (size_t)natsMsg_GetDataLength(l->answer));
    } else if (l->no_responders) {
        finding(f, FINDING_OK, "jetstream",
                "there is no JetStream for this account: messages are not kept; all else works");
    } else if (refused && strcasestr(l->trouble.message, "subscription") != NULL) {
        finding(f, FINDING_WARNING, "inbox", "the user may not subscribe to its inbox: %s",
                l->trouble.message);
        finding_remedy(f,
                       "let it subscribe to %s>, or set inbox_prefix: until then no request of "
                       "the script is answered, and JetStream cannot be asked",
                       l->options->inbox_prefix);
    } else if (refused) {
        finding(f, FINDING_SKIPPED, "jetstream", "JetStream cannot be asked: %s",
                l->trouble.message);
        finding_remedy(f,
                       "when the script uses JetStream, let the user publish to $JS.API.>, and "
                       "subscribe to %s>",
                       l->options->inbox_prefix);
    } else {
        finding(f, FINDING_WARNING, "jetstream", "JetStream does not answer within %u ms",
                timeout_ms);
        finding_remedy(f, "a cluster without a leader does that: nats server report jetstream "
                          "shows its state");
    }
}

/* ---- from the beginning to the end ---- */

static void on_closed(uv_handle_t *handle)
{
    (void)handle;
}

/* The last word of the subscription comes from a thread of the library, maybe after the worker's.
 */
static void await_last_word(struct login *l)
{
    uint64_t deadline = uv_hrtime() + LEAVE_MS * 1000000ull;
    take_messages(l);
    while (link_subs(l->link) > 0 && uv_hrtime() < deadline) {
        uv_run(&l->loop, UV_RUN_ONCE);
        take_messages(l);
    }
}

/* A link that hangs inside the library is left to itself. Whether it has ended. */
static bool leave(struct login *l)
{
    record_queue q = {0};
    (void)link_close(l->link, &q);
    record_queue_clear(&q);
    if (!wait_for(l, &l->gone, &l->gone, LEAVE_MS)) {
        link_leave(l->link, NULL);
        return false;
    }
    await_last_word(l);
    link_join(l->link);
    return true;
}

static bool start(struct login *l, uint64_t number, const char *token, findings *f)
{
    l->dialed = l->failed = l->gone = false;
    l->error = l->trouble = (error){0};
    l->link = link_start(l->options, number, 0, token, &l->wake, &l->error);
    if (l->link == NULL)
        finding(f, FINDING_SKIPPED, "login", "%s", l->error.message);
    return l->link != NULL;
}

/* How many links hang. */
static unsigned check(struct login *l, findings *f, const char *token, uint32_t timeout_ms)
{
    if (!start(l, 1, token, f))
        return 0;
    bool works = log_in(l, timeout_ms);
    if (!works && may_lack_signature(l)) {
        if (!leave(l)) {
            tell_login(l, false, f);
            return 1;
        }
        if (!start(l, 2, token, f))
            return 0;
        works = log_in(l, timeout_ms);
    }
    if (tell_login(l, works, f)) {
        time_round_trip(l, f, timeout_ms);
        if (!l->failed)
            check_jetstream(l, f, timeout_ms);
    }
    return leave(l) ? 0 : 1;
}

unsigned account_check(findings *f, const link_options *o, int server, const char *token,
                       uint32_t timeout_ms)
{
    struct login l = {.options = link_options_only(o, server)};
    if (l.options == NULL || uv_loop_init(&l.loop) != 0) {
        link_options_release(l.options);
        finding(f, FINDING_SKIPPED, "login", "no memory or descriptor for a login");
        return 0;
    }
    l.options->library_reconnect = false; /* the first failure is told */
    l.options->dial_timeout_ms = timeout_ms;
    uv_async_init(&l.loop, &l.wake, on_wake);
    uv_timer_init(&l.loop, &l.timer);
    uv_timer_start(&l.timer, on_tick, CLOCK_TICK_MS, CLOCK_TICK_MS);
    unsigned left = check(&l, f, token, timeout_ms);
    uv_close((uv_handle_t *)&l.wake, on_closed);
    uv_close((uv_handle_t *)&l.timer, on_closed);
    uv_run(&l.loop, UV_RUN_DEFAULT);
    uv_loop_close(&l.loop);
    message_free(l.answer);
    link_options_release(l.options);
    return left;
}
