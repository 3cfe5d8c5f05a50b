/* Reading tables of options: every unknown or ill-typed one is an error that names it and the
 * script's line. See api.h. */
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "script/api.h"

#define NAME_MAX_LENGTH 32

/* ---- fields ---- */

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein distance of two short names. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_LENGTH + 1];
    size_t length = strlen(b);
    if (length > NAME_MAX_LENGTH)
        return NAME_MAX_LENGTH;
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[length];
}

static int unknown(lua_State *L, const char *key, const char *const *names, const char *what)
{
    const char *nearest = NULL;
    size_t best = strlen(key) / 2 + 1;
    for (int i = 0; names[i] != NULL; i++) {
        size_t d = distance(key, names[i]);
        if (d < best) {
            best = d;
            nearest = names[i];
        }
    }
    if (nearest != NULL)
        return luaL_error(L, "unknown option \"%s\" of %s: did you mean \"%s\"?", key, what,
                          nearest);
    luaL_Buffer list;
    luaL_buffinit(L, &list);
    for (int i = 0; names[i] != NULL; i++) {
        if (i > 0)
            luaL_addstring(&list, ", ");
        luaL_addstring(&list, names[i]);
    }
    luaL_pushresult(&list);
    return luaL_error(L, "unknown option \"%s\" of %s: there are %s", key, what,
                      lua_tostring(L, -1));
}

void options_check(lua_State *L, int index, const char *const *names, const char *what)
{
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L, "%s has a value without a name: options are written name = value", what);
        const char *key = lua_tostring(L, -2);
        bool known = false;
        for (int i = 0; names[i] != NULL && !known; i++)
            known = strcmp(key, names[i]) == 0;
        if (!known)
            unknown(L, key, names, what);
    }
}

static void wrong_type(lua_State *L, const char *name, const char *expected)
{
    luaL_error(L, "option \"%s\" is a %s: %s is expected", name, luaL_typename(L, -1), expected);
}

/* [-0, +1] The field that a name such as "tls.cert" means in its own table. */
static void get_field(lua_State *L, int index, const char *name)
{
    const char *dot = strrchr(name, '.');
    lua_getfield(L, index, dot == NULL ? name : dot + 1);
}

/* [-0, +0] The string on top: C would take what comes before a zero byte for all of it. */
static const char *whole_string(lua_State *L, const char *name)
{
    const char *text = lua_tostring(L, -1);
    if (strlen(text) != lua_objlen(L, -1))
        luaL_error(L, "option \"%s\" has a zero byte", name);
    return text;
}

/* The strings stay in the table, so popping them is safe. */
const char *options_string(lua_State *L, int index, const char *name, const char *fallback)
{
    get_field(L, index, name);
    if (!lua_isnil(L, -1)) {
        if (lua_type(L, -1) != LUA_TSTRING)
            wrong_type(L, name, "a string");
        fallback = whole_string(L, name);
    }
    lua_pop(L, 1);
    return fallback;
}

bool options_boolean(lua_State *L, int index, const char *name, bool fallback)
{
    get_field(L, index, name);
    if (!lua_isnil(L, -1)) {
        if (!lua_isboolean(L, -1))
            wrong_type(L, name, "true or false");
        fallback = lua_toboolean(L, -1);
    }
    lua_pop(L, 1);
    return fallback;
}

double options_number(lua_State *L, int index, const char *name, double fallback, double min,
                      double max)
{
    get_field(L, index, name);
    if (!lua_isnil(L, -1)) {
        if (lua_type(L, -1) != LUA_TNUMBER)
            wrong_type(L, name, "a number");
        fallback = lua_tonumber(L, -1);
        if (!(fallback >= min && fallback <= max))
            luaL_error(L, "option \"%s\" is %f: it has to be from %f to %f", name, fallback, min,
                       max);
    }
    lua_pop(L, 1);
    return fallback;
}

bool options_table(lua_State *L, int index, const char *name)
{
    get_field(L, index, name);
    if (lua_istable(L, -1))
        return true;
    if (!lua_isnil(L, -1))
        wrong_type(L, name, "a table");
    lua_pop(L, 1);
    return false;
}

