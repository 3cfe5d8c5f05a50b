/* The sentinel thread. See sentinel.h. What it tells is told under its lock, which the loop takes
 * now and then: the log and the service manager are told without waiting. */
#include "script/sentinel.h"

#include <stdio.h>
#include <string.h>

#include "base/thread.h"
#include "script/generation.h"

#define TICK_BUSY_NS 20000000u  /* while something is being run */
#define TICK_IDLE_NS 100000000u /* nothing was entered since the last look */
#define ASK_NS 1000000000u      /* a loop that waits for so long is asked for a turn */
#define PAUSE_NS 500000000u     /* no look for so long: the process itself did not run */

/* ---- what is found ---- */

/* The outermost entry of the loop's thread; when it is in none, what of the host it is in. */
static const struct callback *holder_of_loop(const sentinel *s)
{
    pthread_t thread = atomic_load_explicit(&s->duty.pulse->thread, memory_order_relaxed);
    for (const budget *b = s->budgets; b != NULL; b = b->next) {
        const struct callback *what = atomic_load_explicit(&b->what, memory_order_acquire);
        if (what != NULL &&
            pthread_equal(atomic_load_explicit(&b->thread, memory_order_relaxed), thread))
            return what;
    }
    return atomic_load_explicit(&s->host, memory_order_acquire);
}

/* Since when the loop has not turned; 0: it is not known to be held by anything. */
static uint64_t held_since(const sentinel *s)
{
    uint64_t since = atomic_load_explicit(&s->duty.pulse->busy_since, memory_order_acquire);
    if (since == 0 && s->asked &&
        atomic_load_explicit(&s->duty.pulse->turns, memory_order_acquire) == s->turns)
        since = s->turned_at; /* a callback that is not ours, or nobody runs the loop */
    return since;
}

/* The process was stopped, or the machine was: the loop is not to blame for that time. A stall that
 * had begun before goes on. */
static bool was_paused(const sentinel *s, uint64_t now)
{
    return s->stall_since == 0 && now - s->looked_at >= PAUSE_NS;
}

/* Under the lock: it keeps the callback. Returns since when the turn lasts; 0: there is no stall.
 */
static uint64_t look_at_loop(const sentinel *s, stall *out)
{
    *out = (stall){0};
    if (s->duty.pulse == NULL)
        return 0;
    uint64_t since = held_since(s);
    uint64_t now = uv_hrtime(); /* after it */
    if (since == 0)
        return 0;
    uint64_t resumed_at = was_paused(s, now) ? now : s->resumed_at;
    if (since < resumed_at)
        since = resumed_at;
    if (now < since || now - since < s->duty.stall_ns)
        return 0;
    out->stalled = true;
    out->seconds = (double)(now - since) / 1e9;
    const struct callback *what = holder_of_loop(s);
    if (what != NULL) {
        out->named = true;
        snprintf(out->kind, sizeof out->kind, "%s", what->kind);
        callback_name(what, out->name);
        callback_place(what, out->place);
    }
    return since;
}

/* Notes that it has turned, or asks for a turn. */
static void ask_for_a_turn(sentinel *s)
{
    uint64_t turns = atomic_load_explicit(&s->duty.pulse->turns, memory_order_acquire);
    uint64_t now = uv_hrtime();
    if (turns != s->turns || s->turned_at == 0) {
        s->turns = turns;
        s->turned_at = now;
        s->asked = false;
    } else if (!s->asked && now - s->turned_at >= ASK_NS) {
        s->turned_at = now; /* it waited until now */
        s->asked = true;
        uv_async_send(s->duty.wake);
    }
}

/* "handler orders.* (gateway.lua:12) holds" */
static void describe_holder(const stall *s, char out[STALL_TEXT_SIZE])
{
    if (!s->named)
        snprintf(out, STALL_TEXT_SIZE, "no function of the script holds");
    else if (s->place[0] == '\0')
        snprintf(out, STALL_TEXT_SIZE, "%s %s holds", s->kind, s->name);
    else
        snprintf(out, STALL_TEXT_SIZE, "%s %s (%s) holds", s->kind, s->name, s->place);
}

void stall_describe(const stall *s, char out[STALL_TEXT_SIZE])
{
    char holder[STALL_TEXT_SIZE];
    if (!s->stalled) {
        snprintf(out, STALL_TEXT_SIZE, "the loop turns");
        return;
    }
    describe_holder(s, holder);
    snprintf(out, STALL_TEXT_SIZE, "the loop has not turned for %.1f s%s %.200s it", s->seconds,
             s->named ? ":" : ", and", holder);
}

/* ---- what is told ---- */

static void tell_stall(const sentinel_duty *duty, const stall *found)
{
    log_emit(duty->log, LOG_ERROR, "loop stalled", log_str("kind", found->kind),
             log_str("name", found->name), log_str("place", found->place),
             log_num("seconds", found->seconds),
             log_str("plan", "not live and not ready until it turns again"));
    char holder[STALL_TEXT_SIZE];
    describe_holder(found, holder);
    notify_send(duty->manager, -1, "STATUS=stalled: %s the loop", holder);
}

static void tell_end(const sentinel_duty *duty, double seconds, const char *status)
{
    log_emit(duty->log, LOG_WARN, "loop turns again", log_num("stalled_seconds", seconds));
    notify_send(duty->manager, -1, "STATUS=%s", status);
}

