/* Slices: a task of the console may run for as long as it likes, because it does so in slices. At
 * the end of a slice an instruction hook makes its coroutine yield, wherever it is, and the loop
 * goes on; while messages are being handled, it waits for a while before the next one, so that they
 * have most of the loop. A slice ends late where a coroutine cannot yield: in a callback of a C
 * function, such as one of table.sort(), and in code that was compiled. Loop thread. */
#ifndef MD_SCRIPT_SLICE_H
#define MD_SCRIPT_SLICE_H

#include <lua.h>
#include <stdbool.h>

#include "script/task.h"

#define SLICE_NS 100000u
#define SLICE_REST_MS 2u /* between two slices while messages are handled */

/* Around lua_resume() of a task that is sliced. */
void slice_begin(struct generation *g);
/* Whether the slice was over, and the coroutine has yielded because of that. */
bool slice_end(struct generation *g);

/* The first slice of a task, with `count` arguments pushed on t->co, comes at the next turn. */
void slice_start(struct task *t, int count);
/* A task that was preempted waits for its next slice. */
void slice_add(struct task *t);
/* It does not wait for one any more. Harmless when it did not. */
void slice_remove(struct task *t);
/* Between two turns: one slice of the task whose turn it is. */
void slice_run_next(struct generation *g);

/* From Lua, what resumes coroutines of the script: whether the one that has just yielded was
 * preempted; then the answer is false until somebody is preempted again, unless the caller can
 * yield in its turn. [-0, +1] */
int slice_was_preempted(lua_State *L);

#endif