bool options_function(lua_State *L, int index, const char *name)
{
    get_field(L, index, name);
    if (lua_isfunction(L, -1))
        return true;
    if (!lua_isnil(L, -1))
        wrong_type(L, name, "a function");
    lua_pop(L, 1);
    return false;
}

/* ---- the options of a connection ---- */

static const char *const connect_names[] = {"name",
                                            "servers",
                                            "user",
                                            "password",
                                            "token",
                                            "creds",
                                            "nkey_seed_file",
                                            "tls",
                                            "reconnect",
                                            "watchdog",
                                            "library_reconnect",
                                            "pending",
                                            "on",
                                            "required",
                                            "inbox_prefix",
                                            "no_echo",
                                            "ping_interval",
                                            "ignore_discovered",
                                            NULL};
static const char *const tls_names[] = {"ca", "cert", "key", "hostname", "insecure", NULL};
static const char *const watchdog_names[] = {"interval",     "timeout",   "probe", "probe_timeout",
                                             "reconnecting", "lame_duck", NULL};
static const char *const pending_names[] = {"bytes", NULL};
static const char *const hook_names[] = {"connected",  "reconnected", "disconnected",
                                         "closed",     "error",       "lame_duck",
                                         "discovered", "probe",       NULL};

static char *copy(lua_State *L, const char *text)
{
    if (text == NULL)
        return NULL;
    char *out = strdup(text);
    if (out == NULL)
        luaL_error(L, "no memory for an option");
    return out;
}

/* A path that has to be readable now: so a typing error shows at once. */
static char *copy_path(lua_State *L, int index, const char *name)
{
    const char *path = options_string(L, index, name, NULL);
    if (path != NULL && access(path, R_OK) != 0)
        luaL_error(L, "option \"%s\": the file %s cannot be read; look at its path and permissions",
                   name, path);
    return copy(L, path);
}

static void add_server(lua_State *L, link_options *o, const char *url)
{
    error e = {0};
    if (link_options_add_server(o, url, &e) != 0)
        luaL_error(L, "option \"servers\": %s", e.message);
}

/* "a,b,c". A comma may be part of a password, so a bad entry of several is not shown. `where`: for
 * messages. */
static void add_server_list(lua_State *L, link_options *o, const char *list, const char *where)
{
    char *copied = copy(L, list);
    char *rest = NULL;
    error e = {0};
    int count = 0, failed = 0;
    for (char *url = strtok_r(copied, ", ", &rest); url != NULL && !failed;
         url = strtok_r(NULL, ", ", &rest)) {
        count++;
        failed = link_options_add_server(o, url, &e);
    }
    free(copied);
    if (failed && strpbrk(list, ", ") != NULL && strcmp(e.code, "no_memory") != 0)
        luaL_error(L,
                   "%s: entry %d of the list is no server URL like nats://host:4222; a password "
                   "with a comma or a space goes into the option \"password\"",
                   where, count);
    if (failed)
        luaL_error(L, "%s: %s", where, e.message);
    if (count == 0)
        luaL_error(L, "%s is empty: write it like nats://host:4222, or leave it out", where);
}

static void read_servers(lua_State *L, int index, link_options *o)
{
    lua_getfield(L, index, "servers");
    if (lua_type(L, -1) == LUA_TSTRING) {
        add_server_list(L, o, whole_string(L, "servers"), "option \"servers\"");
    } else if (lua_istable(L, -1)) {
        if (lua_objlen(L, -1) == 0)
            luaL_error(L, "option \"servers\" is empty: give a URL, or leave it out");
        for (int i = 1; i <= (int)lua_objlen(L, -1); i++) {
            lua_rawgeti(L, -1, i);
            if (lua_type(L, -1) != LUA_TSTRING)
                luaL_error(L, "option \"servers\": entry %d is a %s: a URL is expected", i,
                           luaL_typename(L, -1));
            add_server(L, o, whole_string(L, "servers"));
            lua_pop(L, 1);
        }
    } else if (!lua_isnil(L, -1)) {
        wrong_type(L, "servers", "a list of URLs");
    }
    lua_pop(L, 1);
    const char *url = getenv("NATS_URL");
    if (o->server_count == 0)
        add_server_list(L, o, url != NULL && url[0] != '\0' ? url : "nats://127.0.0.1:4222",
                        "$NATS_URL");
}

