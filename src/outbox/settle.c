/* What becomes of entries in the file: removed, set aside, expired. See outbox_private.h. Loop
 * thread. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "conn/hub.h"
#include "outbox/outbox_private.h"

#define EXPIRE_MS 1000u /* between two looks for what has expired */
#define TELL_MS 10000u  /* between two lines of the log about many entries */

/* ---- one entry ---- */

/* Without memory the entry stays in the file: it is found there at the next start. */
void outbox_remove_entry(struct outbox *o, int64_t id, const char *stream, uint64_t sequence)
{
    size_t length = strlen(stream);
    writer_job *job = writer_job_new(WRITER_REMOVE, length + 1);
    if (job == NULL)
        return;
    job->id = id;
    job->sequence = sequence;
    memcpy(job->text, stream, length + 1);
    writer_submit(o->writer, job, NULL);
}

static void tell_aside(struct outbox *o, const outbox_entry *entry, const error *e)
{
    uint64_t now = clock_ms();
    if (o->aside_told_at != 0 && now - o->aside_told_at < TELL_MS) {
        o->aside_untold++;
        return;
    }
    o->aside_told_at = now;
    log_emit(o->hub->log, LOG_WARN,
             "a message was refused for good and set aside: look with moondog outbox",
             log_str("outbox", o->path), log_str("subject", entry->subject),
             log_str("msg_id", entry->msg_id), log_str("error", e->message),
             log_str("code", e->code), log_int("more", (int64_t)o->aside_untold));
    o->aside_untold = 0;
}

void outbox_set_aside(struct outbox *o, const outbox_entry *entry, const error *e)
{
    size_t length = strlen(e->message);
    writer_job *job = writer_job_new(WRITER_SET_ASIDE, length + 1);
    if (job == NULL)
        return;
    job->id = entry->id;
    memcpy(job->text, e->message, length + 1);
    writer_submit(o->writer, job, NULL);
    tell_aside(o, entry, e);
}

static void tell_expired(struct outbox *o, unsigned count)
{
    uint64_t now = clock_ms();
    o->expired += count;
    o->expired_untold += count;
    if (o->expired_untold == 0 || (o->expired_told_at != 0 && now - o->expired_told_at < TELL_MS))
        return;
    o->expired_told_at = now;
    log_emit(o->hub->log, LOG_WARN, "messages have expired before they could be forwarded",
             log_str("outbox", o->path), log_int("count", (int64_t)o->expired_untold));
    o->expired_untold = 0;
}

bool outbox_has_expired(const forward_entry *f, int64_t wall)
{
    const outbox_entry *entry = f->data;
    return entry->expires > 0 && entry->expires <= wall;
}

void outbox_expire_entry(struct outbox *o, forward_entry *f)
{
    outbox_remove_entry(o, f->id, "", 0);
    forward_drop(f);
    tell_expired(o, 1);
}

void outbox_entry_replaced(struct outbox *o, int64_t id)
{
    forward_entry *f = forward_find(&o->forward, id);
    if (f != NULL)
        forward_drop(f);
}

void outbox_free_done(struct outbox *o)
{
    forward_entry done;
    while (forward_take(&o->forward, &done))
        free(done.data);
}

static void on_expired(writer_job *job)
{
    struct outbox *o = job->owner;
    o->expiring = false;
    if (job->failed)
        return;
    o->expire_to = job->id;
    tell_expired(o, job->count);
    if (job->count > 0 || job->id > 0)
        o->expire_at = 0; /* go on at once */
}

/* Those that are not on their way. */
static void expire_in_memory(struct outbox *o)
{
    int64_t wall = clock_wall_ms();
    for (unsigned i = 0; i < o->forward.count; i++) {
        forward_entry *f = forward_at(&o->forward, i);
        if (f->state == FORWARD_WAITS && outbox_has_expired(f, wall))
            outbox_expire_entry(o, f);
    }
}

void outbox_expire_more(struct outbox *o, uint64_t now)
{
    const writer_state *file = writer_get_state(o->writer);
    if (!o->expiry || o->expiring || !file->open || file->totals.first == 0 || now < o->expire_at)
        return;
    o->expire_at = now + EXPIRE_MS;
    expire_in_memory(o);
    writer_job *job = writer_job_new(WRITER_EXPIRE, 0);
    if (job == NULL)
        return;
    job->id = o->expire_to > o->read_to ? o->expire_to : o->read_to;
    job->done = on_expired;
    job->owner = o;
    writer_submit(o->writer, job, NULL);
    o->expiring = true;
}
