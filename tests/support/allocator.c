/* See allocator.h. */
#include "support/allocator.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WRAPPED 1
#else
#define WRAPPED 0
#endif

#define BLOCKS_BITS 16
#define BLOCKS_MAX (1u << BLOCKS_BITS) /* remembered at a time: half of it */

#define LINES_MAX 8
#define FRAMES_MAX 32

static _Thread_local bool armed __attribute__((tls_model("initial-exec")));
static _Thread_local bool arms_children __attribute__((tls_model("initial-exec")));
static atomic_ulong fails_at, asked, failed;
static atomic_bool fails_all;

void allocator_fail(unsigned long number, bool all)
{
    atomic_store(&asked, 0);
    atomic_store(&failed, 0);
    atomic_store(&fails_all, all);
    atomic_store(&fails_at, number);
}

void allocator_arm_children(bool on)
{
    arms_children = on;
}

unsigned long allocator_count(void)
{
    return atomic_load(&asked);
}

unsigned long allocator_failures(void)
{
    return atomic_load(&failed);
}

/* ---- who asks ---- */

enum { LIBCRYPTO, LIBUV, LIBNATS, LOADER, LIBTSAN, LIBRARY_COUNT };

static const char *const library_names[LIBRARY_COUNT] = {
    [LIBCRYPTO] = "/libcrypto.", [LIBUV] = "/libuv.",     [LIBNATS] = "/libnats.",
    [LOADER] = "/ld-linux",      [LIBTSAN] = "/libtsan.",
};

static struct {
    uintptr_t from, to;
} libraries[LIBRARY_COUNT];

static int note_library(struct dl_phdr_info *info, size_t size, void *closure)
{
    (void)size;
    (void)closure;
    for (int i = 0; i < LIBRARY_COUNT; i++) {
        if (strstr(info->dlpi_name, library_names[i]) == NULL)
            continue;
        const ElfW(Phdr) *last = NULL;
        for (int n = 0; n < info->dlpi_phnum; n++)
            if (info->dlpi_phdr[n].p_type == PT_LOAD)
                last = &info->dlpi_phdr[n];
        libraries[i].from = info->dlpi_addr;
        libraries[i].to = info->dlpi_addr + (last != NULL ? last->p_vaddr + last->p_memsz : 0);
    }
    return 0;
}

static bool is_in(const void *caller, int library)
{
    return (uintptr_t)caller >= libraries[library].from &&
           (uintptr_t)caller < libraries[library].to;
}

/* Whether the calling thread is inside of the exported function `name` of a library's. */
static bool is_inside(const char *name)
{
    void *frames[FRAMES_MAX];
    Dl_info info;
    int count = backtrace(frames, FRAMES_MAX);
    for (int i = 0; i < count; i++)
        if (dladdr(frames[i], &info) != 0 && info.dli_sname != NULL &&
            strcmp(info.dli_sname, name) == 0)
            return true;
    return false;
}

/* What libraries do not survive, and nobody can do anything about but give the whole process
 * another allocator, which is the host's to do:
 * libuv ends the process when it cannot enlarge the list of the descriptors that a loop watches
 * (maybe_resize() in its core.c): the only memory that it gets by realloc().
 * OpenSSL remembers for ever what it could not get at its first use, and uses that all the same.
 * nats.c, when it is opened for the first time in a process, waits for itself for ever when there
 * is no memory for its lock: to note the error it opens itself. */
static bool must_not_fail(const void *caller, bool by_realloc)
{
    return (by_realloc && is_in(caller, LIBUV)) || is_in(caller, LIBCRYPTO) ||
           (is_in(caller, LIBNATS) && is_inside("nats_InitOnce"));
}

/* ---- what fails ---- */

void allocator_arm(void)
{
    void *frame;
    backtrace(&frame, 1); /* the first time, it allocates */
    dl_iterate_phdr(note_library, NULL);
    armed = true;
}

void allocator_disarm(void)
{
    armed = false;
}

static bool fails(const void *caller, bool by_realloc)
{
    if (!armed || must_not_fail(caller, by_realloc))
        return false;
    unsigned long number = atomic_fetch_add(&asked, 1) + 1, first = atomic_load(&fails_at);
    if (first == 0 || number < first || (number > first && !atomic_load(&fails_all)))
        return false;
    atomic_fetch_add(&failed, 1);
    errno = ENOMEM;
    return true;
}

/* ---- what is remembered ---- */

struct block {
    uintptr_t at; /* 0: none */
    const void *caller;
    unsigned long number;
    size_t size;
};

static struct block blocks[BLOCKS_MAX]; /* a hash table, with linear probing */
static atomic_ulong remembered;
static atomic_flag busy = ATOMIC_FLAG_INIT; /* for a moment: nothing in there waits */

static void lock(void)
{
    while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire))
        ;
}

static void unlock(void)
{
    atomic_flag_clear_explicit(&busy, memory_order_release);
}

static size_t place_of(uintptr_t at)
{
    return (at >> 4) * 0x9e3779b97f4a7c15u >> (64 - BLOCKS_BITS);
}

/* By those for the next time, or the end of a thread. */
static bool is_kept(const void *caller)
{
    return is_in(caller, LOADER) || is_in(caller, LIBTSAN) || is_in(caller, LIBCRYPTO);
}

static void remember(void *block, size_t size, const void *caller)
{
    if (block == NULL || !armed || is_kept(caller))
        return;
    lock();
    size_t i = place_of((uintptr_t)block);
    while (blocks[i].at != 0)
        i = (i + 1) % BLOCKS_MAX;
    if (atomic_load(&remembered) == BLOCKS_MAX / 2)
        abort(); /* more than a test should have */
    blocks[i] = (struct block){(uintptr_t)block, caller, atomic_load(&asked), size};
    atomic_fetch_add(&remembered, 1);
    unlock();
}