static void read_tls(lua_State *L, int index, link_options *o)
{
    lua_getfield(L, index, "tls");
    if (lua_isboolean(L, -1)) {
        o->tls |= lua_toboolean(L, -1);
    } else if (lua_istable(L, -1)) {
        int t = lua_gettop(L);
        options_check(L, t, tls_names, "tls");
        o->tls = true;
        o->tls_ca = copy_path(L, t, "tls.ca");
        o->tls_cert = copy_path(L, t, "tls.cert");
        o->tls_key = copy_path(L, t, "tls.key");
        o->tls_hostname = copy(L, options_string(L, t, "tls.hostname", NULL));
        o->tls_insecure = options_boolean(L, t, "tls.insecure", false);
        if ((o->tls_cert == NULL) != (o->tls_key == NULL))
            luaL_error(L, "option \"tls\": cert and key go together");
    } else if (!lua_isnil(L, -1)) {
        wrong_type(L, "tls", "a table, or true");
    }
    lua_pop(L, 1);
}

static void name_callback(struct binding *b, struct callback *cb, char full[CALLBACK_TEXT],
                          const char *kind, const char *name)
{
    snprintf(full, CALLBACK_TEXT, "%.48s.%s", b->name, name);
    callback_init(cb, kind, full);
}

static void read_auth(lua_State *L, int index, struct binding *b)
{
    link_options *o = b->options.link;
    o->user = copy(L, options_string(L, index, "user", NULL));
    o->password = copy(L, options_string(L, index, "password", NULL));
    if (o->password != NULL && o->user == NULL)
        luaL_error(L, "option \"password\" needs the option \"user\"");
    o->creds = copy_path(L, index, "creds");
    o->nkey_seed_file = copy_path(L, index, "nkey_seed_file");
    if (o->creds != NULL && o->nkey_seed_file != NULL)
        luaL_error(L, "options \"creds\" and \"nkey_seed_file\" exclude each other");
    lua_getfield(L, index, "token");
    if (lua_isfunction(L, -1)) {
        name_callback(b, &b->token, b->token_name, "token", "token");
        callback_set(&b->token, L, -1);
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        o->token = copy(L, whole_string(L, "token"));
    } else if (!lua_isnil(L, -1)) {
        wrong_type(L, "token", "a string or a function that returns one");
    }
    lua_pop(L, 1);
}

static void read_reconnect(lua_State *L, int index, struct binding *b)
{
    lua_getfield(L, index, "reconnect");
    if (lua_isfunction(L, -1)) {
        name_callback(b, &b->policy, b->policy_name, "policy", "reconnect");
        callback_set(&b->policy, L, -1);
    } else if (lua_isuserdata(L, -1)) {
        b->options.link->fallback = *(backoff *)luaL_checkudata(L, -1, BACKOFF_TYPE);
    } else if (!lua_isnil(L, -1)) {
        wrong_type(L, "reconnect", "moondog.backoff{...} or a function");
    }
    lua_pop(L, 1);
}

static uint32_t milliseconds(double seconds)
{
    double ms = seconds * 1000.0;
    return ms > 0 && ms < 1 ? 1 : (uint32_t)ms;
}

