/* Outboxes of the Lua API. See api.h and outbox/outbox.h. Loop thread, or the loading one: then
 * they are only declared. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conn/subscription.h"
#include "outbox/forward.h"
#include "script/api.h"
#include "script/message.h"
#include "script/outbox_declaration.h"
#include "script/task.h"

#define OUTBOX_TYPE "moondog.outbox"
#define MAX_BYTES 1073741824.0
#define TIME_MAX_S 3e9 /* a hundred years */
#define FLUSH_TIMEOUT_S 30.0
#define MSG_ID_MAX 512

struct outbox_handle {
    struct outbox_declaration *declaration;
};

static struct outbox_declaration *check_outbox(lua_State *L)
{
    const struct outbox_handle *h = luaL_checkudata(L, 1, OUTBOX_TYPE);
    return h->declaration;
}

/* ---- declaring ---- */

/* Seconds as ms; absent: `absent`. */
static int64_t read_ttl(lua_State *L, int index, int64_t absent)
{
    lua_getfield(L, index, "ttl");
    bool there = !lua_isnil(L, -1);
    lua_pop(L, 1);
    if (!there)
        return absent;
    double ms = options_number(L, index, "ttl", 0, 0.001, TIME_MAX_S) * 1000;
    return ms < 1 ? 1 : (int64_t)ms;
}

static outbox_policy check_policy(lua_State *L, const char *pattern)
{
    static const char *const names[] = {"all", "latest", "drop"};
    const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    for (int i = 0; name != NULL && i < 3; i++)
        if (strcmp(name, names[i]) == 0)
            return (outbox_policy)i;
    luaL_error(L, "option \"policies\": %s is \"all\", \"latest\" or \"drop\", and not %s", pattern,
               name != NULL ? name : luaL_typename(L, -1));
    return OUTBOX_KEEP_ALL; /* never */
}

static void add_rule(lua_State *L, outbox_options *o)
{
    error e = {0};
    if (lua_type(L, -2) != LUA_TSTRING)
        luaL_error(L, "option \"policies\": a subject is a string, not a %s", luaL_typename(L, -2));
    size_t length;
    const char *pattern = lua_tolstring(L, -2, &length);
    if (subject_check(pattern, length, true, &e) != 0)
        luaL_error(L, "option \"policies\": %s", e.message);
    outbox_policy policy = check_policy(L, pattern);
    outbox_rule *rules = realloc(o->rules, (o->rule_count + 1) * sizeof *rules);
    if (rules == NULL) {
        luaL_error(L, "no memory for an outbox");
        return; /* never: luaL_error() does not come back */
    }
    o->rules = rules;
    o->rules[o->rule_count] = (outbox_rule){strdup(pattern), policy};
    if (o->rules[o->rule_count].pattern == NULL)
        luaL_error(L, "no memory for an outbox");
    o->rule_count++;
}

static struct binding *read_connection(lua_State *L, int index)
{
    lua_getfield(L, index, "connection");
    if (!lua_isuserdata(L, -1))
        luaL_error(L,
                   "option \"connection\" is a %s: what moondog.connect{...} returned is "
                   "expected",
                   luaL_typename(L, -1));
    struct binding *b = api_check_connection(L, lua_gettop(L));
    lua_pop(L, 1);
    return b;
}

static void read_path(lua_State *L, int index, const struct generation *g,
                      struct outbox_declaration *d)
{
    const char *path = options_string(L, index, "path", NULL);
    if (path == NULL || path[0] == '\0')
        luaL_error(L, "moondog.outbox needs the option \"path\": where its file is");
    d->options.path = path != NULL ? outbox_real_path(path) : NULL;
    if (d->options.path == NULL) {
        luaL_error(L, "no memory for an outbox");
        return; /* never: luaL_error() does not come back */
    }
    for (const struct outbox_declaration *other = g->outboxes; other != NULL; other = other->next)
        if (strcmp(other->options.path, d->options.path) == 0)
            luaL_error(L,
                       "there is an outbox with the file %s already: give each one a file of its "
                       "own",
                       d->options.path);
}

