/* Between a connection and the script: hooks, policy, token, handlers. See binding.h. Loop thread.
 */
#include "script/binding.h"

#include <assert.h>
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "script/message.h"
#include "script/takeover.h"
#include "script/task.h"

#define KEY_HASH_CHARS 8 /* of a handler's key */

const char *const binding_hook_names[CONNECTION_NOTICE_COUNT] = {
    [CONNECTION_CONNECTED] = "connected",
    [CONNECTION_RECONNECTED] = "reconnected",
    [CONNECTION_DISCONNECTED] = "disconnected",
    [CONNECTION_CLOSED] = "closed",
    [CONNECTION_ERROR] = "error",
    [CONNECTION_LAME_DUCK] = "lame_duck",
    [CONNECTION_DISCOVERED] = "discovered",
    [CONNECTION_PROBE] = "probe",
};

struct binding *binding_new(struct generation *g)
{
    struct binding *b = calloc(1, sizeof *b);
    if (b == NULL)
        return NULL;
    b->generation = g;
    b->handle_ref = LUA_NOREF;
    for (int i = 0; i < CONNECTION_NOTICE_COUNT; i++)
        b->hooks[i].ref = LUA_NOREF;
    b->policy.ref = b->token.ref = LUA_NOREF;
    return b;
}

void binding_free(struct binding *b)
{
    link_options_release(b->options.link);
    free(b->name);
    free(b);
}

/* ---- hooks ---- */

struct hook_call {
    struct binding *binding;
    const connection_info *info;
};

/* [-0, +1] */
static void push_info(lua_State *L, const connection_info *info)
{
    lua_createtable(L, 0, 6);
    lua_pushstring(L, info->server);
    lua_setfield(L, -2, "server");
    lua_pushboolean(L, info->fresh);
    lua_setfield(L, -2, "fresh");
    lua_pushnumber(L, info->outage);
    lua_setfield(L, -2, "outage");
    lua_pushnumber(L, (lua_Number)info->links);
    lua_setfield(L, -2, "links");
    if (info->notice == CONNECTION_PROBE) {
        lua_pushboolean(L, !info->deaf);
        lua_setfield(L, -2, "answered");
    }
    if (info->reason != WATCHDOG_REASON_NONE) {
        lua_pushstring(L, watchdog_reason_name(info->reason));
        lua_setfield(L, -2, "reason");
    }
}

/* [-0, +2] */
static void push_hook_arguments(lua_State *L, void *closure)
{
    struct hook_call *call = closure;
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->binding->handle_ref);
    switch (call->info->notice) {
    case CONNECTION_DISCONNECTED:
    case CONNECTION_CLOSED:
    case CONNECTION_ERROR:
        message_push_error(L, call->info->error);
        break;
    default:
        push_info(L, call->info);
    }
}

static void on_notice(void *closure, const connection_info *info)
{
    struct binding *b = closure;
    struct generation *g = b->generation;
    struct callback *cb = &b->hooks[info->notice];
    if (!callback_is_set(cb))
        return;
    struct task *t = task_begin(g, cb);
    if (t == NULL)
        return;
    struct hook_call call = {b, info};
    if (generation_protect(g, push_hook_arguments, &call, 2, "hook") != 0) {
        lua_pushnil(t->co);
        lua_pushnil(t->co);
    } else {
        lua_xmove(g->L, t->co, 2);
    }
    task_start(t, 2);
}

/* ---- policy and token ---- */

struct policy_call {
    struct binding *binding;
    const connection_attempt *attempt;
    double delay;
    char returned[64]; /* for messages */
};

/* [-0, +0] the value on top, shortly; of a string only its type: it may be a secret */
static void describe_result(lua_State *L, char *text, size_t size)
{
    if (lua_type(L, -1) == LUA_TNUMBER)
        snprintf(text, size, "it returned %.14g", lua_tonumber(L, -1));
    else
        snprintf(text, size, "it returned a %s value", luaL_typename(L, -1));
}

