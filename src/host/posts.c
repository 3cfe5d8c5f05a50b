/* Posts. See posts.h. md_post() on any thread, the rest on the loop thread. */
#include "host/posts.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "runtime_private.h"

#define SLICE_NS 2000000u /* of a turn of the loop */

struct post {
    struct post *next;
    md_post_fn fn;
    void *closure;
};

static const struct callback post = {.ref = LUA_NOREF, .kind = "host", .name = "post"};

int posts_init(struct posts *p)
{
    p->end = &p->first;
    return uv_mutex_init(&p->lock);
}

int md_post(md_runtime *rt, md_post_fn fn, void *closure)
{
    struct posts *p = &rt->posts;
    struct post *fresh = fn != NULL ? malloc(sizeof *fresh) : NULL;
    if (fresh != NULL)
        *fresh = (struct post){.fn = fn, .closure = closure};
    uv_mutex_lock(&p->lock);
    bool room = fresh != NULL && p->count < MD_POSTS_MAX && !p->closed;
    if (room) {
        *p->end = fresh;
        p->end = &fresh->next;
        p->count++;
        p->accepted++;
        uv_async_send(&rt->hub.wake); /* under the lock: it is not closed meanwhile */
    } else {
        p->refused++;
    }
    uv_mutex_unlock(&p->lock);
    if (room)
        return 0;
    free(fresh);
    return -1;
}

static struct post *take(struct posts *p)
{
    uv_mutex_lock(&p->lock);
    struct post *first = p->first;
    if (first != NULL) {
        p->first = first->next;
        p->count--;
        if (p->first == NULL)
            p->end = &p->first;
    }
    uv_mutex_unlock(&p->lock);
    return first;
}

void posts_count(struct posts *p, unsigned *waiting, uint64_t *accepted, uint64_t *refused)
{
    uv_mutex_lock(&p->lock);
    *waiting = p->count;
    *accepted = p->accepted;
    *refused = p->refused;
    uv_mutex_unlock(&p->lock);
}

/* Those that come meanwhile, and those that a slice of time does not suffice for, have their turn
 * later: timers and messages come between. */
void posts_run(struct posts *p, md_runtime *rt)
{
    unsigned left;
    uint64_t accepted, refused;
    posts_count(p, &left, &accepted, &refused);
    uint64_t until = left > 0 ? hub_slice(&rt->hub, SLICE_NS) : 0;
    for (bool over = false; left > 0; left--, over = uv_hrtime() >= until) {
        if (over || hub_is_late(&rt->hub)) {
            hub_again(&rt->hub);
            return;
        }
        struct post *one = take(p);
        if (one == NULL)
            return;
        hub_serve(&rt->hub);
        p->used = true;
        const struct callback *outer = sentinel_host_enters(&rt->sentinel, &post);
        one->fn(rt, one->closure);
        sentinel_host_leaves(&rt->sentinel, outer);
        free(one);
    }
}

void posts_close(struct posts *p)
{
    uv_mutex_lock(&p->lock);
    p->closed = true;
    uv_mutex_unlock(&p->lock);
    for (struct post *one = take(p); one != NULL; one = take(p)) {
        one->fn(NULL, one->closure);
        free(one);
    }
}

void posts_end(struct posts *p)
{
    uv_mutex_destroy(&p->lock);
}
