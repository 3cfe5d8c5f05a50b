/* The lock beside the file of an outbox. See lock.h. */
#include "outbox_tool/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "outbox/schema.h"

#define LOCK_PATH_SIZE (PATH_MAX + sizeof OUTBOX_LOCK_SUFFIX)

static void lock_path(const char *path, char out[LOCK_PATH_SIZE])
{
    snprintf(out, LOCK_PATH_SIZE, "%s" OUTBOX_LOCK_SUFFIX, path);
}

/* Who has locked the file that is open as `fd`; 0: the kernel does not tell, as when the process is
 * in another namespace, or the file system numbers its devices in a way of its own. */
static pid_t holder_of(int fd)
{
    struct stat status;
    pid_t found = 0;
    char line[256];
    FILE *locks = fstat(fd, &status) == 0 ? fopen("/proc/locks", "re") : NULL;
    while (locks != NULL && found == 0 && fgets(line, sizeof line, locks) != NULL) {
        int pid;
        unsigned major_number, minor_number;
        unsigned long inode;
        if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &pid, &major_number, &minor_number,
                   &inode) == 4 &&
            inode == status.st_ino && major_number == major(status.st_dev) &&
            minor_number == minor(status.st_dev))
            found = (pid_t)pid;
    }
    if (locks != NULL)
        fclose(locks);
    return found;
}

lock_state lock_look(const char *path, pid_t *pid)
{
    char name[LOCK_PATH_SIZE];
    lock_path(path, name);
    *pid = 0;
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? LOCK_FREE : LOCK_UNKNOWN;
    lock_state state = LOCK_FREE;
    /* Given back at once: a process that starts at this moment must not find it taken. */
    if (flock(fd, LOCK_SH | LOCK_NB) == 0)
        flock(fd, LOCK_UN);
    else
        state = errno == EWOULDBLOCK ? LOCK_HELD : LOCK_UNKNOWN;
    if (state == LOCK_HELD)
        *pid = holder_of(fd);
    close(fd);
    return state;
}

static int cannot_lock(const char *name, error *e)
{
    return error_set(e, "outbox_lock", ERROR_CLASS_NONE,
                     "cannot lock %s: %s; do this as the user whom the outbox belongs to", name,
                     strerror(errno));
}

static int is_held(const char *path, int fd, error *e)
{
    char who[32] = "a process";
    pid_t pid = holder_of(fd);
    if (pid != 0)
        snprintf(who, sizeof who, "pid %d", (int)pid);
    return error_set(e, "outbox_locked", ERROR_CLASS_NONE,
                     "%s is held by %s, which forwards it: stop it first (moondog stop NAME), "
                     "and start it afterwards",
                     path, who);
}

int lock_take(const char *path, const struct stat *of, error *e)
{
    char name[LOCK_PATH_SIZE];
    struct stat status;
    lock_path(path, name);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return cannot_lock(name, e);
    bool foreign = geteuid() == 0 && fstat(fd, &status) == 0 && status.st_uid != of->st_uid;
    if ((!foreign || fchown(fd, of->st_uid, of->st_gid) == 0) && flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    if (errno == EWOULDBLOCK)
        is_held(path, fd, e);
    else
        cannot_lock(name, e);
    close(fd);
    return -1;
}
