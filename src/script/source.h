/* The files that a generation was loaded from, as they were: the script and the modules that it
 * required. A file is read once; what was read stays, so that a generation can be loaded again
 * from the same text after the files have changed. The host may have given files, which come before
 * those on the disk. One thread at a time, but references. */
#ifndef MD_SCRIPT_SOURCE_H
#define MD_SCRIPT_SOURCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define SOURCE_FILE_BYTES_MAX ((size_t)16 * 1024 * 1024)
#define SOURCES_BYTES_MAX ((size_t)64 * 1024 * 1024) /* of all files of a generation */
#define SOURCE_HASH_SIZE 65

typedef struct {
    char *path;
    char *text; /* ends with a zero byte that does not count */
    size_t length;
    bool given; /* by the host: it is not on the disk */
} source_file;

typedef struct sources {
    atomic_uint references;
    struct sources *given; /* of the host: shared by many, and not changed any more; NULL: none */
    size_t count, capacity, bytes;
    source_file *files; /* in the order in which they were first read: the script, its modules */
} sources;

/* Empty, with one reference. NULL when out of memory. */
sources *sources_new(void);
/* The same, where files that the host has given (NULL: none) come before those on the disk. */
sources *sources_over(sources *given);
sources *sources_retain(sources *s);
/* The same files, to be read on another thread, or to be changed. NULL when out of memory. */
sources *sources_copy(const sources *s);
void sources_release(sources *s); /* NULL is harmless */

/* The file as it was first read, or NULL when it never was. */
const source_file *sources_find(const sources *s, const char *path);
/* The file that the host has given by this path, or NULL. */
const source_file *sources_find_given(const sources *s, const char *path);
/* The file as it was first read; reads it when it never was. NULL and *e ("unreadable",
 * "too_large", "no_memory"). The text lives as long as `s`; the pointer until the next call. */
const source_file *sources_read(sources *s, const char *path, error *e);

/* One more file. Takes both strings, in any case; NULL: there was no memory for them. -1 and *e. */
int sources_add(sources *s, char *path, char *text, size_t length, error *e);

/* Without the file, if it is there, "./" in front or not. Only while nobody else has it. */
void sources_remove(sources *s, const char *path);

/* Whether all files of the disk are still as they were read. Reads them. */
bool sources_are_current(const sources *s);

/* SHA-256 over the paths' last components and the texts, in hexadecimal. */
void sources_hash(const sources *s, char out[SOURCE_HASH_SIZE]);

#endif
