/* Compiles code for consoles. See compile.h for the threads. */
#include "script/compile.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"

static int write_bytes(lua_State *L, const void *bytes, size_t size, void *closure)
{
    (void)L;
    return fwrite(bytes, 1, size, closure) == size ? 0 : 1;
}

/* The function on top, as bytecode. NULL: no memory. [-0, +0] */
static char *dump(lua_State *L, size_t *size)
{
    char *bytes = NULL;
    FILE *out = open_memstream(&bytes, size);
    if (out == NULL)
        return NULL;
    int failed = lua_dump(L, write_bytes, out);
    if (fclose(out) == 0 && failed == 0)
        return bytes;
    free(bytes);
    return NULL;
}

/* Pieces of one text, one after the other. */
struct pieces {
    const char *text[3];
    size_t length[3];
    unsigned next;
};

static const char *read_piece(lua_State *L, void *closure, size_t *size)
{
    struct pieces *p = closure;
    (void)L;
    while (p->next < 3 && p->length[p->next] == 0)
        p->next++;
    if (p->next == 3)
        return NULL;
    *size = p->length[p->next];
    return p->text[p->next++];
}

/* [-0, +1] the function, or the message */
static int load(lua_State *L, const char *before, const char *code, size_t length,
                const char *after, const char *name)
{
    struct pieces p = {{before, code, after}, {strlen(before), length, strlen(after)}, 0};
    return lua_loadx(L, read_piece, &p, name, "t");
}

static bool is_incomplete(lua_State *L)
{
    static const char end[] = "near '<eof>'";
    const char *message = lua_tostring(L, -1);
    size_t length = message != NULL ? strlen(message) : 0;
    return length >= sizeof end - 1 && strcmp(message + length - (sizeof end - 1), end) == 0;
}

/* As an expression first. [-0, +1] */
static int load_either(lua_State *L, const char *code, size_t length, const char *name)
{
    bool marked = length > 0 && code[0] == '=';
    const char *expression = marked ? code + 1 : code;
    size_t expression_length = marked ? length - 1 : length;
    int status = load(L, "return ", expression, expression_length, "\n", name);
    if (status == 0) {
        static const char *const ends[] = {")", "\n)"}; /* the second, when it ends in a remark */
        for (int i = 0; i < 2; i++)
            if (load(L, "return (...)(", expression, expression_length, ends[i], name) == 0)
                return 0;
        lua_pop(L, 2); /* `f();` */
        return 0;
    }
    if (status == LUA_ERRSYNTAX && !is_incomplete(L))
        status = load(L, "", code, length, "\n", name);
    return status;
}

char *compile(const char *code, size_t length, const char *name, size_t *size, error *e)
{
    char chunk[128], *bytes = NULL;
    snprintf(chunk, sizeof chunk, "=%s", name);
    lua_State *L = luaL_newstate();
    int status = L != NULL ? load_either(L, code, length, chunk) : LUA_ERRMEM;
    if (status == LUA_ERRSYNTAX)
        error_set(e, is_incomplete(L) ? "incomplete" : "syntax", ERROR_CLASS_NONE, "%s",
                  lua_tostring(L, -1));
    else if (status != 0 || (bytes = dump(L, size)) == NULL)
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory to compile %zu bytes", length);
    if (L != NULL)
        lua_close(L);
    return bytes;
}

/* ---- in a thread of the pool ---- */

struct compilation {
    uv_work_t work;
    unsigned *handles;
    char *code, *name;
    size_t length;
    compile_done done; /* NULL: nobody wants to know any more */
    void *closure;
    char *bytecode;
    size_t size;
    error error;
};

static void compilation_free(struct compilation *c)
{
    free(c->code);
    free(c->name);
    free(c->bytecode);
    free(c);
}

static void on_work(uv_work_t *work)
{
    struct compilation *c = work->data;
    c->bytecode = compile(c->code, c->length, c->name, &c->size, &c->error);
}

static void on_worked(uv_work_t *work, int status)
{
    struct compilation *c = work->data;
    (void)status;
    (*c->handles)--;
    if (c->done != NULL)
        c->done(c->closure, c->bytecode, c->size, &c->error);
    compilation_free(c);
}

struct compilation *compile_begin(const compile_order *order, compile_done done, void *closure)
{
    struct compilation *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    *c = (struct compilation){
        .handles = order->handles, .length = order->length, .done = done, .closure = closure};
    c->work.data = c;
    c->code = malloc(order->length + 1);
    c->name = strdup(order->name);
    if (c->code == NULL || c->name == NULL) {
        compilation_free(c);
        return NULL;
    }
    memcpy(c->code, order->code, order->length);
    (*c->handles)++;
    thread_queue_work(order->loop, &c->work, on_work, on_worked); /* cannot fail */
    return c;
}

void compile_forget(struct compilation *c)
{
    c->done = NULL;
}
