/* What the files of the terminal share. Main thread. */
#ifndef MD_CLI_TERMINAL_PRIVATE_H
#define MD_CLI_TERMINAL_PRIVATE_H

#include <histedit.h>

#include "cli/terminal.h"
#include "cli/terminal_input.h"

struct terminal {
    EditLine *el; /* NULL: nothing is edited */
    HistoryW *history;
    char *history_path; /* NULL: it is not kept */
    int history_at;     /* which entry the line was taken from, from the newest; 0: from none */
    wchar_t *draft;     /* the line that was left for the first of them; NULL: none */
    int fd;
    terminal_callbacks callbacks;
    void *closure;
    wchar_t *prompt;
    terminal_input input;
    bool colours;         /* standard output is a terminal */
    bool searching;       /* after Ctrl-R */
    bool editing;         /* inside el_wgets(): prompt and line are on the screen */
    bool stopped;         /* the line ends without being one: */
    terminal_event event; /* for this reason */
};

struct terminal_completions {
    size_t from;
    char **items;
    size_t count, capacity;
    bool more;
};

/* ---- terminal_display.c: the prompt and the line on the screen ---- */

/* Erases them and moves to where they began, so that something else can be written there. */
void display_erase(terminal *t);
/* Draws them where the cursor is: at the beginning of an empty row. */
void display_draw(terminal *t);
/* Moves to the end of the line, writes `mark` there, and goes to a fresh row. */
void display_leave(terminal *t, const char *mark);
/* The window has another size: draws them for that. */
void display_resize(terminal *t);
/* Escape sequences of our own, or a beep, right now. */
void display_write(const char *text);

/* ---- terminal_complete.c ---- */

/* The command that TAB is bound to. */
unsigned char complete_on_tab(EditLine *el, wint_t c);

/* ---- terminal_history.c ---- */

int history_start(terminal *t);
void history_stop(terminal *t);
/* A new line begins. */
void history_rewind(terminal *t);
/* The commands of the arrows up and down. libedit's own keep no more than 1024 characters of the
 * line that they leave. */
unsigned char history_on_older(EditLine *el, wint_t c);
unsigned char history_on_newer(EditLine *el, wint_t c);

#endif
