/* The metrics of scripts. See user_metrics.h. */
#include "health/user_metrics.h"

#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/utf8.h"
#include "health/exposition.h"

#define BUCKETS 1024u        /* of the hash table over all series */
#define TELL_NS 60000000000u /* between two lines of the log about refusals */

struct series {
    struct series *next;      /* of its bucket */
    struct series *of_metric; /* the next one of its metric */
    struct metric *metric;
    char *labels;
    double value; /* not of a histogram */
    histogram *histogram;
};

struct metric {
    struct metric *next;
    struct user_metrics *all;
    unsigned references;
    metric_type type;
    char *name, *help;
    histogram_shape shape;
    struct series *series;
    unsigned series_count;
};

struct user_metrics {
    pthread_mutex_t lock; /* of all below */
    struct metric *metrics;
    unsigned metric_count, series_count;
    uint64_t refused; /* changes of series that were one too many */
    uint64_t told_at; /* ns; 0: never */
    struct series *buckets[BUCKETS];
};

const char *metric_type_name(metric_type type)
{
    static const char *const names[] = {"counter", "gauge", "histogram"};
    return names[type];
}

metric_type metric_get_type(const struct metric *m)
{
    return m->type;
}

/* ---- making and ending ---- */

struct user_metrics *user_metrics_new(void)
{
    struct user_metrics *all = calloc(1, sizeof *all);
    if (all != NULL)
        pthread_mutex_init(&all->lock, NULL);
    return all;
}

static struct series **bucket_of(struct user_metrics *all, const struct metric *m,
                                 const char *labels)
{
    uint64_t hash = 14695981039346656037ull ^ (uint64_t)(uintptr_t)m; /* FNV-1a */
    for (; *labels != '\0'; labels++)
        hash = (hash ^ (unsigned char)*labels) * 1099511628211ull;
    return &all->buckets[(hash ^ (hash >> 32)) % BUCKETS];
}

static void free_series(struct user_metrics *all, struct series *s)
{
    struct series **at = bucket_of(all, s->metric, s->labels);
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    all->series_count--;
    free(s->labels);
    free(s->histogram);
    free(s);
}

/* Under the lock. */
static void free_metric(struct metric *m)
{
    for (struct series *s = m->series, *next; s != NULL; s = next) {
        next = s->of_metric;
        free_series(m->all, s);
    }
    struct metric **at = &m->all->metrics;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    m->all->metric_count--;
    free(m->name);
    free(m->help);
    free(m);
}

void user_metrics_free(struct user_metrics *all)
{
    if (all == NULL)
        return;
    while (all->metrics != NULL)
        free_metric(all->metrics);
    pthread_mutex_destroy(&all->lock);
    free(all);
}

/* ---- declaring ---- */

static const char *name_problem(const char *name)
{
    if (name[0] == '\0' || strlen(name) > 128)
        return "it has 1 to 128 characters";
    if (isdigit((unsigned char)name[0]))
        return "it does not begin with a digit";
    for (const char *at = name; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && *at != '_' && *at != ':')
            return "it has letters, digits, _ and : only";
    if (strncmp(name, "moondog_", 8) == 0 || strncmp(name, "process_", 8) == 0)
        return "names that begin with moondog_ or process_ are moondog's own";
    return NULL;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), size = strlen(end);
    return length >= size && strcmp(text + length - size, end) == 0;
}

static struct metric *metric_new(struct user_metrics *all, const metric_declaration *d,
                                 const char *name)
{
    static const char *const helps[] = {"A counter of the script.", "A gauge of the script.",
                                        "A histogram of the script."};
    struct metric *m = calloc(1, sizeof *m);
    if (m == NULL)
        return NULL;
    *m = (struct metric){.all = all, .type = d->type, .shape = d->shape};
    const char *help = d->help != NULL && d->help[0] != '\0' ? d->help : helps[d->type];
    m->name = strdup(name);
    m->help = utf8_repair(help, strlen(help)); /* else the whole page would be refused */
    if (m->name == NULL || m->help == NULL) {
        free(m->name);
        free(m->help);
        free(m);
        return NULL;
    }
    m->next = all->metrics;
    all->metrics = m;
    all->metric_count++;
    return m;
}

static bool same_shape(const histogram_shape *a, const histogram_shape *b)
{
    return a->count == b->count &&
           memcmp(a->bounds, b->bounds, a->count * sizeof a->bounds[0]) == 0;
}

