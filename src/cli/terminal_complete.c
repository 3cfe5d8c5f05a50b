/* TAB: completion of what is before the cursor. Main thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wctype.h>

#include "cli/terminal_private.h"
#include "cli/terminal_text.h"
#include "cli/terminal_tty.h"

#define LISTED_MAX 200 /* candidates; who sees more types another letter first */
#define GAP 2          /* columns between them */

void terminal_completions_from(terminal_completions *c, size_t from)
{
    c->from = from;
}

void terminal_completions_more(terminal_completions *c)
{
    c->more = true;
}

void terminal_completions_add(terminal_completions *c, const char *candidate)
{
    if (c->count == c->capacity) {
        size_t capacity = c->capacity > 0 ? c->capacity * 2 : 16;
        char **grown = realloc(c->items, capacity * sizeof *grown);
        if (grown == NULL)
            return terminal_completions_more(c);
        c->items = grown;
        c->capacity = capacity;
    }
    char *copy = strdup(candidate);
    if (copy == NULL)
        return terminal_completions_more(c);
    c->items[c->count++] = copy;
}

static void release(terminal_completions *c)
{
    for (size_t i = 0; i < c->count; i++)
        free(c->items[i]);
    free(c->items);
}

/* ---- inserting ---- */

static bool is_inside_character(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/* How many bytes all candidates begin with, in whole characters. */
static size_t common_length(const terminal_completions *c)
{
    const char *first = c->items[0];
    size_t length = strlen(first);
    for (size_t i = 1; i < c->count; i++) {
        size_t same = 0;
        while (same < length && c->items[i][same] == first[same])
            same++;
        length = same;
    }
    while (length > 0 && is_inside_character(first[length]))
        length--;
    return length;
}

/* Replaces what is typed of the word by what the candidates have in common. false: they have
 * nothing more than is there. */
static bool insert_common(EditLine *el, const terminal_completions *c, const char *typed)
{
    size_t common = common_length(c), typed_length = strlen(typed);
    if (c->more || common < typed_length ||
        (common == typed_length && strncmp(c->items[0], typed, common) == 0))
        return false;
    wchar_t *old = text_decode(typed, typed_length);
    wchar_t *new = text_decode(c->items[0], common);
    bool done = old != NULL && new != NULL;
    if (done) {
        el_deletestr(el, (int)wcslen(old));
        done = el_winsertstr(el, new) == 0;
    }
    free(old);
    free(new);
    return done;
}

/* ---- listing ---- */

static int width_of(const char *text)
{
    wchar_t *wide = text_decode(text, strlen(text));
    text_place place = {0, 0};
    for (const wchar_t *at = wide; at != NULL && *at != L'\0'; at++)
        text_advance(&place, 1 << 20, *at);
    free(wide);
    return place.column;
}

static void write_listed(FILE *out, const terminal_completions *c, size_t count)
{
    int window, rows_of_window, widest = 0;
    tty_size(&window, &rows_of_window);
    for (size_t i = 0; i < count; i++) {
        int width = width_of(c->items[i]);
        widest = width > widest ? width : widest;
    }
    size_t columns = (size_t)(window - 1) / (size_t)(widest + GAP);
    columns = columns == 0 ? 1 : columns;
    size_t rows = (count + columns - 1) / columns;
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = row; i < count; i += rows) {
            int padding = i + rows < count ? widest + GAP - width_of(c->items[i]) : 0;
            fprintf(out, "%s%*s", c->items[i], padding, "");
        }
        fputc('\n', out);
    }
}

static void list(terminal *t, const terminal_completions *c)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return;
    size_t count = c->count < LISTED_MAX ? c->count : LISTED_MAX;
    write_listed(out, c, count);
    if (c->count > count)
        fprintf(out, "and %zu more\n", c->count - count);
    else if (c->more)
        fputs("and more\n", out);
    if (fclose(out) == 0)
        terminal_print(t, text, length);
    free(text);
}

/* ---- the key ---- */

static unsigned char insert_tab(EditLine *el)
{
    el_winsertstr(el, L"\t");
    return CC_REFRESH;
}

static bool is_indentation(const LineInfoW *line)
{
    const wchar_t *c = line->buffer;
    while (c < line->cursor && iswspace((wint_t)*c))
        c++;
    return c == line->cursor;
}

/* What to do once the candidates are there. */
static unsigned char use(terminal *t, const terminal_completions *c, const char *text)
{
    if (c->count == 0 || c->from > strlen(text))
        return CC_ERROR;
    if (insert_common(t->el, c, text + c->from))
        return CC_REFRESH;
    if (c->count == 1 && !c->more)
        return CC_NORM; /* it is there already */
    list(t, c);
    return CC_NORM;
}

unsigned char complete_on_tab(EditLine *el, wint_t key)
{
    (void)key;
    terminal *t = NULL;
    el_wget(el, EL_CLIENTDATA, &t);
    const LineInfoW *line = el_wline(el);
    if (input_is_text(&t->input) || is_indentation(line))
        return insert_tab(el);
    if (t->callbacks.complete == NULL)
        return CC_ERROR;
    terminal_completions c = {0};
    unsigned char result = CC_ERROR;
    char *text = text_encode(line->buffer, (size_t)(line->cursor - line->buffer));
    if (text != NULL && t->callbacks.complete(t->closure, text, &c))
        result = use(t, &c, text);
    free(text);
    release(&c);
    return result;
}
