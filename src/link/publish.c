/* Publishing: how the messages of a link get into nats.c, and out of it. Its worker thread.
 *
 * The library's header offers two ways. Either each publish is a system call of its own, which is
 * most of what it costs, and a packet, too; or the library's flusher thread sends what has gathered
 * for a millisecond, which is long for a request. What a batch wants is one send() at its end. The
 * library has that inside, for its own requests: natsConn_publish() with `at_once`. It is exported
 * in the versions named below, with these arguments. Where it is not, each publish is sent at once.
 */
#include <string.h>

#include "link/link_private.h"

#define BATCHES_SINCE 0x030000 /* of nats.c; checked in the sources of each release between */
#define BATCHES_UNTIL 0x030dff

natsStatus natsConn_publish(natsConnection *nc, natsMsg *msg, const char *reply, bool at_once)
    __attribute__((weak));

bool link_can_batch(void)
{
    uint32_t version = nats_GetVersionNumber();
    return natsConn_publish != NULL && version >= BATCHES_SINCE && version <= BATCHES_UNTIL;
}

/* The library's collector is a thread, which each message that is destroyed wakes: several go at a
 * time. */
static void throw_away(struct link *l, natsMsg *msg)
{
    if (msg == NULL)
        return;
    l->garbage[l->garbage_count++] = msg;
    l->garbage_bytes += (size_t)natsMsg_GetDataLength(msg);
    if (l->garbage_count == LINK_GARBAGE || l->garbage_bytes >= LINK_GARBAGE_BYTES)
        link_sweep(l);
}

void link_sweep(struct link *l)
{
    for (unsigned i = 0; i < l->garbage_count; i++)
        natsMsg_Destroy(l->garbage[i]);
    l->garbage_count = 0;
    l->garbage_bytes = 0;
}

static natsStatus make_message(const record *r, natsMsg **msg)
{
    const char *reply = r->reply_length > 0 ? record_reply(r) : NULL;
    natsStatus status =
        natsMsg_Create(msg, record_subject(r), reply, record_data(r), (int)r->data_length);
    const char *at = record_headers(r);
    for (uint32_t i = 0; status == NATS_OK && i < r->header_count; i++) {
        const char *key = at;
        const char *value = key + strlen(key) + 1;
        at = value + strlen(value) + 1;
        status = natsMsgHeader_Add(*msg, key, value);
    }
    return status;
}

/* By way of a message of the library's, which costs more than the ways without. */
static natsStatus publish_message(struct link *l, const record *r, bool at_once)
{
    natsMsg *msg = NULL;
    natsStatus status = make_message(r, &msg);
    if (status == NATS_OK)
        status = at_once ? natsConn_publish(l->nats, msg, NULL, true)
                         : natsConnection_PublishMsg(l->nats, msg);
    throw_away(l, msg);
    return status;
}

natsStatus link_publish(struct link *l, const record *r, bool more)
{
    bool at_once = l->batches && !more;
    if (r->header_count > 0 || at_once)
        return publish_message(l, r, at_once);
    if (r->reply_length > 0)
        return natsConnection_PublishRequest(l->nats, record_subject(r), record_reply(r),
                                             record_data(r), (int)r->data_length);
    return natsConnection_Publish(l->nats, record_subject(r), record_data(r), (int)r->data_length);
}

natsStatus link_publish_probe(struct link *l)
{
    /* Not empty: when nats.c has read an INFO that is none, it takes empty messages alone. */
    static const char data[] = "p";
    if (!l->batches)
        return natsConnection_PublishString(l->nats, l->probe_subject, data);
    natsMsg *msg = NULL;
    natsStatus status = natsMsg_Create(&msg, l->probe_subject, NULL, data, sizeof data - 1);
    if (status == NATS_OK)
        status = natsConn_publish(l->nats, msg, NULL, true);
    natsMsg_Destroy(msg);
    return status;
}
