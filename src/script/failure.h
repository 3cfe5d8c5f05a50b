/* What is said and counted when a function of a script fails: one log line with its traceback; of a
 * function that fails again and again, one a second. Loop thread. */
#ifndef MD_SCRIPT_FAILURE_H
#define MD_SCRIPT_FAILURE_H

#include <lua.h>

#include "script/generation.h"
#include "script/task.h"

typedef struct {
    lua_State *from; /* the coroutine whose top is the error value; NULL: all is filled in */
    char text[1024];
    char traceback[3072];
} failure;

#define FAILURES_MAX 32u

/* The last failures of a runtime, of all generations. */
typedef struct {
    int64_t at; /* ms since 1970 */
    uint32_t generation;
    char kind[16], name[CALLBACK_TEXT];
    char *text, *traceback; /* NULL: no memory */
} failure_record;

/* How often a function failed. */
typedef struct {
    char kind[16], name[CALLBACK_TEXT];
    uint64_t count;
    uint64_t quiet, quiet_since; /* that were not logged one by one, and since when (ns) */
} failure_counter;

/* Functions that are counted one by one; those that fail first beyond that are the last counter,
 * whose kind and name are "other". */
#define FAILURE_COUNTERS_MAX 129u

struct failures {
    bool quiet; /* some were not logged */
    failure_counter counters[FAILURE_COUNTERS_MAX];
    unsigned counter_count;
    failure_record records[FAILURES_MAX]; /* the next one goes to total % FAILURES_MAX */
    uint64_t total;
};

void failures_clear(struct failures *all);
/* Now and then: says how many there were of those that were not logged one by one. */
void failures_tell_quiet(struct failures *all, struct logger *log, uint64_t now);

/* [-0, +0] The error value at `index`, as text, into r->text. */
void failure_describe_value(lua_State *L, int index, failure *r);
/* [-0, +0] The stack of `of` from `level` on, into r->traceback. */
void failure_describe_stack(lua_State *L, lua_State *of, int level, failure *r);

/* Logs and counts. The error value is on top of r->from; with NULL, *r says all. `status`: of the
 * call. */
void failure_report(struct generation *g, struct callback *cb, failure *r, int status,
                    bool overran);
/* The same of a task that is no matter of the script's: whoever began it is told. */
void failure_tell(const struct task *t, failure *r, int status, bool overran);
/* A callback that ran, and did not do what it should: `what` it did, and the `remedy`. */
void failure_note(struct generation *g, struct callback *cb, const char *what, const char *remedy);

/* [-0, +1] "gateway.lua:12: ": where the script is, and not what moondog has around it or below. */
void failure_push_where(lua_State *L);

#endif
