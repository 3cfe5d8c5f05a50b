/* The commands that ask a running process. See ask.h. */
#include "cli/ask.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/client.h"
#include "cli/log_view.h"
#include "cli/render.h"
#include "control/path.h"

#define ASK_MS 10000
#define ASK_RELOAD_MS 120000 /* one that is under way comes first */

/* Whoever reads has left, as head(1) does: that is no news. */
static int complain(const error *e)
{
    fflush(stdout);
    if (strcmp(e->code, "output") != 0)
        fprintf(stderr, "moondog: %s\n", e->message);
    return EXIT_FAILED;
}

static int print_refusal(const json_t *e)
{
    const char *traceback = json_string_value(json_object_get(e, "traceback"));
    fflush(stdout);
    fprintf(stderr, "moondog: %s\n", json_string_value(json_object_get(e, "message")));
    if (traceback != NULL)
        fprintf(stderr, "%s\n", traceback);
    return EXIT_FAILED;
}

static int print_json(const json_t *value)
{
    char *json = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(15));
    if (json == NULL)
        return EXIT_FAILED;
    printf("%s\n", json);
    free(json);
    return EXIT_DONE;
}

/* As text for people: lua/moondog/cli_answers.lua. */
static int print_answer(lua_State *L, const char *verb, const json_t *result)
{
    if (args_flag(L, "json"))
        return print_json(result);
    char *json = json_dumps(result, JSON_COMPACT);
    if (json == NULL)
        return EXIT_FAILED;
    int code = render_print(L, "moondog.cli_answers", verb, json);
    free(json);
    return code;
}

/* ---- one question, one answer ---- */

static int ask_once(lua_State *L, const char *path, const char *verb)
{
    error e = {0};
    int timeout = strcmp(verb, "reload") == 0 ? ASK_RELOAD_MS : ASK_MS;
    json_t *args = json_pack("{s:b}", "previous", args_flag(L, "previous"));
    if (strcmp(verb, "level") == 0)
        json_object_set_new(args, "level", json_string(args_string(L, "set_level", NULL)));
    json_t *answer = client_ask(path, verb, args, timeout, &e);
    if (answer == NULL)
        return complain(&e);
    int code = json_is_true(json_object_get(answer, "ok"))
                   ? print_answer(L, verb, json_object_get(answer, "result"))
                   : print_refusal(json_object_get(answer, "error"));
    json_decref(answer);
    return code;
}

/* ---- questions with events ---- */

/* What an event is printed with; false: no more is wanted. */
typedef bool (*on_event)(lua_State *L, const char *event, const json_t *data, void *closure);

/* Prints what comes until the answer: the caller's. NULL and *e. */
static json_t *wait_for_answer(lua_State *L, client *c, int timeout_ms, on_event told,
                               void *closure, error *e)
{
    for (;;) {
        json_t *message = client_receive(c, timeout_ms, e);
        const char *event = json_string_value(json_object_get(message, "event"));
        if (message == NULL || event == NULL)
            return message;
        bool more = told(L, event, json_object_get(message, "data"), closure);
        json_decref(message);
        if (more)
            continue;
        error_set(e, "output", ERROR_CLASS_NONE, "cannot write to standard output");
        return NULL;
    }
}

/* ---- eval ---- */

static char *read_standard_input(size_t *length)
{
    char *text = NULL, bytes[4096];
    FILE *out = open_memstream(&text, length);
    for (size_t n; out != NULL && (n = fread(bytes, 1, sizeof bytes, stdin)) > 0;)
        fwrite(bytes, 1, n, out);
    if (out != NULL)
        fclose(out);
    return text;
}

static bool on_print(lua_State *L, const char *event, const json_t *data, void *closure)
{
    json_t *printed = closure;
    json_t *text = json_object_get(data, "text");
    if (strcmp(event, "print") != 0)
        return true;
    if (args_flag(L, "json")) {
        json_array_append(printed, text);
        return true;
    }
    fwrite(json_string_value(text), 1, json_string_length(text), stdout);
    return putchar('\n') != EOF && fflush(stdout) == 0;
}

