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
 * stays so as long as the lock is held. The next ones are written into its buffer as they are on
 * the wire, and the last one is the library's own again.
 *
 * Where these functions are not to be had, each publish is sent at once. */
#include <string.h>

#include "link/inner.h"
#include "link/link_private.h"

#define LINE_BYTES 1024 /* what is written at once; the rest is not worth a copy */
#define DIGITS_MAX 10

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

/* By the library's own functions, which look at its state first, and set the write deadline. */
static natsStatus publish_checked(struct link *l, const record *r, bool at_once)
{
    if (r->header_count > 0 || at_once)
        return publish_message(l, r, at_once);
    if (r->reply_length > 0)
        return natsConnection_PublishRequest(l->nats, record_subject(r), record_reply(r),
                                             record_data(r), (int)r->data_length);
    return natsConnection_Publish(l->nats, record_subject(r), record_data(r), (int)r->data_length);
}

static char *put(char *at, const char *bytes, size_t length)
{
    memcpy(at, bytes, length);
    return at + length;
}

static char *put_number(char *at, uint32_t number)
{
    char digits[DIGITS_MAX];
    char *first = digits + sizeof digits;
    do
        *--first = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return put(at, first, (size_t)(digits + sizeof digits - first));
}

/* Whether the line before the data fits, and nothing has to be looked at for this record. */
static bool can_write(const struct link *l, const record *r)
{
    size_t names = (size_t)r->subject_length + r->reply_length;
    return l->batch == LINK_BATCH_CHECKED && r->header_count == 0 &&
           names < LINE_BYTES - DIGITS_MAX - sizeof "PUB   \r\n" &&
           (int64_t)r->data_length <= l->batch_max_payload;
}

static natsStatus write_publish(struct link *l, const record *r)
{
    char line[LINE_BYTES];
    char *at = put(line, "PUB ", 4);
    at = put(at, record_subject(r), r->subject_length);
    *at++ = ' ';
    if (r->reply_length > 0) {
        at = put(at, record_reply(r), r->reply_length);
        *at++ = ' ';
    }
    at = put_number(at, r->data_length);
    at = put(at, "\r\n", 2);
    size_t room = sizeof line - (size_t)(at - line);
    if (r->data_length + 2 <= room) {
        at = put(at, record_data(r), r->data_length);
        at = put(at, "\r\n", 2);
        return natsConn_bufferWrite(l->nats, line, (int)(at - line));
    }
    natsStatus status = natsConn_bufferWrite(l->nats, line, (int)(at - line));
    if (status == NATS_OK)
        status = natsConn_bufferWrite(l->nats, record_data(r), (int)r->data_length);
    if (status == NATS_OK)
        status = natsConn_bufferWrite(l->nats, "\r\n", 2);
    return status;
}

natsStatus link_publish(struct link *l, const record *r, bool more)
{
    bool at_once = l->batches && !more;
    natsStatus status =
        !at_once && can_write(l, r) ? write_publish(l, r) : publish_checked(l, r, at_once);
    if (l->batch != LINK_NO_BATCH)
        l->batch = status == NATS_OK ? LINK_BATCH_CHECKED : LINK_BATCH_LOCKED;
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
