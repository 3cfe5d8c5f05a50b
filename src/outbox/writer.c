/* The loop's side of an outbox's thread. See writer.h; what the thread does is in writer_thread.c.
 * Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "outbox/writer_private.h"

writer_job *writer_job_new(writer_kind kind, size_t text)
{
    writer_job *job = calloc(1, sizeof *job + text);
    if (job == NULL)
        return NULL;
    job->kind = kind;
    job->bytes = sizeof *job + text;
    return job;
}

void writer_job_free(writer_job *job)
{
    if (job == NULL)
        return;
    for (outbox_entry *entry = job->entries, *next; entry != NULL; entry = next) {
        next = entry->next;
        free(entry);
    }
    free(job->error);
    free(job);
}

/* ---- handing over ---- */

static bool takes_away(const writer_job *job)
{
    return job->kind == WRITER_REMOVE || job->kind == WRITER_SET_ASIDE;
}

int writer_submit(writer *w, writer_job *job, error *e)
{
    if (job->kind == WRITER_PUT) {
        bool room = w->put_count == 0 || w->put_bytes + job->bytes <= WRITER_BYTES_MAX;
        if (w->put_count >= WRITER_MESSAGES_MAX || !room)
            return error_set(e, "too_many", ERROR_CLASS_LIMIT,
                             "outbox %s: %u messages (%zu bytes) wait to be written already: the "
                             "disk is slower than what is published",
                             w->path, w->put_count, w->put_bytes);
        w->put_count++;
        w->put_bytes += job->bytes;
    }
    w->removals += takes_away(job);
    w->open_jobs++;
    *w->local_end = job;
    w->local_end = &job->next;
    return 0;
}

void writer_hand_over(writer *w)
{
    if (w->local == NULL)
        return;
    uv_mutex_lock(&w->lock);
    *w->incoming_end = w->local;
    w->incoming_end = w->local_end;
    uv_cond_signal(&w->work);
    uv_mutex_unlock(&w->lock);
    w->local = NULL;
    w->local_end = &w->local;
}

bool writer_is_idle(const writer *w)
{
    return w->open_jobs == 0;
}

unsigned writer_removals(const writer *w)
{
    return w->removals;
}

const writer_state *writer_get_state(const writer *w)
{
    return &w->state;
}

/* The thread has written it before it said that the file is open, and never again. */
const store_places *writer_get_places(const writer *w)
{
    return &w->places;
}

void writer_set_limits(writer *w, int64_t max_bytes, bool fsync)
{
    uv_mutex_lock(&w->lock);
    w->max_bytes = max_bytes;
    w->fsync = fsync;
    w->limits_changed = true;
    uv_cond_signal(&w->work);
    uv_mutex_unlock(&w->lock);
}

/* ---- results ---- */

static void finish(writer *w, writer_job *job)
{
    w->open_jobs--;
    w->removals -= takes_away(job);
    if (job->kind == WRITER_PUT) {
        w->put_count--;
        w->put_bytes -= job->bytes;
    }
    if (job->done != NULL)
        job->done(job);
    writer_job_free(job);
}

static void on_async_closed(uv_handle_t *handle)
{
    writer *w = handle->data;
    w->closed = true;
}

static void on_wake(uv_async_t *async)
{
    writer *w = async->data;
    hub_awake(w->hub);
    uv_mutex_lock(&w->lock);
    writer_job *job = w->finished;
    w->finished = NULL;
    w->finished_end = &w->finished;
    w->state = w->posted;
    bool ended = w->ended;
    uv_mutex_unlock(&w->lock);
    for (writer_job *next; job != NULL; job = next) {
        next = job->next;
        finish(w, job);
    }
    if (!w->closing)
        w->changed(w->closure);
    if (ended && !w->joined) {
        w->joined = true;
        uv_thread_join(&w->thread); /* its last act was to wake us */
        uv_close((uv_handle_t *)async, on_async_closed);
    }
}

/* ---- making and ending ---- */

static void free_all(writer *w)
{
    uv_cond_destroy(&w->work);
    uv_mutex_destroy(&w->lock);
    free(w->path);
    free(w);
}

static void on_useless_closed(uv_handle_t *handle)
{
    free_all(handle->data);
}

writer *writer_new(struct hub *hub, const store_options *options, void (*changed)(void *closure),
                   void *closure)
{
    writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return NULL;
    w->path = strdup(options->path);
    w->hub = hub;
    w->changed = changed;
    w->closure = closure;
    w->max_bytes = options->max_bytes;
    w->max_pages = options->max_pages;
    w->fsync = options->fsync;
    w->local_end = &w->local;
    w->incoming_end = &w->incoming;
    w->finished_end = &w->finished;
    if (w->path == NULL || uv_mutex_init(&w->lock) != 0) {
        free(w->path);
        free(w);
        return NULL;
    }
    if (uv_cond_init(&w->work) != 0) {
        uv_mutex_destroy(&w->lock);
        free(w->path);
        free(w);
        return NULL;
    }
    w->async.data = w;
    if (uv_async_init(hub->loop, &w->async, on_wake) != 0) {
        free_all(w);
        return NULL;
    }
    uv_unref((uv_handle_t *)&w->async);
    if (thread_start(&w->thread, writer_run, w) != 0) {
        uv_close((uv_handle_t *)&w->async, on_useless_closed);
        return NULL;
    }
    return w;
}

void writer_close(writer *w)
{
    if (w->closing)
        return;
    w->closing = true;
    writer_hand_over(w);
    uv_mutex_lock(&w->lock);
    w->stop = true;
    uv_cond_signal(&w->work);
    uv_mutex_unlock(&w->lock);
}

bool writer_closed(const writer *w)
{
    return w->closed;
}

static void free_jobs(writer_job *job)
{
    for (writer_job *next; job != NULL; job = next) {
        next = job->next;
        writer_job_free(job);
    }
}

void writer_free(writer *w)
{
    if (w == NULL)
        return;
    free_jobs(w->local); /* submitted after it was closed */
    free_all(w);
}

void writer_abandon(writer *w)
{
    uv_mutex_lock(&w->lock);
    w->abandoned = true;
    uv_mutex_unlock(&w->lock);
    if (!w->joined)
        uv_close((uv_handle_t *)&w->async, NULL);
    w->joined = true;
}
