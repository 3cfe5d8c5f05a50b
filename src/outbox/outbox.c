/* The life of an outbox, and what is seen of it. See outbox.h. Loop thread. */
#include "outbox/outbox.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "conn/hub.h"
#include "outbox/outbox_private.h"

/* ---- options ---- */

/* Of a file that is not there yet: that of its folder, and its name. */
char *outbox_real_path(const char *path)
{
    char resolved[PATH_MAX];
    if (realpath(path, resolved) != NULL)
        return strdup(resolved);
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    char *folder = slash == NULL   ? strdup(".")
                   : slash == path ? strdup("/")
                                   : strndup(path, (size_t)(slash - path));
    char *out = NULL;
    if (folder != NULL && realpath(folder, resolved) != NULL) {
        if (asprintf(&out, "%s/%s", strcmp(resolved, "/") == 0 ? "" : resolved, name) < 0)
            out = NULL;
    } else if (folder != NULL) {
        out = strdup(path); /* opening it will say what is missing */
    }
    free(folder);
    return out;
}

/* How many bytes come before the first wildcard; one without any is the most specific. */
static size_t literal_length(const char *pattern)
{
    size_t length = strcspn(pattern, "*>");
    return pattern[length] == '\0' ? SIZE_MAX : length;
}

static int compare_rules(const void *a, const void *b)
{
    const char *x = ((const outbox_rule *)a)->pattern, *y = ((const outbox_rule *)b)->pattern;
    size_t left = literal_length(x), right = literal_length(y);
    if (left != right)
        return left > right ? -1 : 1;
    if (strlen(x) != strlen(y))
        return strlen(x) > strlen(y) ? -1 : 1;
    return strcmp(x, y); /* * comes before > */
}

void outbox_sort_rules(outbox_options *o)
{
    if (o->rule_count > 1)
        qsort(o->rules, o->rule_count, sizeof o->rules[0], compare_rules);
}

void outbox_options_clear(outbox_options *o)
{
    for (size_t i = 0; i < o->rule_count; i++)
        free(o->rules[i].pattern);
    free(o->rules);
    free(o->path);
    *o = (outbox_options){0};
}

static int copy_options(outbox_options *to, const outbox_options *from)
{
    *to = *from;
    to->path = NULL;
    to->rule_count = 0;
    to->rules = calloc(from->rule_count + 1, sizeof to->rules[0]);
    if (to->rules == NULL)
        return -1;
    for (size_t i = 0; i < from->rule_count; i++) {
        to->rules[i] = (outbox_rule){strdup(from->rules[i].pattern), from->rules[i].policy};
        if (to->rules[i].pattern == NULL) {
            outbox_options_clear(to);
            return -1;
        }
        to->rule_count++;
    }
    return 0;
}

/* ---- life ---- */

static void on_changed(void *closure)
{
    struct outbox *o = closure;
    outbox_check_flushes(o); /* the turn does the rest */
}

static struct outbox *new_outbox(struct hub *hub, const outbox_options *options)
{
    store_options file = {
        .path = options->path, .fsync = options->fsync, .max_bytes = options->max_bytes};
    struct outbox *o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->hub = hub;
    o->path = strdup(options->path);
    if (o->path == NULL || copy_options(&o->options, options) != 0) {
        free(o->path);
        free(o);
        return NULL;
    }
    const char *slash = strrchr(o->path, '/');
    o->name = slash != NULL ? slash + 1 : o->path;
    forward_init(&o->forward, options->window);
    o->expiry = options->ttl_ms > 0;
    outbox_make_prefix(o);
    o->writer = writer_new(hub, &file, on_changed, o);
    if (o->writer == NULL) {
        outbox_options_clear(&o->options);
        free(o->path);
        free(o);
        return NULL;
    }
    uv_timer_init(hub->loop, &o->timer);
    uv_unref((uv_handle_t *)&o->timer);
    o->timer.data = o;
    return o;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct outbox *o = handle->data;
    o->timer_closed = true;
}

static void close_outbox(struct outbox *o)
{
    if (o->closing)
        return;
    o->closing = true;
    o->source = NULL;
    outbox_stop_driving(o);
    outbox_fail_flushes(o);
    uv_close((uv_handle_t *)&o->timer, on_timer_closed);
    writer_close(o->writer);
    log_emit(o->hub->log, LOG_INFO, "outbox closed", log_str("outbox", o->path),
             log_int("waiting", (int64_t)writer_get_state(o->writer)->totals.waiting));
}

static void free_outbox(struct outbox *o)
{
    outbox_options_clear(&o->options);
    free(o->scratch);
    free(o->path);
    free(o);
}

