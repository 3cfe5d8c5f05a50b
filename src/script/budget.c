/* Time budgets. See budget.h. The entry is made by the thread that runs Lua, the looking by the
 * sentinel, the arming by the former: in a signal handler, or in a hook. */
#include "script/budget.h"

#include <dlfcn.h>
#include <lauxlib.h>
#include <string.h>
#include <uv.h>

#include "script/failure.h"

#define HURRY_AFTER 10u /* looks at an entry that is to stop and does not */

/* What the thread is inside. In the static TLS block: a signal handler reads it. */
static _Thread_local budget *current __attribute__((tls_model("initial-exec")));

static void stop_hook(lua_State *L, lua_Debug *ar)
{
    budget *b = current;
    if (b != NULL && b->preempt != NULL) {
        b->preempt(L, ar); /* does not come back when it can yield */
        b->preempt = NULL; /* nor may what catches the error go on */
    }
    failure_push_where(L);
    if (b != NULL && atomic_load(&b->interrupted) == atomic_load(&b->entry))
        lua_pushliteral(L, "interrupted by the host program");
    else
        lua_pushfstring(L, "time budget of %d ms exceeded",
                        b != NULL ? (int)atomic_load(&b->limit_ms) : 0);
    lua_concat(L, 2);
    lua_error(L);
}

static bool is_to_stop(const budget *b)
{
    return b != NULL && atomic_load(&b->entry) == atomic_load(&b->stop_entry);
}

/* On the thread that is inside. */
static void arm(budget *b)
{
    b->armed = 1;
    lua_sethook(b->L, stop_hook, LUA_MASKCOUNT, 1);
}

/* lua_sethook() is made for this: LuaJIT allows it in a signal handler of the thread that runs the
 * state. A signal that comes late finds another entry, or none, and does nothing. */
static void on_signal(int number)
{
    (void)number;
    if (is_to_stop(current))
        arm(current);
}

static void look_hook(lua_State *L, lua_Debug *ar)
{
    budget *b = current;
    if (!is_to_stop(b))
        return;
    pthread_mutex_lock(&b->hooks);
    arm(b);
    pthread_mutex_unlock(&b->hooks);
    stop_hook(L, ar);
}

/* On the thread that may be inside, under `hooks`. */
static void set_resting_hook(budget *b)
{
    if (b->signal != 0)
        lua_sethook(b->L, NULL, 0, 0);
    else
        lua_sethook(b->L, look_hook, LUA_MASKCOUNT, BUDGET_LOOK_EVERY);
}

void budget_rest(budget *b)
{
    pthread_mutex_lock(&b->hooks);
    set_resting_hook(b);
    pthread_mutex_unlock(&b->hooks);
}

void budget_hook(budget *b, lua_Hook hook, int every)
{
    pthread_mutex_lock(&b->hooks);
    lua_sethook(b->L, hook, LUA_MASKCOUNT, every);
    pthread_mutex_unlock(&b->hooks);
}

void budget_init(budget *b, lua_State *L, int signal)
{
    *b = (budget){.L = L, .signal = signal, .hooks = PTHREAD_MUTEX_INITIALIZER};
    budget_rest(b);
}

void budget_enter(budget *b, uint32_t limit_ms, const struct callback *what)
{
    if (b->depth++ > 0)
        return;
    clockid_t clock = CLOCK_MONOTONIC; /* better than none */
    pthread_getcpuclockid(pthread_self(), &clock);
    atomic_store_explicit(&b->thread, pthread_self(), memory_order_relaxed);
    atomic_store_explicit(&b->clock, clock, memory_order_relaxed);
    b->outer = current;
    atomic_store_explicit(&b->limit_ms, limit_ms, memory_order_relaxed);
    current = b;
    atomic_store_explicit(&b->what, what, memory_order_release);
    atomic_store_explicit(&b->entry, atomic_load_explicit(&b->entry, memory_order_relaxed) + 1,
                          memory_order_release);
}

/* Either this thread sees that it is hurried, or hurry() sees that the entry is over: when this
 * returns, nobody else touches the hook. */
static void leave_looking(budget *b, uint64_t outside)
{
    atomic_store(&b->entry, outside);
    if (!atomic_load(&b->hurried))
        return;
    pthread_mutex_lock(&b->hooks);
    atomic_store(&b->hurried, false);
    set_resting_hook(b);
    pthread_mutex_unlock(&b->hooks);
}

