/* Formats log lines. No locks, no allocation; runs in the thread that logs.
 *
 * Everything that is not text for people is escaped: control bytes (C1 as well: a terminal obeys
 * U+009B), line separators, the marks that turn the direction of text around, and bytes that are
 * not UTF-8. JSON has no way to write such a byte, so there it becomes U+FFFD. */
#include "base/log_line.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* Kept free for what ends a line that is cut: the longest is `,"cut":"..."}`. */
#define TAIL_ROOM 16
#define NUMBER_SIZE 40

typedef enum { OPEN_NONE, OPEN_BARE, OPEN_QUOTED } open_value;

typedef struct {
    char *data;
    size_t length;
    bool cut;        /* something did not fit: nothing is added any more */
    open_value open; /* where the cut fell, decides how the line ends */
    bool json;
    bool coloured;
} line;

/* All or nothing, so that a cut never splits a character or an escape. */
static void put(line *l, const char *text, size_t length)
{
    if (l->cut)
        return;
    if (length > LOG_LINE_MAX - TAIL_ROOM - l->length) {
        l->cut = true;
        return;
    }
    memcpy(l->data + l->length, text, length);
    l->length += length;
}

static void put_text(line *l, const char *text)
{
    put(l, text, strlen(text));
}

/* ---- characters ---- */

/* Would this character end the line, move the cursor, or hide or reorder what is around it? */
static bool is_unprintable(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x061c || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

static void put_escape(line *l, uint32_t c)
{
    char text[8];
    switch (c) {
    case '\n':
        put(l, "\\n", 2);
        return;
    case '\r':
        put(l, "\\r", 2);
        return;
    case '\t':
        put(l, "\\t", 2);
        return;
    default:
        (void)snprintf(text, sizeof text, "\\u%04x", (unsigned)(c & 0xffffu));
        put(l, text, 6);
    }
}

/* quoted: inside "", so that quotes and backslashes are escaped too. */
static void put_escaped(line *l, const char *text, size_t length, bool quoted)
{
    const unsigned char *s = (const unsigned char *)text;
    char byte[8];
    while (length > 0 && !l->cut) {
        uint32_t c = 0;
        size_t n = utf8_decode(s, length, &c);
        if (n == 0) {
            n = 1;
            (void)snprintf(byte, sizeof byte, "\\x%02x", (unsigned)*s);
            put_text(l, l->json ? "\\ufffd" : byte);
        } else if (is_unprintable(c)) {
            put_escape(l, c);
        } else if (quoted && (c == '"' || c == '\\')) {
            byte[0] = '\\';
            byte[1] = (char)c;
            put(l, byte, 2);
        } else {
            put(l, (const char *)s, n);
        }
        s += n;
        length -= n;
    }
}

static void put_quoted(line *l, const char *text, size_t length)
{
    put(l, "\"", 1);
    if (l->cut)
        return;
    l->open = OPEN_QUOTED;
    put_escaped(l, text, length, true);
    put(l, "\"", 1);
    if (!l->cut)
        l->open = OPEN_NONE;
}

/* ---- keys and values ---- */

/* A script chooses its keys, and must not be able to replace the line's own. */
static bool is_reserved(const char *key)
{
    return strcmp(key, "time") == 0 || strcmp(key, "level") == 0 || strcmp(key, "msg") == 0;
}

/* logfmt cannot quote a key: what would end it becomes an underscore. */
static void put_bare_key(line *l, const char *key)
{
    const unsigned char *s = (const unsigned char *)key;
    size_t length = strlen(key);
    if (length == 0)
        put(l, "_", 1);
    while (length > 0) {
        uint32_t c = 0;
        size_t n = utf8_decode(s, length, &c);
        if (n == 0 || is_unprintable(c) || c == ' ' || c == '=' || c == '"')
            put(l, "_", 1);
        else
            put(l, (const char *)s, n);
        n = n == 0 ? 1 : n;
        s += n;
        length -= n;
    }
    if (is_reserved(key))
        put(l, "_", 1);
}

static bool is_bare(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return false;
    }
    return length > 0;
}

/* The shortest of two forms that reads back as the same number. The program's locale may write
 * something else for the point: whatever it is, it is not in the alphabet below. */
static void format_number(char *out, double value)
{
    char text[NUMBER_SIZE];
    (void)snprintf(text, sizeof text, "%.15g", value);
    if (strtod(text, NULL) != value)
        (void)snprintf(text, sizeof text, "%.17g", value);
    bool in_point = false;
    for (const char *s = text; *s != '\0'; s++) {
        bool point = strchr("0123456789+-einfa", *s) == NULL;
        if (!point)
            *out++ = *s;
        else if (!in_point)
            *out++ = '.';
        in_point = point;
    }
    *out = '\0';
}

