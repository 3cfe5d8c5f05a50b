/* What is said and counted when a function of a script fails. See failure.h. Loop thread. */
#include "script/failure.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define LOUD_ERRORS 5u /* of a callback are logged one by one, later ones once a second */
#define ERROR_QUIET_NS 1000000000u
#define SUMMARY_NS 5000000000u /* between two summaries of the others */

static void clear_record(failure_record *one)
{
    free(one->text);
    free(one->traceback);
    *one = (failure_record){0};
}

void failures_clear(struct failures *all)
{
    for (unsigned i = 0; i < FAILURES_MAX; i++)
        clear_record(&all->records[i]);
}

static failure_counter *counter_of(struct failures *all, const struct callback *cb)
{
    char name[CALLBACK_TEXT];
    callback_name(cb, name);
    for (unsigned i = 0; i < all->counter_count; i++) {
        failure_counter *c = &all->counters[i];
        if (strcmp(c->kind, cb->kind) == 0 && strcmp(c->name, name) == 0)
            return c;
    }
    bool last = all->counter_count >= FAILURE_COUNTERS_MAX - 1;
    failure_counter *c = &all->counters[last ? FAILURE_COUNTERS_MAX - 1 : all->counter_count];
    all->counter_count = last ? FAILURE_COUNTERS_MAX : all->counter_count + 1;
    snprintf(c->kind, sizeof c->kind, "%s", last ? "other" : cb->kind);
    snprintf(c->name, sizeof c->name, "%s", last ? "other" : name);
    return c;
}

static failure_counter *remember(struct generation *g, const struct callback *cb, const failure *r)
{
    struct failures *all = g->limits.failures;
    if (all == NULL)
        return NULL;
    failure_counter *counter = counter_of(all, cb);
    counter->count++;
    failure_record *one = &all->records[all->total++ % FAILURES_MAX];
    clear_record(one);
    one->at = wall_clock_ms(&g->limits.hub->clock);
    one->generation = g->number;
    snprintf(one->kind, sizeof one->kind, "%s", cb->kind);
    callback_name(cb, one->name);
    one->text = strdup(r->text);
    one->traceback = strdup(r->traceback);
    return counter;
}

/* Beyond the first ones of a function, one a second is logged by itself. */
static void note_quiet(struct failures *all, failure_counter *counter, uint64_t now)
{
    if (counter == NULL)
        return;
    if (counter->quiet++ == 0)
        counter->quiet_since = now;
    all->quiet = true;
}

void failures_tell_quiet(struct failures *all, struct logger *log, uint64_t now)
{
    bool quiet = false;
    for (unsigned i = 0; all->quiet && i < all->counter_count; i++) {
        failure_counter *c = &all->counters[i];
        if (c->quiet > 0 && now - c->quiet_since >= SUMMARY_NS) {
            log_emit(log, LOG_WARN, "failures not logged one by one", log_str("kind", c->kind),
                     log_str("name", c->name), log_int("count", (int64_t)c->quiet),
                     log_int("errors", (int64_t)c->count),
                     log_num("seconds", (double)(now - c->quiet_since) / 1e9));
            c->quiet = 0;
        }
        quiet |= c->quiet > 0;
    }
    all->quiet = quiet;
}

static void copy_text(char *to, size_t size, lua_State *L, int index)
{
    const char *text = lua_tostring(L, index);
    snprintf(to, size, "%s", text != NULL ? text : "(an error that has no text)");
}

void failure_describe_value(lua_State *L, int index, failure *r)
{
    lua_pushvalue(L, index);
    if (!lua_isstring(L, -1) && luaL_callmeta(L, -1, "__tostring"))
        lua_remove(L, -2);
    if (!lua_isstring(L, -1)) {
        const char *type = luaL_typename(L, -1);
        lua_pop(L, 1);
        lua_pushfstring(L, "(error object is a %s value)", type);
    }
    copy_text(r->text, sizeof r->text, L, -1);
    lua_pop(L, 1);
}

void failure_describe_stack(lua_State *L, lua_State *of, int level, failure *r)
{
    luaL_traceback(L, of, r->text,
                   level); /* LuaJIT has lost the line of the topmost: the text has it */
    copy_text(r->traceback, sizeof r->traceback, L, -1);
    lua_pop(L, 1);
}

/* [-0, +0] on the main thread */
static void describe(lua_State *L, void *closure)
{
    failure *r = closure;
    lua_pushvalue(r->from, -1);
    lua_xmove(r->from, L, 1);
    failure_describe_value(L, -1, r);
    lua_pop(L, 1);
    failure_describe_stack(L, r->from, 0, r);
}

static void collect(lua_State *L, void *closure)
{
    (void)closure;
    lua_gc(L, LUA_GCCOLLECT, 0);
}

static void tell(struct generation *g, struct callback *cb, const failure *r, bool overran)
{
    uint64_t now = uv_hrtime();
    failure_counter *counter = remember(g, cb, r);
    if (cb->errors > LOUD_ERRORS && now - cb->logged_at < ERROR_QUIET_NS) {
        note_quiet(g->limits.failures, counter, now);
        return;
    }
    cb->logged_at = now;
    char message[40], name[CALLBACK_TEXT];
    snprintf(message, sizeof message, "%s failed", cb->kind);
    log_emit(g->limits.hub->log, LOG_ERROR, message, log_str("name", callback_name(cb, name)),
             log_str("error", r->text), log_int("errors", (int64_t)cb->errors),
             log_bool("over_budget", overran), log_str("traceback", r->traceback));
}

/* Completes *r. */
static void fill_in(struct generation *g, const struct callback *cb, failure *r, int status)
{
    if (status == LUA_ERRMEM) { /* its text is known, and there may be no memory to ask for more */
        snprintf(r->text, sizeof r->text,
                 "not enough memory: the script may have %zu MB, raise --memory",
                 g->limits.memory_cap / 1048576);
        generation_protect(g, collect, NULL, 0, "garbage collection");
    } else if (r->from != NULL) {
        budget_enter(&g->budget, g->limits.handler_budget_ms, cb); /* __tostring is script, too */
        generation_protect(g, describe, r, 0, "error report");
        budget_leave(&g->budget);
    }
}

void failure_report(struct generation *g, struct callback *cb, failure *r, int status, bool overran)
{
    g->errors++;
    g->handler_errors += strcmp(cb->kind, "handler") == 0;
    g->start_errors += strcmp(cb->kind, "on_start") == 0;
    cb->errors++;
    cb->overruns += overran;
    fill_in(g, cb, r, status);
    tell(g, cb, r, overran);
}

void failure_tell(const struct task *t, failure *r, int status, bool overran)
{
    fill_in(t->generation, t->callback, r, status);
    t->failed(t->finished_closure, r->text, r->traceback, overran);
}

void failure_note(struct generation *g, struct callback *cb, const char *what, const char *remedy)
{
    failure r = {.from = NULL};
    char place[CALLBACK_TEXT];
    callback_place(cb, place);
    snprintf(r.text, sizeof r.text, "%s%s%s: %s", place, place[0] != '\0' ? ": " : "", what,
             remedy);
    g->errors++;
    cb->errors++;
    tell(g, cb, &r, false);
}

void failure_push_where(lua_State *L)
{
    lua_Debug ar;
    int level = 0;
    while (lua_getstack(L, level, &ar) && lua_getinfo(L, "S", &ar) &&
           (ar.what[0] == 'C' || strncmp(ar.source, "@lua/moondog/", 13) == 0))
        level++;
    luaL_where(L, level);
}