/* [-0, +1] */
static int push_attempt(lua_State *L, void *closure)
{
    struct policy_call *call = closure;
    const connection_attempt *a = call->attempt;
    lua_createtable(L, 0, 8);
    lua_pushnumber(L, a->attempt);
    lua_setfield(L, -2, "attempt");
    message_push_error(L, a->error);
    lua_setfield(L, -2, "error");
    lua_pushstring(L, error_class_name(a->error->cls));
    lua_setfield(L, -2, "class");
    lua_pushnumber(L, a->outage);
    lua_setfield(L, -2, "outage");
    lua_pushstring(L, a->server);
    lua_setfield(L, -2, "server");
    lua_pushstring(L, call->binding->name);
    lua_setfield(L, -2, "connection");
    lua_pushboolean(L, a->library);
    lua_setfield(L, -2, "library");
    return 1;
}

/* [-0, +0] the result is on top */
static void read_delay(lua_State *L, void *closure)
{
    struct policy_call *call = closure;
    call->delay = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : NAN;
    describe_result(L, call->returned, sizeof call->returned);
}

static double on_delay(void *closure, const connection_attempt *attempt)
{
    struct binding *b = closure;
    if (!callback_is_set(&b->policy))
        return NAN;
    struct policy_call call = {.binding = b, .attempt = attempt, .delay = NAN};
    if (task_call(b->generation, &b->policy, push_attempt, read_delay, &call) != 0)
        return NAN;
    if (isfinite(call.delay) && call.delay >= 0)
        return call.delay;
    task_note_failure(b->generation, &b->policy, call.returned,
                      "a policy returns the seconds to wait, 0 or more; the built-in one acts");
    return NAN;
}

/* [-0, +0] */
static int push_nothing(lua_State *L, void *closure)
{
    (void)L;
    (void)closure;
    return 0;
}

struct token_call {
    char *token;
    char returned[64];
};

/* [-0, +0] the result is on top */
static void read_token(lua_State *L, void *closure)
{
    struct token_call *call = closure;
    if (lua_type(L, -1) == LUA_TSTRING)
        call->token = strdup(lua_tostring(L, -1));
    describe_result(L, call->returned, sizeof call->returned);
}

static bool on_token(void *closure, char **token)
{
    struct binding *b = closure;
    struct token_call call = {0};
    if (!callback_is_set(&b->token))
        return true;
    if (task_call(b->generation, &b->token, push_nothing, read_token, &call) != 0)
        return false;
    if (call.token == NULL)
        task_note_failure(b->generation, &b->token, call.returned,
                          "a token function returns a string; there is no dial without it");
    *token = call.token;
    return call.token != NULL;
}

/* Handlers of generations before may still be at work. */
static bool on_busy(void *closure)
{
    for (const struct binding *b = closure; b != NULL; b = b->older)
        if (b->busy > 0 || b->generation->unloading > 0)
            return true;
    return false;
}

static const connection_observer observer = {
    .notify = on_notice, .delay = on_delay, .token = on_token, .busy = on_busy};

void binding_silence(struct binding *b)
{
    lua_State *L = b->generation->L;
    for (int i = 0; i < CONNECTION_NOTICE_COUNT; i++)
        callback_clear(&b->hooks[i], L);
    callback_clear(&b->policy, L);
    callback_clear(&b->token, L);
}

/* ---- handlers ---- */

void handler_retain(struct handler *h)
{
    h->references++;
}

void handler_release(struct handler *h)
{
    if (--h->references > 0)
        return;
    callback_clear(&h->callback, h->binding->generation->L);
    message_clear_slot(&h->slot, h->binding->generation->L);
    generation_discharge(h->binding->generation, HANDLER_BYTES);
    free(h->subject);
    free(h->queue);
    free(h->key);
    free(h);
}

static void unlink_handler(struct handler *h)
{
    *h->back = h->next;
    if (h->next != NULL)
        h->next->back = h->back;
    h->back = NULL;
}

/* Out of the binding's list, when no subscription is left. */
static void leave_list(struct handler *h)
{
    if (h->back == NULL || h->subscription != NULL || h->successor != NULL || h->leaving != NULL)
        return;
    unlink_handler(h);
    handler_release(h);
}

