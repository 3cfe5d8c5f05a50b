/* The versions of a script that a supervised process had at work, and which one it is started with
 * after it has ended badly. Pure: no I/O but closing descriptors, no clock of its own. */
#ifndef MD_CLI_VERSIONS_H
#define MD_CLI_VERSIONS_H

#include <stdbool.h>
#include <stdint.h>

#define VERSIONS_MAX 3
#define VERSION_NAME_SIZE 72
#define VERSION_PROVEN_MS 300000u /* at work for so long: what happens later is not its fault */
#define VERSION_FORGET_MS 600000u /* a failure counts for so long */

typedef struct {
    char name[VERSION_NAME_SIZE]; /* a hash of its text */
    int fd;                       /* its text; owned */
    bool worked;                  /* all that it requires was ready: it is one to come back to */
    unsigned failures;
    uint64_t failed_at; /* ms */
    uint64_t since;     /* ms: at work */
} version;

/* The one at work first, then those before it. {0} is empty. */
typedef struct {
    version list[VERSIONS_MAX];
    unsigned count;
} versions;

/* It was put to work. Takes `fd`. When it was at work before, the one that it replaces was taken
 * back: that counts as a failure. */
void versions_note(versions *v, const char *name, int fd, uint64_t now);

/* A process was started with the one at `index`, and may end before it has put it to work. */
void versions_begin(versions *v, int index, uint64_t now);

/* All that the first one requires is ready. */
void versions_worked(versions *v);

/* The process ended badly with the first one at work; `its_fault`: by what it did, and not because
 * somebody killed it. Returns the index of the one to start with;
 * -1: none is known, so the file it is. 0 is the same again: it has proven itself, or there is none
 * better. */
int versions_choose(versions *v, bool its_fault, uint64_t now);

void versions_clear(versions *v);

/* How long to wait before the restart that comes after so many others within VERSION_FORGET_MS. */
uint32_t restart_delay_ms(unsigned restarts);

#endif
