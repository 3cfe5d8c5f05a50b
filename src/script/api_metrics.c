/* moondog.metrics: the metrics that a script declares and changes. See api.h and
 * health/user_metrics.h. Loop thread, or the loading one. */
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "health/exposition.h"
#include "health/user_metrics.h"
#include "script/api.h"
#include "script/message.h"

#define METRIC_TYPE "moondog.metric"
#define LABELS_MAX 10

/* What a script holds. The module keeps it, so that a name that is asked for again and again is
 * looked up in Lua, and its metric stays as long as the generation. */
struct metric_handle {
    struct metric *metric;
    char names[256]; /* of the labels that were declared, sorted, with commas; "": any */
};

static struct metric_handle *check_metric(lua_State *L, metric_type type, metric_type other,
                                          const char *method)
{
    struct metric_handle *h = luaL_checkudata(L, 1, METRIC_TYPE);
    metric_type is = metric_get_type(h->metric);
    if (is != type && is != other)
        luaL_error(L,
                   "a %s has no %s(): a counter has add(), a gauge set() and add(), a histogram "
                   "observe()",
                   metric_type_name(is), method);
    return h;
}

/* ---- labels ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_label_name(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= 64 && strspn(name, "0123456789") == 0 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") ==
               length &&
           strncmp(name, "__", 2) != 0 && strcmp(name, "le") != 0;
}

static void check_label_name(lua_State *L, const char *name)
{
    if (name == NULL || !is_label_name(name))
        luaL_error(L,
                   "bad name of a label \"%s\": it has letters, digits and _, begins with no digit "
                   "and no __, and is not le",
                   name != NULL ? name : "(not a string)");
}

static void join_names(lua_State *L, const char **names, int count, char *out, size_t size)
{
    size_t length = 0;
    qsort(names, (size_t)count, sizeof names[0], compare_names);
    out[0] = '\0';
    for (int i = 0; i < count; i++) {
        if (i > 0 && strcmp(names[i - 1], names[i]) == 0)
            luaL_error(L, "option \"labels\" has the label \"%s\" twice", names[i]);
        int n = snprintf(out + length, size - length, "%s%s", i > 0 ? "," : "", names[i]);
        length += (size_t)n;
        if (length >= size)
            luaL_error(L, "the names of the labels are too long: %d characters together at most",
                       (int)size - 1);
    }
}

/* The labels in the table at `index`, which may be nil, as they are written. [-0, +0] */
static void read_labels(lua_State *L, int index, const struct metric_handle *h,
                        char out[USER_LABELS_BYTES])
{
    const char *names[LABELS_MAX] = {NULL};
    char joined[sizeof h->names];
    int count = 0;
    out[0] = '\0';
    if (!lua_isnoneornil(L, index)) {
        luaL_checktype(L, index, LUA_TTABLE);
        for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
            const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
            check_label_name(L, name);
            if (count == LABELS_MAX)
                luaL_error(L, "more than %d labels", LABELS_MAX);
            names[count++] = name;
        }
    }
    join_names(L, names, count, joined, sizeof joined);
    if (h->names[0] != '\0' && strcmp(h->names, joined) != 0)
        luaL_error(L, "this metric has the labels %s, and was given %s", h->names,
                   count > 0 ? joined : "none");
    for (int i = 0; i < count; i++) {
        lua_getfield(L, index, names[i]);
        const char *value =
            lua_isboolean(L, -1) ? (lua_toboolean(L, -1) ? "true" : "false") : lua_tostring(L, -1);
        if (value == NULL)
            luaL_error(L, "label \"%s\" is a %s: a string is expected", names[i],
                       luaL_typename(L, -1));
        if (!exposition_label(out, USER_LABELS_BYTES, names[i], value))
            luaL_error(L, "the labels are too long: %d bytes together at most",
                       (int)USER_LABELS_BYTES);
        lua_pop(L, 1);
    }
}

/* ---- changing ---- */

typedef int (*metric_change)(struct metric *m, const char *labels, double value, error *e);

/* [-0, +1] true, or [-0, +2] nil, err */
static int change(lua_State *L, struct metric_handle *h, metric_change apply, double value)
{
    char labels[USER_LABELS_BYTES];
    error e = {0};
    read_labels(L, 3, h, labels);
    if (apply(h->metric, labels, value, &e) == 0) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (metric_may_tell(h->metric))
        log_emit(generation_of(L)->limits.hub->log, LOG_WARN, "metric refused",
                 log_str("error", e.message), log_str("code", e.code));
    return message_fail(L, &e);
}

static double check_value(lua_State *L, bool optional)
{
    double value = optional ? luaL_optnumber(L, 2, 1) : luaL_checknumber(L, 2);
    if (isnan(value))
        luaL_argerror(L, 2, "not a number");
    return value;
}

