/* What goes out of an outbox: carries out what forward.h decides. See outbox.h. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "conn/connection.h"
#include "conn/hub.h"
#include "conn/request.h"
#include "outbox/outbox_private.h"

#define READ_BYTES (8u * 1024 * 1024) /* of entries that are read at a time */
#define REMOVALS_MAX 8192u /* acknowledged and still in the file: nothing is sent meanwhile */

/* ---- reading the file ---- */

static void on_read(writer_job *job)
{
    struct outbox *o = job->owner;
    const writer_state *file = writer_get_state(o->writer);
    o->reading = false;
    if (job->failed || o->closing)
        return;
    bool all = true;
    unsigned count = 0;
    for (outbox_entry *entry = job->entries, *next; entry != NULL; entry = next) {
        next = entry->next;
        job->entries = next;
        if (forward_add(&o->forward, entry->id, entry->created, entry->id <= file->first_max,
                        entry) == NULL) {
            free(entry);
            all = false;
            continue;
        }
        o->read_to = entry->id;
        o->expiry |= entry->expires > 0;
        count++;
    }
    if (all && count == 0)
        o->read_to = (int64_t)job->sequence; /* not what there is now: more may have come */
}

static void read_more(struct outbox *o)
{
    const writer_state *file = writer_get_state(o->writer);
    if (o->reading || !file->open || file->totals.last <= o->read_to ||
        forward_waiting(&o->forward) > o->forward.window)
        return;
    unsigned max = forward_room(&o->forward);
    if (max > 2 * o->forward.window) /* the thread may be busy with a commit for a while */
        max = 2 * o->forward.window;
    writer_job *job = max > 0 ? writer_job_new(WRITER_READ, 0) : NULL;
    if (job == NULL)
        return;
    job->id = o->read_to;
    job->max = max;
    job->max_bytes = READ_BYTES;
    job->done = on_read;
    job->owner = o;
    writer_submit(o->writer, job, NULL);
    o->reading = true;
}

/* ---- one turn ---- */

static void check_link(struct outbox *o)
{
    struct connection *c = o->source != NULL ? o->source(o->source_closure) : NULL;
    if (c != NULL && !connection_can_ask(c, NULL))
        c = NULL;
    if (c == o->connection)
        return;
    o->connection = c;
    streams_cancel(&o->streams);
    streams_forget(&o->streams);
    forward_link_lost(&o->forward);
    o->why.code[0] = '\0';
    o->delay = 0;
}

/* ms to wait for the rate; 0: one may be sent. */
static uint64_t pace(struct outbox *o, uint64_t now)
{
    double rate = o->options.rate, most = rate / 10 > 1 ? rate / 10 : 1;
    if (rate <= 0)
        return 0;
    o->tokens = o->tokens_at == 0 ? 1 : o->tokens + (double)(now - o->tokens_at) / 1e3 * rate;
    o->tokens_at = now;
    if (o->tokens > most)
        o->tokens = most;
    return o->tokens >= 1 ? 0 : (uint64_t)((1 - o->tokens) / rate * 1e3) + 1;
}

/* No more than the connection keeps for itself: it would refuse what is beyond that. */
static bool has_room(const struct outbox *o, const forward_entry *f)
{
    size_t most = connection_get_options(o->connection)->pending_bytes / 2;
    return o->forward.in_flight == 0 || o->flight_bytes + outbox_entry_size(f->data) <= most;
}

/* Returns when to come again; 0: when something has happened. */
static uint64_t forward_more(struct outbox *o, uint64_t now)
{
    int64_t wall = clock_wall_ms();
    bool sent = false;
    uint64_t again = 0;
    for (bool more = true; more && writer_removals(o->writer) < REMOVALS_MAX;) {
        forward_step step = forward_next(&o->forward, now, wall);
        uint64_t wait = step.action == FORWARD_SEND ? pace(o, now) : 0;
        if (step.action == FORWARD_NOTHING || wait > 0) {
            again = wait > 0 ? now + wait : step.at;
            break;
        }
        if (step.action == FORWARD_SEND && !has_room(o, step.entry))
            break;
        if (outbox_has_expired(step.entry, wall)) {
            outbox_expire_entry(o, step.entry);
            continue;
        }
        more = outbox_carry_out(o, &step, now);
        sent = sent || step.action == FORWARD_SEND || !more;
    }
    if (sent)
        hub_flush(o->hub); /* this turn's flush is over already, maybe */
    return again;
}

