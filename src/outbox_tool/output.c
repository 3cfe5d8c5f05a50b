/* Where entries are written to. See output.h. */
#include "outbox_tool/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int cannot_write(const char *path, int number, error *e)
{
    return error_set(e, "output", ERROR_CLASS_NONE, "cannot write %s: %s", path, strerror(number));
}

int output_open(output *o, const char *path, error *e)
{
    *o = (output){.file = stdout, .path = path};
    if (path == NULL)
        return 0;
    if (access(path, F_OK) == 0)
        return error_set(e, "exists", ERROR_CLASS_NONE,
                         "%s is there already: remove it, or choose another name", path);
    int length = snprintf(o->part, sizeof o->part, "%s.XXXXXX", path);
    errno = ENAMETOOLONG;
    /* For this user alone: messages may be secret. */
    int fd = (size_t)length < sizeof o->part ? mkostemp(o->part, O_CLOEXEC) : -1;
    o->file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (o->file != NULL)
        return 0;
    cannot_write(path, errno, e);
    if (fd >= 0) {
        close(fd);
        unlink(o->part);
    }
    return -1;
}

bool output_take(void *closure, json_t *portion)
{
    output *o = closure;
    size_t index;
    json_t *entry;
    json_array_foreach(portion, index, entry)
    {
        if (o->failed == 0 && json_dumpf(entry, o->file, JSON_COMPACT | JSON_REAL_PRECISION(15)) +
                                      (putc('\n', o->file) == EOF) !=
                                  0)
            o->failed = errno != 0 ? errno : EIO;
    }
    o->entries += (int64_t)json_array_size(portion);
    json_decref(portion);
    if (o->failed == 0 && fflush(o->file) != 0)
        o->failed = errno;
    return o->failed == 0;
}

int output_close(output *o, bool good, error *e)
{
    if (o->path == NULL)
        return o->failed == 0 ? 0 : -1;
    if (o->failed == 0 && (fflush(o->file) != 0 || fsync(fileno(o->file)) != 0))
        o->failed = errno;
    if (fclose(o->file) != 0 && o->failed == 0)
        o->failed = errno;
    if (good && o->failed == 0 && rename(o->part, o->path) != 0)
        o->failed = errno;
    if (!good || o->failed != 0)
        unlink(o->part);
    return o->failed == 0 ? 0 : cannot_write(o->path, o->failed, e);
}
