/* The files that a generation was loaded from. See source.h. */
#include "script/source.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A whole file, to be freed; ends with a zero byte that does not count. NULL and *e. */
static char *read_file(const char *path, size_t *length, error *e)
{
    FILE *f = fopen(path, "re");
    char *text = NULL;
    *length = 0;
    if (f == NULL) {
        error_set(e, "unreadable", ERROR_CLASS_NONE, "cannot read the script %s: %s", path,
                  strerror(errno));
        return NULL;
    }
    size_t capacity = 0;
    do {
        capacity = capacity == 0 ? 16384 : capacity * 2;
        if (capacity > SOURCE_FILE_BYTES_MAX) {
            error_set(e, "too_large", ERROR_CLASS_NONE, "the script %s is larger than %zu bytes",
                      path, SOURCE_FILE_BYTES_MAX);
            goto failed;
        }
        char *more = realloc(text, capacity);
        if (more == NULL) {
            error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for the text of %s", path);
            goto failed;
        }
        text = more;
        *length += fread(text + *length, 1, capacity - 1 - *length, f);
    } while (*length == capacity - 1);
    if (ferror(f)) {
        error_set(e, "unreadable", ERROR_CLASS_NONE, "cannot read the script %s: %s", path,
                  strerror(errno));
        goto failed;
    }
    fclose(f);
    text[*length] = '\0';
    return text;

failed:
    free(text);
    fclose(f);
    return NULL;
}

sources *sources_new(void)
{
    sources *s = calloc(1, sizeof *s);
    if (s != NULL)
        atomic_init(&s->references, 1);
    return s;
}

sources *sources_over(sources *given)
{
    sources *s = sources_new();
    if (s != NULL && given != NULL)
        s->given = sources_retain(given);
    return s;
}

sources *sources_retain(sources *s)
{
    atomic_fetch_add(&s->references, 1);
    return s;
}

void sources_release(sources *s)
{
    if (s == NULL || atomic_fetch_sub(&s->references, 1) != 1)
        return;
    sources_release(s->given);
    for (size_t i = 0; i < s->count; i++) {
        free(s->files[i].path);
        free(s->files[i].text);
    }
    free(s->files);
    free(s);
}

/* Where the next file goes; NULL: no memory. */
static source_file *make_room(sources *s)
{
    if (s->count < s->capacity)
        return s->files + s->count;
    size_t capacity = s->capacity == 0 ? 4 : s->capacity * 2;
    source_file *files = realloc(s->files, capacity * sizeof *files);
    if (files == NULL)
        return NULL;
    s->files = files;
    s->capacity = capacity;
    return files + s->count;
}

/* Modules beside a script without a folder are asked for as "./NAME.lua". */
static const char *without_dot(const char *path)
{
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    return path;
}

const source_file *sources_find(const sources *s, const char *path)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->files[i].path, path) == 0)
            return &s->files[i];
    return NULL;
}

int sources_add(sources *s, char *path, char *text, size_t length, error *e)
{
    int failed = 0;
    source_file *room = make_room(s);
    if (path == NULL || text == NULL || room == NULL)
        failed = error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for the text of %s",
                           path != NULL ? path : "a script");
    else if (length > SOURCES_BYTES_MAX - s->bytes)
        failed = error_set(e, "too_large", ERROR_CLASS_LIMIT,
                           "%s: the files of a script have more than %zu bytes in all", path,
                           SOURCES_BYTES_MAX);
    if (failed != 0) {
        free(path);
        free(text);
        return -1;
    }
    s->bytes += length;
    *room = (source_file){.path = path, .text = text, .length = length};
    s->count++;
    return 0;
}

/* By whichever spelling. */
static const source_file *find_spelt(const sources *s, const char *path)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(without_dot(s->files[i].path), without_dot(path)) == 0)
            return &s->files[i];
    return NULL;
}

const source_file *sources_find_given(const sources *s, const char *path)
{
    return s->given != NULL ? find_spelt(s->given, path) : NULL;
}

void sources_remove(sources *s, const char *path)
{
    source_file *file = (source_file *)find_spelt(s, path);
    if (file == NULL)
        return;
    s->bytes -= file->length;
    free(file->path);
    free(file->text);
    s->count--;
    memmove(file, file + 1, (size_t)(s->files + s->count - file) * sizeof *file);
}

/* To be freed; NULL: no memory. */
static char *copy_text(const source_file *file)
{
    char *text = malloc(file->length + 1);
    if (text != NULL)
        memcpy(text, file->text, file->length + 1);
    return text;
}

const source_file *sources_read(sources *s, const char *path, error *e)
{
    const source_file *known = sources_find(s, path);
    if (known != NULL)
        return known;
    const source_file *given = sources_find_given(s, path);
    size_t length = given != NULL ? given->length : 0;
    char *text = given != NULL ? copy_text(given) : read_file(path, &length, e);
    if ((text == NULL && given == NULL) || sources_add(s, strdup(path), text, length, e) != 0)
        return NULL;
    source_file *file = &s->files[s->count - 1];
    file->given = given != NULL;
    return file;
}

sources *sources_copy(const sources *s)
{
    sources *copy = sources_over(s->given);
    for (size_t i = 0; copy != NULL && i < s->count; i++) {
        const source_file *file = &s->files[i];
        if (sources_add(copy, strdup(file->path), copy_text(file), file->length, NULL) != 0) {
            sources_release(copy);
            return NULL;
        }
        copy->files[i].given = file->given;
    }
    return copy;
}

bool sources_are_current(const sources *s)
{
    bool current = true;
    for (size_t i = 0; i < s->count && current; i++) {
        size_t length;
        if (s->files[i].given)
            continue;
        char *text = read_file(s->files[i].path, &length, NULL);
        current = text != NULL && length == s->files[i].length &&
                  memcmp(text, s->files[i].text, length) == 0;
        free(text);
    }
    return current;
}

static const char *last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

void sources_hash(const sources *s, char out[SOURCE_HASH_SIZE])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int good = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
    for (size_t i = 0; good && i < s->count; i++) {
        const char *name = last_component(s->files[i].path);
        good = EVP_DigestUpdate(ctx, name, strlen(name) + 1) &&
               EVP_DigestUpdate(ctx, s->files[i].text, s->files[i].length + 1);
    }
    good = good && EVP_DigestFinal_ex(ctx, digest, &size);
    EVP_MD_CTX_free(ctx);
    out[0] = '\0';
    for (unsigned i = 0; good && i < size; i++)
        snprintf(out + 2 * (size_t)i, 3, "%02x", digest[i]);
}
