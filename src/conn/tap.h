/* A tap: whoever wants to see the messages that pass through the connections of a hub. Costs a
 * branch while there is none. Loop thread. */
#ifndef MD_CONN_TAP_H
#define MD_CONN_TAP_H

#include <stdbool.h>
#include <stddef.h>

/* Borrowed for the call. */
typedef struct {
    bool out; /* published, or a request; otherwise it came */
    const char *connection;
    const char *subject, *reply; /* reply NULL: none */
    size_t subject_length, reply_length;
    const char *data;
    size_t length;
} tap_message;

/* Must not publish, and not change taps. */
typedef void (*tap_fn)(void *closure, const tap_message *m);

#endif
