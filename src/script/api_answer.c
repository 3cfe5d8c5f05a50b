/* Requests that nobody waits for yet, for publishing with many acknowledgements on their way: the
 * Lua side looks at the answers later. See api.h. Loop thread. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "conn/request.h"
#include "link/inner.h"
#include "script/api.h"
#include "script/message.h"
#include "script/signal.h"

#define ANSWER_TYPE "moondog.answer"
#define ANSWER_BYTES 512u /* with its message, about: charged to the generation */

struct answer {
    struct generation *generation;
    struct connection *connection; /* while it is on its way: that fails it before it ends */
    uint64_t number;
    natsMsg *msg;
    error *e; /* when it failed; NULL: no memory for it */
    struct signal *signal;
    int signal_ref;
    bool charged;
};

/* The signal lives for as long as it may be set. */
static void let_signal_go(struct answer *a)
{
    int ref = a->signal_ref;
    if (a->signal == NULL)
        return;
    a->signal_ref = LUA_NOREF;
    a->signal = NULL;
    luaL_unref(a->generation->L, LUA_REGISTRYINDEX, ref);
}

static void on_answer(void *closure, natsMsg *msg, const error *e)
{
    struct answer *a = closure;
    a->connection = NULL;
    a->msg = msg;
    if (msg == NULL && (a->e = malloc(sizeof *a->e)) != NULL)
        *a->e = *e;
    signal_set(a->signal);
    let_signal_go(a);
}

/* ask(connection, subject, data, options, signal): options as of request(); the signal is set when
 * the answer is there. [-0, +1], or [-0, +2] nil, err */
static int ask(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    size_t length;
    const char *subject = luaL_checklstring(L, 2, &length);
    record_message m = {.subject = subject, .subject_length = length};
    error e = {0};
    struct signal *signal = signal_check(L, 5);
    lua_settop(L, 5);
    struct answer *a = lua_newuserdata(L, sizeof *a);
    *a = (struct answer){.generation = b->generation, .signal_ref = LUA_NOREF};
    luaL_getmetatable(L, ANSWER_TYPE);
    lua_setmetatable(L, -2);
    message_read(L, 3, 4, &m);
    struct connection *c = api_live(L, b, "publish", &e);
    if (!generation_charge(L, ANSWER_BYTES))
        return luaL_error(L, "not enough memory for a message without its acknowledgement");
    a->charged = true;
    lua_pushvalue(L, 5);
    a->signal_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    a->signal = signal;
    a->number = c == NULL ? 0 : connection_request(c, &m, on_answer, a, &e);
    if (a->number == 0) {
        let_signal_go(a);
        return message_fail(L, &e);
    }
    a->connection = c;
    lua_pushvalue(L, 6);
    return 1;
}

static struct answer *check(lua_State *L)
{
    return luaL_checkudata(L, 1, ANSWER_TYPE);
}

/* done(): whether it has come, or failed. */
static int answer_done(lua_State *L)
{
    lua_pushboolean(L, check(L)->connection == NULL);
    return 1;
}

static const char *find(natsMsg *msg, const char *text)
{
    return memmem(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), text, strlen(text));
}

/* good(): whether it has come, and looks like an acknowledgement of JetStream with a sequence; when
 * not, it has to be read. */
static int answer_good(lua_State *L)
{
    static const char key[] = "\"seq\":";
    const struct answer *a = check(L);
    const char *seq = a->msg != NULL ? find(a->msg, key) : NULL;
    /* Behind the data is a 0 byte. */
    bool positive = seq != NULL && seq[sizeof key - 1] >= '1' && seq[sizeof key - 1] <= '9';
    lua_pushboolean(L, positive && find(a->msg, "\"error\"") == NULL);
    return 1;
}

/* data(): of the one that has come; nil, err: it failed, or was cancelled. */
static int answer_data(lua_State *L)
{
    const struct answer *a = check(L);
    if (a->msg != NULL) {
        lua_pushlstring(L, natsMsg_GetData(a->msg), (size_t)natsMsg_GetDataLength(a->msg));
        return 1;
    }
    error e = {0};
    error_set(&e, "timeout", ERROR_CLASS_TIMEOUT, "no acknowledgement in time");
    return message_fail(L, a->e != NULL ? a->e : &e);
}

/* cancel(): nobody waits for it any more. */
static int answer_cancel(lua_State *L)
{
    struct answer *a = check(L);
    if (a->connection == NULL)
        return 0;
    connection_request_cancel(a->connection, a->number);
    a->connection = NULL;
    let_signal_go(a);
    return 0;
}

static int answer_gc(lua_State *L)
{
    struct answer *a = lua_touserdata(L, 1);
    answer_cancel(L);
    let_signal_go(a);
    if (a->charged)
        generation_discharge(a->generation, ANSWER_BYTES);
    a->charged = false;
    if (a->msg != NULL)
        message_free(a->msg);
    a->msg = NULL;
    free(a->e);
    a->e = NULL;
    return 0;
}

void api_register_answers(lua_State *L)
{
    static const luaL_Reg methods[] = {{"done", answer_done},
                                       {"good", answer_good},
                                       {"data", answer_data},
                                       {"cancel", answer_cancel},
                                       {NULL, NULL}};
    static const luaL_Reg functions[] = {{"ask", ask}, {NULL, NULL}};
    api_register_type(L, ANSWER_TYPE, methods, answer_gc);
    lua_pop(L, 1);
    luaL_register(L, NULL, functions);
}
