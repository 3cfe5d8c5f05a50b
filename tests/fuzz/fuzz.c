/* What the fuzz targets share. See fuzz.h. One thread. */
#include "fuzz.h"

#include <ftw.h>
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/utf8.h"

#define DEPTH 5       /* of tables that are made value by value */
#define DEEPEST 255   /* of those that only contain each other */
#define ENTRIES_MAX 8 /* of one table */

_Noreturn void fuzz_broken(const char *condition, const char *file, int line, const char *text)
{
    fprintf(stderr, "%s:%d: broken: %s\n", file, line, condition);
    if (text != NULL)
        fprintf(stderr, "%s\n", text);
    abort();
}

bool fuzz_is_utf8(const char *bytes, size_t length)
{
    uint32_t character;
    for (size_t i = 0, n; i < length; i += n) {
        n = utf8_decode((const unsigned char *)bytes + i, length - i, &character);
        if (n == 0)
            return false;
    }
    return true;
}

bool fuzz_is_printable(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++)
        if (*at < 0x20 || *at == 0x7f)
            return false;
    return true;
}

/* ---- the input ---- */

static void take(fuzz_input *in, void *out, size_t size)
{
    size_t there = size < in->left ? size : in->left;
    memset(out, 0, size);
    memcpy(out, in->at, there);
    in->at += there;
    in->left -= there;
}

uint8_t fuzz_byte(fuzz_input *in)
{
    uint8_t byte;
    take(in, &byte, 1);
    return byte;
}

unsigned fuzz_below(fuzz_input *in, unsigned limit)
{
    return fuzz_byte(in) % limit;
}

double fuzz_number(fuzz_input *in)
{
    static const double odd[] = {0,    -0.0,         1,        -1,   0.5, 1e-300, 1e300, 86400,
                                 4096, 2147483648.0, INFINITY, -1e9, 100, 0.001,  65536, -0.5,
                                 3600, 4294967296.0, 9.1e15,   NAN};
    double number;
    unsigned which = fuzz_below(in, 32);
    if (which < sizeof odd / sizeof odd[0])
        return odd[which];
    take(in, &number, sizeof number);
    return number;
}

static char *copy(fuzz_input *in, size_t length)
{
    char *text = malloc(length + 1);
    fuzz_check(text != NULL);
    take(in, text, length);
    text[length] = '\0';
    return text;
}

char *fuzz_bytes(fuzz_input *in, size_t *length)
{
    *length = fuzz_byte(in);
    if (*length == 255) /* long ones */
        *length = 255u + 16u * fuzz_byte(in);
    if (*length > in->left)
        *length = in->left;
    return copy(in, *length);
}

char *fuzz_rest(fuzz_input *in, size_t *length)
{
    *length = in->left;
    return copy(in, in->left);
}

char *fuzz_rest_text(fuzz_input *in)
{
    size_t length = in->left > 0 ? strnlen((const char *)in->at, in->left) : 0;
    char *text = copy(in, length);
    in->left = 0;
    return text;
}

/* ---- Lua ---- */

struct making {
    fuzz_input *in;
    lua_State *L;
    const char *const *names;
    unsigned count;
};

static void push_value(struct making *m, int depth);

/* [-0, +1] */
static void push_text(struct making *m)
{
    size_t length;
    char *text = fuzz_bytes(m->in, &length);
    lua_pushlstring(m->L, text, length);
    free(text);
}

/* [-0, +1] */
static void push_key(struct making *m)
{
    unsigned kind = fuzz_below(m->in, 8);
    double number = kind == 7 ? fuzz_number(m->in) : 0;
    if (kind < 5 && m->count > 0)
        lua_pushstring(m->L, m->names[fuzz_below(m->in, m->count)]);
    else if (kind == 7 && !isnan(number))
        lua_pushnumber(m->L, number);
    else
        push_text(m);
}

/* [-0, +1] */
static void push_table(struct making *m, int depth, bool list)
{
    unsigned entries = fuzz_below(m->in, ENTRIES_MAX);
    lua_newtable(m->L);
    for (unsigned i = 1; i <= entries && m->in->left > 0; i++) {
        if (list)
            lua_pushnumber(m->L, i);
        else
            push_key(m);
        push_value(m, depth + 1);
        lua_rawset(m->L, -3);
    }
}

