/* The numbers of the outboxes. See outbox_metrics.h. */
#include "health/outbox_metrics.h"

#include <stdlib.h>
#include <string.h>

#include "outbox/outbox.h"

#define LABELS_SIZE 8192 /* a path of which each byte is escaped */

struct one {
    char *name;
    outbox_status status;
};

struct outbox_metrics {
    size_t count;
    struct one list[];
};

/* That of the file, as long as there is one such only: a series is there once. */
static const char *name_of(const struct outboxes *all, const struct outbox *o)
{
    for (const struct outbox *other = all->first; other != NULL; other = outbox_after(other))
        if (other != o && strcmp(outbox_name(other), outbox_name(o)) == 0)
            return outbox_path(o);
    return outbox_name(o);
}

struct outbox_metrics *outbox_metrics_copy(const struct outboxes *all)
{
    size_t count = 0;
    for (const struct outbox *o = all->first; o != NULL; o = outbox_after(o))
        count++;
    struct outbox_metrics *m = calloc(1, sizeof *m + count * sizeof m->list[0]);
    if (m == NULL)
        return NULL;
    for (const struct outbox *o = all->first; o != NULL; o = outbox_after(o)) {
        struct one *one = &m->list[m->count];
        outbox_get_status(o, &one->status);
        if (one->status.state == OUTBOX_CLOSED) /* another one may have its file by now */
            continue;
        one->name = strdup(name_of(all, o));
        if (one->name == NULL) {
            outbox_metrics_free(m);
            return NULL;
        }
        m->count++;
    }
    return m;
}

void outbox_metrics_free(struct outbox_metrics *m)
{
    for (size_t i = 0; m != NULL && i < m->count; i++)
        free(m->list[i].name);
    free(m);
}

#define VALUE(name)                                                                                \
    static double get_##name(const outbox_status *s)                                               \
    {                                                                                              \
        return (double)s->name;                                                                    \
    }

VALUE(waiting)
VALUE(bytes)
VALUE(oldest)
VALUE(set_aside)
VALUE(forwarded)
VALUE(duplicates)
VALUE(dropped)
VALUE(expired)
VALUE(refused)

static const struct {
    const char *name, *type, *help;
    double (*value)(const outbox_status *s);
} families[] = {
    {"moondog_outbox_waiting", "gauge", "Messages on the disk that are not acknowledged yet.",
     get_waiting},
    {"moondog_outbox_bytes", "gauge", "What the messages in the file take, with those set aside.",
     get_bytes},
    {"moondog_outbox_oldest_seconds", "gauge", "Age of the first message that waits.", get_oldest},
    {"moondog_outbox_set_aside", "gauge",
     "Messages that were refused for good, and wait for a person.", get_set_aside},
    {"moondog_outbox_forwarded_total", "counter", "Messages that a stream has acknowledged.",
     get_forwarded},
    {"moondog_outbox_duplicates_total", "counter", "Those of them that the stream had already.",
     get_duplicates},
    {"moondog_outbox_dropped_total", "counter",
     "Messages that were dropped because their policy says so.", get_dropped},
    {"moondog_outbox_expired_total", "counter", "Messages that were too old to be forwarded.",
     get_expired},
    {"moondog_outbox_refused_total", "counter",
     "Publishes that failed: no room, no disk, too many at once.", get_refused},
};

void outbox_metrics_write(const struct outbox_metrics *m, exposition *x)
{
    if (m == NULL || m->count == 0)
        return;
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
        exposition_family(x, families[f].name, families[f].type, families[f].help);
        for (size_t i = 0; i < m->count; i++) {
            char labels[LABELS_SIZE] = "";
            exposition_label(labels, sizeof labels, "outbox", m->list[i].name);
            exposition_sample(x, labels, families[f].value(&m->list[i].status));
        }
    }
}