/* What stands behind the hole, and would not be found any more, moves into it. */
static void close_hole(size_t hole)
{
    for (size_t i = (hole + 1) % BLOCKS_MAX; blocks[i].at != 0; i = (i + 1) % BLOCKS_MAX) {
        size_t distance = (i - place_of(blocks[i].at)) % BLOCKS_MAX;
        if (distance < (i - hole) % BLOCKS_MAX)
            continue;
        blocks[hole] = blocks[i];
        hole = i;
    }
    blocks[hole].at = 0;
}

/* Whether it was remembered. */
static bool forget(const void *block)
{
    bool found = false;
    if (block == NULL || atomic_load(&remembered) == 0)
        return false;
    lock();
    size_t i = place_of((uintptr_t)block);
    while (blocks[i].at != 0 && blocks[i].at != (uintptr_t)block)
        i = (i + 1) % BLOCKS_MAX;
    if (blocks[i].at == (uintptr_t)block) {
        close_hole(i);
        atomic_fetch_sub(&remembered, 1);
        found = true;
    }
    unlock();
    return found;
}

void allocator_forget(void)
{
    lock();
    if (atomic_exchange(&remembered, 0) > 0)
        memset(blocks, 0, sizeof blocks);
    unlock();
}

unsigned long allocator_left(void)
{
    return atomic_load(&remembered);
}

void allocator_print_left(void)
{
    int lines = 0;
    for (size_t i = 0; i < BLOCKS_MAX && lines < LINES_MAX; i++) {
        Dl_info info = {0};
        if (blocks[i].at == 0)
            continue;
        lines++;
        dladdr(blocks[i].caller, &info);
        fprintf(stderr, "allocation %lu, of %zu bytes: %s+0x%zx\n", blocks[i].number,
                blocks[i].size, info.dli_fname != NULL ? info.dli_fname : "?",
                (size_t)((const char *)blocks[i].caller - (const char *)info.dli_fbase));
    }
}

/* ---- malloc() and its like ---- */

#pragma GCC visibility push(default) /* libraries have to find them */

#if WRAPPED
#define NAME(function) __wrap_##function
#define REAL(function) __real_##function
#else
#define NAME(function) function
#define REAL(function) __libc_##function
#endif

void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t count, size_t size);
void *REAL(realloc)(void *block, size_t size);
void REAL(free)(void *block);
void *NAME(malloc)(size_t size);
void *NAME(calloc)(size_t count, size_t size);
void *NAME(realloc)(void *block, size_t size);
void NAME(free)(void *block);

#define CALLER __builtin_return_address(0)

void *NAME(malloc)(size_t size)
{
    void *block = fails(CALLER, false) ? NULL : REAL(malloc)(size);
    remember(block, size, CALLER);
    return block;
}

void *NAME(calloc)(size_t count, size_t size)
{
    void *block = fails(CALLER, false) ? NULL : REAL(calloc)(count, size);
    remember(block, count * size, CALLER);
    return block;
}

/* Before it is freed: after that, another thread may get the same address. */
void NAME(free)(void *block)
{
    forget(block);
    REAL(free)(block);
}

void *NAME(realloc)(void *block, size_t size)
{
    if (fails(CALLER, true))
        return NULL;
    bool was = forget(block), before = armed;
    void *fresh = REAL(realloc)(block, size);
    armed = armed || was; /* it stays remembered, whoever enlarges it */
    if (fresh != NULL)
        remember(fresh, size, CALLER);
    else if (was && size > 0)
        remember(block, size, CALLER);
    armed = before;
    return fresh;
}

#if WRAPPED

/* The C library's own calls are not seen then. */
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t length);

char *__wrap_strndup(const char *text, size_t length)
{
    size_t size = strnlen(text, length);
    char *copy = fails(CALLER, false) ? NULL : __real_malloc(size + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, text, size);
    copy[size] = '\0';
    remember(copy, size + 1, CALLER);
    return copy;
}

char *__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, SIZE_MAX);
}

#else

void *__libc_memalign(size_t alignment, size_t size);

void *memalign(size_t alignment, size_t size)
{
    void *block = fails(CALLER, false) ? NULL : __libc_memalign(alignment, size);
    remember(block, size, CALLER);
    return block;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    void *block = fails(CALLER, false) ? NULL : __libc_memalign(alignment, size);
    remember(block, size, CALLER);
    return block;
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *block = fails(CALLER, false) ? NULL : __libc_memalign(alignment, size);
    remember(block, size, CALLER);
    if (block == NULL)
        return ENOMEM;
    *out = block;
    return 0;
}

#endif

/* ---- threads ---- */

struct start {
    void *(*run)(void *);
    void *closure;
};

static void *run_armed(void *closure)
{
    struct start start = *(struct start *)closure;
    REAL(free)(closure);
    armed = true;
    void *result = start.run(start.closure);
    armed = false;
    return result;
}

typedef int (*create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

/* libuv calls this one, too: the program comes before the libraries. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *closure)
{
    create_fn create;
    *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
    if (!arms_children)
        return create(thread, attributes, run, closure);
    struct start *start = REAL(malloc)(sizeof *start);
    if (start == NULL)
        return ENOMEM;
    *start = (struct start){run, closure};
    int result = create(thread, attributes, run_armed, start);
    if (result != 0)
        REAL(free)(start);
    return result;
}
