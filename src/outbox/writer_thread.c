/* What the thread of an outbox does: it opens the file, and writes one transaction after the other.
 * See writer.h. The writer's own thread. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "outbox/writer_private.h"

#define RETRY_MS 100u /* before the file is tried again; doubled up to... */
#define RETRY_MAX_MS 5000u
#define EXPIRE_MAX 2000u /* that are looked at in one transaction */

typedef struct {
    writer_job *first, **end;
} list;

static void list_init(list *l)
{
    l->first = NULL;
    l->end = &l->first;
}

static void list_add(list *l, writer_job *job)
{
    job->next = NULL;
    *l->end = job;
    l->end = &job->next;
}

static void fail_job(writer_job *job, const error *e)
{
    job->failed = true;
    job->error = malloc(sizeof *job->error);
    if (job->error != NULL)
        *job->error = *e;
}

/* ---- the file ---- */

static void note_problem(writer *w, const error *e)
{
    uint32_t wait = w->retries < 6 ? RETRY_MS << w->retries : RETRY_MAX_MS;
    w->now.problem = *e;
    w->retries++;
    w->retry_at = clock_ms() + (wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS);
}

static void note_good(writer *w)
{
    w->now.problem.code[0] = '\0';
    w->retries = 0;
    w->retry_at = 0;
    w->now.totals = *store_get_totals(w->store);
}

static void close_file(writer *w)
{
    store_close(w->store);
    w->store = NULL;
}

static int open_file(writer *w, error *e)
{
    if (w->store != NULL && store_has_moved(w->store))
        close_file(w); /* what was in it is where it is now; a new one is made */
    if (w->store != NULL)
        return 0;
    if (clock_ms() < w->retry_at) {
        *e = w->now.problem;
        return -1;
    }
    uv_mutex_lock(&w->lock);
    store_options options = {.path = w->path,
                             .fsync = w->fsync,
                             .max_bytes = w->max_bytes,
                             .last_id = w->now.totals.last,
                             .max_pages = w->max_pages};
    uv_mutex_unlock(&w->lock);
    w->store = store_open(&options, e);
    if (w->store != NULL && !w->now.open && store_get_places(w->store, &w->places, e) != 0) {
        store_close(w->store);
        w->store = NULL;
    }
    if (w->store == NULL) {
        note_problem(w, e);
        return -1;
    }
    if (!w->now.open) /* from then on the loop knows better */
        w->now.first_max = store_get_totals(w->store)->last;
    w->now.open = true;
    note_good(w);
    return 0;
}

/* ---- one transaction ---- */

/* Of the removals of a transaction, where the last one is: written when that is known. */
typedef struct {
    const char *stream;
    uint64_t sequence;
} last_place;

static int write_last(store *s, last_place *last, error *e)
{
    uint64_t sequence = last->sequence;
    last->sequence = 0;
    return sequence > 0 ? store_set_last(s, last->stream, sequence, e) : 0;
}

static int remove_job(store *s, writer_job *job, last_place *last, error *e)
{
    bool was_there;
    if (job->sequence > 0) {
        if (last->sequence > 0 && strcmp(last->stream, job->text) != 0 &&
            write_last(s, last, e) != 0)
            return -1;
        *last = (last_place){job->text, job->sequence};
    }
    return store_remove(s, job->id, &was_there, e);
}

/* 0: it is done, or has failed by itself; -1 and *e: the transaction has failed. */
static int write_job(store *s, writer_job *job, last_place *last, error *e)
{
    error own = {0};
    switch (job->kind) {
    case WRITER_PUT:
        if (store_put(s, &job->message, &job->put, &own) == 0)
            return 0;
        if (strcmp(own.code, "outbox_full") == 0 || strcmp(own.code, "set_aside") == 0) {
            fail_job(job, &own);
            return 0;
        }
        *e = own;
        return -1;
    case WRITER_REMOVE:
        return remove_job(s, job, last, e);
    case WRITER_SET_ASIDE:
        return store_set_aside(s, job->id, job->text, clock_wall_ms(), e);
    case WRITER_EXPIRE:
        return store_expire(s, &job->id, clock_wall_ms(), EXPIRE_MAX, &job->count, e);
    case WRITER_READ:
    case WRITER_MARK:
        break;
    }
    return 0;
}

