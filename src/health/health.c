/* What the loop publishes, and how others take it. See health.h. */
#include "health/health.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "health/http.h"
#include "report.h"
#include "runtime_private.h"

#define MISSED_NS 500000000u /* after a wait that was in vain, nobody waits for so long */

#define REFRESH_NS 1000000000u

enum { WANT_METRICS = 1, WANT_STATUS = 2 };

struct health {
    md_runtime *rt;
    struct http *http;
    uint64_t refreshed_at; /* ns */
    atomic_uint wanted;    /* what is to be made at the next turn */
    uv_mutex_t lock;       /* of all below: held for a few instructions */
    uv_cond_t made;
    readiness *readiness;
    metrics *metrics;
    char *status;
    uint64_t metrics_made, status_made; /* how often */
    uint64_t missed_at;                 /* ns: when the loop did not make one in time; 0: it did */
};

/* ---- the loop ---- */

/* For a supervisor: this is a version that it may come back to. */
static void tell_that_it_works(md_runtime *rt, const readiness *r)
{
    if (!rt->supervision.active || !r->loaded || r->stopping || r->ready < r->required ||
        rt->supervision.worked == r->generation)
        return;
    rt->supervision.worked = r->generation;
    notify_send(rt->manager, -1, "X_MOONDOG_WORKS=1");
}

static void publish_readiness(struct health *h)
{
    char summary[NOTIFY_TEXT_MAX - 16];
    readiness *fresh = readiness_of(h->rt);
    if (fresh == NULL) {
        hub_later(&h->rt->hub, 1000); /* no memory: what is known is kept, and made again then */
        return;
    }
    h->rt->hub.health_changed = false;
    uv_mutex_lock(&h->lock);
    readiness *old = h->readiness;
    h->readiness = fresh;
    uv_mutex_unlock(&h->lock);
    readiness_release(old);
    readiness_summary(fresh, summary, sizeof summary);
    sentinel_set_status(&h->rt->sentinel, summary);
    tell_that_it_works(h->rt, fresh);
}

static void publish_metrics(struct health *h)
{
    metrics *fresh = metrics_of(h->rt);
    uv_mutex_lock(&h->lock);
    metrics *old = h->metrics;
    if (fresh != NULL)
        h->metrics = fresh;
    h->metrics_made++;
    uv_cond_broadcast(&h->made);
    uv_mutex_unlock(&h->lock);
    if (fresh != NULL)
        metrics_release(old);
}

static void publish_status(struct health *h)
{
    char *fresh = md_status(h->rt);
    uv_mutex_lock(&h->lock);
    char *old = h->status;
    if (fresh != NULL)
        h->status = fresh;
    h->status_made++;
    uv_cond_broadcast(&h->made);
    uv_mutex_unlock(&h->lock);
    if (fresh != NULL)
        free(old);
}

/* What a loop that gets stuck leaves behind is not much older than what happened last. */
static void keep_fresh(struct health *h)
{
    uint64_t now = uv_hrtime();
    if (h->http == NULL || now - h->refreshed_at < REFRESH_NS)
        return;
    h->refreshed_at = now;
    atomic_fetch_or(&h->wanted, WANT_METRICS | WANT_STATUS);
}

void health_turn(struct health *h)
{
    if (h == NULL)
        return;
    if (h->rt->hub.health_changed) {
        publish_readiness(h);
        keep_fresh(h);
    }
    if (atomic_load_explicit(&h->wanted, memory_order_relaxed) == 0)
        return;
    unsigned wanted = atomic_exchange(&h->wanted, 0);
    if (wanted & WANT_METRICS)
        publish_metrics(h);
    if (wanted & WANT_STATUS)
        publish_status(h);
}

/* ---- making and ending ---- */

struct health *health_new(md_runtime *rt, const char *http, error *e)
{
    struct health *h = calloc(1, sizeof *h);
    if (h == NULL || uv_mutex_init(&h->lock) != 0) {
        free(h);
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for health");
        return NULL;
    }
    uv_cond_init(&h->made);
    h->rt = rt;
    publish_readiness(h); /* a script that hangs while it is loaded is asked about as well */
    publish_metrics(h);
    publish_status(h);
    if (http != NULL && (h->http = http_new(h, http, rt->log, e)) == NULL) {
        health_free(h);
        return NULL;
    }
    return h;
}

void health_free(struct health *h)
{
    if (h == NULL)
        return;
    http_free(h->http);
    readiness_release(h->readiness);
    metrics_release(h->metrics);
    free(h->status);
    uv_cond_destroy(&h->made);
    uv_mutex_destroy(&h->lock);
    free(h);
}

/* ---- others ---- */

readiness *health_readiness(struct health *h)
{
    uv_mutex_lock(&h->lock);
    readiness *r = h->readiness;
    if (r != NULL)
        atomic_fetch_add(&r->references, 1);
    uv_mutex_unlock(&h->lock);
    return r;
}

void health_stall(struct health *h, stall *out)
{
    sentinel_stall(&h->rt->sentinel, out);
}

sentinel *health_sentinel(struct health *h)
{
    return &h->rt->sentinel;
}

/* With the lock: until the loop has made a fresh one, or does not. */
static void wait_for(struct health *h, unsigned want, const uint64_t *made)
{
    uint64_t before = *made, now = uv_hrtime(), until = now + HEALTH_WAIT_MS * 1000000ull;
    stall s;
    sentinel_stall(&h->rt->sentinel, &s);
    atomic_fetch_or(&h->wanted, want);
    hub_again(&h->rt->hub);
    if (s.stalled || now - h->missed_at < MISSED_NS)
        return; /* many who ask would wait one after the other, and /livez behind them */
    while (*made == before && (now = uv_hrtime()) < until)
        uv_cond_timedwait(&h->made, &h->lock, until - now);
    h->missed_at = *made == before ? now : 0;
}

metrics *health_metrics(struct health *h)
{
    uv_mutex_lock(&h->lock);
    wait_for(h, WANT_METRICS, &h->metrics_made);
    metrics *m = metrics_retain(h->metrics);
    uv_mutex_unlock(&h->lock);
    return m;
}

char *health_status(struct health *h)
{
    uv_mutex_lock(&h->lock);
    wait_for(h, WANT_STATUS, &h->status_made);
    char *status = h->status != NULL ? strdup(h->status) : NULL;
    uv_mutex_unlock(&h->lock);
    return status;
}
