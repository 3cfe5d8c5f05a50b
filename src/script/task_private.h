/* The inside of tasks, shared by task.c (their life), task_ready.c and slice.c (when they run).
 * Loop thread. */
#ifndef MD_SCRIPT_TASK_PRIVATE_H
#define MD_SCRIPT_TASK_PRIVATE_H

#include "script/task.h"

/* Enters Lua with `count` arguments or results on t->co; it may be over afterwards. */
void task_run(struct task *t, int count);
/* The same between two turns, behind all that wait for one. */
void task_queue(struct task *t, int count);
/* Its timer has not fired. */
void task_forget_due(struct task *t);

#endif