static bool is_write(const writer_job *job)
{
    return job->kind != WRITER_READ && job->kind != WRITER_MARK;
}

static int write_all(store *s, const list *jobs, error *e)
{
    last_place last = {0};
    int failed = store_begin(s, e);
    if (failed != 0)
        return -1;
    for (writer_job *job = jobs->first; job != NULL && failed == 0; job = job->next)
        failed = write_job(s, job, &last, e);
    if (failed == 0)
        failed = write_last(s, &last, e);
    if (failed != 0) {
        store_rollback(s);
        return -1;
    }
    return store_commit(s, e);
}

/* ---- reading, of what is committed ---- */

struct reading {
    writer_job *job;
    outbox_entry **end;
    size_t bytes;
    bool no_memory;
};

static outbox_entry *copy_entry(const store_entry *from)
{
    size_t size =
        from->msg_id_length + from->subject_length + from->header_length + from->data_length + 4;
    outbox_entry *to = malloc(sizeof *to + size);
    if (to == NULL)
        return NULL;
    char *at = to->text;
    *to = (outbox_entry){.id = from->id,
                         .created = from->created,
                         .expires = from->expires,
                         .msg_id_length = from->msg_id_length,
                         .subject_length = from->subject_length,
                         .header_length = from->header_length,
                         .data_length = from->data_length};
    const char **texts[] = {&to->msg_id, &to->subject, &to->headers, &to->data};
    const char *const sources[] = {from->msg_id, from->subject, from->headers, from->data};
    const size_t lengths[] = {from->msg_id_length, from->subject_length, from->header_length,
                              from->data_length};
    for (int i = 0; i < 4; i++) {
        *texts[i] = at;
        if (lengths[i] > 0)
            memcpy(at, sources[i], lengths[i]);
        at[lengths[i]] = '\0';
        at += lengths[i] + 1;
    }
    return to;
}

static int take_entry(void *closure, const store_entry *from)
{
    struct reading *r = closure;
    size_t size = from->header_length + from->data_length;
    if (r->job->entries != NULL && r->bytes + size > r->job->max_bytes)
        return 1;
    outbox_entry *entry = copy_entry(from);
    if (entry == NULL) {
        r->no_memory = true;
        return 1;
    }
    r->bytes += size;
    *r->end = entry;
    r->end = &entry->next;
    return 0;
}

static int read_job(store *s, writer_job *job, error *e)
{
    struct reading r = {.job = job, .end = &job->entries};
    if (job->kind == WRITER_MARK) {
        job->id = store_get_totals(s)->last;
        return 0;
    }
    if (store_read(s, job->id, job->max, take_entry, &r, e) != 0)
        return -1;
    job->sequence = (uint64_t)store_get_totals(s)->last;
    if (r.no_memory && job->entries == NULL)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for an entry of an outbox");
    return 0;
}

/* ---- a batch ---- */

static bool is_held(const writer_job *job)
{
    return job->kind == WRITER_REMOVE || job->kind == WRITER_SET_ASIDE;
}

/* What has failed is told, or kept for the next time. */
static void give_up(writer *w, const list *jobs, const error *e, list *finished)
{
    if (w->store != NULL && strcmp(e->code, "outbox_corrupt") == 0)
        close_file(w);
    for (writer_job *job = jobs->first, *next; job != NULL; job = next) {
        next = job->next;
        job->next = NULL;
        if (is_held(job)) {
            *w->held_end = job;
            w->held_end = &job->next;
            continue;
        }
        if (job->error == NULL)
            fail_job(job, e);
        list_add(finished, job);
    }
}

static void do_reads(writer *w, const list *reads, list *finished)
{
    for (writer_job *job = reads->first, *next; job != NULL; job = next) {
        error e = {0};
        next = job->next;
        if (w->store == NULL)
            e = w->now.problem;
        if (w->store == NULL || read_job(w->store, job, &e) != 0) {
            fail_job(job, &e);
            note_problem(w, &e);
            if (strcmp(e.code, "outbox_corrupt") == 0 && w->store != NULL)
                close_file(w);
        }
        list_add(finished, job);
    }
}

