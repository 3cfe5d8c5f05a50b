/* Where control sockets are. See path.h. */
#include "control/path.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char suffix[] = ".sock";

void control_folder(char *out, size_t size)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime != NULL && runtime[0] == '/')
        snprintf(out, size, "%s/moondog", runtime);
    else if (geteuid() == 0)
        snprintf(out, size, "/run/moondog");
    else
        snprintf(out, size, "/tmp/moondog-%u", (unsigned)geteuid());
}

int control_path(const char *name, char *out, size_t size)
{
    char folder[4096];
    control_folder(folder, sizeof folder);
    int length = snprintf(out, size, "%s/%s%s", folder, name, suffix);
    return length > 0 && (size_t)length < size ? 0 : -1;
}

void control_name(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/'), *file = slash != NULL ? slash + 1 : path;
    size_t length = strlen(file), end = sizeof suffix - 1;
    if (length > end && strcmp(file + length - end, suffix) == 0)
        length -= end;
    snprintf(out, size, "%.*s", (int)length, file);
}

/* A folder in /tmp could have been made by somebody else, to listen there in our place. */
int control_make_folder(void)
{
    char folder[4096];
    struct stat status;
    control_folder(folder, sizeof folder);
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return -1;
    if (lstat(folder, &status) != 0)
        return -1;
    if (S_ISDIR(status.st_mode) && status.st_uid == geteuid() && (status.st_mode & 022) == 0)
        return 0;
    errno = EPERM;
    return -1;
}

static int is_socket_name(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name), end = sizeof suffix - 1;
    return length > end && strcmp(entry->d_name + length - end, suffix) == 0;
}

char *control_names(void)
{
    char folder[4096];
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    struct dirent **entries = NULL;
    control_folder(folder, sizeof folder);
    int count = scandir(folder, &entries, is_socket_name, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        fprintf(out, "%.*s\n", (int)(strlen(name) - (sizeof suffix - 1)), name);
        free(entries[i]);
    }
    free(entries);
    fclose(out);
    return text;
}
