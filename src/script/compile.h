/* Compiles code for consoles outside of any generation: a large text takes tens of milliseconds,
 * which the loop does not have. compile(): any thread; the others: loop thread. */
#ifndef MD_SCRIPT_COMPILE_H
#define MD_SCRIPT_COMPILE_H

#include <stddef.h>
#include <uv.h>

#include "base/error.h"

/* Code up to this size is compiled where it runs: it takes less than a millisecond. */
#define COMPILE_INLINE_BYTES 8192u

/* The function as bytecode, to be freed with free(); an expression is called with a function that
 * returns its arguments, as in lua/moondog/console.lua. NULL and *e: "incomplete", "syntax",
 * "no_memory". `name`: of the code, in messages. */
char *compile(const char *code, size_t length, const char *name, size_t *size, error *e);

/* The same in a thread of the pool. `*handles` is one more until it is over. The texts are copied.
 */
typedef struct {
    uv_loop_t *loop;
    unsigned *handles;
    const char *code;
    size_t length;
    const char *name;
} compile_order;

/* Once. `bytecode` is valid until it returns; NULL: *e says why. */
typedef void (*compile_done)(void *closure, const char *bytecode, size_t size, const error *e);

struct compilation;

/* NULL: no memory. */
struct compilation *compile_begin(const compile_order *order, compile_done done, void *closure);
/* `done` is not called any more. */
void compile_forget(struct compilation *c);

#endif
