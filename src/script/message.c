/* Messages and errors as scripts see them. See message.h. Loop thread. */
#include "script/message.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "jetstream/ledger.h"
#include "link/headers.h"
#include "link/inner.h"
#include "script/binding.h"
#include "script/marked.h"

#define ERROR_TYPE "moondog.error"
#define HOLDER_TYPE "moondog.holder"
#define MESSAGE_BYTES 256u /* of one without data */

static const char message_mark;

/* ---- errors ---- */

static int error_tostring(lua_State *L)
{
    lua_getfield(L, 1, "message");
    return 1;
}

void message_push_error(lua_State *L, const error *e)
{
    lua_createtable(L, 0, 3);
    lua_pushstring(L, e->code);
    lua_setfield(L, -2, "code");
    lua_pushstring(L, error_class_name(e->cls));
    lua_setfield(L, -2, "class");
    lua_pushstring(L, e->message);
    lua_setfield(L, -2, "message");
    luaL_getmetatable(L, ERROR_TYPE);
    lua_setmetatable(L, -2);
}

int message_fail(lua_State *L, const error *e)
{
    lua_pushnil(L);
    message_push_error(L, e);
    return 2;
}

/* ---- life ---- */

static size_t size_of(const struct message *m)
{
    return (size_t)m->weight + MESSAGE_BYTES;
}

static void discharge(struct message *m)
{
    generation_discharge(m->generation, m->charged);
    m->charged = 0;
}

/* What was known of it as a message of JetStream. One that nobody can answer any more may be
 * delivered again at once: the server counts each time. */
static void forget_ledger(struct message *m)
{
    if (m->ledger != NULL) {
        if (!m->settled)
            ledger_returned(m->ledger, m->seq);
        ledger_release(m->ledger, clock_ms());
    }
    m->ledger = NULL;
    m->settled = false;
}

void message_note_ledger(struct message *m, struct ledger *l, uint64_t seq, uint64_t time)
{
    forget_ledger(m);
    m->ledger = ledger_retain(l);
    m->seq = seq;
    m->time = time;
}

static void throw_away(struct generation *g, const struct message *m)
{
    g->garbage[g->garbage_count++] = m->msg;
    g->garbage_bytes += size_of(m);
    if (g->garbage_count == GENERATION_GARBAGE || g->garbage_bytes >= GENERATION_GARBAGE_BYTES)
        generation_sweep(g);
}

/* [-0, +1] */
static struct message *new_message(lua_State *L)
{
    struct message *m = lua_newuserdata(L, sizeof *m);
    *m = (struct message){.mark = &message_mark, .generation = generation_of(L), .ref = LUA_NOREF};
    luaL_getmetatable(L, MESSAGE_TYPE);
    lua_setmetatable(L, -2);
    return m;
}

/* [-0, +0] */
static void fill_slot(lua_State *L, void *closure)
{
    struct message_slot *slot = closure;
    struct message *m = new_message(L);
    slot->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    slot->message = m;
    m->slot = slot;
}

struct message *message_deliver(struct message_slot *slot, lua_State *to, struct binding *b,
                                natsMsg *msg, uint32_t weight)
{
    if (slot->message == NULL &&
        generation_protect(b->generation, fill_slot, slot, 0, "message") != 0) {
        message_free(msg);
        return NULL;
    }
    struct message *m = slot->message;
    m->msg = msg;
    m->weight = weight;
    m->binding = b;
    m->retained = false;
    lua_rawgeti(to, LUA_REGISTRYINDEX, slot->ref);
    return m;
}

void message_clear_slot(struct message_slot *slot, lua_State *L)
{
    if (slot->message == NULL)
        return;
    slot->message->slot = NULL;
    slot->message = NULL;
    luaL_unref(L, LUA_REGISTRYINDEX, slot->ref);
}

void message_keep(struct message *m)
{
    if (m->slot == NULL)
        return;
    if (m->charged == 0) { /* it is here already: counted, and not refused */
        m->charged = size_of(m);
        m->generation->memory += m->charged;
    }
    m->ref = m->slot->ref;
    m->slot->message = NULL;
    m->slot = NULL;
}

void message_release(struct message *m)
{
    if (m->retained) {
        message_keep(m);
    } else {
        if (m->msg != NULL)
            throw_away(m->generation, m);
        m->msg = NULL;
        forget_ledger(m);
        discharge(m);
    }
    int ref = m->ref;
    m->ref = LUA_NOREF;
    luaL_unref(m->generation->L, LUA_REGISTRYINDEX, ref); /* m may go with the next collection */
}