/* Names that a histogram is written with must be nobody else's. */
static bool names_meet(const struct metric *m, const char *name, metric_type type)
{
    static const char *const suffixes[] = {"_bucket", "_sum", "_count"};
    for (size_t i = 0; i < 3; i++) {
        char own[160];
        snprintf(own, sizeof own, "%s%s", m->name, suffixes[i]);
        if (m->type == METRIC_HISTOGRAM && strcmp(own, name) == 0)
            return true;
        snprintf(own, sizeof own, "%s%s", name, suffixes[i]);
        if (type == METRIC_HISTOGRAM && strcmp(own, m->name) == 0)
            return true;
    }
    return false;
}

/* Under the lock. */
static struct metric *find_or_make(struct user_metrics *all, const metric_declaration *d,
                                   const char *name, error *e)
{
    for (struct metric *m = all->metrics; m != NULL; m = m->next) {
        if (strcmp(m->name, name) != 0) {
            if (!names_meet(m, name, d->type))
                continue;
            error_set(e, "name_taken", ERROR_CLASS_NONE,
                      "metric \"%s\": the %s %s is written with that name", name,
                      metric_type_name(m->type), m->name);
            return NULL;
        }
        if (m->type == d->type && (m->type != METRIC_HISTOGRAM || same_shape(&m->shape, &d->shape)))
            return m;
        error_set(e, "name_taken", ERROR_CLASS_NONE,
                  "metric \"%s\" is a %s already%s: a metric keeps its type and its buckets, also "
                  "across a reload; give the new one another name",
                  name, metric_type_name(m->type),
                  m->type == d->type ? ", with other buckets" : "");
        return NULL;
    }
    if (all->metric_count >= USER_METRICS_MAX) {
        error_set(e, "too_many_metrics", ERROR_CLASS_LIMIT,
                  "metric \"%s\": there are %u already; what differs in a value is a label, not a "
                  "name",
                  name, USER_METRICS_MAX);
        return NULL;
    }
    struct metric *m = metric_new(all, d, name);
    if (m == NULL)
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a metric");
    return m;
}

struct metric *metric_declare(struct user_metrics *all, const metric_declaration *d, error *e)
{
    char name[160];
    const char *problem = name_problem(d->name);
    if (problem != NULL) {
        error_set(e, "bad_name", ERROR_CLASS_NONE, "bad name of a metric \"%.100s\": %s", d->name,
                  problem);
        return NULL;
    }
    snprintf(name, sizeof name, "%s%s", d->name,
             d->type == METRIC_COUNTER && !ends_with(d->name, "_total") ? "_total" : "");
    pthread_mutex_lock(&all->lock);
    struct metric *m = find_or_make(all, d, name, e);
    if (m != NULL)
        m->references++;
    pthread_mutex_unlock(&all->lock);
    return m;
}

void metric_release(struct metric *m)
{
    struct user_metrics *all = m->all;
    pthread_mutex_lock(&all->lock);
    if (--m->references == 0)
        free_metric(m);
    pthread_mutex_unlock(&all->lock);
}

/* ---- changing ---- */

static struct series *series_new(struct metric *m, struct series **bucket, const char *labels)
{
    struct series *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->metric = m;
    s->labels = strdup(labels);
    s->histogram = m->type == METRIC_HISTOGRAM ? calloc(1, sizeof *s->histogram) : NULL;
    if (s->labels == NULL || (m->type == METRIC_HISTOGRAM && s->histogram == NULL)) {
        free(s->labels);
        free(s->histogram);
        free(s);
        return NULL;
    }
    s->next = *bucket;
    *bucket = s;
    s->of_metric = m->series;
    m->series = s;
    m->series_count++;
    m->all->series_count++;
    return s;
}

/* Under the lock. */
static struct series *find_series(struct metric *m, const char *labels, error *e)
{
    struct series **bucket = bucket_of(m->all, m, labels);
    for (struct series *s = *bucket; s != NULL; s = s->next)
        if (s->metric == m && strcmp(s->labels, labels) == 0)
            return s;
    if (m->all->series_count >= USER_SERIES_MAX) {
        m->all->refused++;
        error_set(e, "too_many_series", ERROR_CLASS_LIMIT,
                  "metric %s{%.200s}: the script has %u series already, and this is a new one; use "
                  "labels with few values",
                  m->name, labels, USER_SERIES_MAX);
        return NULL;
    }
    struct series *s = series_new(m, bucket, labels);
    if (s == NULL)
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a metric");
    return s;
}