static int eval(lua_State *L, client *c)
{
    error e = {0};
    size_t length = 0;
    const char *code = args_string(L, "code", "");
    char *input = strcmp(code, "-") == 0 ? read_standard_input(&length) : NULL;
    json_t *text = input != NULL ? json_stringn(input, length) : json_string(code);
    free(input);
    if (text == NULL) {
        fprintf(stderr, "moondog: the code is not UTF-8\n");
        return EXIT_FAILED;
    }
    if (client_send(c, "eval", json_pack("{s:o, s:s}", "code", text, "name", "eval"), &e) < 0)
        return complain(&e);
    json_t *printed = json_array();
    double seconds = args_number(L, "timeout", ASK_MS / 1000.0);
    int timeout_ms = (int)(seconds * 1000); /* a day at most */
    json_t *answer = wait_for_answer(L, c, timeout_ms, on_print, printed, &e);
    json_t *value = json_object_get(answer, "result");
    if (strcmp(e.code, "timeout") == 0)
        error_set(&e, "timeout", ERROR_CLASS_TIMEOUT,
                  "not done after %g s: cancelled; see --timeout", seconds);
    int result = answer == NULL ? complain(&e) : EXIT_FAILED;
    if (value != NULL) {
        json_object_set(value, "printed", printed);
        result = print_answer(L, "eval", value);
    } else if (answer != NULL) {
        result = print_refusal(json_object_get(answer, "error"));
    }
    json_decref(answer);
    json_decref(printed);
    return result;
}

/* ---- log ---- */

static bool on_record(lua_State *L, const char *event, const json_t *data, void *closure)
{
    const log_format *format = closure;
    (void)L;
    char line[LOG_LINE_MAX];
    if (strcmp(event, "dropped") == 0)
        fprintf(stderr, "moondog: %d records were dropped: this reads too slowly\n",
                (int)json_integer_value(json_object_get(data, "count")));
    if (strcmp(event, "log") != 0)
        return true;
    size_t length = log_view(data, *format, log_wants_colour(STDOUT_FILENO), line);
    return printf("%.*s\n", (int)length, line) >= 0 && fflush(stdout) == 0;
}

static int show_log(lua_State *L, client *c)
{
    error e = {0};
    bool follow = args_flag(L, "follow");
    int code = EXIT_DONE;
    log_format format = args_flag(L, "json") ? LOG_FORMAT_JSON : LOG_FORMAT_SHORT;
    json_t *args = json_pack("{s:b, s:I, s:s}", "follow", (int)follow, "recent",
                             (json_int_t)args_number(L, "lines", 50), "level",
                             args_string(L, "level", "debug"));
    if (client_send(c, "log", args, &e) < 0)
        return complain(&e);
    json_t *answer = wait_for_answer(L, c, follow ? -1 : ASK_MS, on_record, &format, &e);
    if (answer == NULL && follow && strcmp(e.code, "closed") == 0)
        fprintf(stderr, "moondog: the process has ended\n");
    else if (answer == NULL)
        code = complain(&e);
    if (json_is_false(json_object_get(answer, "ok")))
        code = print_refusal(json_object_get(answer, "error"));
    json_decref(answer);
    return code;
}

/* ---- all of them ---- */

/* For completions. */
static int print_names(void)
{
    char *names = client_names();
    printf("%s", names != NULL ? names : "");
    free(names);
    return EXIT_DONE;
}

int ask(lua_State *L, const char *command)
{
    if (args_flag(L, "names"))
        return print_names();
    char path[CONTROL_PATH_SIZE];
    error e = {0};
    client c;
    if (client_find(args_string(L, "control", NULL), args_string(L, "process", NULL), path,
                    sizeof path, &e) != 0)
        return complain(&e);
    bool is_eval = strcmp(command, "eval") == 0;
    if (strcmp(command, "log") == 0 && args_string(L, "set_level", NULL) != NULL)
        return ask_once(L, path, "level");
    if (!is_eval && strcmp(command, "log") != 0)
        return ask_once(L, path, command);
    if (client_open(&c, path, &e) != 0)
        return complain(&e);
    int code = is_eval ? eval(L, &c) : show_log(L, &c);
    client_close(&c);
    return code;
}