static outbox_state state_of(const struct outbox *o)
{
    const writer_state *file = writer_get_state(o->writer);
    if (o->closing)
        return OUTBOX_CLOSED;
    if (file->problem.code[0] != '\0')
        return OUTBOX_NO_FILE;
    if (!file->open)
        return OUTBOX_OPENING;
    if (o->connection == NULL)
        return OUTBOX_NO_LINK;
    if (file->totals.first == 0)
        return OUTBOX_IDLE;
    if (o->why.code[0] != '\0')
        return OUTBOX_NO_STREAM;
    return outbox_is_looking(o) ? OUTBOX_LOOKING : OUTBOX_FORWARDING;
}

/* Once per change; that the link is down, the connection says itself. */
static void note_state(struct outbox *o)
{
    const writer_state *file = writer_get_state(o->writer);
    o->state = state_of(o);
    bool bad = o->state == OUTBOX_NO_FILE || o->state == OUTBOX_NO_STREAM;
    const error *why = o->state == OUTBOX_NO_FILE ? &file->problem : &o->why;
    if (bad && strcmp(o->told_code, why->code) != 0) {
        memcpy(o->told_code, why->code, sizeof o->told_code);
        log_emit(o->hub->log, o->state == OUTBOX_NO_FILE ? LOG_ERROR : LOG_WARN,
                 o->state == OUTBOX_NO_FILE ? "outbox has trouble with its file"
                                            : "outbox waits: nothing is lost",
                 log_str("outbox", o->path), log_str("error", why->message),
                 log_str("code", why->code), log_int("waiting", (int64_t)file->totals.waiting));
    } else if (o->told_code[0] != '\0' &&
               (o->state == OUTBOX_FORWARDING || o->state == OUTBOX_IDLE)) {
        o->told_code[0] = '\0';
        log_emit(o->hub->log, LOG_INFO, "outbox goes on", log_str("outbox", o->path),
                 log_int("waiting", (int64_t)file->totals.waiting));
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct outbox *o = timer->data;
    o->timer_at = 0;
    hub_awake(o->hub); /* the turn does what there is to do */
}

static void set_timer(struct outbox *o, uint64_t now, uint64_t at)
{
    uint64_t overdue = outbox_next_overdue(o);
    if (overdue != 0 && (at == 0 || overdue < at))
        at = overdue;
    if (o->expiry && writer_get_state(o->writer)->totals.first != 0 && !o->expiring &&
        (at == 0 || o->expire_at < at))
        at = o->expire_at;
    if (at == o->timer_at)
        return;
    o->timer_at = at;
    if (at == 0) {
        uv_timer_stop(&o->timer);
        return;
    }
    uv_update_time(o->hub->loop);
    uv_timer_start(&o->timer, on_timer, at > now ? at - now : 0, 0);
}

static void take_places(struct outbox *o)
{
    const writer_state *file = writer_get_state(o->writer);
    if (o->places_known || !file->open)
        return;
    o->places_known = true;
    o->places = *writer_get_places(o->writer);
}

void outbox_drive(struct outbox *o)
{
    uint64_t now = clock_ms(), again = 0;
    take_places(o);
    outbox_free_done(o);
    check_link(o);
    outbox_check_overdue(o, now);
    outbox_expire_more(o, now);
    if (o->connection != NULL) {
        read_more(o);
        again = forward_more(o, now);
    }
    outbox_free_done(o);
    note_state(o);
    set_timer(o, now, again);
}

void outbox_stop_driving(struct outbox *o)
{
    forward_entry *f;
    streams_cancel(&o->streams);
    streams_forget(&o->streams);
    while ((f = forward_oldest(&o->forward)) != NULL) {
        outbox_entry *entry = f->data;
        connection_request_cancel(entry->via, f->request);
        entry->via = NULL;
        forward_drop(f);
        forward_failed(&o->forward, f, FORWARD_TEMPORARY, clock_ms(), 0);
    }
    forward_drop_all(&o->forward);
    outbox_free_done(o);
}
