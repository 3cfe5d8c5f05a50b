/* What the Lua side of consumers (lua/moondog/consumer.lua) needs of C: the ledger, the state of
 * links, the loop's time. See api.h. Loop thread. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "jetstream/ack_subject.h"
#include "jetstream/ledger.h"
#include "script/api.h"
#include "script/keeper.h"
#include "script/message.h"
#include "script/signal.h"
#include "script/task.h"

#define LEDGER_TYPE "moondog.ledger"
#define TURN_MS 5u /* a task that has more to do lets the loop turn after so long */

/* ---- the ledger ---- */

struct ledger_handle {
    struct ledger *ledger;
};

static struct ledger *check_ledger(lua_State *L)
{
    const struct ledger_handle *h = luaL_checkudata(L, 1, LEDGER_TYPE);
    return h->ledger;
}

/* ledger(key): nil when there are too many. [-0, +1] */
static int open_ledger(lua_State *L)
{
    const char *key = luaL_checkstring(L, 1);
    struct ledger_handle *h = lua_newuserdata(L, sizeof *h);
    h->ledger = NULL;
    luaL_getmetatable(L, LEDGER_TYPE);
    lua_setmetatable(L, -2);
    struct ledgers *all = generation_of(L)->limits.ledgers;
    h->ledger = ledger_get(all, key);
    if (h->ledger == NULL) { /* perhaps nobody has wanted some of them for a while */
        ledgers_sweep(all, clock_ms());
        h->ledger = ledger_get(all, key);
    }
    if (h->ledger == NULL)
        lua_pushnil(L);
    return 1;
}

static int ledger_gc(lua_State *L)
{
    struct ledger_handle *h = lua_touserdata(L, 1);
    if (h->ledger != NULL)
        ledger_release(h->ledger, clock_ms());
    h->ledger = NULL;
    return 0;
}

/* When it cannot be sent now, the message comes once more. */
static void acknowledge_again(struct binding *b, const char *reply)
{
    error e = {0};
    record_message m = {
        .subject = reply, .subject_length = strlen(reply), .data = "+ACK", .data_length = 4};
    if (b->connection != NULL)
        connection_publish(b->connection, &m, &e);
}

/* take(message, acknowledges): sequence, sequence of the consumer, how many are behind it, how
 * often it was delivered; false: it was acknowledged before, which the server is told again; nil:
 * it is no message of a stream. [-0, +4] */
static int ledger_take(lua_State *L)
{
    struct ledger *l = check_ledger(L);
    bool acknowledges = lua_toboolean(L, 3);
    lua_remove(L, 1);
    struct message *m = message_check(L);
    const char *reply = natsMsg_GetReply(m->msg);
    ack_subject a;
    if (ack_subject_parse(reply, &a) != 0)
        return 0;
    ledger_verdict verdict =
        acknowledges ? ledger_delivered(l, a.stream_seq, a.time, clock_ms()) : LEDGER_NEW;
    if (verdict == LEDGER_ACKED)
        acknowledge_again(m->binding, reply);
    if (verdict != LEDGER_NEW) {
        lua_pushboolean(L, 0);
        return 1;
    }
    if (acknowledges)
        message_note_ledger(m, l, a.stream_seq, a.time);
    lua_pushnumber(L, (double)a.stream_seq);
    lua_pushnumber(L, (double)a.consumer_seq);
    lua_pushnumber(L, (double)a.pending);
    lua_pushnumber(L, (double)a.deliveries);
    return 4;
}

/* was_acknowledged(message): since it came, because it has come before: the server is told again.
 * [-0, +1] */
static int was_acknowledged(lua_State *L)
{
    struct message *m = message_check(L);
    bool acked = m->ledger != NULL && ledger_is_acked(m->ledger, m->seq, m->time);
    if (acked) {
        acknowledge_again(m->binding, natsMsg_GetReply(m->msg));
        m->settled = true;
    }
    lua_pushboolean(L, acked);
    return 1;
}

static int ledger_name_lua(lua_State *L)
{
    lua_pushstring(L, ledger_name(check_ledger(L)));
    return 1;
}

