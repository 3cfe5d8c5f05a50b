/* What the fuzz targets share. A target is one file that defines fuzz_one(): it reads bytes as
 * input of one part of moondog, and ends the process when that part breaks a promise. scripts/fuzz
 * runs it under libFuzzer; in other builds driver.c runs its corpus and mutations of it. One
 * thread. */
#ifndef MD_TESTS_FUZZ_H
#define MD_TESTS_FUZZ_H

#include <jansson.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "moondog.h"

/* ---- defined by each target ---- */

void fuzz_one(const uint8_t *data, size_t size);

/* ---- promises ---- */

/* Like assert(), in every build. */
#define fuzz_check(condition)                                                                      \
    ((condition) ? (void)0 : fuzz_broken(#condition, __FILE__, __LINE__, NULL))
/* The same with a text that explains it. */
#define fuzz_check_text(condition, text)                                                           \
    ((condition) ? (void)0 : fuzz_broken(#condition, __FILE__, __LINE__, (text)))

_Noreturn void fuzz_broken(const char *condition, const char *file, int line, const char *text);

bool fuzz_is_utf8(const char *bytes, size_t length);
/* No byte would end the line or move a terminal's cursor. */
bool fuzz_is_printable(const char *text);

/* ---- the input, read from its front; zeros when nothing is left ---- */

typedef struct {
    const uint8_t *at;
    size_t left;
} fuzz_input;

uint8_t fuzz_byte(fuzz_input *in);
/* 0 to limit - 1, limit 256 at most. */
unsigned fuzz_below(fuzz_input *in, unsigned limit);
double fuzz_number(fuzz_input *in);
/* A block of exactly this size and a zero byte more, so that the sanitizer sees who reads behind
 * it. The length is in the input. To be freed. */
char *fuzz_bytes(fuzz_input *in, size_t *length);
/* All that is left, in the same way. */
char *fuzz_rest(fuzz_input *in, size_t *length);
/* The same up to the first zero byte. */
char *fuzz_rest_text(fuzz_input *in);

/* ---- Lua ---- */

/* Pushes plain data. Keys are of `names` (`count` of them) about every other time, when there are
 * any. [-0, +1] */
void fuzz_value(fuzz_input *in, lua_State *L, const char *const *names, unsigned count);
/* Whether two values are the same data; NaN is the same as NaN. [-0, +0] */
bool fuzz_equal(lua_State *L, int a, int b);

/* ---- a runtime ---- */

/* One with an empty script and without connections, made at the first call. `control`, `http`:
 * whether it has these, at paths in fuzz_folder(). It stays until the process ends. */
md_runtime *fuzz_runtime(bool control, bool http);
/* A folder of this process; removed when it ends. */
const char *fuzz_folder(void);
/* A connection to the Unix socket of this name in it, not blocking. */
int fuzz_connect(const char *name);

#endif
