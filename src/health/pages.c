/* What is served. See pages.h. */
#include "health/pages.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "health/health.h"
#include "report.h"

/* A page that takes long to make is given out again for three times as long: who asks for it
 * without end takes a quarter of this thread, and /livez is not kept waiting. */
#define KEPT_FACTOR 3u

enum { PAGES = 4, OTHER = PAGES };

struct kept_page {
    page_answer answer;
    uint64_t until; /* ns */
};

struct pages {
    struct health *health;
    struct kept_page kept[PAGES + 1];
};

struct pages *pages_new(struct health *h)
{
    struct pages *s = calloc(1, sizeof *s);
    if (s != NULL)
        s->health = h;
    return s;
}

typedef struct {
    unsigned status;
    const char *type;
    char *body; /* NULL: there is none, for want of memory or because nothing was published yet */
    size_t length;
} page;

static const char json_content[] = "application/json";
static const char text_content[] = "text/plain; charset=utf-8";

/* Takes the JSON; one line, for those who look at it in a terminal. */
static page json_page(health_answer a)
{
    size_t length = a.body != NULL ? strlen(a.body) : 0;
    char *line = a.body != NULL ? realloc(a.body, length + 2) : NULL;
    if (line == NULL) {
        free(a.body);
        return (page){a.status, json_content, NULL, 0};
    }
    line[length] = '\n';
    line[length + 1] = '\0';
    return (page){a.status, json_content, line, length + 1};
}

static page live_page(struct pages *s)
{
    stall now;
    health_stall(s->health, &now);
    return json_page(health_live(&now));
}

static page ready_page(struct pages *s)
{
    stall now;
    health_stall(s->health, &now);
    readiness *r = health_readiness(s->health);
    page p = json_page(health_ready(r, &now, clock_ms()));
    readiness_release(r);
    return p;
}

static page metrics_page(struct pages *s)
{
    page p = {200, "text/plain; version=0.0.4; charset=utf-8", NULL, 0};
    readiness *r = health_readiness(s->health);
    metrics *m = health_metrics(s->health);
    if (m != NULL)
        p.body = metrics_render(m, r, health_sentinel(s->health), &p.length);
    metrics_release(m);
    readiness_release(r);
    return p;
}

/* What the loop said of itself was true when it said it. */
static char *mark_stalled(char *status, const stall *now)
{
    json_t *all = json_loads(status, 0, NULL);
    free(status);
    json_object_set_new(all, "loop", report_stall(now));
    status = json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(all);
    return status;
}

static page status_page(struct pages *s)
{
    char *status = health_status(s->health);
    stall now;
    health_stall(s->health, &now);
    if (status != NULL && now.stalled)
        status = mark_stalled(status, &now);
    return json_page((health_answer){200, status});
}

static page plain_page(unsigned status, const char *text)
{
    char *copy = strdup(text);
    return (page){status, text_content, copy, copy != NULL ? strlen(copy) : 0};
}

static const struct {
    const char *path;
    page (*make)(struct pages *s);
    bool is_large; /* and takes its time */
} known[PAGES] = {
    {"/livez", live_page, false},
    {"/readyz", ready_page, false},
    {"/metrics", metrics_page, true},
    {"/status", status_page, true},
};

/* Takes the body. */
static bool make_answer(page p, page_answer *out)
{
    if (p.body == NULL)
        p = plain_page(503, "nothing is known yet, or there is no memory to say it\n");
    struct MHD_Response *response =
        p.body != NULL ? MHD_create_response_from_buffer(p.length, p.body, MHD_RESPMEM_MUST_FREE)
                       : NULL;
    if (response == NULL) {
        free(p.body);
        return false;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, p.type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (p.status == 405)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    *out = (page_answer){p.status, p.length, response};
    return true;
}

static void forget(struct kept_page *k)
{
    if (k->answer.response != NULL)
        MHD_destroy_response(k->answer.response);
    k->answer.response = NULL;
}

/* The library counts who uses a response: us, and each connection that it is sent to. */
static bool known_page(struct pages *s, unsigned i, page_answer *out)
{
    struct kept_page *k = &s->kept[i];
    uint64_t now = uv_hrtime();
    if (k->answer.response == NULL || now >= k->until) {
        forget(k);
        if (!make_answer(known[i].make(s), &k->answer))
            return false;
        uint64_t made = uv_hrtime();
        k->until = known[i].is_large ? made + KEPT_FACTOR * (made - now) : 0;
    }
    *out = k->answer;
    return true;
}

/* To anything else: it stays until the next one. */
static bool other_page(struct pages *s, unsigned status, const char *text, page_answer *out)
{
    struct kept_page *k = &s->kept[OTHER];
    forget(k);
    if (!make_answer(plain_page(status, text), &k->answer))
        return false;
    *out = k->answer;
    return true;
}

void pages_free(struct pages *s)
{
    for (unsigned i = 0; i <= OTHER; i++)
        forget(&s->kept[i]);
    free(s);
}

bool pages_answer(struct pages *s, const char *method, const char *path, page_answer *out)
{
    for (unsigned i = 0; i < PAGES; i++) {
        if (strcmp(path, known[i].path) != 0)
            continue;
        if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
            return other_page(s, 405, "only GET and HEAD\n", out);
        return known_page(s, i, out);
    }
    return other_page(s, 404, "there are /livez, /readyz, /metrics and /status\n", out);
}
