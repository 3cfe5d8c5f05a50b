/* Text of a terminal as pure functions: UTF-8 to wide characters and back without a loss, how much
 * room characters take, and what a remote process may write.
 *
 * A byte that no wide character stands for becomes U+DC00 plus the byte: a lone surrogate, which
 * valid UTF-8 never contains and which libedit shows as \U+DCxx. */
#ifndef MD_CLI_TERMINAL_TEXT_H
#define MD_CLI_TERMINAL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <wchar.h>

/* The character that the bytes begin with, and of how many bytes it is; 0: not all of it is there.
 * `over`: no more bytes will come. */
size_t text_character(const unsigned char *bytes, size_t length, bool over, wchar_t *c);
/* A control character but tab as text: escaped as a byte. Others as they are. */
wchar_t text_escape_control(wchar_t c);

/* NUL-terminated, to be freed; NULL without memory. Control characters but tab are escaped. */
wchar_t *text_decode(const char *bytes, size_t length);
/* NUL-terminated, to be freed; NULL without memory. U+FFFD stands for a byte 0. */
char *text_encode(const wchar_t *text, size_t length);
/* Makes bytes that were allocated (of which there are length + 1) a string in the same way. NULL
 * without memory; they are freed then. */
char *text_without_zeros(char *bytes, size_t length);

/* What terminal_print() writes: to be freed; NULL without memory. */
char *text_harmless(const char *text, size_t length, bool colours);

/* Where libedit puts the next character, counted from where the prompt begins. */
typedef struct {
    int row, column;
} text_place;

/* The place behind a character of the line, or of the prompt. */
void text_advance(text_place *place, int columns, wchar_t c);
void text_advance_prompt(text_place *place, int columns, wchar_t c);

#endif