static void unsubscribe(struct subscription *s)
{
    if (s != NULL)
        subscription_unsubscribe(s);
}

static void on_subscription_ended(void *closure, struct subscription *s)
{
    struct handler *h = closure;
    handler_retain(h);
    if (h->subscription == s) {
        h->subscription = NULL;
        unsubscribe(h->successor); /* it has handled all that it shall */
    } else if (h->successor == s) {
        h->successor = NULL;
    } else if (h->leaving == s) {
        h->leaving = NULL;
    }
    handler_release(h); /* the subscription's */
    leave_list(h);
    handler_release(h);
}

static void on_task_finished(void *closure)
{
    struct handler *h = closure;
    h->binding->busy--;
    handler_release(h);
}

static void on_message(void *closure, struct subscription *s, natsMsg *msg)
{
    (void)s;
    struct handler *h = closure;
    struct generation *g = h->binding->generation;
    struct task *t = task_begin(g, &h->callback);
    if (t == NULL) {
        natsMsg_Destroy(msg);
        return;
    }
    t->message = message_deliver(&h->slot, t->co, h->binding, msg);
    if (t->message == NULL)
        lua_pushnil(t->co);
    handler_retain(h);
    h->binding->busy++;
    g->handled++;
    t->finished = on_task_finished;
    t->finished_closure = h;
    task_start(t, 1);
}

/* Subject and queue in one text; a space is in neither. In front stands an FNV-1a hash of them:
 * hsearch_r() looks at the first eight bytes only, and subjects often begin alike. */
static char *make_key(const subscription_options *o)
{
    const char *queue = o->queue != NULL ? o->queue : "";
    size_t subject_length = strlen(o->subject), queue_length = strlen(queue);
    char *key = malloc(KEY_HASH_CHARS + subject_length + 1 + queue_length + 1);
    if (key == NULL)
        return NULL;
    char *text = key + KEY_HASH_CHARS;
    memcpy(text, o->subject, subject_length);
    text[subject_length] = ' ';
    memcpy(text + subject_length + 1, queue, queue_length + 1);
    uint32_t hash = 2166136261u;
    for (const char *at = text; *at != '\0'; at++)
        hash = (hash ^ (unsigned char)*at) * 16777619u;
    for (int i = 0; i < KEY_HASH_CHARS; i++, hash >>= 4)
        key[i] = (char)('a' + (hash & 15u));
    return key;
}

struct handler *handler_new(struct binding *b, const subscription_options *options, error *e)
{
    struct handler *h = calloc(1, sizeof *h);
    if (h != NULL) {
        h->subject = strdup(options->subject);
        h->queue = options->queue != NULL ? strdup(options->queue) : NULL;
        h->key = make_key(options);
    }
    if (h == NULL || h->subject == NULL || h->key == NULL ||
        (options->queue != NULL && h->queue == NULL)) {
        if (h != NULL) {
            free(h->subject);
            free(h->queue);
            free(h->key);
        }
        free(h);
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a subscription");
        return NULL;
    }
    h->references = 1; /* the caller's */
    h->binding = b;
    h->options = *options;
    h->options.subject = h->subject;
    h->options.queue = h->queue;
    callback_init(&h->callback, "handler", h->subject);
    h->next = b->handlers;
    if (h->next != NULL)
        h->next->back = &h->next;
    h->back = &b->handlers;
    b->handlers = h;
    handler_retain(h); /* the list's */
    return h;
}

static void handle(struct handler *h, struct subscription *s)
{
    if (s == NULL)
        return;
    subscription_handle(s, on_message, on_subscription_ended, h);
    handler_retain(h);
}

/* The subscriptions that it does not get from the handler that it matches. */
static int handler_prepare(struct handler *h, error *e)
{
    struct binding *b = h->binding;
    h->matched = takeover_match(b, h);
    if (h->matched == NULL) {
        h->subscription = subscription_new(b->connection, &h->options, e);
        if (h->subscription == NULL)
            return -1;
    }
    bool same_successor = b->older != NULL && b->successor == b->older->successor;
    if (b->successor == NULL || (h->matched != NULL && same_successor))
        return 0;
    h->successor = subscription_new(b->successor, &h->options, e);
    return h->successor == NULL ? -1 : 0;
}

