/* Watches the files of a script and asks for a reload when they change: their folders, because many
 * editors write a new file and rename it. Several changes in a row are one. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "runtime_private.h"

#define SETTLE_MS 100u /* without a change, before the reload: a file may be half written */
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
    char **names; /* of the files, without folder */
    size_t name_count;
    uv_timer_t settle;
    unsigned handles; /* open libuv handles */
    bool closing;
};

static const char *last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static void on_settled(uv_timer_t *timer)
{
    struct file_watch *w = timer->data;
    reload_if_changed(w->rt);
}

static bool ends_in_lua(const char *name)
{
    size_t length = strlen(name);
    return length > 4 && strcmp(name + length - 4, ".lua") == 0;
}

/* `name` is of the folder; NULL: the system does not know which. Any Lua file may be a module that
 * was missing before. */
static void on_event(uv_fs_event_t *event, const char *name, int events, int status)
{
    (void)events;
    struct folder *f = event->data;
    struct file_watch *w = f->watch;
    bool ours = name == NULL || status != 0 || ends_in_lua(name);
    for (size_t i = 0; i < w->name_count && !ours; i++)
        ours = strcmp(w->names[i], name) == 0;
    if (!ours || w->closing)
        return;
    uv_update_time(w->rt->loop);
    uv_timer_start(&w->settle, on_settled, SETTLE_MS, 0);
}

static void drop_names(struct file_watch *w)
{
    for (size_t i = 0; i < w->name_count; i++)
        free(w->names[i]);
    free(w->names);
    w->names = NULL;
    w->name_count = 0;
}

static void on_closed(struct file_watch *w)
{
    if (--w->handles > 0 || !w->closing)
        return;
    w->rt->watch = NULL;
    drop_names(w);
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
        char **names = realloc(w->names, (w->name_count + 1) * sizeof *names);
        if (names == NULL)
            return;
        w->names = names;
        names[w->name_count] = strdup(name);
        if (names[w->name_count] == NULL)
            return;
        w->name_count++;
        char *folder = name == path ? strdup(".") : strndup(path, (size_t)(name - path));
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
    drop_names(w);
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