static void read_options(lua_State *L, int index, const struct generation *g,
                         struct outbox_declaration *d)
{
    static const char *const names[] = {"path",     "connection", "max_bytes", "ttl", "fsync",
                                        "policies", "rate",       "window",    NULL};
    const unsigned most = FORWARD_WINDOW_MAX;
    outbox_options *o = &d->options;
    options_check(L, index, names, "moondog.outbox");
    d->binding = read_connection(L, index);
    read_path(L, index, g, d);
    o->max_bytes = (int64_t)options_number(L, index, "max_bytes", MAX_BYTES, 1024, 1e15);
    o->ttl_ms = read_ttl(L, index, 0);
    o->fsync = options_boolean(L, index, "fsync", true);
    o->rate = options_number(L, index, "rate", 0, 0, 1e9);
    o->window = (unsigned)options_number(L, index, "window", 256, 1, most);
    if (options_table(L, index, "policies")) {
        int t = lua_gettop(L);
        for (lua_pushnil(L); lua_next(L, t) != 0; lua_pop(L, 1))
            add_rule(L, o);
        lua_pop(L, 1);
    }
    outbox_sort_rules(o);
}

static void forget_declaration(struct outbox_declaration *d)
{
    outbox_options_clear(&d->options);
    free(d);
}

static int outbox_gc(lua_State *L)
{
    struct outbox_handle *h = lua_touserdata(L, 1);
    if (h->declaration != NULL && h->declaration->generation == NULL) {
        forget_declaration(h->declaration); /* something was wrong with its options */
        generation_discharge(generation_of(L), sizeof *h->declaration);
    }
    h->declaration = NULL;
    return 0;
}

/* It belongs to the generation from here on. */
static void declare(struct generation *g, struct outbox_declaration *d)
{
    d->generation = g;
    struct outbox_declaration **end = &g->outboxes;
    while (*end != NULL)
        end = &(*end)->next;
    *end = d;
}

/* moondog.outbox{...} [-0, +1], or [-0, +2] nil, err */
int api_outbox(lua_State *L)
{
    struct generation *g = generation_of(L);
    api_check_not(L, g->retiring, "moondog.outbox");
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct outbox_handle *h = lua_newuserdata(L, sizeof *h);
    h->declaration = NULL;
    luaL_getmetatable(L, OUTBOX_TYPE);
    lua_setmetatable(L, -2);
    struct outbox_declaration *d =
        g->limits.outboxes != NULL && generation_charge(L, sizeof *d) ? calloc(1, sizeof *d) : NULL;
    if (d == NULL)
        return luaL_error(L, "no memory for an outbox");
    h->declaration = d; /* the userdata frees it when something is wrong with the options */
    read_options(L, 1, g, d);
    declare(g, d);
    error e = {0};
    if (g->committed && outbox_declaration_commit(d, &e) != 0)
        return luaL_error(L, "%s", e.message);
    return 1;
}

/* ---- publishing ---- */

static void check_headers(lua_State *L, const outbox_message *m)
{
    static const char *const reserved[] = {"Nats-Msg-Id", "Nats-Expected-Last-Msg-Id", NULL};
    const char *at = m->headers;
    for (uint32_t i = 0; i < m->header_count; i++) {
        for (int k = 0; reserved[k] != NULL; k++)
            if (strcasecmp(at, reserved[k]) == 0)
                luaL_error(L, "header \"%s\" is the outbox's own%s", at,
                           k == 0 ? ": use the option msg_id" : "");
        at += strlen(at) + 1;
        at += strlen(at) + 1;
    }
}