static int add(lua_State *L)
{
    struct metric_handle *h = check_metric(L, METRIC_COUNTER, METRIC_GAUGE, "add");
    double value = check_value(L, true);
    if (metric_get_type(h->metric) == METRIC_COUNTER && value < 0)
        return luaL_error(L, "a counter only grows: what goes down is a gauge");
    return change(L, h, metric_add, value);
}

static int set(lua_State *L)
{
    struct metric_handle *h = check_metric(L, METRIC_GAUGE, METRIC_GAUGE, "set");
    return change(L, h, metric_set, check_value(L, false));
}

static int observe(lua_State *L)
{
    struct metric_handle *h = check_metric(L, METRIC_HISTOGRAM, METRIC_HISTOGRAM, "observe");
    return change(L, h, metric_observe, check_value(L, false));
}

/* ---- declaring ---- */

static void read_buckets(lua_State *L, int index, histogram_shape *shape)
{
    static const histogram_shape usual = {
        11, {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}};
    *shape = usual;
    if (!options_table(L, index, "buckets"))
        return;
    size_t count = lua_objlen(L, -1);
    if (count < 1 || count > HISTOGRAM_BOUNDS_MAX)
        luaL_error(L, "option \"buckets\" has %d bounds: 1 to %d are possible", (int)count,
                   (int)HISTOGRAM_BOUNDS_MAX);
    *shape = (histogram_shape){.count = (unsigned)count};
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        shape->bounds[i] = lua_tonumber(L, -1);
        if (lua_type(L, -1) != LUA_TNUMBER || !isfinite(shape->bounds[i]) ||
            (i > 0 && shape->bounds[i] <= shape->bounds[i - 1]))
            luaL_error(L,
                       "option \"buckets\" is a list of numbers, each larger than the one before");
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void read_names(lua_State *L, int index, struct metric_handle *h)
{
    const char *names[LABELS_MAX] = {NULL};
    if (!options_table(L, index, "labels"))
        return;
    size_t count = lua_objlen(L, -1);
    if (count > LABELS_MAX)
        luaL_error(L, "more than %d labels", LABELS_MAX);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        names[i] = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        check_label_name(L, names[i]);
        lua_pop(L, 1); /* the table has it */
    }
    join_names(L, names, (int)count, h->names, sizeof h->names);
    lua_pop(L, 1);
}

static int forget(lua_State *L)
{
    struct metric_handle *h = lua_touserdata(L, 1);
    if (h->metric != NULL)
        metric_release(h->metric);
    h->metric = NULL;
    return 0;
}

/* [-0, +1] The handle of that name which was made before, or nil: upvalue 1 has them. */
static void find_handle(lua_State *L)
{
    lua_pushvalue(L, 1);
    lua_rawget(L, lua_upvalueindex(1));
}

/* moondog.metrics.counter(name [, { help, labels }]) [-0, +1] */
static int declare(lua_State *L, metric_type type)
{
    static const char *const plain[] = {"help", "labels", NULL};
    static const char *const with_buckets[] = {"help", "labels", "buckets", NULL};
    metric_declaration d = {.type = type, .name = luaL_checkstring(L, 1)};
    error e = {0};
    lua_settop(L, 2);
    find_handle(L);
    struct metric_handle *known = lua_touserdata(L, -1);
    if (known != NULL && lua_isnil(L, 2) && metric_get_type(known->metric) == type)
        return 1;
    if (lua_isnil(L, 2)) {
        lua_newtable(L);
        lua_replace(L, 2);
    }
    luaL_checktype(L, 2, LUA_TTABLE);
    options_check(L, 2, type == METRIC_HISTOGRAM ? with_buckets : plain, "moondog.metrics");
    d.help = options_string(L, 2, "help", NULL);
    if (type == METRIC_HISTOGRAM)
        read_buckets(L, 2, &d.shape);
    struct metric_handle *h = lua_newuserdata(L, sizeof *h);
    *h = (struct metric_handle){0};
    luaL_getmetatable(L, METRIC_TYPE);
    lua_setmetatable(L, -2);
    read_names(L, 2, h);
    h->metric = metric_declare(generation_of(L)->limits.metrics, &d, &e);
    if (h->metric == NULL)
        return luaL_error(L, "%s", e.message);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -2);
    lua_rawset(L, lua_upvalueindex(1));
    return 1;
}

static int counter(lua_State *L)
{
    return declare(L, METRIC_COUNTER);
}

static int gauge(lua_State *L)
{
    return declare(L, METRIC_GAUGE);
}

static int histogram_(lua_State *L)
{
    return declare(L, METRIC_HISTOGRAM);
}

void api_open_metrics(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"add", add}, {"set", set}, {"observe", observe}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"counter", counter}, {"gauge", gauge}, {"histogram", histogram_}, {NULL, NULL}};
    api_register_type(L, METRIC_TYPE, methods, forget);
    lua_pop(L, 1);
    lua_newtable(L);
    lua_newtable(L); /* the handles by name */
    luaL_openlib(L, NULL, functions, 1);
}
