/* The files of a generation as one file in memory. See source_image.h. After a first line that
 * names the format: of each file the lengths of its path and its text, eight bytes each, and both.
 */
#include "script/source_image.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char first_line[] = "moondog sources 1\n";

static bool write_all(int fd, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t written = write(fd, at, length);
        if (written <= 0)
            return false;
        at += written;
        length -= (size_t)written;
    }
    return true;
}

int source_image_make(const sources *s)
{
    int fd = memfd_create("moondog-sources", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    bool good = write_all(fd, first_line, sizeof first_line - 1);
    for (size_t i = 0; i < s->count && good; i++) {
        const source_file *file = &s->files[i];
        uint64_t lengths[2] = {strlen(file->path), file->length};
        good = write_all(fd, lengths, sizeof lengths) && write_all(fd, file->path, lengths[0]) &&
               write_all(fd, file->text, file->length);
    }
    if (good && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) == 0)
        return fd;
    close(fd);
    return -1;
}

static char *copy_text(const char *bytes, size_t length)
{
    char *text = malloc(length + 1);
    if (text == NULL)
        return NULL;
    memcpy(text, bytes, length);
    text[length] = '\0';
    return text;
}

/* Whether there was a good file at *at, which moves behind it. */
static bool read_file(sources *s, const char **at, const char *end, error *e)
{
    uint64_t lengths[2];
    if ((size_t)(end - *at) < sizeof lengths)
        return false;
    memcpy(lengths, *at, sizeof lengths);
    *at += sizeof lengths;
    size_t left = (size_t)(end - *at);
    if (lengths[0] == 0 || lengths[0] > left || lengths[1] > left - lengths[0] ||
        memchr(*at, '\0', lengths[0]) != NULL)
        return false;
    char *path = copy_text(*at, lengths[0]);
    char *text = copy_text(*at + lengths[0], lengths[1]);
    *at += lengths[0] + lengths[1];
    return sources_add(s, path, text, lengths[1], e) == 0;
}

static sources *parse(const char *bytes, size_t length, error *e)
{
    sources *s = sources_new();
    const char *at = bytes + sizeof first_line - 1, *end = bytes + length;
    if (s != NULL && length >= sizeof first_line &&
        memcmp(bytes, first_line, sizeof first_line - 1) == 0) {
        bool good = at < end;
        while (at < end && good)
            good = read_file(s, &at, end, e);
        if (good)
            return s;
    }
    sources_release(s);
    error_set(e, "bad_image", ERROR_CLASS_NONE,
              "the files that the supervisor kept of the script cannot be read");
    return NULL;
}

sources *source_image_read(int fd, error *e)
{
    struct stat status;
    void *bytes = MAP_FAILED;
    if (fstat(fd, &status) == 0 && status.st_size > 0 &&
        (size_t)status.st_size <= 2 * SOURCES_BYTES_MAX)
        bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return parse("", 0, e);
    sources *s = parse(bytes, (size_t)status.st_size, e);
    munmap(bytes, (size_t)status.st_size);
    return s;
}