static const char *read_msg_id(lua_State *L, int index)
{
    const char *id = options_string(L, index, "msg_id", NULL);
    if (id == NULL)
        return NULL;
    size_t length = strlen(id);
    if (length == 0 || length > MSG_ID_MAX || id[0] == ' ' || id[length - 1] == ' ')
        luaL_error(L, "option \"msg_id\" has 1 to %d characters, and no space at its ends",
                   MSG_ID_MAX);
    for (const char *at = id; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            luaL_error(L, "option \"msg_id\" has a control character");
    return id;
}

/* [-0, +n] What it points to stays on the stack. */
static void read_message(lua_State *L, outbox_message *m)
{
    static const char *const names[] = {"headers", "msg_id", "ttl", NULL};
    record_message r = {0};
    *m = (outbox_message){.ttl_ms = -1};
    m->subject = luaL_checklstring(L, 2, &m->subject_length);
    lua_settop(L, 4);
    if (!lua_isnil(L, 4)) {
        luaL_checktype(L, 4, LUA_TTABLE);
        options_check(L, 4, names, "publish");
        m->ttl_ms = read_ttl(L, 4, -1);
        m->msg_id = read_msg_id(L, 4);
    }
    message_read(L, 3, 4, &r);
    m->headers = r.headers;
    m->header_length = r.header_length;
    m->header_count = r.header_count;
    m->data = r.data;
    m->data_length = r.data_length;
    check_headers(L, m);
}

static void on_told(void *closure, const error *e)
{
    task_resume_done(closure, e);
}

static void cancel_publish(struct task *t, void *closure)
{
    (void)t;
    outbox_forget(closure);
}

/* The outbox, or NULL and *e. */
static struct outbox *live(const struct outbox_declaration *d, error *e)
{
    if (d->outbox == NULL)
        error_set(e, "closed", ERROR_CLASS_NONE, "outbox %s is closed", d->options.path);
    return d->outbox;
}

/* [-0, +1] true, or [-0, +2] nil, err */
static int send_now(lua_State *L, struct outbox *o, const outbox_message *m)
{
    error e = {0};
    if (outbox_send_now(o, m, &e) != 0)
        return message_fail(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

static int publish(lua_State *L)
{
    const struct outbox_declaration *d = check_outbox(L);
    struct task *t = task_current(L, "publish");
    outbox_message m;
    error e = {0};
    read_message(L, &m);
    struct outbox *o = live(d, &e);
    if (o == NULL || outbox_check(&m, &e) != 0)
        return message_fail(L, &e);
    if (outbox_policy_of(o, m.subject, m.subject_length) == OUTBOX_DROP)
        return send_now(L, o, &m);
    struct writer_job *job = outbox_publish(o, &m, on_told, t, &e);
    if (job == NULL)
        return message_fail(L, &e);
    return task_park(t, L, cancel_publish, job);
}

/* ---- flush ---- */

static void cancel_flush(struct task *t, void *closure)
{
    (void)t;
    outbox_flush_cancel(closure);
}

static void on_flush_timeout(struct task *t)
{
    outbox_flush_cancel(t->closure);
    error e = {0};
    error_set(&e, "timeout", ERROR_CLASS_TIMEOUT,
              "not all was acknowledged in time: status() says why");
    task_resume_error(t, &e);
}

static int flush(lua_State *L)
{
    const struct outbox_declaration *d = check_outbox(L);
    struct task *t = task_current(L, "flush");
    uint32_t timeout = lua_isnoneornil(L, 2) ? (uint32_t)(FLUSH_TIMEOUT_S * 1000)
                                             : api_seconds(L, 2, 0.001, 86400);
    error e = {0};
    struct outbox *o = live(d, &e);
    struct outbox_flush *f = o != NULL ? outbox_flush(o, on_told, t, &e) : NULL;
    if (f == NULL)
        return message_fail(L, &e);
    task_set_timer(t, timeout, on_flush_timeout);
    return task_park(t, L, cancel_flush, f);
}

/* ---- status ---- */

static int status(lua_State *L)
{
    const struct outbox_declaration *d = check_outbox(L);
    outbox_status s = {.state = d->generation->loading ? OUTBOX_OPENING : OUTBOX_CLOSED};
    if (d->outbox != NULL)
        outbox_get_status(d->outbox, &s);
    lua_createtable(L, 0, 12);
    api_set_string(L, "path", d->options.path);
    api_set_string(L, "state", outbox_state_name(s.state));
    api_set_number(L, "waiting", (double)s.waiting);
    api_set_number(L, "bytes", (double)s.bytes);
    api_set_number(L, "set_aside", (double)s.set_aside);
    api_set_number(L, "oldest", s.oldest);
    api_set_number(L, "forwarded", (double)s.forwarded);
    api_set_number(L, "duplicates", (double)s.duplicates);
    api_set_number(L, "dropped", (double)s.dropped);
    api_set_number(L, "expired", (double)s.expired);
    api_set_number(L, "refused", (double)s.refused);
    if (s.error.code[0] != '\0') {
        message_push_error(L, &s.error);
        lua_setfield(L, -2, "error");
    }
    return 1;
}

static int outbox_tostring(lua_State *L)
{
    lua_pushfstring(L, "outbox %s", check_outbox(L)->options.path);
    return 1;
}

void api_register_outbox(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"publish", publish}, {"flush", flush}, {"status", status}, {NULL, NULL}};
    api_register_type(L, OUTBOX_TYPE, methods, outbox_gc);
    lua_pushcfunction(L, outbox_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pop(L, 1);
}