static void drop_unhandled(struct subscription *s)
{
    subscription_handle(s, NULL, NULL, NULL);
    subscription_unsubscribe(s);
}

/* Not handled by `h` any more. */
static void let_go(struct handler *h, struct subscription **s)
{
    if (*s == NULL)
        return;
    *s = NULL;
    handler_release(h);
}

static void handler_put_to_work(struct handler *h)
{
    struct handler *old = h->matched;
    struct takeover *t = h->binding->generation->takeover;
    h->matched = NULL;
    if (t != NULL)
        (*(old != NULL ? &t->counts.kept : &t->counts.added))++;
    if (old != NULL) {
        h->subscription = old->subscription;
        subscription_set_pending(h->subscription, &h->options);
        if (h->successor == NULL && h->binding->successor != NULL)
            h->successor = old->successor;
        else if (old->successor != NULL)
            drop_unhandled(old->successor);
        handler_retain(old);
        let_go(old, &old->subscription);
        let_go(old, &old->successor);
        leave_list(old);
        handler_release(old);
    }
    handle(h, h->subscription);
    handle(h, h->successor);
}

static void drop_prepared(struct subscription **s)
{
    unsubscribe(*s);
    *s = NULL;
}

static void handler_undo(struct handler *h)
{
    h->matched = NULL;
    drop_prepared(&h->subscription);
    drop_prepared(&h->successor);
    leave_list(h);
}

int handler_commit(struct handler *h, error *e)
{
    int failed =
        h->binding->connection == NULL
            ? error_set(e, "closed", ERROR_CLASS_NONE, "connection %s is closed", h->binding->name)
            : handler_prepare(h, e);
    if (failed != 0)
        handler_undo(h);
    else
        handler_put_to_work(h);
    return failed;
}

void handler_unsubscribe(struct handler *h)
{
    handler_retain(h); /* each of these may be the last reference */
    unsubscribe(h->successor);
    unsubscribe(h->subscription);
    unsubscribe(h->leaving);
    handler_release(h);
}

void handler_drain(struct handler *h)
{
    handler_retain(h);
    unsubscribe(h->successor);
    if (h->subscription != NULL)
        subscription_drain(h->subscription);
    handler_release(h);
}

/* ---- the connection ---- */

static struct connection *open_connection(const struct binding *b, error *e)
{
    struct connection *c = connection_new(b->generation->limits.hub, b->name, &b->options);
    if (c == NULL)
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a connection");
    return c;
}

static bool same_link(const struct binding *b, const struct connection *c)
{
    return link_options_equal(b->options.link, connection_get_options(c)->link);
}

static bool same_token(const struct binding *a, const struct binding *b)
{
    return callback_is_set(&a->token) == callback_is_set(&b->token);
}

/* Which connection it uses, and whether another one has to be dialled. */
static int find_connection(struct binding *b, struct binding *older, error *e)
{
    if (older == NULL) {
        b->connection = open_connection(b, e);
        return b->connection != NULL ? 0 : -1;
    }
    b->older = older;
    b->connection = older->connection;
    if (same_link(b, older->connection) && same_token(b, older))
        return 0;
    if (older->successor != NULL && same_link(b, older->successor) && same_token(b, older))
        b->successor = older->successor;
    else
        b->successor = open_connection(b, e);
    return b->successor != NULL ? 0 : -1;
}

int binding_prepare(struct binding *b, struct binding *older, error *e)
{
    if (find_connection(b, older, e) != 0)
        return -1;
    for (struct handler *h = b->handlers; h != NULL; h = h->next)
        if (handler_prepare(h, e) != 0)
            return -1;
    return 0;
}

