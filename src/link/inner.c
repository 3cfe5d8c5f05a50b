/* See inner.h. Any thread. */
#include "link/inner.h"

#include <stdio.h>

#define SINCE 0x030000 /* of nats.c; checked in the sources of each release between */
#define UNTIL 0x030dff

bool inner_is_known(void)
{
    uint32_t version = nats_GetVersionNumber();
    return natsConn_publish != NULL && natsConn_bufferWrite != NULL &&
           natsConn_lockAndRetain != NULL && natsConn_unlockAndRelease != NULL &&
           natsMsg_free != NULL && version >= SINCE && version <= UNTIL;
}

void message_free(natsMsg *msg)
{
    if (msg != NULL && inner_is_known())
        natsMsg_free(msg);
    else
        natsMsg_Destroy(msg);
}

natsStatus last_error_copy(natsConnection *nc, char *text, size_t size)
{
    bool known = inner_is_known();
    if (known)
        natsConn_lockAndRetain(nc);
    const char *own = NULL;
    natsStatus status = natsConnection_GetLastError(nc, &own);
    snprintf(text, size, "%s", own != NULL ? own : "");
    if (known)
        natsConn_unlockAndRelease(nc);
    return status;
}