static void do_batch(writer *w, writer_job *batch, list *finished)
{
    list writes, reads;
    error e = {0};
    list_init(&writes);
    list_init(&reads);
    for (writer_job *job = batch, *next; job != NULL; job = next) {
        next = job->next;
        list_add(is_write(job) ? &writes : &reads, job);
    }
    if (open_file(w, &e) != 0) {
        give_up(w, &writes, &e, finished);
        give_up(w, &reads, &e, finished);
        return;
    }
    if (writes.first != NULL && write_all(w->store, &writes, &e) != 0) {
        note_problem(w, &e);
        give_up(w, &writes, &e, finished);
    } else if (writes.first != NULL) {
        note_good(w);
        *finished->end = writes.first;
        finished->end = writes.end;
    }
    do_reads(w, &reads, finished);
    if (w->store != NULL)
        w->now.totals = *store_get_totals(w->store);
}

/* ---- the thread ---- */

/* In the lock: waits for something to do. False: nothing comes any more. */
static bool wait_for_work(writer *w)
{
    while (w->incoming == NULL && !w->stop && !w->limits_changed) {
        bool wanting = w->store == NULL || w->held != NULL;
        uint64_t now = clock_ms();
        if (!wanting)
            uv_cond_wait(&w->work, &w->lock);
        else if (now >= w->retry_at)
            return true;
        else
            uv_cond_timedwait(&w->work, &w->lock, (w->retry_at - now) * 1000000u);
    }
    return w->incoming != NULL || !w->stop;
}

/* In the lock: what was kept comes first. */
static writer_job *take_batch(writer *w)
{
    writer_job *batch = w->incoming;
    /* What could not be done is tried again at its time, and whenever else the file is written
     * would be too often: each publish that fails would wait for it. */
    if (w->held != NULL && (clock_ms() >= w->retry_at || w->stop)) {
        *w->held_end = batch;
        batch = w->held;
        w->held = NULL;
        w->held_end = &w->held;
    }
    w->incoming = NULL;
    w->incoming_end = &w->incoming;
    return batch;
}

static void post(writer *w, const list *finished)
{
    uv_mutex_lock(&w->lock);
    if (finished->first != NULL) {
        *w->finished_end = finished->first;
        w->finished_end = finished->end;
    }
    w->posted = w->now;
    if (!w->abandoned)
        uv_async_send(&w->async);
    uv_mutex_unlock(&w->lock);
}

static void turn(writer *w)
{
    list finished;
    list_init(&finished);
    uv_mutex_lock(&w->lock);
    writer_job *batch = take_batch(w);
    bool limits_changed = w->limits_changed;
    int64_t max_bytes = w->max_bytes;
    bool fsync = w->fsync;
    w->limits_changed = false;
    uv_mutex_unlock(&w->lock);
    if (limits_changed && w->store != NULL)
        store_set_limits(w->store, max_bytes, fsync);
    do_batch(w, batch, &finished);
    post(w, &finished);
}

/* The end: what could not be done stays in the file, and is found there the next time. */
static void end(writer *w)
{
    store_close(w->store);
    uv_mutex_lock(&w->lock);
    *w->finished_end = w->held;
    w->ended = true;
    w->posted = w->now;
    if (!w->abandoned)
        uv_async_send(&w->async);
    uv_mutex_unlock(&w->lock);
}

void writer_run(void *closure)
{
    writer *w = closure;
    sigset_t all;
    /* Signals are the loop's; SIGXFSZ, which a write beyond a limit of the process raises in the
     * thread that writes, is an error of that write. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    w->held_end = &w->held;
    for (;;) {
        uv_mutex_lock(&w->lock);
        bool more = wait_for_work(w);
        uv_mutex_unlock(&w->lock);
        if (!more)
            break;
        turn(w);
    }
    if (w->held != NULL)
        turn(w); /* for the last time */
    end(w);
}
