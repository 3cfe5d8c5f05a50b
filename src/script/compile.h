/* Compiles code for consoles outside of any generation: a large text takes tens of milliseconds,
 * which the loop does not have. Any thread. */
#ifndef MD_SCRIPT_COMPILE_H
#define MD_SCRIPT_COMPILE_H

#include <stddef.h>

#include "base/error.h"

/* Code up to this size is compiled where it runs: it takes less than a millisecond. */
#define COMPILE_INLINE_BYTES 8192u

/* The function as bytecode, to be freed with free(); an expression is called with a function that
 * returns its arguments, as in lua/moondog/console.lua. NULL and *e: "incomplete", "syntax",
 * "no_memory". `name`: of the code, in messages. */
char *compile(const char *code, size_t length, const char *name, size_t *size, error *e);

#endif