void message_push(lua_State *L, struct binding *b, natsMsg *msg)
{
    struct message *m = new_message(L);
    m->weight = message_weight(msg);
    if (!generation_charge(L, size_of(m)))
        luaL_error(L, "not enough memory for a message");
    m->charged = size_of(m);
    m->msg = msg;
    m->binding = b;
    m->retained = true;
}

static int message_gc(lua_State *L)
{
    struct message *m = lua_touserdata(L, 1);
    if (m->msg != NULL)
        message_free(m->msg);
    m->msg = NULL;
    forget_ledger(m);
    discharge(m);
    return 0;
}

/* ---- fields ---- */

struct message *message_check(lua_State *L)
{
    struct message *m = marked_check(L, 1, &message_mark, sizeof *m, MESSAGE_TYPE);
    if (m->msg == NULL)
        luaL_error(L, "this message is over: it is valid until its handler ends; "
                      "call msg:retain() there to keep it");
    return m;
}

/* A list that the library allocated, in a userdata that frees it whatever happens. [-0, +1] */
static const char ***push_holder(lua_State *L)
{
    const char ***holder = lua_newuserdata(L, sizeof *holder);
    *holder = NULL;
    luaL_getmetatable(L, HOLDER_TYPE);
    lua_setmetatable(L, -2);
    return holder;
}

static int holder_gc(lua_State *L)
{
    const char ***holder = lua_touserdata(L, 1);
    free((void *)*holder);
    *holder = NULL;
    return 0;
}

/* [-0, +1] The values of one key: a string, or a list when there are several. */
static void push_values(lua_State *L, natsMsg *msg, const char *key)
{
    int count = 0;
    const char ***values = push_holder(L);
    if (natsMsgHeader_Values(msg, key, values, &count) != NATS_OK || count == 0) {
        lua_pushliteral(L, "");
    } else if (count == 1) {
        lua_pushstring(L, (*values)[0] != NULL ? (*values)[0] : "");
    } else {
        lua_createtable(L, count, 0);
        for (int i = 0; i < count; i++) {
            lua_pushstring(L, (*values)[i] != NULL ? (*values)[i] : "");
            lua_rawseti(L, -2, i + 1);
        }
    }
    lua_remove(L, -2);
}

/* [-0, +1] */
static void push_headers(lua_State *L, natsMsg *msg)
{
    int count = 0;
    if (!headers_are_readable(msg))
        luaL_error(L, "the message on %s has more than %d lines of headers: they cannot be read",
                   natsMsg_GetSubject(msg), (int)HEADER_LINES_MAX);
    const char ***keys = push_holder(L);
    lua_newtable(L);
    if (natsMsgHeader_Keys(msg, keys, &count) == NATS_OK)
        for (int i = 0; i < count; i++) {
            push_values(L, msg, (*keys)[i]);
            lua_setfield(L, -2, (*keys)[i]);
        }
    lua_remove(L, -2);
}