/* position([sequence]): how far it was read, after it was set. */
static int ledger_position_lua(lua_State *L)
{
    struct ledger *l = check_ledger(L);
    if (!lua_isnoneornil(L, 2))
        ledger_set_position(l, (uint64_t)luaL_checknumber(L, 2));
    lua_pushnumber(L, (double)ledger_position(l));
    return 1;
}

static int ledger_floor_lua(lua_State *L)
{
    lua_pushnumber(L, (double)ledger_floor(check_ledger(L)));
    return 1;
}

/* note_floor(sequence): all up to it is done with. */
static int ledger_note_floor_lua(lua_State *L)
{
    ledger_note_floor(check_ledger(L), (uint64_t)luaL_checknumber(L, 2));
    return 0;
}

static int ledger_unacked_lua(lua_State *L)
{
    lua_pushnumber(L, ledger_unacked(check_ledger(L)));
    return 1;
}

/* same_stream(text): whether the stream is the one that was made when `text` says. FNV-1a. */
static int ledger_same_stream_lua(lua_State *L)
{
    struct ledger *l = check_ledger(L);
    uint64_t hash = 14695981039346656037u;
    for (const char *at = luaL_checkstring(L, 2); *at != '\0'; at++)
        hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    lua_pushboolean(L, ledger_same_stream(l, hash | 1));
    return 1;
}

static int ledger_acks_all(lua_State *L)
{
    ledger_set_acks_all(check_ledger(L), lua_toboolean(L, 2));
    return 0;
}

/* ack_wait(seconds) */
static int ledger_ack_wait_lua(lua_State *L)
{
    ledger_set_ack_wait(check_ledger(L), api_seconds(L, 2, 0, 4000000.0));
    return 0;
}

static int ledger_restart_lua(lua_State *L)
{
    ledger_restart(check_ledger(L));
    return 0;
}

static int ledger_forget_lua(lua_State *L)
{
    ledger_forget(check_ledger(L));
    return 0;
}

/* ---- links, and the end ---- */

/* link(connection): which link it is, nil while none is up. [-0, +1] */
static int link_lua(lua_State *L)
{
    const struct binding *b = api_check_connection(L, 1);
    if (b->connection == NULL || !connection_is_up(b->connection))
        return 0;
    lua_pushnumber(L, b->links);
    return 1;
}

/* over(connection): whether it is closed for good. */
static int over_lua(lua_State *L)
{
    const struct binding *b = api_check_connection(L, 1);
    lua_pushboolean(L, b->connection == NULL || !connection_is_open(b->connection));
    return 1;
}

/* inbox(connection): a subject that nobody has. [-0, +1] */
static int inbox_lua(lua_State *L)
{
    const struct binding *b = api_check_connection(L, 1);
    lua_pushfstring(L, "%smd%d%d", b->options.link->inbox_prefix,
                    (int)(hub_random(b->generation->limits.hub) * 2147483648.0),
                    (int)(hub_random(b->generation->limits.hub) * 2147483648.0));
    return 1;
}

/* ending(): whether the generation ends, and whether another one takes its place. [-0, +2] */
static int ending_lua(lua_State *L)
{
    const struct generation *g = generation_of(L);
    lua_pushboolean(L, g->ending);
    lua_pushboolean(L, g->retiring);
    return 2;
}

/* hold(connection): it is not drained before the task is over. */
static int hold_lua(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    struct task *t = generation_of(L)->running;
    if (t == NULL || t->holds == b)
        return 0;
    if (t->holds != NULL)
        t->holds->busy--;
    t->holds = b;
    b->busy++;
    return 0;
}

/* let_go(): the task holds no connection any more. */
static int let_go_lua(lua_State *L)
{
    struct task *t = generation_of(L)->running;
    if (t != NULL && t->holds != NULL) {
        t->holds->busy--;
        t->holds = NULL;
    }
    return 0;
}

