/* What comes into an outbox: publishes, and those who wait for all of them. See outbox.h. Loop
 * thread. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/random.h"
#include "conn/connection.h"
#include "conn/request.h"
#include "conn/subscription.h"
#include "outbox/outbox_private.h"

#define MESSAGE_MAX (64u * 1024 * 1024) /* what a server can be made to take */

/* ---- message ids ---- */

/* Nobody else's, of no process and no machine: a stream would take another message for this one. */
void outbox_make_prefix(struct outbox *o)
{
    uint64_t words[2];
    if (getrandom(words, sizeof words, GRND_NONBLOCK) != sizeof words) {
        words[0] = random_seed();
        words[1] = random_seed() ^ (uint64_t)clock_wall_ms();
    }
    snprintf(o->prefix, sizeof o->prefix, "%016" PRIx64 "%08" PRIx32, words[0], (uint32_t)words[1]);
}

/* ---- publishing ---- */

int outbox_check(const outbox_message *m, error *e)
{
    if (subject_check(m->subject, m->subject_length, false, e) != 0)
        return -1;
    if (m->data_length + m->header_length > MESSAGE_MAX)
        return error_set(e, "too_large", ERROR_CLASS_LIMIT,
                         "a message of %zu bytes is larger than any server takes (%u)",
                         m->data_length + m->header_length, MESSAGE_MAX);
    return 0;
}

outbox_policy outbox_policy_of(const struct outbox *o, const char *subject, size_t length)
{
    for (size_t i = 0; i < o->options.rule_count; i++)
        if (subject_matches(o->options.rules[i].pattern, subject, length))
            return o->options.rules[i].policy;
    return OUTBOX_KEEP_ALL;
}

static void on_put(writer_job *job)
{
    static const error none,
        no_memory = {.code = "no_memory",
                     .cls = ERROR_CLASS_LIMIT,
                     .message = "the outbox could not write the message, and has no memory to say "
                                "why"};
    struct outbox *o = job->owner;
    const error *e = !job->failed ? &none : job->error != NULL ? job->error : &no_memory;
    if (job->failed)
        o->refused++;
    if (job->put.replaced > 0)
        outbox_entry_replaced(o, job->put.replaced);
    if (job->told != NULL)
        job->told(job->closure, e);
}

static char *put_text(char **at, const char *text, size_t length)
{
    char *start = *at;
    if (length > 0)
        memcpy(start, text, length);
    start[length] = '\0';
    *at += length + 1;
    return start;
}

static writer_job *make_job(struct outbox *o, const outbox_message *m)
{
    char made[OUTBOX_ID_SIZE];
    const char *msg_id = m->msg_id;
    int64_t ttl = m->ttl_ms >= 0 ? m->ttl_ms : o->options.ttl_ms;
    if (msg_id == NULL) {
        snprintf(made, sizeof made, "%s.%" PRIu64, o->prefix, ++o->serial);
        msg_id = made;
    }
    size_t id_length = strlen(msg_id);
    writer_job *job = writer_job_new(WRITER_PUT, id_length + m->subject_length + m->header_length +
                                                     m->data_length + 4);
    if (job == NULL)
        return NULL;
    char *at = job->text;
    job->message.msg_id = put_text(&at, msg_id, id_length);
    job->message.subject = put_text(&at, m->subject, m->subject_length);
    job->message.headers = put_text(&at, m->headers, m->header_length);
    job->message.data = put_text(&at, m->data, m->data_length);
    job->message.header_length = m->header_length;
    job->message.data_length = m->data_length;
    job->message.created = clock_wall_ms();
    job->message.expires = ttl > 0 ? job->message.created + ttl : 0;
    job->message.latest = outbox_policy_of(o, m->subject, m->subject_length) == OUTBOX_KEEP_LATEST;
    job->message.sent_max = forward_sent_max(&o->forward);
    o->expiry |= job->message.expires > 0;
    return job;
}

static int refuse_closed(const struct outbox *o, error *e)
{
    return error_set(e, "closed", ERROR_CLASS_NONE, "outbox %s is closed", o->path);
}

