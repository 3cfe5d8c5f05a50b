/* A terminal on which a line is edited while other things happen: what arrives at a descriptor is
 * shown above the line, which stays as it is. Emacs keys and history by libedit. Main thread only,
 * one in a process, and not together with cli/signals.h: both want the same signals.
 *
 * Text is UTF-8. A byte that is not part of valid UTF-8, a C1 control (U+0080 to U+009F) and, in a
 * bracketed paste, a control byte other than tab and newline are kept: the line shows \U+DC1B for
 * the byte 1B, moves over it and deletes it as one character, and terminal_read() returns the byte
 * as it came. Only the byte 0 cannot be in a line: U+FFFD stands for it. (Typed, control bytes are
 * keys: Ctrl-V takes the next one as text.)
 *
 * When standard input or output is not a terminal, or TERM is "dumb" or not set, nothing is edited:
 * lines are read as they come, there is no prompt, and no escape sequence is written. */
#ifndef MD_CLI_TERMINAL_H
#define MD_CLI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef struct terminal terminal;
typedef struct terminal_completions terminal_completions;

typedef enum {
    TERMINAL_LINE,      /* terminal_read(): there is one */
    TERMINAL_END,       /* terminal_read(): Ctrl-D on an empty line, or input is over */
    TERMINAL_LEFT,      /* terminal_read(): ready() said so */
    TERMINAL_INTERRUPT, /* Ctrl-C (SIGINT); a half-written line and what was pasted are discarded */
    TERMINAL_READY,     /* terminal_wait(): the descriptor is readable, or hung up */
    TERMINAL_TIMEOUT,   /* terminal_wait(): nothing happened */
} terminal_event;

/* Both run inside terminal_read(), with the closure of terminal_new(). They may call
 * terminal_print(), terminal_set_prompt() and terminal_add_history(), and nothing else of this
 * header. Either may be NULL. */
typedef struct {
    /* The descriptor is readable, or hung up. Has to read from it: it is called again as long as
     * that is so. false: terminal_read() returns TERMINAL_LEFT. */
    bool (*ready)(void *closure);
    /* TAB behind something other than white space, and not in a paste. (Where the terminal does not
     * mark pastes, what comes more than 8 bytes at a time is one.) `text` is the line up to the
     * cursor. Fills `out`; when the candidates have more in common than is typed, that is inserted,
     * otherwise they are listed above the line. false, or no candidate: a beep. */
    bool (*complete)(void *closure, const char *text, terminal_completions *out);
} terminal_callbacks;

/* From the `from`th byte of the text on, a candidate replaces it. 0 when it is not called. */
void terminal_completions_from(terminal_completions *c, size_t from);
/* One candidate, copied. */
void terminal_completions_add(terminal_completions *c, const char *candidate);
/* There are more than were added: what those have in common is not inserted. */
void terminal_completions_more(terminal_completions *c);

/* Takes standard input and output, and SIGINT; when lines are edited, also the modes of the
 * terminal, SIGTSTP, SIGCONT, SIGWINCH, and the signals that end a process, to restore the modes.
 * Sets LC_CTYPE to that of the environment, or C.UTF-8 when that is not UTF-8. `name` is the
 * program's. `fd`: what is to be watched, not closed here; -1 for nothing. NULL and *e: "memory" or
 * "system". */
terminal *terminal_new(const char *name, int fd, const terminal_callbacks *callbacks, void *closure,
                       error *e);
/* Restores the modes of the terminal and the signals. NULL is harmless. When the process ends
 * without it, by exit() or by a signal, the modes are restored all the same. */
void terminal_free(terminal *t);

/* Whether lines are edited here, by somebody who sees prompts and may want colours. */
bool terminal_is_interactive(const terminal *t);

/* Reads a line. *line is set in any case: the line without its newline, for the caller to free, or
 * NULL when there is none. A Ctrl-C that came since the last call counts. The cursor is on a fresh
 * row afterwards. */
terminal_event terminal_read(terminal *t, char **line);

/* For when no line is edited, because a command runs: waits until the descriptor is readable, for
 * Ctrl-C, or `timeout_ms` (-1: for ever). Typed text waits for terminal_read(). */
terminal_event terminal_wait(terminal *t, int timeout_ms);

/* Whether there is input that terminal_read() would not have to wait for, such as the rest of a
 * pasted text; not necessarily a whole line. */
bool terminal_has_more_input(const terminal *t);

/* Copied. Control characters in it are shown as "?". While a line is edited, it is drawn anew. */
void terminal_set_prompt(terminal *t, const char *prompt);

/* Shows text in rows of their own, above the line when one is edited; a missing last newline is
 * added. Whatever is in the text, it cannot do anything to the terminal: SGR sequences (colours)
 * pass when standard output is a terminal, are left out otherwise, and do not outlast the text;
 * other controls but newline and tab, bidirectional overrides, and bytes that are not UTF-8 are
 * shown as \x1b or \u{202e}. */
void terminal_print(terminal *t, const char *text, size_t length);

/* Keeps the lines of this and later sessions in a file, up to 10000 of them, and reads what is
 * there. Folders are made with mode 0700, the file with 0600. Each line is appended as it is
 * added, so consoles may share a file. A file that is not text is read for what it is worth.
 * Returns 0, or -1 with errno: then history works, and ends with the process. */
int terminal_open_history(terminal *t, const char *path);
/* An empty line, or the same as the last one, is not added. */
void terminal_add_history(terminal *t, const char *line);

#endif