static void read_watchdog(lua_State *L, int index, struct binding *b)
{
    watchdog_config *w = &b->options.watchdog;
    *w = (watchdog_config){.interval_ms = 30000,
                           .timeout_ms = 15000,
                           .probe_ms = 5000,
                           .probe_timeout_ms = 2500,
                           .reconnecting_ms = 60000,
                           .grace_ms = 1000};
    b->options.lame_duck_ms = 5000;
    if (options_table(L, index, "watchdog")) {
        int t = lua_gettop(L);
        options_check(L, t, watchdog_names, "watchdog");
        w->interval_ms = milliseconds(options_number(L, t, "watchdog.interval", 30, 0.01, 86400));
        w->timeout_ms = milliseconds(options_number(L, t, "watchdog.timeout", 15, 0.01, 3600));
        w->probe_ms = milliseconds(options_number(L, t, "watchdog.probe", 5, 0, 86400));
        w->probe_timeout_ms =
            milliseconds(options_number(L, t, "watchdog.probe_timeout", 2.5, 0.01, 3600));
        w->reconnecting_ms =
            milliseconds(options_number(L, t, "watchdog.reconnecting", 60, 0.01, 86400));
        b->options.lame_duck_ms =
            milliseconds(options_number(L, t, "watchdog.lame_duck", 5, 0, 3600));
        lua_pop(L, 1);
    }
    b->options.link->dial_timeout_ms = w->timeout_ms;
    b->options.link->probe_timeout_ms = w->probe_timeout_ms;
}

static void read_hooks(lua_State *L, int index, struct binding *b)
{
    if (!options_table(L, index, "on"))
        return;
    int t = lua_gettop(L);
    options_check(L, t, hook_names, "on");
    for (int i = 0; i < CONNECTION_NOTICE_COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "on.%s", binding_hook_names[i]);
        if (!options_function(L, t, name))
            continue;
        name_callback(b, &b->hooks[i], b->hook_names[i], "hook", binding_hook_names[i]);
        callback_set(&b->hooks[i], L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void read_inbox_prefix(lua_State *L, int index, link_options *o)
{
    const char *prefix = options_string(L, index, "inbox_prefix", "_INBOX");
    size_t length = strlen(prefix);
    char text[LINK_INBOX_PREFIX_MAX];
    error e = {0};
    if (length > 0 && prefix[length - 1] == '.')
        length--;
    if (length + 2 > sizeof text)
        luaL_error(L, "option \"inbox_prefix\" is longer than %d bytes", LINK_INBOX_PREFIX_MAX - 2);
    if (subject_check(prefix, length, false, &e) != 0)
        luaL_error(L, "option \"inbox_prefix\": %s", e.message);
    snprintf(text, sizeof text, "%.*s.", (int)length, prefix);
    o->inbox_prefix = copy(L, text);
}

void options_read_connection(lua_State *L, int index, struct binding *b)
{
    options_check(L, index, connect_names, "moondog.connect");
    link_options *o = b->options.link = link_options_new();
    if (o == NULL) {
        luaL_error(L, "no memory for a connection");
        return; /* never: luaL_error() does not come back */
    }
    b->name = copy(L, options_string(L, index, "name", "default"));
    if (b->name[0] == '\0' || strlen(b->name) > 128)
        luaL_error(L, "option \"name\" has to have 1 to 128 bytes");
    o->name = copy(L, b->name);
    read_servers(L, index, o);
    read_auth(L, index, b);
    read_tls(L, index, o);
    read_reconnect(L, index, b);
    read_watchdog(L, index, b);
    read_hooks(L, index, b);
    read_inbox_prefix(L, index, o);
    o->no_echo = options_boolean(L, index, "no_echo", false);
    o->ignore_discovered = options_boolean(L, index, "ignore_discovered", false);
    o->library_reconnect = options_boolean(L, index, "library_reconnect", true);
    o->ping_ms = milliseconds(options_number(L, index, "ping_interval", 20, 0.1, 86400));
    b->options.required = options_boolean(L, index, "required", true);
    b->options.pending_bytes = 8u * 1024 * 1024;
    if (options_table(L, index, "pending")) {
        int t = lua_gettop(L);
        options_check(L, t, pending_names, "pending");
        b->options.pending_bytes =
            (size_t)options_number(L, t, "pending.bytes", 8.0 * 1024 * 1024, 0, 1e12);
        lua_pop(L, 1);
    }
}