static void note_pause(sentinel *s)
{
    uint64_t now = uv_hrtime();
    if (was_paused(s, now))
        s->resumed_at = now;
    s->looked_at = now;
}

/* Under the lock. */
static void watch_loop(sentinel *s)
{
    stall found;
    if (s->duty.pulse != NULL)
        ask_for_a_turn(s);
    uint64_t since = look_at_loop(s, &found);
    uint64_t told = s->stall_since, now = uv_hrtime();
    double ended = 0;
    if (since != told && told != 0) {
        s->stalled_ns += now - told;
        ended = (double)(now - told) / 1e9;
    }
    if (since != told && since != 0)
        s->stalls++;
    s->stall_since = since;
    bool feed = s->duty.pulse != NULL && since == 0 && notify_watchdog_ns(s->duty.manager) > 0 &&
                now >= s->feed_at;
    if (feed)
        s->feed_at = now + notify_watchdog_ns(s->duty.manager);
    if (ended > 0 && since == 0)
        tell_end(&s->duty, ended, s->status);
    if (since != told && since != 0)
        tell_stall(&s->duty, &found);
    if (feed)
        notify_send(s->duty.manager, -1, "WATCHDOG=1");
    else
        notify_flush(s->duty.manager);
}

/* ---- the thread ---- */

static void sentinel_main(void *closure)
{
    sentinel *s = closure;
    pthread_setname_np(pthread_self(), "md-sentinel");
    uv_mutex_lock(&s->lock);
    while (!s->stopping) {
        bool busy = false;
        note_pause(s);
        for (budget *b = s->budgets; b != NULL; b = b->next)
            busy |= budget_look(b);
        watch_loop(s);
        uv_cond_timedwait(&s->changed, &s->lock, busy ? TICK_BUSY_NS : TICK_IDLE_NS);
    }
    uv_mutex_unlock(&s->lock);
}

int sentinel_start(sentinel *s, int signal)
{
    *s = (sentinel){.signal = signal};
    int failed = uv_mutex_init(&s->lock);
    if (failed != 0)
        return failed;
    failed = uv_cond_init(&s->changed);
    if (failed == 0)
        failed = thread_start(&s->thread, sentinel_main, s);
    s->has_thread = failed == 0;
    return failed;
}

void sentinel_stop(sentinel *s)
{
    if (!s->has_thread)
        return;
    uv_mutex_lock(&s->lock);
    s->stopping = true;
    uv_cond_signal(&s->changed);
    uv_mutex_unlock(&s->lock);
    uv_thread_join(&s->thread);
    uv_cond_destroy(&s->changed);
    uv_mutex_destroy(&s->lock);
    s->has_thread = false;
}

/* ---- from other threads ---- */

const struct callback *sentinel_host_enters(sentinel *s, const struct callback *what)
{
    const struct callback *outer = atomic_load_explicit(&s->host, memory_order_relaxed);
    atomic_store_explicit(&s->host, what, memory_order_release);
    return outer;
}

void sentinel_host_leaves(sentinel *s, const struct callback *outer)
{
    atomic_store_explicit(&s->host, outer, memory_order_release);
}

void sentinel_guard(sentinel *s, const sentinel_duty *duty)
{
    uv_mutex_lock(&s->lock);
    s->duty = *duty;
    s->turned_at = 0;
    s->asked = false;
    uv_mutex_unlock(&s->lock);
}

void sentinel_unguard(sentinel *s)
{
    if (!s->has_thread)
        return;
    uv_mutex_lock(&s->lock);
    s->duty = (sentinel_duty){0};
    s->stall_since = 0;
    uv_mutex_unlock(&s->lock);
}

void sentinel_stall(sentinel *s, stall *out)
{
    uv_mutex_lock(&s->lock);
    look_at_loop(s, out);
    uv_mutex_unlock(&s->lock);
}

void sentinel_count_stalls(sentinel *s, uint64_t *stalls, double *seconds)
{
    uv_mutex_lock(&s->lock);
    uint64_t now = s->stall_since != 0 ? uv_hrtime() - s->stall_since : 0;
    *stalls = s->stalls;
    *seconds = (double)(s->stalled_ns + now) / 1e9;
    uv_mutex_unlock(&s->lock);
}

void sentinel_set_status(sentinel *s, const char *text)
{
    uv_mutex_lock(&s->lock);
    snprintf(s->status, sizeof s->status, "%s", text);
    if (s->stall_since == 0)
        notify_send(s->duty.manager, -1, "STATUS=%s", text);
    uv_mutex_unlock(&s->lock);
}

void sentinel_settle(sentinel *s)
{
    uv_mutex_lock(&s->lock);
    uv_mutex_unlock(&s->lock);
}

void sentinel_interrupt(sentinel *s)
{
    uv_mutex_lock(&s->lock);
    for (budget *b = s->budgets; b != NULL; b = b->next)
        budget_interrupt(b);
    uv_mutex_unlock(&s->lock);
}

void budget_watch(sentinel *s, budget *b, lua_State *L)
{
    budget_init(b, L, s->signal);
    uv_mutex_lock(&s->lock);
    b->next = s->budgets;
    s->budgets = b;
    uv_mutex_unlock(&s->lock);
}

void budget_forget(sentinel *s, budget *b)
{
    uv_mutex_lock(&s->lock);
    for (budget **at = &s->budgets; *at != NULL; at = &(*at)->next)
        if (*at == b) {
            *at = b->next;
            break;
        }
    uv_mutex_unlock(&s->lock);
}
