/* Evaluations that the host asks for: a console (script/console.h) whose answers are plain data.
 * The host is told between two turns, whatever it was that ended one. Loop thread. */
#ifndef MD_HOST_EVAL_H
#define MD_HOST_EVAL_H

#include <stdbool.h>

#include "script/console.h"

struct evaluation;
struct md_runtime;

/* Of a runtime, {0} at first. */
struct evaluations {
    struct evaluation *first, *last;
    unsigned count;   /* of MD_EVALS_MAX */
    unsigned handles; /* of code that is being compiled */
    console console;  /* one for all: what one defines, the next one sees */
};

/* Between two turns: begins those that wait, tells of those that are over. */
void eval_turn(struct md_runtime *rt);
/* Ends all of them: the host is told. */
void eval_end(struct md_runtime *rt);

static inline bool eval_closed(const struct evaluations *all)
{
    return all->handles == 0;
}

#endif
