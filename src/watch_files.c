/* Watches the files of a script and asks for a reload when they may have changed: their folders,
 * because many editors write a new file and rename it, and because a file may be a link into a
 * folder that is exchanged. What has changed is found out by reading. Several changes in a row are
 * one. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "runtime_private.h"

#define SETTLE_MS 100u /* without a change, before the reload: a file may be half written */
#define RETRY_MS 1000u /* for a folder that is not there */
#define FOLDERS_MAX 64u

struct folder {
    struct folder *next;
    struct file_watch *watch;
    char *path;
    uv_fs_event_t event;
    bool wanted;
};

struct file_watch {
    md_runtime *rt;
    struct folder *folders;
    unsigned count;
    uv_timer_t settle;
    bool maybe_new;   /* a Lua file has come */
    bool lost;        /* a folder was moved or removed: what its path means now is to be watched */
    unsigned handles; /* open libuv handles */
    bool closing;
};

static const char *last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static bool ends_in_lua(const char *name)
{
    size_t length = strlen(name);
    return length > 4 && strcmp(name + length - 4, ".lua") == 0;
}

static void on_settled(uv_timer_t *timer);

/* `name` is of something in the folder, or of the folder itself; NULL: the system does not know. */
static void on_event(uv_fs_event_t *event, const char *name, int events, int status)
{
    (void)events;
    const struct folder *f = event->data;
    struct file_watch *w = f->watch;
    if (w->closing)
        return;
    w->lost |= status != 0 || name == NULL || strcmp(name, last_component(f->path)) == 0;
    w->maybe_new |= name == NULL || ends_in_lua(name);
    uv_update_time(w->rt->loop);
    uv_timer_start(&w->settle, on_settled, SETTLE_MS, 0);
}

/* Watches all folders anew, under what their paths mean now. False: one is not there. */
static bool watch_again(struct file_watch *w)
{
    bool all = true;
    for (struct folder *f = w->folders; f != NULL; f = f->next) {
        uv_fs_event_stop(&f->event);
        all &= uv_fs_event_start(&f->event, on_event, f->path, 0) == 0;
    }
    return all;
}

static void on_settled(uv_timer_t *timer)
{
    struct file_watch *w = timer->data;
    w->lost = w->lost && !watch_again(w);
    reload_if_changed(w->rt, w->maybe_new);
    w->maybe_new = false;
    if (w->lost)
        uv_timer_start(&w->settle, on_settled, RETRY_MS, 0);
}

static void on_closed(struct file_watch *w)
{
    if (--w->handles > 0 || !w->closing)
        return;
    w->rt->watch = NULL;
    free(w);
}

static void on_folder_closed(uv_handle_t *handle)
{
    struct folder *f = handle->data;
    struct file_watch *w = f->watch;
    free(f->path);
    free(f);
    on_closed(w);
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_closed(handle->data);
}

struct file_watch *file_watch_new(md_runtime *rt)
{
    struct file_watch *w = calloc(1, sizeof *w);
    if (w == NULL)
        return NULL;
    w->rt = rt;
    uv_timer_init(rt->loop, &w->settle);
    w->settle.data = w;
    w->handles = 1;
    return w;
}

static void cannot_watch(struct file_watch *w, const char *path, const char *why)
{
    log_emit(w->rt->log, LOG_WARN, "folder is not watched", log_str("path", path),
             log_str("error", why));
}

static void watch_folder(struct file_watch *w, const char *path)
{
    for (struct folder *f = w->folders; f != NULL; f = f->next)
        if (strcmp(f->path, path) == 0) {
            f->wanted = true;
            return;
        }
    struct folder *f = w->count < FOLDERS_MAX ? calloc(1, sizeof *f) : NULL;
    if (f == NULL || (f->path = strdup(path)) == NULL) {
        free(f);
        cannot_watch(w, path, "no memory, or more than 64 folders");
        return;
    }
    f->watch = w;
    f->wanted = true;
    uv_fs_event_init(w->rt->loop, &f->event);
    f->event.data = f;
    w->handles++;
    int failed = uv_fs_event_start(&f->event, on_event, path, 0);
    if (failed != 0) {
        cannot_watch(w, path, uv_strerror(failed));
        uv_close((uv_handle_t *)&f->event, on_folder_closed);
        return;
    }
    uv_unref((uv_handle_t *)&f->event);
    f->next = w->folders;
    w->folders = f;
    w->count++;
}

static void add(struct file_watch *w, const sources *s)
{
    for (size_t i = 0; s != NULL && i < s->count; i++) {
        const char *path = s->files[i].path;
        const char *name = last_component(path);
        char *folder = name == path ? strdup("./") : strndup(path, (size_t)(name - path));
        if (folder != NULL)
            watch_folder(w, folder);
        free(folder);
    }
}

static void close_unwanted(struct file_watch *w)
{
    for (struct folder **at = &w->folders; *at != NULL;) {
        struct folder *f = *at;
        if (f->wanted) {
            at = &f->next;
            continue;
        }
        *at = f->next;
        w->count--;
        uv_close((uv_handle_t *)&f->event, on_folder_closed);
    }
}

void file_watch_set(struct file_watch *w, const sources *a, const sources *b)
{
    for (struct folder *f = w->folders; f != NULL; f = f->next)
        f->wanted = false;
    add(w, a);
    add(w, b);
    close_unwanted(w);
}

void file_watch_close(struct file_watch *w)
{
    if (w == NULL)
        return;
    w->closing = true;
    file_watch_set(w, NULL, NULL);
    uv_close((uv_handle_t *)&w->settle, on_timer_closed);
}

bool file_watch_closed(const md_runtime *rt)
{
    return rt->watch == NULL;
}
