/* The numbers of the process. See process_metrics.h. */
#include "health/process_metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;
    if (folder == NULL)
        return 0;
    for (const struct dirent *d; (d = readdir(folder)) != NULL;)
        count += d->d_name[0] != '.';
    closedir(folder);
    return count - 1.0; /* this one */
}

/* The fields of /proc/self/stat after the name of the program, which may have spaces; the first one
 * is the third of all. */
static bool read_stat(unsigned long long *start, unsigned long *virtual_bytes, long *pages)
{
    char text[2048];
    FILE *file = fopen("/proc/self/stat", "re");
    if (file == NULL)
        return false;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    const char *after = strrchr(text, ')');
    return after != NULL && sscanf(after + 1,
                                   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d "
                                   "%*d %*d %*d %*d %llu %lu %ld",
                                   start, virtual_bytes, pages) == 3;
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

/* The kernel gives the start as ticks after the machine's. */
static double start_time(unsigned long long ticks)
{
    struct timespec wall, boot;
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    double booted =
        (double)(wall.tv_sec - boot.tv_sec) + (double)(wall.tv_nsec - boot.tv_nsec) / 1e9;
    return booted + (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

void process_metrics_write(exposition *x)
{
    struct rusage usage;
    struct rlimit files;
    unsigned long long start;
    unsigned long virtual_bytes;
    long pages;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        exposition_single(x, "process_cpu_seconds_total", "counter",
                          "Time of the processor that was used.",
                          seconds(usage.ru_utime) + seconds(usage.ru_stime));
    exposition_single(x, "process_open_fds", "gauge", "Open file descriptors.",
                      count_descriptors());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        exposition_single(x, "process_max_fds", "gauge", "File descriptors that can be open.",
                          (double)files.rlim_cur);
    if (!read_stat(&start, &virtual_bytes, &pages))
        return;
    exposition_single(x, "process_start_time_seconds", "gauge", "When it began, since 1970.",
                      start_time(start));
    exposition_single(x, "process_virtual_memory_bytes", "gauge", "Size of the address space.",
                      (double)virtual_bytes);
    exposition_single(x, "process_resident_memory_bytes", "gauge", "Memory in use.",
                      (double)pages * (double)sysconf(_SC_PAGESIZE));
}
