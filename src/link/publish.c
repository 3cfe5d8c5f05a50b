/* Publishing: how the messages of a link get into nats.c, and out of it. Its worker thread.
 *
 * The library's header offers two ways. Either each publish is a system call of its own, which is
 * most of what it costs, and a packet, too; or the library's flusher thread sends what has gathered
 * for a millisecond, which is long for a request. What a batch wants is one send() at its end. The
 * library has that inside, for its own requests: natsConn_publish() with `at_once`.
 *
 * It also looks at its state for each publish, under its lock, and at the clock, for the write
 * deadline. A batch does that once: it holds the lock, which is recursive. The first publish is the
 * library's own; when that one was taken, the connection is neither closed nor reconnecting, and
 * stays so as long as the lock is held. What follows is written into its buffer as it lies in the
 * chunk, in pieces, and the last one is the library's own again.
 *
 * Where these functions are not to be had, each publish is sent at once. */
#include <string.h>

#include "link/inner.h"
#include "link/link_private.h"

#define RUN_BYTES 32768 /* as the library's buffer: so much goes with a link that hangs */

void link_batch_begin(struct link *l)
{
    if (!l->batches || l->batch != LINK_NO_BATCH)
        return;
    natsConn_lockAndRetain(l->nats);
    l->batch = LINK_BATCH_LOCKED;
    l->batch_max_payload = natsConnection_GetMaxPayload(l->nats);
}

void link_batch_end(struct link *l)
{
    if (l->batch == LINK_NO_BATCH)
        return;
    l->batch = LINK_NO_BATCH;
    natsConn_unlockAndRelease(l->nats);
}

static natsStatus make_message(const record *r, const char *subject, const char *reply,
                               natsMsg **msg)
{
    natsStatus status = natsMsg_Create(msg, subject, reply, record_data(r), (int)r->data_length);
    const char *at = record_headers(r);
    for (const char *end = at + r->header_length; status == NATS_OK && at < end;) {
        const char *key = at;
        const char *value = key + strlen(key) + 1;
        at = value + strlen(value) + 1;
        status = natsMsgHeader_Add(*msg, key, value);
    }
    return status;
}

/* By way of a message of the library's, which costs more than the ways without. */
static natsStatus publish_message(struct link *l, const record *r, const char *subject,
                                  const char *reply, bool at_once)
{
    natsMsg *msg = NULL;
    natsStatus status = make_message(r, subject, reply, &msg);
    if (status == NATS_OK)
        status = at_once ? natsConn_publish(l->nats, msg, NULL, true)
                         : natsConnection_PublishMsg(l->nats, msg);
    message_free(msg);
    return status;
}

/* By the library's own functions, which look at its state first, and set the write deadline. */
static natsStatus publish_checked(struct link *l, const record *r, const char *subject,
                                  const char *reply, bool at_once)
{
    if (r->header_length > 0 || at_once)
        return publish_message(l, r, subject, reply, at_once);
    if (reply != NULL)
        return natsConnection_PublishRequest(l->nats, subject, reply, record_data(r),
                                             (int)r->data_length);
    return natsConnection_Publish(l->nats, subject, record_data(r), (int)r->data_length);
}

natsStatus link_publish(struct link *l, const record *r, bool more)
{
    bool has_reply = r->reply_length > 0;
    char *subject = record_subject(r), *reply = has_reply ? record_reply(r) : NULL;
    char *subject_end = subject + r->subject_length;
    char *reply_end = has_reply ? reply + r->reply_length : subject_end;
    *subject_end = *reply_end = '\0'; /* only now: the record may still have to be put back */
    natsStatus status = publish_checked(l, r, subject, reply, l->batches && !more);
    *subject_end = *reply_end = ' ';
    if (l->batch != LINK_NO_BATCH)
        l->batch = status == NATS_OK ? LINK_BATCH_CHECKED : LINK_BATCH_LOCKED;
    return status;
}

static bool is_publish(const record_chunk *c, size_t index)
{
    return index < c->count && record_at(c, index)->type == RECORD_PUBLISH;
}

bool link_next_run(const struct link *l, const record_chunk *c, size_t index, link_run *run)
{
    *run = (link_run){0};
    if (l->batch != LINK_BATCH_CHECKED)
        return false;
    for (; is_publish(c, index) && is_publish(c, index + 1); index++) {
        const record *r = record_at(c, index);
        if (r->header_length > 0 || (int64_t)r->data_length > l->batch_max_payload ||
            (run->count > 0 && run->length + r->length > RUN_BYTES))
            break;
        if (run->count++ == 0)
            run->bytes = r->bytes;
        run->length += r->length;
        run->data_length += r->data_length;
    }
    return run->count > 0;
}

natsStatus link_publish_run(struct link *l, const link_run *run)
{
    natsStatus status = natsConn_bufferWrite(l->nats, run->bytes, (int)run->length);
    if (status != NATS_OK)
        l->batch = LINK_BATCH_LOCKED;
    return status;
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
