/* Runs a fuzz target without libFuzzer: on each file of its corpus, and on mutations of these,
 * which are the same ones each time. usage: fuzz_NAME ROUNDS FILE|FOLDER... An input that breaks
 * something is left in $PWD/fuzz-NAME.input. One thread. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"

#define INPUTS_MAX 1024
#define INPUT_BYTES_MAX 4096u /* of what is mutated */

struct input {
    uint8_t *bytes;
    size_t size;
};

static struct input inputs[INPUTS_MAX];
static size_t input_count;
static struct input running;
static char left_at[PATH_MAX]; /* where an input that breaks something is left */

/* ---- what breaks ---- */

static void on_crash(int number)
{
    int fd = open(left_at, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd >= 0 && write(fd, running.bytes, running.size) == (ssize_t)running.size) {
        static const char text[] = "the input is left in ";
        (void)!write(STDERR_FILENO, text, sizeof text - 1);
        (void)!write(STDERR_FILENO, left_at, strlen(left_at));
        (void)!write(STDERR_FILENO, "\n", 1);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static void run(struct input i)
{
    running = i;
    fuzz_one(i.bytes, i.size);
}

/* ---- the corpus ---- */

/* A block of that size, so that a sanitizer sees who reads a byte behind it. */
static uint8_t *allocate(size_t size)
{
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    fuzz_check(bytes != NULL);
    return bytes;
}

static void add_file(const char *path)
{
    struct stat about;
    FILE *file = fopen(path, "re");
    fuzz_check_text(file != NULL && fstat(fileno(file), &about) == 0, path);
    fuzz_check_text(input_count < INPUTS_MAX, "the corpus has too many files");
    struct input *i = &inputs[input_count++];
    i->size = (size_t)about.st_size;
    i->bytes = allocate(i->size);
    fuzz_check(fread(i->bytes, 1, i->size, file) == i->size);
    fclose(file);
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void add(const char *path)
{
    struct dirent **names;
    int count = scandir(path, &names, is_visible, alphasort); /* the order of a disk is any */
    if (count < 0) {
        fuzz_check_text(errno == ENOTDIR, path);
        add_file(path);
        return;
    }
    for (int i = 0; i < count; i++) {
        char file[PATH_MAX];
        snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        add_file(file);
        free(names[i]);
    }
    free(names);
}

/* ---- mutations ---- */

static uint64_t random_state = 88172645463325252u;

static size_t below(size_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)(random_state >> 11) % limit;
}

static void mutate_once(struct input *i)
{
    static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, '"', '\\', '.', '*', '>', '\n', '{', '9'};
    size_t at = below(i->size + 1);
    size_t length = 1 + below(8);
    const struct input *other = &inputs[below(input_count)];
    switch (below(5)) {
    case 0: /* another byte */
        if (at < i->size)
            i->bytes[at] = (uint8_t)(below(2) == 0 ? odd[below(sizeof odd)] : below(256));
        break;
    case 1: /* a bit */
        if (at < i->size)
            i->bytes[at] ^= (uint8_t)(1u << below(8));
        break;
    case 2: /* fewer bytes */
        if (length > i->size - at)
            length = i->size - at;
        memmove(i->bytes + at, i->bytes + at + length, i->size - at - length);
        i->size -= length;
        break;
    case 3: /* more bytes */
        if (i->size + length > INPUT_BYTES_MAX)
            break;
        memmove(i->bytes + at + length, i->bytes + at, i->size - at);
        for (size_t k = 0; k < length; k++)
            i->bytes[at + k] = (uint8_t)(below(2) == 0 ? odd[below(sizeof odd)] : below(256));
        i->size += length;
        break;
    default: /* another input's end */
        if (other->size == 0)
            break;
        length = 1 + below(other->size);
        if (at + length > INPUT_BYTES_MAX)
            break;
        memcpy(i->bytes + at, other->bytes + other->size - length, length);
        i->size = at + length;
    }
}

static void run_mutation(void)
{
    const struct input *from = &inputs[below(input_count)];
    static uint8_t room[INPUT_BYTES_MAX];
    struct input mutated = {.bytes = room};
    mutated.size = from->size < INPUT_BYTES_MAX ? from->size : INPUT_BYTES_MAX;
    memcpy(mutated.bytes, from->bytes, mutated.size);
    for (size_t times = 1 + below(6); times > 0; times--)
        mutate_once(&mutated);
    struct input exact = {.bytes = allocate(mutated.size), .size = mutated.size};
    memcpy(exact.bytes, mutated.bytes, mutated.size);
    run(exact);
    free(exact.bytes);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s ROUNDS FILE|FOLDER...\n", argv[0]);
        return 2;
    }
    char here[PATH_MAX - 64];
    fuzz_check(getcwd(here, sizeof here) != NULL);
    const char *name = strrchr(argv[0], '/');
    snprintf(left_at, sizeof left_at, "%s/%s.input", here, name != NULL ? name + 1 : argv[0]);
    signal(SIGABRT, on_crash);
    signal(SIGSEGV, on_crash);
    for (int i = 2; i < argc; i++)
        add(argv[i]);
    fuzz_check_text(input_count > 0, "the corpus is empty");
    for (size_t i = 0; i < input_count; i++)
        run(inputs[i]);
    long rounds = strtol(argv[1], NULL, 10);
    for (long i = 0; i < rounds; i++)
        run_mutation();
    for (size_t i = 0; i < input_count; i++)
        free(inputs[i].bytes);
    printf("%zu files, %ld mutations\n", input_count, rounds);
    return 0;
}