void binding_undo(struct binding *b)
{
    for (struct handler *h = b->handlers; h != NULL; h = h->next) {
        h->matched = NULL;
        drop_prepared(&h->subscription);
        drop_prepared(&h->successor);
    }
    bool own_successor = b->older == NULL || b->successor != b->older->successor;
    if (b->successor != NULL && own_successor)
        connection_close(b->successor);
    if (b->connection != NULL && b->older == NULL)
        connection_close(b->connection);
    b->connection = b->successor = NULL;
    b->older = NULL;
}

/* The connection that was dialled with the new options is up, and all subscriptions are in place:
 * until the other one is drained, messages may come twice. */
static void hand_over(struct binding *b)
{
    struct connection *c = b->connection, *heir = b->successor;
    b->successor = NULL;
    for (struct binding *x = b; x != NULL; x = x->older)
        if (x->connection == c)
            x->connection = heir;
    for (struct handler *h = b->handlers, *next; h != NULL; h = next) {
        next = h->next;
        h->leaving = h->subscription;
        h->subscription = h->successor;
        h->successor = NULL;
        if (h->leaving != NULL)
            subscription_drain(h->leaving);
    }
    connection_observe(heir, &observer, b);
    connection_hand_over(c, heir, b->generation->limits.retire_ms);
}

static void on_successor_notice(void *closure, const connection_info *info)
{
    struct binding *b = closure;
    if (info->notice != CONNECTION_CONNECTED)
        return;
    hand_over(b);
    on_notice(b, info);
}

static const connection_observer successor_observer = {
    .notify = on_successor_notice, .delay = on_delay, .token = on_token};

void binding_commit(struct binding *b)
{
    struct binding *older = b->older;
    if (older != NULL) {
        b->newer = older->newer;
        older->newer = b;
        if (older->successor != NULL && older->successor != b->successor) {
            connection_observe(older->successor, NULL, NULL);
            connection_close(older->successor);
        }
        if (b->successor == NULL)
            connection_configure(b->connection, &b->options);
    }
    connection_observe(b->connection, &observer, b);
    for (struct handler *h = b->handlers, *next; h != NULL; h = next) {
        next = h->next;
        handler_put_to_work(h);
    }
    if (b->successor != NULL) {
        connection_observe(b->successor, &successor_observer, b);
        if (older == NULL || older->successor != b->successor)
            connection_start(b->successor);
    }
    if (older == NULL)
        connection_start(b->connection);
}

static void close_successor(struct binding *b)
{
    if (b->successor == NULL)
        return;
    connection_observe(b->successor, NULL, NULL);
    connection_close(b->successor);
    b->successor = NULL;
}

void binding_drain(struct binding *b, uint32_t timeout_ms)
{
    close_successor(b);
    connection_drain(b->connection, timeout_ms);
}

void binding_close(struct binding *b)
{
    close_successor(b);
    connection_close(b->connection);
}

void binding_detach(struct binding *b)
{
    if (b->newer != NULL)
        b->newer->older = b->older;
    if (b->older != NULL)
        b->older->newer = b->newer;
    if (b->connection != NULL && b->newer == NULL)
        connection_observe(b->connection, NULL, NULL);
    if (b->successor != NULL)
        connection_observe(b->successor, NULL, NULL);
    b->newer = b->older = NULL;
    while (b->handlers != NULL) {
        struct handler *h = b->handlers;
        handler_unsubscribe(h);
        leave_list(h); /* one that never had a subscription */
        assert(b->handlers != h);
    }
    b->connection = b->successor = NULL;
}

void binding_forget(struct binding *b, const struct connection *c)
{
    if (b->successor == c)
        b->successor = NULL;
    if (b->connection == c)
        b->connection = NULL;
}

int binding_publish(lua_State *L, struct binding *b, const record_message *m)
{
    error e = {0};
    if (b->generation->loading)
        return luaL_error(L, "a script cannot publish while it is loaded: do it in "
                             "moondog.on_start() or in a hook");
    if (b->connection == NULL)
        error_set(&e, "closed", ERROR_CLASS_NONE, "connection %s is closed", b->name);
    else if (connection_publish(b->connection, m, &e) == 0) {
        lua_pushboolean(L, 1);
        return 1;
    }
    return message_fail(L, &e);
}