/* Tables in tables. [-0, +1] */
static void push_nest(struct making *m)
{
    unsigned depth = fuzz_below(m->in, DEEPEST);
    lua_newtable(m->L);
    for (unsigned i = 0; i < depth; i++) {
        lua_newtable(m->L);
        lua_insert(m->L, -2);
        lua_rawseti(m->L, -2, 1);
    }
}

/* [-0, +1] */
static void push_value(struct making *m, int depth)
{
    luaL_checkstack(m->L, 8, "fuzz");
    unsigned kind = fuzz_below(m->in, 16);
    if (kind == 0)
        lua_pushboolean(m->L, fuzz_byte(m->in) & 1);
    else if (kind < 5)
        lua_pushnumber(m->L, fuzz_number(m->in));
    else if (kind == 5)
        push_nest(m);
    else if (kind < 8 && depth < DEPTH)
        push_table(m, depth, true);
    else if (kind < 11 && depth < DEPTH)
        push_table(m, depth, false);
    else
        push_text(m);
}

void fuzz_value(fuzz_input *in, lua_State *L, const char *const *names, unsigned count)
{
    push_value(&(struct making){in, L, names, count}, 0);
}

/* Whether all of the table at `a` is in the one at `b`. [-0, +0] */
static bool contains(lua_State *L, int b, int a)
{
    luaL_checkstack(L, 8, "fuzz");
    for (lua_pushnil(L); lua_next(L, a) != 0; lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_rawget(L, b);
        bool same = fuzz_equal(L, lua_gettop(L) - 1, lua_gettop(L));
        lua_pop(L, 1);
        if (!same) {
            lua_pop(L, 2);
            return false;
        }
    }
    return true;
}

static size_t count(lua_State *L, int table)
{
    size_t n = 0;
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1))
        n++;
    return n;
}

bool fuzz_equal(lua_State *L, int a, int b)
{
    if (lua_type(L, a) != lua_type(L, b))
        return false;
    if (lua_type(L, a) == LUA_TNUMBER && isnan(lua_tonumber(L, a)))
        return isnan(lua_tonumber(L, b));
    if (!lua_istable(L, a))
        return lua_rawequal(L, a, b);
    return count(L, a) == count(L, b) && contains(L, b, a);
}

/* ---- a runtime ---- */

static char folder[64];

static int remove_entry(const char *path, const struct stat *about, int type, struct FTW *where)
{
    (void)about;
    (void)type;
    (void)where;
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void)
{
    if (folder[0] != '\0')
        return folder;
    snprintf(folder, sizeof folder, "/tmp/moondog-fuzz-XXXXXX");
    fuzz_check(mkdtemp(folder) != NULL);
    atexit(remove_folder);
    return folder;
}

md_runtime *fuzz_runtime(bool control, bool http)
{
    static md_runtime *runtime;
    char control_path[80], http_path[88], script[80];
    md_options o;
    md_error e = {0};
    if (runtime != NULL)
        return runtime;
    md_options_init(&o);
    o.log_level = "off";
    o.load_budget_ms = 10000; /* sanitizers are slow */
    snprintf(control_path, sizeof control_path, "%s/control", fuzz_folder());
    snprintf(http_path, sizeof http_path, "unix:%s/http", fuzz_folder());
    snprintf(script, sizeof script, "%s/script.lua", fuzz_folder());
    if (control)
        o.control = control_path;
    if (http)
        o.http = http_path;
    runtime = md_create(&o, &e);
    fuzz_check_text(runtime != NULL, e.message);
    fuzz_check(md_set_file(runtime, script, "", 0, &e) == 0);
    fuzz_check_text(md_load(runtime, script, &e) == 0, e.message);
    return runtime;
}

int fuzz_connect(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", fuzz_folder(), name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    fuzz_check(fd >= 0);
    fuzz_check(connect(fd, (const struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

/* LeakSanitizer asks for it. What only values of LuaJIT point to: it keeps types in the upper bits
 * of pointers, where nobody looks for one; and a target keeps its interpreter until the process
 * ends. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libluajit-5.1\n";
}
