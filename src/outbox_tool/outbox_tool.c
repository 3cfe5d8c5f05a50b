/* `moondog outbox`: which action it is, and how it is told: as JSON, or by
 * lua/moondog/cli_outbox.lua as text. See outbox_tool.h. Main thread, blocking. */
#include "outbox_tool/outbox_tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/render.h"
#include "conn/subscription.h"
#include "outbox/schema.h"
#include "outbox_tool/change.h"
#include "outbox_tool/entries.h"
#include "outbox_tool/file.h"
#include "outbox_tool/output.h"
#include "outbox_tool/summary.h"

#define SUMMARY_ENTRIES 10

static int complain(const error *e)
{
    fflush(stdout);
    fprintf(stderr, "moondog: %s\n", e->message);
    return EXIT_FAILED;
}

static int no_memory(void)
{
    error e;
    error_set(&e, "no_memory", ERROR_CLASS_NONE, "no memory");
    return complain(&e);
}

/* The answer of an action as JSON, or as text. Takes `answer`, which may be NULL: no memory. */
static int tell(lua_State *L, const char *action, json_t *answer)
{
    char *json = answer != NULL ? json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(answer);
    if (json == NULL)
        return no_memory();
    int code = EXIT_DONE;
    if (args_flag(L, "json"))
        printf("%s\n", json);
    else
        code = render_print(L, "moondog.cli_outbox", action, json);
    free(json);
    return code;
}

/* ---- reading ---- */

static int wished_state(lua_State *L)
{
    const char *state = args_string(L, "state", "all");
    if (strcmp(state, "waiting") == 0)
        return OUTBOX_WAITING;
    return strcmp(state, "set-aside") == 0 ? OUTBOX_SET_ASIDE : ENTRIES_ANY_STATE;
}

static int show_summary(lua_State *L, outbox_file *f)
{
    error e = {0};
    json_t *result = summary_make(f, (int64_t)args_number(L, "limit", SUMMARY_ENTRIES), &e);
    return result != NULL ? tell(L, "summary", result) : complain(&e);
}

static int show_count(lua_State *L, outbox_file *f)
{
    error e = {0};
    json_t *result = summary_count(f, args_string(L, "subject", NULL), &e);
    return result != NULL ? tell(L, "count", result) : complain(&e);
}

struct table {
    lua_State *L;
    bool begun; /* its heading is printed */
    int code;   /* to exit with */
};

/* Prints a portion as rows of the table. */
static bool take_rows(void *closure, json_t *portion)
{
    struct table *t = closure;
    int top = lua_gettop(t->L);
    json_t *rows = json_pack("{s:b, s:o}", "first", !t->begun, "entries", portion);
    t->code = tell(t->L, "list", rows);
    t->begun = true;
    lua_settop(t->L, top);
    return t->code == EXIT_DONE && fflush(stdout) == 0 && !ferror(stdout);
}

static int list_as_table(lua_State *L, outbox_file *f, const entries_wish *wish)
{
    error e = {0};
    struct table t = {.L = L};
    if (entries_read(f, wish, take_rows, &t, &e) != 0)
        return complain(&e);
    return t.code;
}

/* As lines of JSON, to standard output or to a file. */
static int write_lines(outbox_file *f, const entries_wish *wish, const char *path, output *o)
{
    error e = {0}, cannot = {0};
    if (output_open(o, path, &e) != 0)
        return complain(&e);
    int failed = entries_read(f, wish, output_take, o, &e);
    if (output_close(o, failed == 0, &cannot) != 0)
        return cannot.code[0] != '\0' ? complain(&cannot) : EXIT_FAILED;
    return failed == 0 ? EXIT_DONE : complain(&e);
}

static int list(lua_State *L, outbox_file *f)
{
    output o;
    entries_wish wish = {.state = wished_state(L),
                         .subject = args_string(L, "subject", NULL),
                         .limit = (int64_t)args_number(L, "limit", -1)};
    return args_flag(L, "json") ? write_lines(f, &wish, NULL, &o) : list_as_table(L, f, &wish);
}

static int export(lua_State *L, outbox_file *f)
{
    output o;
    const char *path = args_string(L, "output", NULL);
    entries_wish wish = {.state = wished_state(L),
                         .subject = args_string(L, "subject", NULL),
                         .limit = -1,
                         .whole = true};
    int code = write_lines(f, &wish, path, &o);
    if (code != EXIT_DONE || path == NULL)
        return code;
    return tell(L, "export",
                json_pack("{s:s, s:I}", "file", path, "exported", (json_int_t)o.entries));
}

/* ---- changing ---- */

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The ids of the command line in rising order, to be freed; NULL: there are none, or no memory,
 * which *count tells apart. */
static int64_t *read_ids(lua_State *L, size_t *count)
{
    lua_getfield(L, 1, "ids");
    *count = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
    int64_t *ids = *count > 0 ? calloc(*count, sizeof *ids) : NULL;
    for (size_t i = 0; ids != NULL && i < *count; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        ids[i] = strtoll(lua_tostring(L, -1), NULL, 10);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    if (ids != NULL)
        qsort(ids, *count, sizeof *ids, by_number);
    return ids;
}

typedef int (*changer)(outbox_file *f, const int64_t *ids, size_t count, change_result *r,
                       error *e);

/* cli_outbox_command.lua has seen to it that there are ids, or that all are meant. */
static int change(lua_State *L, outbox_file *f, changer how, change_result *r)
{
    size_t count;
    error e = {0};
    int64_t *ids = read_ids(L, &count);
    if (ids == NULL && count > 0)
        return no_memory();
    int failed = how(f, ids, count, r, &e);
    free(ids);
    return failed == 0 ? EXIT_DONE : complain(&e);
}

static int requeue(lua_State *L, outbox_file *f)
{
    change_result r;
    int code = change(L, f, change_requeue, &r);
    if (code != EXIT_DONE)
        return code;
    return tell(L, "requeue",
                json_pack("{s:I, s:I, s:I, s:I}", "requeued", (json_int_t)r.count, "first_id",
                          (json_int_t)r.first, "last_id", (json_int_t)r.last, "expired",
                          (json_int_t)r.expired));
}

static int delete (lua_State *L, outbox_file *f)
{
    change_result r;
    int code = change(L, f, change_delete, &r);
    if (code != EXIT_DONE)
        return code;
    return tell(L, "delete", json_pack("{s:I}", "deleted", (json_int_t)r.count));
}

/* ---- the command ---- */

static const struct action {
    const char *name;
    outbox_access access;
    int (*run)(lua_State *L, outbox_file *f);
} actions[] = {
    {"summary", OUTBOX_READ, show_summary}, {"list", OUTBOX_READ, list},
    {"count", OUTBOX_READ, show_count},     {"export", OUTBOX_READ, export},
    {"requeue", OUTBOX_CHANGE, requeue},    {"delete", OUTBOX_CHANGE, delete},
};

int outbox_tool(lua_State *L)
{
    error e = {0};
    outbox_file f;
    const char *name = args_string(L, "action", "summary");
    const char *subject = args_string(L, "subject", NULL);
    if (subject != NULL && subject_check(subject, strlen(subject), true, &e) != 0) {
        complain(&e);
        return EXIT_USAGE;
    }
    const struct action *a = actions;
    while (strcmp(a->name, name) != 0)
        a++;
    if (outbox_file_open(&f, args_string(L, "file", ""), a->access, &e) != 0)
        return complain(&e);
    int code = a->run(L, &f);
    outbox_file_close(&f);
    return code;
}
