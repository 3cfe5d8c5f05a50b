/* Functions of scripts that are called back. See callback.h. */
#include "script/callback.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/generation.h"

/* Most callbacks are defined in a few files, and are made one after the other in each. */
struct source_name {
    struct source_name *next;
    char text[];
};

#define SOURCE_NAMES_MAX 256u /* the callbacks of further files have "?" as theirs */

static const char *note_source(source_names *all, const char *text)
{
    struct source_name **at = &all->first;
    while (*at != NULL && strcmp((*at)->text, text) != 0)
        at = &(*at)->next;
    struct source_name *found = *at;
    if (found != NULL) {
        *at = found->next;
    } else {
        size_t size = strlen(text) + 1;
        if (all->count < SOURCE_NAMES_MAX)
            found = malloc(sizeof *found + size);
        if (found == NULL)
            return "?";
        memcpy(found->text, text, size);
        all->count++;
    }
    found->next = all->first; /* it is looked for next, too */
    all->first = found;
    return found->text;
}

void callback_init(struct callback *cb, const char *kind, const char *name)
{
    *cb = (struct callback){.ref = LUA_NOREF, .line = CALLBACK_NO_LINE, .kind = kind, .name = name};
}

void callback_set_place(struct callback *cb, lua_State *L, int index)
{
    lua_Debug ar;
    lua_pushvalue(L, index);
    lua_getinfo(L, ">S", &ar);
    cb->source = note_source(&generation_of(L)->source_names, ar.short_src);
    cb->line = ar.linedefined;
}

const char *callback_name(const struct callback *cb, char out[CALLBACK_TEXT])
{
    if (cb->name == NULL)
        return callback_place(cb, out);
    snprintf(out, CALLBACK_TEXT, "%s", cb->name);
    return out;
}

const char *callback_place(const struct callback *cb, char out[CALLBACK_TEXT])
{
    if (cb->source == NULL)
        out[0] = '\0';
    else if (cb->line == CALLBACK_NO_LINE)
        snprintf(out, CALLBACK_TEXT, "%s", cb->source);
    else
        snprintf(out, CALLBACK_TEXT, "%.64s:%d", cb->source, cb->line);
    return out;
}

void callback_set(struct callback *cb, lua_State *L, int index)
{
    callback_set_place(cb, L, index);
    lua_pushvalue(L, index);
    cb->ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void callback_clear(struct callback *cb, lua_State *L)
{
    luaL_unref(L, LUA_REGISTRYINDEX, cb->ref);
    cb->ref = LUA_NOREF;
    sentinel_settle(generation_of(L)->limits.sentinel); /* it is freed next, mostly */
}

void source_names_clear(source_names *all)
{
    while (all->first != NULL) {
        struct source_name *next = all->first->next;
        free(all->first);
        all->first = next;
    }
    all->count = 0;
}
