/* What the machine gives: the clock, and descriptors. See machine.h. Main thread. */
#include "doctor/machine.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timex.h>

#define NEAR_PERCENT 80u

unsigned machine_percent(uint64_t used, uint64_t limit)
{
    if (limit == 0 || limit == MACHINE_NO_LIMIT)
        return 0;
    double percent = (double)used / (double)limit * 100.0;
    return percent > 1000.0 ? 1000 : (unsigned)percent;
}

/* ---- the clock ---- */

void machine_check_clock(findings *f)
{
    struct timex t = {0};
    int state = adjtimex(&t);
    if (state < 0) {
        finding(f, FINDING_SKIPPED, "clock", "the kernel does not tell the state of its clock: %s",
                strerror(errno));
        return;
    }
    if (state == TIME_ERROR || (t.status & STA_UNSYNC) != 0) {
        finding(f, FINDING_WARNING, "clock",
                "nothing keeps the clock of this machine right: the kernel calls it "
                "unsynchronised");
        finding_remedy(f, "run a time service (systemd-timesyncd, chrony); inside a container, on "
                          "its host: a wrong clock makes credentials and certificates invalid");
        return;
    }
    finding(f, FINDING_OK, "clock", "the clock is synchronised, within %.3f s",
            (double)t.esterror / 1e6);
}

/* ---- descriptors ---- */

static const char *show_limit(uint64_t limit, char out[24])
{
    if (limit == MACHINE_NO_LIMIT)
        snprintf(out, 24, "any number");
    else
        snprintf(out, 24, "%llu", (unsigned long long)limit);
    return out;
}

static void low_limit_remedy(findings *f)
{
    finding_remedy(f,
                   "raise it to %u or more before moondog starts: ulimit -n in a shell, "
                   "LimitNOFILE= in a unit of systemd; each link needs one",
                   MACHINE_DESCRIPTORS_LOW);
}

void machine_check_descriptors(findings *f)
{
    struct rlimit limit;
    char soft[24], hard[24];
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    bool low = limit.rlim_cur < MACHINE_DESCRIPTORS_LOW;
    show_limit(limit.rlim_cur == RLIM_INFINITY ? MACHINE_NO_LIMIT : limit.rlim_cur, soft);
    show_limit(limit.rlim_max == RLIM_INFINITY ? MACHINE_NO_LIMIT : limit.rlim_max, hard);
    finding(f, low ? FINDING_WARNING : FINDING_OK, "descriptors",
            "a process that is started from here may open %s files and sockets, and raise that to "
            "%s",
            soft, hard);
    if (low)
        low_limit_remedy(f);
}

/* Behind the limit that stands at the beginning; NULL: there is none. */
static const char *parse_limit(const char *text, uint64_t *limit)
{
    static const char none[] = "unlimited";
    char *end;
    text += strspn(text, " ");
    *limit = MACHINE_NO_LIMIT;
    if (strncmp(text, none, sizeof none - 1) == 0)
        return text + sizeof none - 1;
    if (*text < '0' || *text > '9')
        return NULL;
    *limit = strtoull(text, &end, 10);
    return end;
}

int machine_parse_limits(const char *text, uint64_t *soft, uint64_t *hard)
{
    static const char title[] = "Max open files ";
    const char *at = strstr(text, title);
    if (at != NULL)
        at = parse_limit(at + sizeof title - 1, soft);
    return at != NULL && parse_limit(at, hard) != NULL ? 0 : -1;
}

/* Whether the file, of /proc, could be read. */
static bool read_small(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t length = fread(text, 1, size - 1, file);
    fclose(file);
    text[length] = '\0';
    return length > 0;
}

/* -1: they cannot be counted. */
static int64_t count_entries(const char *path)
{
    DIR *folder = opendir(path);
    int64_t count = 0;
    if (folder == NULL)
        return -1;
    for (const struct dirent *one; (one = readdir(folder)) != NULL;)
        count += one->d_name[0] != '.';
    closedir(folder);
    return count;
}

void machine_check_process(findings *f, int pid)
{
    char path[64], text[4096], soft_text[24];
    uint64_t soft = 0, hard = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    int64_t used = count_entries(path);
    snprintf(path, sizeof path, "/proc/%d/limits", pid);
    if (used < 0 || !read_small(path, text, sizeof text) ||
        machine_parse_limits(text, &soft, &hard) != 0) {
        finding(f, FINDING_SKIPPED, "descriptors",
                "the descriptors of pid %d cannot be counted: %s", pid, strerror(errno));
        finding_remedy(f, "ask as the user that it runs as, or as root, and in its container");
        return;
    }
    unsigned percent = machine_percent((uint64_t)used, soft);
    bool near = percent >= NEAR_PERCENT, low = soft < MACHINE_DESCRIPTORS_LOW;
    finding(f, near || low ? FINDING_WARNING : FINDING_OK, "descriptors",
            "%lld descriptors are open, of %s (%u %%)", (long long)used,
            show_limit(soft, soft_text), percent);
    if (near)
        finding_remedy(f,
                       "at the limit it can neither dial nor read files: raise it (prlimit "
                       "--nofile=N --pid %d now, LimitNOFILE= for good), and look what holds "
                       "them: ls -l /proc/%d/fd",
                       pid, pid);
    else if (low)
        low_limit_remedy(f);
}
