/* The files of a script in one file in memory: an image that is taken is the one that its files
 * make. One thread. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "script/source_image.h"

static int file_of(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    fuzz_check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    return fd;
}

void fuzz_one(const uint8_t *data, size_t size)
{
    error e = {0};
    int fd = file_of(data, size);
    sources *s = source_image_read(fd, &e);
    close(fd);
    fuzz_check((s == NULL) == (e.code[0] != '\0'));
    if (s == NULL)
        return;
    char *again = malloc(size + 1);
    fd = source_image_make(s);
    fuzz_check(fd >= 0 && s->count > 0);
    fuzz_check(pread(fd, again, size + 1, 0) == (ssize_t)size);
    fuzz_check(memcmp(again, data, size) == 0);
    close(fd);
    free(again);
    sources_release(s);
}
