/* `moondog top`: asks a process for its status, and shows what lua/moondog/cli_top.lua makes of the
 * answers: on a terminal with ncurses, otherwise as text or JSON. See top.h. Main thread. */
#include "cli/top.h"

#include <curses.h>
#include <errno.h>
#include <lauxlib.h>
#include <locale.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/args.h"
#include "cli/client.h"
#include "control/path.h"

#define ASK_MS 2000
#define PLAIN_COLUMNS 132
#define INTERVAL_MIN_MS 50u
#define CTRL_C 3

struct view {
    lua_State *L;
    int object; /* at this index of L */
    const char *control, *name;
    char path[CONTROL_PATH_SIZE];
    bool found; /* `path` is good */
    uint64_t interval_ms;
};

/* ---- asking ---- */

/* [-n, +0] A method of the view with what is on top; false: it failed, and that was said. */
static bool call(struct view *v, const char *method, int count, int results)
{
    lua_State *L = v->L;
    lua_getfield(L, v->object, method);
    lua_insert(L, -count - 1);
    lua_pushvalue(L, v->object);
    lua_insert(L, -count - 1);
    if (lua_pcall(L, count + 1, results, 0) == 0)
        return true;
    fprintf(stderr, "moondog: %s\n", lua_tostring(L, -1));
    lua_pop(L, 1);
    return false;
}

static bool fail(struct view *v, const char *message)
{
    lua_pushstring(v->L, message);
    return call(v, "fail", 1, 0) && false;
}

/* Whether there was an answer. A process that ended may come back under its name. */
static bool ask(struct view *v, error *e)
{
    if (!v->found && client_find(v->control, v->name, v->path, sizeof v->path, e) != 0)
        return fail(v, e->message);
    v->found = true;
    json_t *answer = client_ask(v->path, "status", NULL, ASK_MS, e);
    json_t *result = json_object_get(answer, "result");
    char *json = result != NULL ? json_dumps(result, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(answer);
    if (json == NULL) {
        if (answer != NULL)
            error_set(e, "refused", ERROR_CLASS_NONE, "%s does not tell its status", v->path);
        return fail(v, e->message);
    }
    lua_pushstring(v->L, json);
    lua_pushnumber(v->L, (double)uv_hrtime() / 1e9);
    free(json);
    return call(v, "update", 2, 0);
}

/* ---- the screen ---- */

static const struct {
    const char *name;
    attr_t attributes;
    short pair, colour;
} styles[] = {
    {"title", A_BOLD, 0, 0},      {"head", A_REVERSE, 0, 0},     {"good", 0, 1, COLOR_GREEN},
    {"warn", 0, 2, COLOR_YELLOW}, {"bad", A_BOLD, 3, COLOR_RED},
};

#define STYLES (sizeof styles / sizeof styles[0])

static attr_t attributes_of(const char *name, bool coloured)
{
    for (size_t i = 0; name != NULL && i < STYLES; i++)
        if (strcmp(styles[i].name, name) == 0)
            return styles[i].attributes |
                   (coloured && styles[i].pair > 0 ? (attr_t)COLOR_PAIR(styles[i].pair) : 0);
    return 0;
}

static bool start_screen(void)
{
    setlocale(LC_ALL, "");
    if (initscr() == NULL)
        return false;
    raw(); /* Ctrl-C is a key: the screen is put back before the end */
    noecho();
    keypad(stdscr, TRUE);
    curs_set(0);
    bool coloured = log_wants_colour(STDOUT_FILENO) && has_colors();
    if (coloured) {
        start_color();
        use_default_colors();
        for (size_t i = 0; i < STYLES; i++)
            if (styles[i].pair > 0)
                init_pair(styles[i].pair, styles[i].colour, -1);
    }
    return coloured;
}

static void draw(struct view *v, bool coloured)
{
    lua_State *L = v->L;
    lua_pushinteger(L, COLS);
    lua_pushinteger(L, LINES);
    if (!call(v, "lines", 2, 1))
        return;
    erase();
    for (int row = 0; row < LINES; row++) {
        lua_rawgeti(L, -1, row + 1);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            break;
        }
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        attr_t attributes = attributes_of(lua_tostring(L, -1), coloured);
        attrset((int)attributes);
        mvaddstr(row, 0, lua_tostring(L, -2));
        lua_pop(L, 3);
    }
    lua_pop(L, 1);
    attrset(0);
    refresh();
}

