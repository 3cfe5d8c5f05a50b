/* What scripts say to a message of JetStream: ack, nak, term, in_progress, and what it says of
 * itself: metadata. See message.h. Loop thread. */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conn/request.h"
#include "jetstream/ack_subject.h"
#include "jetstream/ledger.h"
#include "link/inner.h"
#include "script/api.h"
#include "script/message.h"
#include "script/task.h"

#define SYNC_TIMEOUT_S 5.0
#define DELAY_MAX_S 4000000.0
#define WAIT_MAX_S 86400.0

static const char *ack_reply(struct message *m)
{
    const char *reply = natsMsg_GetReply(m->msg);
    return reply != NULL && strncmp(reply, "$JS.ACK.", 8) == 0 ? reply : NULL;
}

/* The message at 1, whose reply is put into *out, or NULL and *e: it cannot be answered so. */
static struct message *open_message(lua_State *L, record_message *out, error *e)
{
    struct message *m = message_check(L);
    const char *reply = ack_reply(m);
    if (reply == NULL) {
        error_set(e, "no_jetstream_message", ERROR_CLASS_NONE,
                  "the message on %s does not come from a consumer of JetStream: there is nothing "
                  "to acknowledge",
                  natsMsg_GetSubject(m->msg));
        return NULL;
    }
    if (m->settled) {
        error_set(e, "already_acknowledged", ERROR_CLASS_NONE,
                  "the message on %s was acknowledged, returned or given up before",
                  natsMsg_GetSubject(m->msg));
        return NULL;
    }
    *out = (record_message){.subject = reply, .subject_length = strlen(reply)};
    return m;
}

/* The script knows that it is not acknowledged: it may come again at once. */
static void note_returned(const struct message *m)
{
    if (m->ledger != NULL)
        ledger_returned(m->ledger, m->seq);
}

static void note_acked(const struct message *m)
{
    if (m->ledger != NULL)
        ledger_acked(m->ledger, m->seq, m->time);
}

/* [-0, +1] true, or [-0, +2] nil, err */
static int say(lua_State *L, const char *what, bool settles, bool acks)
{
    record_message out;
    error e = {0};
    struct message *m = open_message(L, &out, &e);
    if (m == NULL)
        return message_fail(L, &e);
    out.data = what;
    out.data_length = strlen(what);
    int results = binding_publish(L, m->binding, &out);
    if (results != 1)
        return results;
    m->settled = settles;
    if (acks)
        note_acked(m);
    return 1;
}

static int ack(lua_State *L)
{
    return say(L, "+ACK", true, true);
}

/* nak([delay]) */
static int nak(lua_State *L)
{
    char text[64] = "-NAK";
    if (!lua_isnoneornil(L, 2))
        snprintf(text, sizeof text, "-NAK {\"delay\": %.0f}",
                 (double)api_seconds(L, 2, 0, DELAY_MAX_S) * 1e6);
    struct message *m = message_check(L);
    int results = say(L, text, true, false);
    if (results == 1)
        note_returned(m);
    return results;
}

static int term(lua_State *L)
{
    return say(L, "+TERM", true, true);
}

static int in_progress(lua_State *L)
{
    return say(L, "+WPI", false, false);
}

/* ---- ack_sync ---- */

/* A task that waits for the confirmation; it keeps the message. */
struct confirmation {
    struct connection *connection;
    struct message *message;
    int ref;
};

static struct message *end_confirmation(struct task *t, void *closure)
{
    struct confirmation *c = closure;
    struct message *m = c->message;
    t->cancel = NULL; /* a task that cannot be told is dropped: this is done only once */
    luaL_unref(t->generation->L, LUA_REGISTRYINDEX,
               c->ref); /* nothing is collected before it is used */
    free(c);
    return m;
}

static void on_confirmed(void *closure, natsMsg *msg, const error *e)
{
    struct task *t = closure;
    struct message *m = end_confirmation(t, t->closure);
    if (msg == NULL) {
        note_returned(m);
        task_resume_error(t, e);
        return;
    }
    message_free(msg);
    m->settled = true;
    note_acked(m);
    lua_pushboolean(t->co, 1);
    task_resume(t, 1);
}

static void cancel_confirmation(struct task *t, void *closure)
{
    const struct confirmation *c = closure;
    connection_request_cancel(c->connection, t->number);
    note_returned(end_confirmation(t, closure));
}

static void on_confirmation_timeout(struct task *t)
{
    cancel_confirmation(t, t->closure);
    error e = {0};
    error_set(&e, "timeout", ERROR_CLASS_TIMEOUT,
              "the server did not confirm the acknowledgement in time");
    task_resume_error(t, &e);
}

/* ack_sync([timeout]): waits for the server to confirm it. */
static int ack_sync(lua_State *L)
{
    struct task *t = task_current(L, "ack_sync");
    uint32_t timeout = lua_isnoneornil(L, 2) ? (uint32_t)(SYNC_TIMEOUT_S * 1000)
                                             : api_seconds(L, 2, 0.001, WAIT_MAX_S);
    record_message out;
    error e = {0};
    struct message *m = open_message(L, &out, &e);
    struct connection *connection = m != NULL ? api_live(L, m->binding, "ack_sync", &e) : NULL;
    if (connection == NULL) {
        if (m != NULL)
            note_returned(m);
        return message_fail(L, &e);
    }
    lua_settop(L, 1);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    struct confirmation *c = malloc(sizeof *c);
    if (c != NULL) {
        *c = (struct confirmation){connection, m, ref};
        out.data = "+ACK";
        out.data_length = 4;
        t->number = connection_request(connection, &out, on_confirmed, t, &e);
    } else {
        error_set(&e, "no_memory", ERROR_CLASS_LIMIT, "no memory to wait for a confirmation");
    }
    if (c == NULL || t->number == 0) {
        luaL_unref(L, LUA_REGISTRYINDEX, ref);
        free(c);
        note_returned(m);
        return message_fail(L, &e);
    }
    task_set_timer(t, timeout, on_confirmation_timeout);
    return task_park(t, L, cancel_confirmation, c);
}

/* ---- metadata ---- */

/* [-0, +0] a field of the table on top */
static void set_token(lua_State *L, const char *name, const ack_token *t)
{
    lua_pushlstring(L, t->text, t->length);
    lua_setfield(L, -2, name);
}

/* metadata(): a table, or nil: not a message of JetStream. */
static int metadata(lua_State *L)
{
    ack_subject a;
    if (ack_subject_parse(natsMsg_GetReply(message_check(L)->msg), &a) != 0)
        return 0;
    lua_createtable(L, 0, 8);
    set_token(L, "stream", &a.stream);
    set_token(L, "consumer", &a.consumer);
    if (a.domain.length > 0)
        set_token(L, "domain", &a.domain);
    api_set_number(L, "seq", (double)a.stream_seq);
    api_set_number(L, "consumer_seq", (double)a.consumer_seq);
    api_set_number(L, "deliveries", (double)a.deliveries);
    api_set_number(L, "time", (double)a.time / 1e9);
    api_set_number(L, "pending", (double)a.pending);
    return 1;
}

const luaL_Reg message_ack_methods[] = {
    {"ack", ack},   {"ack_sync", ack_sync},       {"nak", nak},
    {"term", term}, {"in_progress", in_progress}, {"metadata", metadata},
    {NULL, NULL}};
