/* Events that the host tells scripts, which handle them in the functions that they gave to
 * moondog.on_event(). The handlers are a generation's and end with it; what waits to be told is the
 * runtime's, and told to the generation that is at work by then. Loop thread, but while the
 * generation is loaded. */
#ifndef MD_HOST_EVENTS_H
#define MD_HOST_EVENTS_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_handlers;
struct generation;
struct md_runtime;
struct queued_event;

/* Of a runtime, {0} at first. */
struct events {
    struct queued_event *first, *last; /* that wait for the next turn */
    unsigned queued;
    size_t queued_bytes;
    bool refusing; /* since the queue is full: that was said */
    bool ended;    /* none is told any more */
    uint64_t emitted, unheard, refused;
};

/* What of md_emit() waits at most, beside MD_EVENTS_MAX. */
#define EVENTS_BYTES_MAX (64u * 1024 * 1024)

/* Between two turns: tells what waits, as far as a slice of time goes. */
void events_turn(struct md_runtime *rt);
/* What waits is forgotten, and nothing is told any more. */
void events_end(struct md_runtime *rt);

/* moondog.on_event(event, function). [-0, +0] */
int events_on_event(lua_State *L);
/* Lets go of the functions of a generation that is closed. */
void events_clear(struct generation *g);
void events_free(struct generation *g);

#endif
