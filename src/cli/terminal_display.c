/* The prompt and the line on the screen, where libedit has put them: it can draw them, but not tell
 * where it did. Main thread.
 *
 * After a resize, the rows are taken to be wrapped for the new width, as terminals of today do it.
 * Where that is not so, a row of the old prompt may stay: when a row has become exactly full. In a
 * terminal that does not wrap anew (xterm), or with one resize on top of another, a row of the text
 * above may go, too. */
#include <stdio.h>

#include "cli/terminal_private.h"
#include "cli/terminal_text.h"
#include "cli/terminal_tty.h"

/* A line taller than the window: libedit shows the last rows. */
static void clamp(text_place *place, int rows)
{
    if (place->row >= rows)
        place->row = rows - 1;
}

/* Where the prompt and the line up to the `end`th character end, for a window of that width. */
static text_place place_of(const terminal *t, const wchar_t *end, int columns)
{
    const LineInfoW *line = el_wline(t->el);
    text_place place = {0, 0};
    for (const wchar_t *c = t->prompt; *c != L'\0'; c++)
        text_advance_prompt(&place, columns, *c);
    for (const wchar_t *c = line->buffer; c < end; c++)
        text_advance(&place, columns, *c);
    if (end < line->lastchar && place.column > 0 && wcwidth(*end) > columns - place.column)
        place = (text_place){.row = place.row + 1}; /* it is in the next row */
    return place;
}

static text_place cursor_place(const terminal *t)
{
    int columns, rows;
    tty_size(&columns, &rows);
    text_place place = place_of(t, el_wline(t->el)->cursor, columns);
    clamp(&place, rows);
    return place;
}

void display_write(const char *text)
{
    fputs(text, stdout);
    fflush(stdout);
}

/* Goes up so many rows and erases from there on. The first row by itself: what is erased from the
 * first row of the window to its end, tmux keeps as scrolled away. */
static void erase_from(int row)
{
    putchar('\r');
    if (row > 0)
        printf("\033[%dA", row);
    display_write("\033[K\0337\033[B\033[J\0338");
}

void display_draw(terminal *t)
{
    el_wset(t->el, EL_REFRESH);
}

void display_erase(terminal *t)
{
    erase_from(cursor_place(t).row);
}

void display_leave(terminal *t, const char *mark)
{
    int columns, rows;
    tty_size(&columns, &rows);
    text_place cursor = cursor_place(t), end = place_of(t, el_wline(t->el)->lastchar, columns);
    clamp(&end, rows);
    for (int row = cursor.row; row < end.row; row++)
        putchar('\n');
    printf("\033[%dG%s\r\n", end.column + 1, mark);
    fflush(stdout);
}

/* The row of the cursor once the terminal has wrapped the rows anew. Behind a row that has become
 * exactly full, it may be in that row or in the next one: too low leaves a row of the old prompt,
 * too high erases what is not ours. */
static int wrapped_row(const terminal *t)
{
    const LineInfoW *line = el_wline(t->el);
    text_place place = cursor_place(t);
    bool behind_full = line->cursor == line->lastchar && place.column == 0 && place.row > 0;
    return behind_full ? place.row - 1 : place.row;
}

void display_resize(terminal *t)
{
    if (t->editing)
        erase_from(wrapped_row(t));
    el_resize(t->el);
    if (t->editing)
        display_draw(t);
}
