/* UTF-8, as far as it has to be told from other bytes. Pure. */
#ifndef MD_BASE_UTF8_H
#define MD_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The length of the UTF-8 character at `s`, and what it is; 0 when there is none (overlong forms
 * and surrogates are none). n is at least 1. */
size_t utf8_decode(const unsigned char *s, size_t n, uint32_t *character);

/* A copy in which each byte that is no UTF-8 is a question mark; as long as the original, and a
 * zero byte more. To be freed; NULL: no memory. */
char *utf8_repair(const char *bytes, size_t length);

#endif
