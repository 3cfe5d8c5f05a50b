/* Bytes to characters. See terminal_input.h. */
#include "cli/terminal_input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/terminal_text.h"

#define MARK_LENGTH 6
#define TYPED_AT_ONCE 256 /* bytes; more are a paste */
static const char begin_mark[] = "\033[200~", end_mark[] = "\033[201~";

void input_fill(terminal_input *in, int fd, bool empty_is_end)
{
    memmove(in->bytes, in->bytes + in->from, in->to - in->from);
    in->to -= in->from;
    in->from = 0;
    if (in->to == sizeof in->bytes)
        return;
    ssize_t count = read(fd, in->bytes + in->to, sizeof in->bytes - in->to);
    in->last_read = count > 0 ? (size_t)count : 0;
    if (count > 0)
        in->to += (size_t)count;
    else if (count == 0)
        in->over = empty_is_end;
    else if (errno != EINTR && errno != EAGAIN)
        in->over = true;
}

static bool starts_with(const terminal_input *in, const char *mark)
{
    return in->to - in->from >= MARK_LENGTH && memcmp(in->bytes + in->from, mark, MARK_LENGTH) == 0;
}

/* The rest of the mark may still be on its way. */
static bool may_become(const terminal_input *in, const char *mark)
{
    size_t length = in->to - in->from;
    return !in->over && length < MARK_LENGTH && memcmp(in->bytes + in->from, mark, length) == 0;
}

/* ---- keys that are sequences ---- */

/* Those that libedit knows here. */
static const char *const known_keys[] = {"A",  "B",  "C",  "D",    "F",    "H",    "1~",   "3~",
                                         "4~", "7~", "8~", "1;5C", "1;5D", "1;3C", "1;3D", "200~"};

/* Bytes of a whole sequence ESC [ ... that the bytes begin with; 0: there is none. */
static size_t sequence_length(const unsigned char *bytes, size_t length)
{
    if (length < 3 || bytes[0] != '\033' || bytes[1] != '[')
        return 0;
    size_t at = 2;
    while (at < length && bytes[at] >= 0x20 && bytes[at] < 0x40)
        at++;
    return at < length && bytes[at] >= 0x40 && bytes[at] < 0x7f ? at + 1 : 0;
}

static bool is_known_key(const unsigned char *bytes, size_t length)
{
    for (size_t i = 0; i < sizeof known_keys / sizeof known_keys[0]; i++)
        if (strlen(known_keys[i]) == length - 2 &&
            memcmp(known_keys[i], bytes + 2, length - 2) == 0)
            return true;
    return false;
}

/* libedit takes a key that it does not know up to where it stops to know it: the rest, such as the
 * "~" of Page Up, would be text. */
static void skip_unknown_keys(terminal_input *in)
{
    size_t length;
    while ((length = sequence_length(in->bytes + in->from, in->to - in->from)) > 0 &&
           !is_known_key(in->bytes + in->from, length))
        in->from += length;
}

/* A begin mark that arrives in parts is found by libedit, as a key: waiting here for more would
 * hold up the escape key. */
static void skip_marks(terminal_input *in)
{
    while (starts_with(in, end_mark) || (!in->pasting && starts_with(in, begin_mark))) {
        in->pasting = in->bytes[in->from + 4] == '0';
        in->from += MARK_LENGTH;
    }
}

bool input_take(terminal_input *in, wchar_t *c)
{
    size_t used = 0;
    skip_marks(in);
    if (!in->pasting)
        skip_unknown_keys(in);
    if (!in->pasting || !may_become(in, end_mark))
        used = text_character(in->bytes + in->from, in->to - in->from, in->over, c);
    in->from += used;
    if (used > 0 && in->pasting)
        *c = *c == '\r' ? L'\n' : *c == '\n' ? *c : text_escape_control(*c);
    return used > 0;
}

bool input_take_line(terminal_input *in, char **line, size_t *length)
{
    size_t waiting = in->to - in->from;
    const unsigned char *start = in->bytes + in->from;
    const unsigned char *newline = memchr(start, '\n', waiting);
    size_t count = newline != NULL ? (size_t)(newline - start) : waiting;
    in->from += count + (newline != NULL);
    char *grown = realloc(*line, *length + count + 1);
    if (grown == NULL) {
        free(*line);
        *line = NULL;
        *length = 0;
        return newline != NULL;
    }
    memcpy(grown + *length, start, count);
    *length += count;
    grown[*length] = '\0';
    *line = grown;
    return newline != NULL;
}

bool input_is_empty(const terminal_input *in)
{
    return in->from == in->to;
}

bool input_is_text(const terminal_input *in)
{
    if (in->from == in->to)
        return in->pasting || in->last_read > TYPED_AT_ONCE;
    return in->pasting || (in->bytes[in->from] >= ' ' && in->bytes[in->from] != 0x7f);
}

void input_repeat_escape(terminal_input *in)
{
    if (in->from > 0 && in->from < in->to && in->bytes[in->from - 1] == '\033')
        in->from--;
}

void input_discard(terminal_input *in)
{
    in->from = in->to = 0;
    in->pasting = false;
}