static void scroll_by(struct view *v, int rows)
{
    lua_pushinteger(v->L, rows);
    call(v, "scroll", 1, 0);
}

/* False: it is to end. */
static bool take_key(struct view *v, int key)
{
    switch (key) {
    case 'q':
    case CTRL_C:
        return false;
    case 's':
        call(v, "next_sort", 0, 0);
        break;
    case KEY_UP:
        scroll_by(v, -1);
        break;
    case KEY_DOWN:
        scroll_by(v, 1);
        break;
    case KEY_PPAGE:
        scroll_by(v, -LINES / 2);
        break;
    case KEY_NPAGE:
        scroll_by(v, LINES / 2);
        break;
    case KEY_HOME:
        scroll_by(v, -1000000);
        break;
    default: /* KEY_RESIZE: it is drawn anew in any case */
        break;
    }
    return true;
}

/* Reads keys until it is time for the next answer. False: it is to end. */
static bool wait_on_screen(struct view *v, bool coloured)
{
    uint64_t until = clock_ms() + v->interval_ms;
    for (;;) {
        uint64_t now = clock_ms();
        if (now >= until)
            return true;
        timeout((int)(until - now));
        int key = getch();
        if (key == ERR) {
            /* The time is over, or the terminal is gone. */
            if (clock_ms() + 5 < until && errno != EINTR)
                return false;
            continue;
        }
        if (!take_key(v, key))
            return false;
        draw(v, coloured);
    }
}

static int run_on_screen(struct view *v, unsigned long count)
{
    bool coloured = start_screen();
    for (unsigned long i = 0;; i++) {
        error e = {0};
        ask(v, &e);
        draw(v, coloured);
        if ((count > 0 && i + 1 == count) || !wait_on_screen(v, coloured))
            break;
    }
    endwin();
    return EXIT_DONE;
}

/* ---- as text ---- */

static bool print_view(struct view *v, bool json)
{
    lua_State *L = v->L;
    if (json) {
        if (!call(v, "json", 0, 1))
            return false;
        printf("%s\n", lua_tostring(L, -1));
        lua_pop(L, 1);
        return fflush(stdout) == 0;
    }
    lua_pushinteger(L, PLAIN_COLUMNS);
    if (!call(v, "lines", 1, 1))
        return false;
    for (int i = 1;; i++) {
        lua_rawgeti(L, -1, i);
        if (lua_isnil(L, -1))
            break;
        lua_rawgeti(L, -1, 1);
        printf("%s\n", lua_tostring(L, -1));
        lua_pop(L, 2);
    }
    lua_pop(L, 2);
    return fflush(stdout) == 0;
}

/* Rates need two answers. */
static int run_as_text(struct view *v, unsigned long count, bool json)
{
    error e = {0};
    bool good = ask(v, &e);
    for (unsigned long i = 0; good && i < count; i++) {
        poll(NULL, 0, (int)v->interval_ms);
        good = ask(v, &e) && print_view(v, json);
    }
    if (e.code[0] != '\0')
        fprintf(stderr, "moondog: %s\n", e.message);
    return good ? EXIT_DONE : EXIT_FAILED;
}

int top(lua_State *L)
{
    struct view v = {.L = L,
                     .control = args_string(L, "control", NULL),
                     .name = args_string(L, "process", NULL),
                     .interval_ms = (uint64_t)(args_number(L, "interval", 1) * 1000)};
    const char *terminal = getenv("TERM");
    bool dumb = terminal == NULL || strcmp(terminal, "dumb") == 0;
    if (v.interval_ms < INTERVAL_MIN_MS)
        v.interval_ms = INTERVAL_MIN_MS;
    unsigned long count = (unsigned long)args_number(L, "count", 0);
    bool json = args_flag(L, "json");
    error e = {0};
    if (client_find(v.control, v.name, v.path, sizeof v.path, &e) != 0) {
        fprintf(stderr, "moondog: %s\n", e.message);
        return EXIT_FAILED;
    }
    v.found = true;
    if (luaL_dostring(L, "return require('moondog.cli_top').new()") != 0) {
        fprintf(stderr, "moondog: %s\n", lua_tostring(L, -1));
        return EXIT_FAILED;
    }
    v.object = lua_gettop(L);
    if (json || dumb || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
        return run_as_text(&v, count > 0 ? count : 1, json);
    return run_on_screen(&v, count);
}