struct writer_job *outbox_publish(struct outbox *o, const outbox_message *m, outbox_told told,
                                  void *closure, error *e)
{
    if (o->closing) {
        refuse_closed(o, e);
        return NULL;
    }
    writer_job *job = make_job(o, m);
    if (job == NULL) {
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "outbox %s: no memory for a message", o->path);
    } else {
        job->done = on_put;
        job->owner = o;
        job->told = told;
        job->closure = closure;
        if (writer_submit(o->writer, job, e) == 0)
            return job;
        writer_job_free(job);
    }
    o->refused++;
    return NULL;
}

void outbox_forget(struct writer_job *job)
{
    job->told = NULL;
}

int outbox_send_now(struct outbox *o, const outbox_message *m, error *e)
{
    const writer_state *file = writer_get_state(o->writer);
    error why = {0};
    const outbox_header_wish wish = {
        .msg_id = m->msg_id, .own = m->headers, .own_length = m->header_length};
    record_message out = {.subject = m->subject,
                          .subject_length = m->subject_length,
                          .data = m->data,
                          .data_length = m->data_length};
    bool idle =
        file->open && file->totals.first == 0 && o->forward.count == 0 && writer_is_idle(o->writer);
    struct connection *c = o->closing || o->source == NULL ? NULL : o->source(o->source_closure);
    if (c == NULL)
        error_set(&why, "closed", ERROR_CLASS_NONE, "there is no connection");
    else if (connection_can_ask(c, &why) && idle && outbox_headers(o, &out, &wish) == 0 &&
             connection_publish(c, &out, &why) == 0)
        return 0;
    o->dropped++;
    return error_set(e, "dropped", ERROR_CLASS_LIMIT,
                     "outbox %s: a message on %s was dropped, as its policy says: %s", o->path,
                     m->subject, why.code[0] != '\0' ? why.message : "others wait before it");
}

/* ---- waiting for all ---- */

static void on_mark(writer_job *job)
{
    struct outbox *o = job->owner;
    for (struct outbox_flush *f = o->flushes; f != NULL; f = f->next)
        if (f == job->closure)
            f->target = job->failed ? INT64_MAX : job->id;
}

struct outbox_flush *outbox_flush(struct outbox *o, outbox_told told, void *closure, error *e)
{
    if (o->closing) {
        refuse_closed(o, e);
        return NULL;
    }
    struct outbox_flush *f = calloc(1, sizeof *f);
    writer_job *job = writer_job_new(WRITER_MARK, 0);
    if (f == NULL || job == NULL) {
        free(f);
        writer_job_free(job);
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "outbox %s: no memory for a flush", o->path);
        return NULL;
    }
    *f = (struct outbox_flush){
        .next = o->flushes, .outbox = o, .target = -1, .told = told, .closure = closure};
    o->flushes = f;
    job->done = on_mark;
    job->owner = o;
    job->closure = f;
    writer_submit(o->writer, job, e); /* it refuses only what is put */
    return f;
}

static void take_out(struct outbox_flush *f)
{
    struct outbox_flush **at = &f->outbox->flushes;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
}

void outbox_flush_cancel(struct outbox_flush *f)
{
    take_out(f);
    free(f);
}

static struct outbox_flush *find_due(struct outbox *o)
{
    const writer_state *file = writer_get_state(o->writer);
    for (struct outbox_flush *f = o->flushes; f != NULL && file->open; f = f->next)
        if (f->target >= 0 && (file->totals.first == 0 || file->totals.first > f->target))
            return f;
    return NULL;
}

static void tell_flush(struct outbox_flush *f, const error *e)
{
    take_out(f);
    f->told(f->closure, e);
    free(f);
}

/* Who is told may begin another one. */
void outbox_check_flushes(struct outbox *o)
{
    static const error none;
    struct outbox_flush *f;
    while ((f = find_due(o)) != NULL)
        tell_flush(f, &none);
}

void outbox_fail_flushes(struct outbox *o)
{
    error e = {0};
    refuse_closed(o, &e);
    while (o->flushes != NULL)
        tell_flush(o->flushes, &e);
}
