/* What was typed: bytes from standard input made into characters, with pastes told apart from keys.
 * Knows of no screen. */
#ifndef MD_CLI_TERMINAL_INPUT_H
#define MD_CLI_TERMINAL_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <wchar.h>

#define INPUT_SIZE 4096

typedef struct {
    unsigned char bytes[INPUT_SIZE];
    size_t from, to;
    size_t last_read; /* bytes that came at once */
    bool pasting;     /* between the marks of a bracketed paste */
    bool over;        /* nothing comes any more */
} terminal_input;

/* Reads what there is, from a descriptor that poll() called readable. `empty_is_end`: nothing means
 * the end; false for an edited terminal, whose queue Ctrl-C may have emptied in between. */
void input_fill(terminal_input *in, int fd, bool empty_is_end);
/* The next character: a key, or text of a paste with its control bytes escaped as in
 * terminal_text.h. false: there is no whole one. */
bool input_take(terminal_input *in, wchar_t *c);
/* Bytes up to a newline, which is left out, appended to *line (NUL-terminated, to be freed).
 * true: the newline was there. When there is no memory, the bytes are lost and *line is freed and
 * NULL. */
bool input_take_line(terminal_input *in, char **line, size_t *length);
/* When the escape that was taken last begins a key, it will be taken once more. */
void input_repeat_escape(terminal_input *in);
bool input_is_empty(const terminal_input *in);
/* Whether what was taken last is in the middle of a text: in a paste, or, from a terminal that does
 * not mark pastes, with more text and not another key behind it, or at the end of more than fingers
 * type at once. */
bool input_is_text(const terminal_input *in);
/* Forgets what was read and not taken. */
void input_discard(terminal_input *in);

#endif
