/* What is used of nats.c beyond its header: functions that it exports for its own use. They are
 * used only in versions in whose sources they were looked at, and are weak symbols: a library that
 * does not have them, or is another one, is used by its header alone, which is slower. Any thread.
 */
#ifndef MD_LINK_INNER_H
#define MD_LINK_INNER_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stddef.h>

/* Publishes, and with `at_once` sends it with all that is buffered. */
natsStatus natsConn_publish(natsConnection *nc, natsMsg *msg, const char *reply, bool at_once)
    __attribute__((weak));
/* Writes into the connection's buffer, or what does not fit to its socket. Under its lock. */
natsStatus natsConn_bufferWrite(natsConnection *nc, const char *bytes, int length)
    __attribute__((weak));
/* Its lock is recursive. */
void natsConn_lockAndRetain(natsConnection *nc) __attribute__((weak));
void natsConn_unlockAndRelease(natsConnection *nc) __attribute__((weak));
/* What natsMsg_Destroy() does, on this thread and at once. */
void natsMsg_free(void *msg) __attribute__((weak));

/* Whether this library is one that has them as they are declared here. */
bool inner_is_known(void);

/* Destroys a message that was received or created. natsMsg_Destroy() gives it to a thread of the
 * library's, the collector, which costs a change of threads and takes it to the cache of another
 * processor only to free it there. */
void message_free(natsMsg *msg);

/* What natsConnection_GetLastError() says, as a copy: it gives the connection's own text, into
 * which the library's reader may write the next error meanwhile. Takes the connection's lock. */
natsStatus last_error_copy(natsConnection *nc, char *text, size_t size);

#endif
