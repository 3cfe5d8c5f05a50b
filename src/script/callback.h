/* A callback: a function of a script, what is counted of it, and what it is called in reports.
 * There may be one for each of many subscriptions and timers. Of the thread that its generation
 * belongs to; the sentinel reads what names the one that is being run (sentinel_settle). */
#ifndef MD_SCRIPT_CALLBACK_H
#define MD_SCRIPT_CALLBACK_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#define CALLBACK_NO_LINE (-2) /* LuaJIT says -1 of what is not of Lua, 0 of a whole file */
#define CALLBACK_TEXT 80u

/* A function of the script with what is needed to name it in a report. */
struct callback {
    int ref;  /* in the registry; LUA_NOREF: none */
    int line; /* where the function is defined; CALLBACK_NO_LINE */
    uint64_t calls, errors, overruns;
    const char *kind;   /* "handler", "hook", "timer", "task", "policy", ... */
    const char *name;   /* "orders.*", "gateway.closed"; NULL: its place is its name */
    const char *source; /* "gateway.lua": where it is defined, the generation's; NULL: nowhere */
    uint64_t logged_at; /* ns: when its last failure was logged */
};

/* The files that callbacks of a generation are defined in. */
typedef struct {
    struct source_name *first;
    unsigned count;
} source_names;

/* No callback names one any more. */
void source_names_clear(source_names *all);

/* The name is borrowed, and lives as long as the callback; NULL: its place is its name.
 */
void callback_init(struct callback *cb, const char *kind, const char *name);
/* Takes the function at `index` of L. */
void callback_set(struct callback *cb, lua_State *L, int index);
void callback_clear(struct callback *cb, lua_State *L);
static inline bool callback_is_set(const struct callback *cb)
{
    return cb->ref > 0;
}
/* It is defined where the function at `index` of L is. callback_set() says so, too. */
void callback_set_place(struct callback *cb, lua_State *L, int index);
/* Both fill `out`, cut to what fits, and return it. The place is "gateway.lua:12"; "": none. */
const char *callback_name(const struct callback *cb, char out[CALLBACK_TEXT]);
const char *callback_place(const struct callback *cb, char out[CALLBACK_TEXT]);

#endif
