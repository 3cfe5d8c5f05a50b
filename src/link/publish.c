/* Publishing: how the messages of a link get into nats.c, and out of it. Its worker thread.
 *
 * The library's header offers two ways. Either each publish is a system call of its own, which is
 * most of what it costs, and a packet, too; or the library's flusher thread sends what has gathered
 * for a millisecond, which is long for a request. What a batch wants is one send() at its end. The
 * library has that inside, for its own requests: natsConn_publish() with `at_once`. Where it is not
 * to be had, each publish is sent at once. */
#include <string.h>

#include "link/inner.h"
#include "link/link_private.h"

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
    message_free(msg);
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
    message_free(msg);
    return status;
}