/* attribute(subscription, function): what its handler does is done by that function. */
static int attribute_lua(lua_State *L)
{
    struct handler **h = luaL_checkudata(L, 1, SUBSCRIPTION_TYPE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    callback_set_place(&(*h)->callback, L, 2);
    return 0;
}

/* running(subscription): how many of its messages are being handled. */
static int running_lua(lua_State *L)
{
    struct handler **h = luaL_checkudata(L, 1, SUBSCRIPTION_TYPE);
    lua_pushnumber(L, (*h)->running);
    return 1;
}

/* wakes(subscription, signal, count): it is set whenever the handling of a message is over, however
 * that ends, and no more than `count` are handled then. */
static int wakes_lua(lua_State *L)
{
    struct handler **h = luaL_checkudata(L, 1, SUBSCRIPTION_TYPE);
    struct signal *s = signal_check(L, 2);
    lua_Number count = luaL_checknumber(L, 3);
    lua_pushvalue(L, 2);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    struct waker *w = (*h)->waker != NULL ? (*h)->waker : malloc(sizeof *w);
    if (w == NULL) {
        luaL_unref(L, LUA_REGISTRYINDEX, ref);
        return luaL_error(L, "no memory for a consumer");
    }
    if (w == (*h)->waker)
        luaL_unref(L, LUA_REGISTRYINDEX, w->ref);
    *w = (struct waker){.signal = s, .at = (unsigned)count, .ref = ref};
    (*h)->waker = w;
    return 0;
}

/* is_over(subscription): whether no message of it comes any more. */
static int is_over_lua(lua_State *L)
{
    struct handler **h = luaL_checkudata(L, 1, SUBSCRIPTION_TYPE);
    lua_pushboolean(L, (*h)->subscription == NULL);
    return 1;
}

/* ---- time ---- */

/* Seconds: when this turn of the loop began. */
static int turn_time(lua_State *L)
{
    lua_pushnumber(L, (double)uv_now(generation_of(L)->limits.hub->loop) / 1e3);
    return 1;
}

static void on_breathed(struct task *t)
{
    task_resume(t, 0);
}

/* breathe(): lets the loop turn, when this turn has lasted for a while, and this can wait. */
static int breathe(lua_State *L)
{
    const struct generation *g = generation_of(L);
    uv_loop_t *loop = g->limits.hub->loop;
    if (g->running == NULL || g->cancelled || !lua_isyieldable(L) ||
        uv_hrtime() / 1000000u - uv_now(loop) < TURN_MS)
        return 0;
    struct task *t = task_current(L, "this");
    task_set_timer(t, 0, on_breathed);
    return task_park(t, L, NULL, NULL);
}

void api_register_consumer(lua_State *L)
{
    static const luaL_Reg methods[] = {{"take", ledger_take},
                                       {"name", ledger_name_lua},
                                       {"position", ledger_position_lua},
                                       {"floor", ledger_floor_lua},
                                       {"unacked", ledger_unacked_lua},
                                       {"note_floor", ledger_note_floor_lua},
                                       {"same_stream", ledger_same_stream_lua},
                                       {"acks_all", ledger_acks_all},
                                       {"ack_wait", ledger_ack_wait_lua},
                                       {"restart", ledger_restart_lua},
                                       {"forget", ledger_forget_lua},
                                       {NULL, NULL}};
    static const luaL_Reg functions[] = {{"ledger", open_ledger},
                                         {"signal", signal_new_lua},
                                         {"link", link_lua},
                                         {"over", over_lua},
                                         {"ending", ending_lua},
                                         {"hold", hold_lua},
                                         {"let_go", let_go_lua},
                                         {"attribute", attribute_lua},
                                         {"turn_time", turn_time},
                                         {"breathe", breathe},
                                         {"inbox", inbox_lua},
                                         {"running", running_lua},
                                         {"is_over", is_over_lua},
                                         {"wakes", wakes_lua},
                                         {"keep", keeper_start_lua},
                                         {"was_acknowledged", was_acknowledged},
                                         {"keeper_over", keeper_over_lua},
                                         {NULL, NULL}};
    signal_register(L);
    api_register_type(L, LEDGER_TYPE, methods, ledger_gc);
    lua_pop(L, 1);
    luaL_register(L, NULL, functions);
}
