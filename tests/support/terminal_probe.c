/* A program for the specs of the terminal: reads lines with src/cli/terminal.h and shows what it
 * gets. Options: --fifo PATH (what arrives there is printed above the line), --history PATH, --log
 * PATH (each line, byte by byte).
 *
 * Some lines are commands: "wait" waits for Ctrl-C or the FIFO, "more" tells whether input waits,
 * "quit" ends with code 3. Through the FIFO: "leave", "prompt TEXT"; all else is printed. */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/terminal.h"

#define CHUNK 65536

static struct {
    terminal *terminal;
    int fifo;
    FILE *log;
} the = {.fifo = -1};

static bool starts_with(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool on_ready(void *closure)
{
    static char text[CHUNK + 1];
    (void)closure;
    ssize_t length = read(the.fifo, text, CHUNK);
    if (length <= 0)
        return true;
    text[length] = '\0';
    if (starts_with(text, "leave"))
        return false;
    if (starts_with(text, "prompt ")) {
        text[strcspn(text, "\n")] = '\0';
        terminal_set_prompt(the.terminal, text + strlen("prompt "));
    } else {
        terminal_print(the.terminal, text, (size_t)length);
    }
    return true;
}

static bool on_complete(void *closure, const char *text, terminal_completions *out)
{
    static const char *const words[] = {"alphabet",  "alphanumeric", "beta",   "gamma.one",
                                        "gamma.two", "größe",        "größter"};
    (void)closure;
    const char *space = strrchr(text, ' ');
    const char *word = space != NULL ? space + 1 : text;
    terminal_completions_from(out, (size_t)(word - text));
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (starts_with(words[i], word))
            terminal_completions_add(out, words[i]);
    return true;
}

static void say(const char *text)
{
    terminal_print(the.terminal, text, strlen(text));
}

/* The line in quotes, with bytes that are not ASCII as \xc3. */
static void show(const char *line)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    fputs("line \"", out);
    for (const char *c = line; *c != '\0'; c++)
        if (isprint((unsigned char)*c))
            fputc(*c, out);
        else
            fprintf(out, "\\x%02x", (unsigned char)*c);
    fputs("\"", out);
    fclose(out);
    say(text);
    free(text);
}

static void wait_for_something(void)
{
    say("waiting");
    switch (terminal_wait(the.terminal, -1)) {
    case TERMINAL_READY:
        say("ready");
        on_ready(NULL);
        break;
    case TERMINAL_INTERRUPT:
        say("interrupted");
        break;
    default:
        say("something else");
    }
}

static void take(const char *line)
{
    if (the.log != NULL) {
        fprintf(the.log, "%s\n", line);
        fflush(the.log);
    }
    terminal_add_history(the.terminal, line);
    if (strcmp(line, "wait") == 0)
        wait_for_something();
    else if (strcmp(line, "more") == 0)
        say(terminal_has_more_input(the.terminal) ? "more input" : "no more input");
    else
        show(line);
}

static int run(void)
{
    for (;;) {
        char *line;
        terminal_event event = terminal_read(the.terminal, &line);
        bool quit = line != NULL && strcmp(line, "quit") == 0;
        if (event == TERMINAL_LINE && !quit)
            take(line);
        free(line);
        if (quit)
            return 3;
        if (event == TERMINAL_INTERRUPT)
            say("interrupt");
        if (event == TERMINAL_END || event == TERMINAL_LEFT) {
            say(event == TERMINAL_END ? "end" : "left");
            return 0;
        }
    }
}

static const char *option(char **argv, const char *name)
{
    for (char **arg = argv + 1; *arg != NULL && arg[1] != NULL; arg++)
        if (strcmp(*arg, name) == 0)
            return arg[1];
    return NULL;
}

int main(int argc, char **argv)
{
    static const terminal_callbacks callbacks = {.ready = on_ready, .complete = on_complete};
    (void)argc;
    error e;
    const char *fifo = option(argv, "--fifo"), *history = option(argv, "--history");
    const char *log = option(argv, "--log");
    if (fifo != NULL)
        the.fifo = open(fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (log != NULL)
        the.log = fopen(log, "we");
    the.terminal = terminal_new("terminal_probe", the.fifo, &callbacks, NULL, &e);
    if (the.terminal == NULL) {
        fprintf(stderr, "%s\n", e.message);
        return 1;
    }
    terminal_set_prompt(the.terminal, "probe> ");
    if (history != NULL && terminal_open_history(the.terminal, history) != 0)
        say("no history");
    int code = run();
    terminal_free(the.terminal);
    if (the.log != NULL)
        fclose(the.log);
    if (the.fifo >= 0)
        close(the.fifo);
    return code;
}