/* [-0, +1] */
static void push_data(lua_State *L, natsMsg *msg)
{
    lua_pushlstring(L, natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
}

/* [-0, +1] */
static void push_subject(lua_State *L, natsMsg *msg)
{
    lua_pushstring(L, natsMsg_GetSubject(msg));
}

/* [-0, +1] */
static void push_reply(lua_State *L, natsMsg *msg)
{
    const char *reply = natsMsg_GetReply(msg);
    if (reply != NULL && reply[0] != '\0')
        lua_pushstring(L, reply);
    else
        lua_pushnil(L);
}

static const struct {
    const char *name;
    void (*push)(lua_State *L, natsMsg *msg);
} fields[] = {{.name = "data", .push = push_data},
              {.name = "subject", .push = push_subject},
              {.name = "reply", .push = push_reply},
              {.name = "headers", .push = push_headers}};

/* Its first upvalue has the methods, and the numbers of the fields. */
static int message_index(lua_State *L)
{
    if (lua_type(L, 2) != LUA_TSTRING)
        return 0;
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    int type = lua_type(L, -1);
    if (type == LUA_TNUMBER) {
        fields[lua_tointeger(L, -1)].push(L, message_check(L)->msg);
    } else if (type == LUA_TNIL) { /* a method is valid on a message that is over, too */
        message_check(L);
        return luaL_error(L,
                          "a message has no field \"%s\": it has subject, data, reply, headers, "
                          "respond and retain, and those of JetStream ack, ack_sync, nak, term, "
                          "in_progress and metadata",
                          lua_tostring(L, 2));
    }
    return 1;
}

static int message_retain(lua_State *L)
{
    struct message *m = message_check(L);
    if (!m->retained && m->charged == 0) {
        size_t size = size_of(m);
        if (!generation_charge(L, size))
            return luaL_error(L, "not enough memory to retain a message of %d bytes",
                              (int)natsMsg_GetDataLength(m->msg));
        m->charged = size;
    }
    m->retained = true;
    lua_settop(L, 1);
    return 1;
}

static int message_respond(lua_State *L)
{
    struct message *m = message_check(L);
    lua_settop(L, 3);
    error e = {0};
    const char *reply = natsMsg_GetReply(m->msg);
    if (reply == NULL || reply[0] == '\0') {
        error_set(&e, "no_reply", ERROR_CLASS_NONE,
                  "the message on %s has no reply subject: nobody waits for a response",
                  natsMsg_GetSubject(m->msg));
        return message_fail(L, &e);
    }
    record_message out = {.subject = reply, .subject_length = strlen(reply)};
    message_read(L, 2, 0, &out);
    if (!lua_isnoneornil(L, 3))
        message_read_headers(L, 3, &out);
    return binding_publish(L, m->binding, &out);
}

static int message_tostring(lua_State *L)
{
    struct message *m = luaL_checkudata(L, 1, MESSAGE_TYPE);
    if (m->msg == NULL)
        lua_pushliteral(L, "message (over)");
    else
        lua_pushlstring(L, natsMsg_GetData(m->msg), (size_t)natsMsg_GetDataLength(m->msg));
    return 1;
}

/* ---- what scripts send ---- */

void message_read_headers(lua_State *L, int index, record_message *m)
{
    luaL_checktype(L, index, LUA_TTABLE);
    /* The buffer may use the stack: collect the pairs first, in a list of strings. */
    lua_newtable(L);
    int list = lua_gettop(L);
    int count = 0;
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L, "a header's name is a %s: a string is expected", luaL_typename(L, -2));
        int values = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 1;
        for (int i = 1; i <= values; i++) {
            lua_pushvalue(L, -2);
            lua_rawseti(L, list, ++count);
            if (lua_istable(L, -1))
                lua_rawgeti(L, -1, i);
            else
                lua_pushvalue(L, -1);
            lua_rawseti(L, list, ++count);
        }
    }
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = 1; i < count; i += 2) {
        size_t key_length;
        lua_rawgeti(L, list, i);
        const char *key = lua_tolstring(L, -1, &key_length); /* the list keeps it alive */
        lua_pop(L, 1);
        lua_rawgeti(L, list, i + 1);
        size_t length;
        if (lua_type(L, -1) != LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER)
            luaL_error(L, "header \"%s\" is a %s: a string or a list of strings is expected", key,
                       luaL_typename(L, -1));
        const char *text = lua_tolstring(L, -1, &length);
        error e = {0};
        if (header_check(key, key_length, text, length, &e) != 0)
            luaL_error(L, "%s", e.message);
        lua_rawseti(L, list, i + 1); /* numbers are strings now */
        luaL_addlstring(&b, key, key_length + 1);
        luaL_addlstring(&b, text, length + 1);
    }
    luaL_pushresult(&b);
    m->headers = lua_tolstring(L, -1, &m->header_length);
    m->header_count = (uint32_t)count / 2;
}

void message_read(lua_State *L, int index, int options, record_message *m)
{
    m->data = lua_tolstring(L, index, &m->data_length);
    if (m->data == NULL && !lua_isnoneornil(L, index))
        luaL_argerror(
            L, index,
            lua_pushfstring(L, "data is a string, not a %s: encode it", luaL_typename(L, index)));
    if (options == 0 || lua_isnoneornil(L, options))
        return;
    luaL_checktype(L, options, LUA_TTABLE);
    lua_getfield(L, options, "reply");
    if (!lua_isnil(L, -1)) {
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "option reply is a %s: a subject is expected", luaL_typename(L, -1));
        m->reply = lua_tolstring(L, -1, &m->reply_length);
    }
    lua_getfield(L, options, "headers");
    if (!lua_isnil(L, -1))
        message_read_headers(L, lua_gettop(L), m);
}

void message_register(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"respond", message_respond}, {"retain", message_retain}, {NULL, NULL}};
    luaL_newmetatable(L, ERROR_TYPE);
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pop(L, 1);
    luaL_newmetatable(L, HOLDER_TYPE);
    lua_pushcfunction(L, holder_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newmetatable(L, MESSAGE_TYPE);
    lua_pushcfunction(L, message_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, message_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "message");
    lua_setfield(L, -2, "__metatable");
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    luaL_register(L, NULL, message_ack_methods);
    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        lua_pushinteger(L, (lua_Integer)i);
        lua_setfield(L, -2, fields[i].name);
    }
    lua_pushcclosure(L, message_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