static void put_number(line *l, double value)
{
    char text[NUMBER_SIZE];
    if (!__builtin_isfinite(value)) {
        const char *name = __builtin_isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
        put_text(l, l->json ? "null" : name);
        return;
    }
    format_number(text, value);
    put_text(l, text);
}

static void put_value(line *l, const log_field *field)
{
    char text[NUMBER_SIZE];
    switch (field->type) {
    case LOG_FIELD_INTEGER:
        (void)snprintf(text, sizeof text, "%" PRId64, field->integer);
        put_text(l, text);
        return;
    case LOG_FIELD_NUMBER:
        put_number(l, field->number);
        return;
    case LOG_FIELD_BOOLEAN:
        put_text(l, field->integer != 0 ? "true" : "false");
        return;
    case LOG_FIELD_STRING:
        break;
    }
    const char *string = field->string == NULL ? "" : field->string;
    size_t length = field->string == NULL ? 0 : field->length;
    if (l->json || !is_bare(string, length)) {
        put_quoted(l, string, length);
        return;
    }
    l->open = OPEN_BARE;
    put_escaped(l, string, length, false);
    if (!l->cut)
        l->open = OPEN_NONE;
}

static void put_field(line *l, const log_field *field)
{
    const char *key = field->key == NULL ? "" : field->key;
    size_t start = l->length;
    if (l->json) {
        put(l, ",\"", 2);
        put_escaped(l, key, strlen(key), true);
        put_text(l, is_reserved(key) ? "_\":" : "\":");
    } else {
        put_text(l, l->coloured ? " \x1b[2m" : " ");
        put_bare_key(l, key);
        put_text(l, l->coloured ? "=\x1b[0m" : "=");
    }
    if (!l->cut)
        put_value(l, field);
    if (l->cut && l->open == OPEN_NONE) /* half a key or number says nothing */
        l->length = start;
}

/* ---- the start and the end of a line ---- */

/* UTC for machines, the terminal's own time for people. */
static void put_time(line *l, const struct timespec *time, bool for_people)
{
    char text[48];
    struct tm tm = {0};
    if (for_people)
        (void)localtime_r(&time->tv_sec, &tm);
    else
        (void)gmtime_r(&time->tv_sec, &tm);
    size_t n = strftime(text, sizeof text - 8, for_people ? "%H:%M:%S" : "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(text + n, sizeof text - n, ".%03u%s", (unsigned)(time->tv_nsec / 1000000) % 1000,
                   for_people ? "" : "Z");
    put_text(l, text);
}

static void put_short_start(line *l, const log_event *event)
{
    static const char *const names[] = {"DEBUG", "INFO ", "WARN ", "ERROR", "OFF  "};
    static const char *const colours[] = {"\x1b[36m", "\x1b[32m", "\x1b[33m", "\x1b[1;31m", ""};
    put_text(l, l->coloured ? "\x1b[2m" : "");
    put_time(l, &event->time, true);
    put_text(l, l->coloured ? "\x1b[0m " : " ");
    put_text(l, l->coloured ? colours[event->level] : "");
    put_text(l, names[event->level]);
    put_text(l, l->coloured ? "\x1b[0m " : " ");
    l->open = OPEN_BARE;
    put_escaped(l, event->message, strlen(event->message), false);
    if (l->cut)
        return;
    l->open = OPEN_NONE;
    if (event->count > 0)
        put(l, " ", 1); /* two spaces tell the text from the fields */
}

static void put_start(line *l, const log_event *event)
{
    put_text(l, l->json ? "{\"time\":\"" : "time=");
    put_time(l, &event->time, false);
    put_text(l, l->json ? "\",\"level\":\"" : " level=");
    put_text(l, log_level_name(event->level));
    put_text(l, l->json ? "\",\"msg\":" : " msg=");
    put_quoted(l, event->message, strlen(event->message));
}

static size_t finish(line *l)
{
    const char *tail = "";
    if (l->cut && l->open == OPEN_QUOTED)
        tail = l->json ? "...\"}" : "...\"";
    else if (l->cut && l->json)
        tail = ",\"cut\":\"...\"}";
    else if (l->cut)
        tail = l->open == OPEN_BARE ? "..." : " ...";
    else if (l->json)
        tail = "}";
    size_t length = strlen(tail); /* less than TAIL_ROOM */
    memcpy(l->data + l->length, tail, length);
    return l->length + length;
}

size_t log_line(char *out, log_format format, bool coloured, const log_event *event)
{
    log_event e = *event;
    if (e.message == NULL)
        e.message = "";
    if (e.fields == NULL || e.count < 0)
        e.count = 0;
    line l = {.data = out,
              .json = format == LOG_FORMAT_JSON,
              .coloured = coloured && format == LOG_FORMAT_SHORT};
    if (format == LOG_FORMAT_SHORT)
        put_short_start(&l, &e);
    else
        put_start(&l, &e);
    for (int i = 0; i < e.count && !l.cut; i++)
        put_field(&l, &e.fields[i]);
    return finish(&l);
}
