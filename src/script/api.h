/* The Lua API: what `require "moondog"` gives. Each file registers its part. The functions raise an
 * error for a misuse, naming the script's line, and return nil, err for what can fail in operation.
 * Loop thread, or the thread that loads the generation. */
#ifndef MD_SCRIPT_API_H
#define MD_SCRIPT_API_H

#include <lauxlib.h>
#include <lua.h>

#include "script/binding.h"

#define CONNECTION_TYPE "moondog.connection"
#define SUBSCRIPTION_TYPE "moondog.subscription"
#define BACKOFF_TYPE "moondog.backoff"
#define TIMER_TYPE "moondog.timer"

/* [-0, +1] The module's table, everything registered. */
void api_open(lua_State *L);

/* Metatables. [-0, +0] */
void api_register_connection(lua_State *L);
void api_register_subscription(lua_State *L);
void api_register_timer(lua_State *L);
void api_register_backoff(lua_State *L);
void api_register_outbox(lua_State *L);

/* [-0, +1] The function behind connection:jetstream(). It waits, so it is Lua: api_jetstream.c. */
void api_open_jetstream(lua_State *L);
/* What it needs to read answers: JSON, base64, error objects, embedded files; into the table on
 * top.
 * [-0, +0] */
void api_register_json(lua_State *L);
/* Functions for consumers and for what waits, into the table on top. [-0, +0] */
void api_register_consumer(lua_State *L);
/* Requests whose answers are waited for later: into the table on top. [-0, +0] */
void api_register_answers(lua_State *L);
/* [-0, +1] moondog.metrics */
void api_open_metrics(lua_State *L);
/* [-0, +1] moondog.connect{...} */
int api_connect(lua_State *L);
/* [-0, +1] moondog.outbox{...} */
int api_outbox(lua_State *L);
/* [-0, +1] moondog.backoff{...} */
int api_backoff(lua_State *L);
int api_every(lua_State *L);
int api_after(lua_State *L);

/* Timers that were declared start at commit; all end with the generation. */
void api_start_timers(struct generation *g);
void api_close_timers(struct generation *g);

/* ---- tables of options: api_options.c ---- */

/* Raises an error for a key of the table at `index` that is not in `names` (NULL at the end),
 * naming it, `what`, and the nearest name there is. */
void options_check(lua_State *L, int index, const char *const *names, const char *what);
/* The value of a field, or the default. The name may be "tls.cert", with the table at `index` being
 * that of "tls": it is for messages. They raise an error that names the option when the type or
 * the range is wrong. Strings are borrowed: they live as long as the table. */
const char *options_string(lua_State *L, int index, const char *name, const char *fallback);
bool options_boolean(lua_State *L, int index, const char *name, bool fallback);
double options_number(lua_State *L, int index, const char *name, double fallback, double min,
                      double max);
/* [-0, +1] when true: the table. */
bool options_table(lua_State *L, int index, const char *name);
/* [-0, +1] when true: the function. */
bool options_function(lua_State *L, int index, const char *name);

/* Fills the options of a binding from the table at `index`. */
void options_read_connection(lua_State *L, int index, struct binding *b);

/* Raises an error that names `what` when `over`: the generation was replaced. */
void api_check_not(lua_State *L, bool over, const char *what);

/* A number of seconds at a position of the arguments, as milliseconds. */
uint32_t api_seconds(lua_State *L, int arg, double min, double max);

/* The binding of the connection handle at an argument. */
struct binding *api_check_connection(lua_State *L, int arg);
/* Its connection, or NULL and *e when it has ended. Raises an error while loading. */
struct connection *api_live(lua_State *L, struct binding *b, const char *what, error *e);
/* connection:subscribe(subject, handler [, options]) */
int api_subscribe(lua_State *L);

/* The metatable of a type, with its methods. [-0, +1] */
void api_register_type(lua_State *L, const char *type, const luaL_Reg *methods, lua_CFunction gc);

/* Fields of the table on top. [-0, +0] */
void api_set_number(lua_State *L, const char *name, double value);
void api_set_string(lua_State *L, const char *name, const char *value);
void api_set_boolean(lua_State *L, const char *name, bool value);

#endif
