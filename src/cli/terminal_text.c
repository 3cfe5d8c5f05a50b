/* Text of a terminal. See terminal_text.h. */
#include "cli/terminal_text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wctype.h>

#define ESCAPED 0xdc00
#define REPLACEMENT 0xfffd
#define SGR_MAX 32 /* bytes of a colour sequence that is taken for one */

/* ---- UTF-8 ---- */

/* Bytes of the character and its smallest code point, by its first byte. */
static size_t lead(unsigned char byte, uint32_t *code, uint32_t *smallest)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t count = byte < 0x80 ? 1 : byte < 0xc2 ? 0 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    if (byte > 0xf4)
        count = 0;
    *code = count == 1 ? byte : count == 0 ? 0 : byte & (0x7fU >> count);
    *smallest = least[count];
    return count;
}

static bool is_c1(uint32_t code)
{
    return code >= 0x80 && code < 0xa0;
}

size_t text_character(const unsigned char *bytes, size_t length, bool over, wchar_t *c)
{
    uint32_t code, smallest;
    if (length == 0)
        return 0;
    *c = (wchar_t)(ESCAPED + bytes[0]);
    size_t count = lead(bytes[0], &code, &smallest);
    for (size_t i = 1; i < count; i++) {
        if (i == length)
            return over ? 1 : 0;
        if ((bytes[i] & 0xc0) != 0x80)
            return 1;
        code = code << 6 | (bytes[i] & 0x3f);
    }
    if (count == 0 || code < smallest || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ||
        is_c1(code))
        return 1;
    *c = (wchar_t)code;
    return count;
}

wchar_t text_escape_control(wchar_t c)
{
    return (c >= 0 && c < 0x20 && c != '\t') || c == 0x7f ? ESCAPED + c : c;
}

wchar_t *text_decode(const char *bytes, size_t length)
{
    wchar_t *text = calloc(length + 1, sizeof *text);
    if (text == NULL)
        return NULL;
    size_t count = 0;
    for (size_t at = 0; at < length; count++) {
        at += text_character((const unsigned char *)bytes + at, length - at, true, &text[count]);
        text[count] = text_escape_control(text[count]);
    }
    return text;
}

/* At most 4 bytes. */
static size_t encode_one(wchar_t c, char *out)
{
    uint32_t code = (uint32_t)c;
    if (code == ESCAPED || code == 0)
        code = REPLACEMENT;
    if (code > ESCAPED && code <= ESCAPED + 0xff)
        code -= ESCAPED;
    else if (code >= 0x80) {
        size_t count = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        for (size_t i = count - 1; i > 0; i--, code >>= 6)
            out[i] = (char)(0x80 | (code & 0x3f));
        out[0] = (char)((0xf00U >> count & 0xff) | code);
        return count;
    }
    out[0] = (char)code;
    return 1;
}

char *text_encode(const wchar_t *text, size_t length)
{
    char *bytes = malloc(length * 4 + 1);
    size_t count = 0;
    if (bytes == NULL)
        return NULL;
    for (size_t i = 0; i < length; i++)
        count += encode_one(text[i], bytes + count);
    bytes[count] = '\0';
    return bytes;
}

char *text_without_zeros(char *bytes, size_t length)
{
    size_t zeros = 0, count = 0;
    for (size_t i = 0; i < length; i++)
        zeros += bytes[i] == '\0';
    if (zeros == 0)
        return bytes;
    char *text = malloc(length + zeros * 2 + 1);
    for (size_t i = 0; text != NULL && i < length; i++)
        if (bytes[i] == '\0')
            count += encode_one(L'\0', text + count);
        else
            text[count++] = bytes[i];
    if (text != NULL)
        text[count] = '\0';
    free(bytes);
    return text;
}

/* ---- what may be written ---- */

/* Bytes of the SGR sequence at the start of the text, such as ESC [ 1;31 m; 0: it is none. */
static size_t sgr_length(const char *text, size_t length)
{
    if (length < 3 || text[0] != '\033' || text[1] != '[')
        return 0;
    for (size_t i = 2; i < length && i < SGR_MAX; i++) {
        if (text[i] == 'm')
            return i + 1;
        if (strchr("0123456789;:", text[i]) == NULL || text[i] == '\0')
            return 0;
    }
    return 0;
}

/* They change the order in which a terminal shows what is around them. */
static bool is_override(wchar_t c)
{
    return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

static void write_character(FILE *out, const char *bytes, size_t length, wchar_t c)
{
    if (c >= ESCAPED && c <= ESCAPED + 0xff)
        fprintf(out, "\\x%02x", (unsigned)(c - ESCAPED));
    else if (c != '\n' && c != '\t' && iswcntrl((wint_t)c))
        fprintf(out, c < 0x80 ? "\\x%02x" : "\\u{%x}", (unsigned)c);
    else if (is_override(c))
        fprintf(out, "\\u{%x}", (unsigned)c);
    else
        fwrite(bytes, 1, length, out);
}

char *text_harmless(const char *text, size_t length, bool colours)
{
    char *result = NULL;
    size_t size, at = 0;
    bool coloured = false, open = false; /* open: a row has begun */
    FILE *out = open_memstream(&result, &size);
    if (out == NULL)
        return NULL;
    while (at < length) {
        wchar_t c;
        size_t used = sgr_length(text + at, length - at);
        if (used == 0) {
            used = text_character((const unsigned char *)text + at, length - at, true, &c);
            write_character(out, text + at, used, c);
            open = c != '\n';
        } else if (colours) {
            fwrite(text + at, 1, used, out);
            coloured = true;
        }
        at += used;
    }
    if (coloured)
        fputs("\033[m", out);
    if (open)
        fputc('\n', out);
    if (fclose(out) != 0) {
        free(result);
        return NULL;
    }
    return result;
}

/* ---- places: as libedit's refresh.c has them ---- */

static void put(text_place *place, int columns, int width)
{
    if (width < 0)
        width = 0;
    if (place->column + width > columns) { /* a wide one that does not fit goes to the next row */
        place->column = 0;
        place->row++;
    }
    place->column += width;
    if (place->column >= columns) {
        place->column = 0;
        place->row++;
    }
}

void text_advance(text_place *place, int columns, wchar_t c)
{
    if (c == '\n') {
        place->column = 0;
        place->row++;
    } else if (c == '\t') {
        do
            put(place, columns, 1);
        while ((place->column & 7) != 0);
    } else if (c < 0x100 && iswcntrl((wint_t)c)) { /* ^X */
        put(place, columns, 1);
        put(place, columns, 1);
    } else if (iswprint((wint_t)c)) {
        put(place, columns, wcwidth(c));
    } else { /* \U+DC80 */
        for (int i = c > 0xffff ? 8 : 7; i > 0; i--)
            put(place, columns, 1);
    }
}

void text_advance_prompt(text_place *place, int columns, wchar_t c)
{
    put(place, columns, wcwidth(c));
}