typedef enum { ADD, SET, OBSERVE } change;

static int apply(struct metric *m, change what, const char *labels, double value, error *e)
{
    pthread_mutex_lock(&m->all->lock);
    struct series *s = find_series(m, labels, e);
    if (s != NULL && what == OBSERVE)
        histogram_add(s->histogram, &m->shape, value, 1);
    else if (s != NULL)
        s->value = what == SET ? value : s->value + value;
    pthread_mutex_unlock(&m->all->lock);
    return s != NULL ? 0 : -1;
}

int metric_add(struct metric *m, const char *labels, double value, error *e)
{
    return apply(m, ADD, labels, value, e);
}

int metric_set(struct metric *m, const char *labels, double value, error *e)
{
    return apply(m, SET, labels, value, e);
}

int metric_observe(struct metric *m, const char *labels, double value, error *e)
{
    return apply(m, OBSERVE, labels, value, e);
}

bool metric_may_tell(struct metric *m)
{
    uint64_t now = uv_hrtime();
    pthread_mutex_lock(&m->all->lock);
    bool may = m->all->told_at == 0 || now - m->all->told_at >= TELL_NS;
    if (may)
        m->all->told_at = now;
    pthread_mutex_unlock(&m->all->lock);
    return may;
}

/* ---- copies ---- */

struct copied_series {
    char *labels;
    double value;
    histogram histogram;
};

struct copied_metric {
    metric_type type;
    char *name, *help;
    histogram_shape shape;
    struct copied_series *series;
    unsigned count;
};

struct user_metrics_copy {
    unsigned count;
    struct copied_metric metrics[USER_METRICS_MAX];
};

static bool copy_metric(struct copied_metric *to, const struct metric *m)
{
    *to = (struct copied_metric){.type = m->type,
                                 .name = strdup(m->name),
                                 .help = strdup(m->help),
                                 .shape = m->shape,
                                 .series = calloc(m->series_count + 1, sizeof to->series[0])};
    if (to->name == NULL || to->help == NULL || to->series == NULL)
        return false;
    for (const struct series *s = m->series; s != NULL; s = s->of_metric) {
        struct copied_series *one = &to->series[to->count];
        one->labels = strdup(s->labels);
        if (one->labels == NULL)
            return false;
        to->count++;
        one->value = s->value;
        if (s->histogram != NULL)
            one->histogram = *s->histogram;
    }
    return true;
}

struct user_metrics_copy *user_metrics_copy(struct user_metrics *all)
{
    struct user_metrics_copy *copy = calloc(1, sizeof *copy);
    bool good = copy != NULL;
    pthread_mutex_lock(&all->lock);
    for (const struct metric *m = all->metrics; m != NULL && good; m = m->next)
        good = copy_metric(&copy->metrics[copy->count++], m);
    pthread_mutex_unlock(&all->lock);
    if (good)
        return copy;
    user_metrics_copy_free(copy);
    return NULL;
}

void user_metrics_copy_free(struct user_metrics_copy *copy)
{
    if (copy == NULL)
        return;
    for (unsigned i = 0; i < copy->count; i++) {
        struct copied_metric *m = &copy->metrics[i];
        for (unsigned k = 0; k < m->count; k++)
            free(m->series[k].labels);
        free(m->series);
        free(m->name);
        free(m->help);
    }
    free(copy);
}

void user_metrics_write(const struct user_metrics_copy *copy, FILE *out)
{
    exposition x = {.out = out};
    for (unsigned i = copy->count; i > 0; i--) { /* the oldest first */
        const struct copied_metric *m = &copy->metrics[i - 1];
        exposition_family(&x, m->name, metric_type_name(m->type), m->help);
        for (unsigned k = m->count; k > 0; k--) {
            const struct copied_series *s = &m->series[k - 1];
            if (m->type == METRIC_HISTOGRAM)
                exposition_histogram(&x, s->labels, &m->shape, &s->histogram);
            else
                exposition_sample(&x, s->labels, s->value);
        }
    }
}

void user_metrics_count(struct user_metrics *all, uint64_t *series, uint64_t *refused)
{
    pthread_mutex_lock(&all->lock);
    *series = all->series_count;
    *refused = all->refused;
    pthread_mutex_unlock(&all->lock);
}
