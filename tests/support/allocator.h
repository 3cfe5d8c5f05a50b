/* Memory that runs out where a test wants it to. Linked into a test program, it takes the place of
 * malloc() and its like: in the ordinary build for all code of the process, of libraries too; with
 * the sanitizers, which have an allocator of their own, for what is linked into the program
 * (-Wl,--wrap), that is for moondog and, through it, for its interpreters. Any thread. */
#ifndef MD_TESTS_ALLOCATOR_H
#define MD_TESTS_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>

/* Which allocations of armed threads fail, counted from 1: the one of this number, or, with
 * `all`, all from it on. 0: none; they are counted all the same. The count starts anew. */
void allocator_fail(unsigned long number, bool all);

/* What the calling thread allocates is counted, may fail, and is remembered until it is freed. */
void allocator_arm(void);
void allocator_disarm(void);
/* Threads that the calling one starts are armed, for as long as they run. */
void allocator_arm_children(bool on);

/* So many allocations of armed threads were asked for, and so many of these failed. */
unsigned long allocator_count(void);
unsigned long allocator_failures(void);

/* What armed threads have allocated since allocator_forget() and nobody has freed. What the C
 * library keeps with the stacks of threads that have ended, and OpenSSL, does not count. */
unsigned long allocator_left(void);
/* Says which blocks these are, of a few. */
void allocator_print_left(void);
void allocator_forget(void);

#endif
