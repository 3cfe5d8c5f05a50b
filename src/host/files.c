/* Files that the host gives: scripts and modules that are in its memory. Each load has those that
 * there were when it began. See moondog.h. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "runtime_private.h"

static char *copy(const char *text, size_t length)
{
    char *copied = malloc(length + 1);
    if (copied == NULL)
        return NULL;
    memcpy(copied, text, length);
    copied[length] = '\0';
    return copied;
}

static int change(sources *files, const char *path, const char *text, size_t length, error *e)
{
    sources_remove(files, path);
    if (text == NULL)
        return 0;
    if (length > SOURCE_FILE_BYTES_MAX)
        return error_set(e, "too_large", ERROR_CLASS_LIMIT, "%s: a file has %zu bytes at most",
                         path, SOURCE_FILE_BYTES_MAX);
    return sources_add(files, strdup(path), copy(text, length), length, e);
}

int md_set_file(md_runtime *rt, const char *path, const char *text, size_t length, md_error *out)
{
    error e = {0};
    if (path == NULL) {
        error_set(&e, "usage", ERROR_CLASS_NONE, "a file without a path: give the script's");
        return runtime_error(out, &e, "");
    }
    sources *files = rt->files != NULL ? sources_copy(rt->files) : sources_new();
    if (files == NULL)
        error_set(&e, "no_memory", ERROR_CLASS_LIMIT, "no memory for the text of %s", path);
    else if (change(files, path, text, length, &e) == 0) {
        sources_release(rt->files);
        rt->files = files;
        return 0;
    }
    sources_release(files);
    return runtime_error(out, &e, "");
}
