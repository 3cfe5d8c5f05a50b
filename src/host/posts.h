/* Posts: functions of the host that other threads want to be called on the loop thread. At the cap
 * (MD_POSTS_MAX) the newest is refused and counted. */
#ifndef MD_HOST_POSTS_H
#define MD_HOST_POSTS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "moondog.h"

struct hub;
struct post;

struct posts {
    uv_mutex_t lock;
    struct post *first, **end;
    unsigned count;             /* that wait */
    uint64_t accepted, refused; /* so far */
    bool closed;                /* none is taken any more */
    bool used;                  /* some have been called. Loop thread */
};

/* 0, or a libuv error. */
int posts_init(struct posts *p);
/* Those that wait hear that it is too late; further ones are refused. The loop may be closed then:
 * nobody wakes it. Loop thread. */
void posts_close(struct posts *p);
/* Nobody posts any more: not even a hook of the log. */
void posts_end(struct posts *p);

/* Between two turns: calls those that wait. Loop thread. */
void posts_run(struct posts *p, md_runtime *rt);
/* Any thread. */
void posts_count(struct posts *p, unsigned *waiting, uint64_t *accepted, uint64_t *refused);

#endif