void outboxes_init(struct outboxes *all, struct hub *hub)
{
    *all = (struct outboxes){.hub = hub};
}

struct outbox *outboxes_acquire(struct outboxes *all, const outbox_options *options, error *e)
{
    struct outbox *o = all->first;
    while (o != NULL && (o->closing || strcmp(o->path, options->path) != 0))
        o = o->next;
    if (o == NULL) {
        o = new_outbox(all->hub, options);
        if (o == NULL) {
            error_set(e, "no_memory", ERROR_CLASS_LIMIT, "outbox %s: no memory, or no thread",
                      options->path);
            return NULL;
        }
        o->next = all->first;
        all->first = o;
    }
    o->users++;
    return o;
}

int outbox_use(struct outbox *o, const outbox_options *options,
               struct connection *(*connection)(void *closure), void *closure)
{
    outbox_options copy;
    o->source = connection;
    o->source_closure = closure;
    if (copy_options(&copy, options) != 0)
        return -1;
    outbox_options_clear(&o->options);
    o->options = copy;
    o->expiry |= copy.ttl_ms > 0;
    forward_set_window(&o->forward, copy.window);
    writer_set_limits(o->writer, copy.max_bytes, copy.fsync);
    hub_again(o->hub);
    return 0;
}

void outbox_release(struct outbox *o, const void *closure)
{
    if (o->source_closure == closure)
        o->source = NULL;
    if (--o->users == 0)
        close_outbox(o);
}

/* ---- all of them ---- */

void outboxes_turn(struct outboxes *all)
{
    for (struct outbox **at = &all->first; *at != NULL;) {
        struct outbox *o = *at;
        if (o->closing && o->timer_closed && writer_closed(o->writer)) {
            *at = o->next;
            writer_free(o->writer);
            free_outbox(o);
            continue;
        }
        if (!o->closing) {
            outbox_drive(o);
            outbox_check_flushes(o);
            writer_hand_over(o->writer);
        }
        at = &o->next;
    }
}

bool outboxes_settled(const struct outboxes *all)
{
    for (const struct outbox *o = all->first; o != NULL; o = o->next)
        if (!o->closing && !writer_is_idle(o->writer) &&
            writer_get_state(o->writer)->problem.code[0] == '\0')
            return false;
    return true;
}

void outboxes_close(struct outboxes *all)
{
    for (struct outbox *o = all->first; o != NULL; o = o->next)
        close_outbox(o);
}

bool outboxes_closed(const struct outboxes *all)
{
    return all->first == NULL;
}

unsigned outboxes_abandon(struct outboxes *all)
{
    unsigned left = 0;
    while (all->first != NULL) {
        struct outbox *o = all->first;
        all->first = o->next;
        log_emit(o->hub->log, LOG_ERROR, "the disk hangs: an outbox is left to itself",
                 log_str("outbox", o->path));
        if (!writer_closed(o->writer))
            writer_abandon(o->writer);
        left++;
        /* Its timer may be closing, and its jobs name it: it is not freed. */
    }
    return left;
}

struct outbox *outbox_after(const struct outbox *o)
{
    return o->next;
}

/* ---- looking ---- */

const char *outbox_state_name(outbox_state state)
{
    static const char *const names[] = {
        [OUTBOX_OPENING] = "opening",
        [OUTBOX_IDLE] = "idle",
        [OUTBOX_FORWARDING] = "forwarding",
        [OUTBOX_LOOKING] = "looking at the stream",
        [OUTBOX_NO_FILE] = "waiting for the file",
        [OUTBOX_NO_LINK] = "waiting for link",
        [OUTBOX_NO_STREAM] = "waiting for the stream",
        [OUTBOX_CLOSED] = "closed",
    };
    return names[state];
}

void outbox_get_status(const struct outbox *o, outbox_status *out)
{
    const writer_state *file = writer_get_state(o->writer);
    *out = (outbox_status){.state = o->closing ? OUTBOX_CLOSED : o->state,
                           .waiting = file->totals.waiting,
                           .set_aside = file->totals.set_aside,
                           .bytes = file->totals.bytes,
                           .forwarded = o->forwarded,
                           .duplicates = o->duplicates,
                           .dropped = o->dropped,
                           .expired = o->expired,
                           .refused = o->refused,
                           .error = file->problem.code[0] != '\0' ? file->problem : o->why};
    if (file->totals.first != 0) {
        double age = (double)(clock_wall_ms() - file->totals.first_since) / 1e3;
        out->oldest = age > 0 ? age : 0;
    }
}

const char *outbox_path(const struct outbox *o)
{
    return o->path;
}

const char *outbox_name(const struct outbox *o)
{
    return o->name;
}
