/* The options of moondog.connect: any table is taken as it is meant, or refused with a sentence.
 * One thread. */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "runtime_private.h"
#include "script/api.h"

static const char *const names[] = {
    "name",
    "servers",
    "user",
    "password",
    "token",
    "creds",
    "tls",
    "ca",
    "reconnect",
    "watchdog",
    "nkey_seed_file",
    "cert",
    "key",
    "hostname",
    "insecure",
    "interval",
    "timeout",
    "probe",
    "pending",
    "bytes",
    "on",
    "connected",
    "probe_timeout",
    "required",
    "no_echo",
    "error",
    "inbox_prefix",
    "reconnecting",
    "ping_interval",
    "ignore_discovered",
    "lame_duck",
    "library_reconnect",
};

/* What became of a text is that text, or it was not there. */
static void check_text(lua_State *L, const char *name, const char *text)
{
    size_t length = 0;
    lua_getfield(L, 1, name);
    const char *wanted = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &length) : NULL;
    fuzz_check_text((wanted == NULL) == (text == NULL), name);
    if (text != NULL)
        fuzz_check_text(strlen(text) == length && memcmp(wanted, text, length) == 0, name);
    lua_pop(L, 1);
}

static void check_options(lua_State *L, const struct binding *b)
{
    const link_options *o = b->options.link;
    const watchdog_config *w = &b->options.watchdog;
    size_t prefix = strlen(o->inbox_prefix);
    fuzz_check(b->name[0] != '\0' && strlen(b->name) <= 128);
    fuzz_check(o->server_count > 0 && o->server_count <= LINK_SERVERS_MAX);
    for (int i = 0; i < o->server_count; i++)
        fuzz_check_text(link_url_port(o->servers[i]) > 0, o->servers[i]);
    lua_getfield(L, 1, "servers");
    fuzz_check(!lua_isstring(L, -1) || strlen(lua_tostring(L, -1)) == lua_objlen(L, -1));
    lua_pop(L, 1);
    check_text(L, "user", o->user);
    check_text(L, "password", o->password);
    check_text(L, "token", o->token);
    check_text(L, "creds", o->creds);
    fuzz_check(o->password == NULL || o->user != NULL);
    fuzz_check((o->tls_cert == NULL) == (o->tls_key == NULL));
    fuzz_check(prefix > 1 && prefix < LINK_INBOX_PREFIX_MAX && o->inbox_prefix[prefix - 1] == '.');
    fuzz_check(w->interval_ms >= 10 && w->interval_ms <= 86400000 && w->timeout_ms >= 10);
    fuzz_check(w->probe_ms <= 86400000 && w->probe_timeout_ms >= 10 && w->reconnecting_ms >= 10);
    fuzz_check(o->dial_timeout_ms == w->timeout_ms && o->ping_ms >= 100);
    fuzz_check(link_options_equal(o, o));
}

struct reading {
    struct binding *binding;
    fuzz_input *in;
};

/* In protected mode. */
static int read_options(lua_State *L)
{
    struct reading *r = lua_touserdata(L, 1);
    lua_settop(L, 0);
    lua_newtable(L);
    while (r->in->left > 0) {
        lua_pushstring(L, names[fuzz_below(r->in, sizeof names / sizeof names[0])]);
        fuzz_value(r->in, L, names, sizeof names / sizeof names[0]);
        lua_rawset(L, 1);
    }
    options_read_connection(L, 1, r->binding);
    fuzz_check(lua_gettop(L) == 1);
    check_options(L, r->binding);
    return 0;
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    struct generation *g = fuzz_runtime(false, false)->generation;
    struct reading r = {.binding = binding_new(g), .in = &in};
    fuzz_check(r.binding != NULL);
    if (lua_cpcall(g->L, read_options, &r) != 0) {
        const char *why = lua_tostring(g->L, -1);
        fuzz_check(lua_type(g->L, -1) == LUA_TSTRING && why[0] != '\0');
        fuzz_check_text(strncmp(why, "attempt to", 10) != 0, why);
    }
    lua_settop(g->L, 0);
    binding_free(r.binding);
}