bool budget_leave(budget *b)
{
    if (--b->depth > 0)
        return false;
    uint64_t outside = atomic_load_explicit(&b->entry, memory_order_relaxed) + 1;
    atomic_store_explicit(&b->what, NULL, memory_order_relaxed);
    if (b->signal == 0)
        leave_looking(b, outside);
    else
        atomic_store_explicit(&b->entry, outside, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    current = b->outer;
    if (!b->armed)
        return false;
    b->armed = 0;
    budget_rest(b);
    atomic_fetch_add(&b->overruns, 1);
    return true;
}

bool budget_inside(void)
{
    return current != NULL;
}

/* ---- from the sentinel's thread ---- */

/* Of the thread that is inside. 0: it has gone meanwhile. */
static uint64_t cpu_time(budget *b)
{
    struct timespec t;
    if (clock_gettime(atomic_load_explicit(&b->clock, memory_order_relaxed), &t) != 0)
        return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool is_over(budget *b, uint64_t now)
{
    uint64_t limit = atomic_load_explicit(&b->limit_ms, memory_order_relaxed) * 1000000ull;
    uint64_t cpu = cpu_time(b);
    if (limit == 0 || cpu < b->seen_cpu)
        return false;
    cpu -= b->seen_cpu;
    return cpu >= limit ||
           (now - b->seen_since >= limit * BUDGET_BUSY && cpu >= limit / BUDGET_HARDLY);
}

/* A function that goes on at the very end of its stack, where each call fails, leaves no room for
 * the hook that looks: that fails as well, which only leads back to the loop one call further out.
 * At every instruction it gets out of there.
 *
 * LuaJIT wants its hooks to be set by the state's own thread: it keeps in one byte which of them
 * there are and whether one is running, and when another thread writes it just as a hook ends, that
 * one counts as running for ever, and no hook is called again. So the hook is taken away first;
 * what runs has until the next look to end, and only then there is one for every instruction. Once
 * the thread is armed, which helps at every instruction as well, its hook is left alone. */
static void hurry(budget *b, uint64_t entry)
{
    atomic_store(&b->hurried, true);
    pthread_mutex_lock(&b->hooks);
    if (atomic_load(&b->entry) == entry && !b->armed) {
        if (b->asked % HURRY_AFTER == 0)
            lua_sethook(b->L, NULL, 0, 0);
        else if (b->asked % HURRY_AFTER == 1)
            lua_sethook(b->L, look_hook, LUA_MASKCOUNT, 1);
    }
    pthread_mutex_unlock(&b->hooks);
}

static void stop(budget *b, uint64_t entry)
{
    atomic_store(&b->stop_entry, entry);
    if (b->signal != 0)
        pthread_kill(atomic_load_explicit(&b->thread, memory_order_relaxed), b->signal);
}

/* Its hook may have been lost, in a finalizer: this is repeated until the entry is left. */
static void keep_stopping(budget *b, uint64_t entry)
{
    stop(b, entry);
    if (b->signal == 0 && ++b->asked >= HURRY_AFTER)
        hurry(b, entry);
}

bool budget_look(budget *b)
{
    uint64_t entry = atomic_load_explicit(&b->entry, memory_order_acquire);
    uint64_t now = uv_hrtime(); /* after it: what was seen has not begun later than this */
    if (entry != b->seen_entry) {
        b->seen_entry = entry;
        b->seen_since = now;
        b->asked = 0;
        b->seen_cpu = entry % 2 == 1 ? cpu_time(b) : 0;
        return true;
    }
    if (entry % 2 == 0)
        return false;
    if (is_over(b, now) || entry == atomic_load(&b->stop_entry))
        keep_stopping(b, entry);
    return true;
}

void budget_interrupt(budget *b)
{
    uint64_t entry = atomic_load_explicit(&b->entry, memory_order_acquire);
    if (entry % 2 == 0)
        return;
    atomic_store(&b->interrupted, entry);
    stop(b, entry);
}

/* ---- the signal ---- */

typedef int (*sigaction_fn)(int, const struct sigaction *, struct sigaction *);

/* The thread sanitizer puts off signals until the next call that it knows, which a loop in Lua
 * never makes: go round it. */
static sigaction_fn find_sigaction(void)
{
    sigaction_fn found = sigaction;
#if defined(__SANITIZE_THREAD__)
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    void *real = libc != NULL ? dlsym(libc, "sigaction") : NULL;
    if (real != NULL)
        *(void **)&found = real;
#endif
    return found;
}

int budget_take_signal(int number)
{
    sigaction_fn change = find_sigaction();
    struct sigaction action, before;
    if (change(number, NULL, &before) != 0)
        return -1;
    if ((before.sa_flags & SA_SIGINFO) != 0)
        return -1;
    if (before.sa_handler == on_signal)
        return 0;
    if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        return -1;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    return change(number, &action, NULL);
}
