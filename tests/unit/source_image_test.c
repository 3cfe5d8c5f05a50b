/* The files of a script in one file in memory: what is read is what was written, or nothing. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "script/source_image.h"

static void add(sources *s, const char *path, const char *text, size_t length)
{
    char *copy = calloc(1, length + 1);
    memcpy(copy, text, length);
    assert_int_equal(sources_add(s, strdup(path), copy, length, NULL), 0);
}

static sources *two_files(void)
{
    sources *s = sources_new();
    add(s, "a/gateway.lua", "return 1\n", 9);
    add(s, "a/empty.lua", "", 0);
    add(s, "a/bytes.lua", "\0\xff\n--", 5);
    return s;
}

static void what_is_read_is_what_was_written(void **state)
{
    (void)state;
    char before[SOURCE_HASH_SIZE], after[SOURCE_HASH_SIZE];
    error e = {0};
    sources *s = two_files();
    int fd = source_image_make(s);
    assert_true(fd >= 0);
    sources *read_back = source_image_read(fd, &e);
    assert_non_null(read_back);
    assert_int_equal(read_back->count, s->count);
    for (size_t i = 0; i < s->count; i++) {
        assert_string_equal(read_back->files[i].path, s->files[i].path);
        assert_int_equal(read_back->files[i].length, s->files[i].length);
        assert_memory_equal(read_back->files[i].text, s->files[i].text, s->files[i].length + 1);
    }
    sources_hash(s, before);
    sources_hash(read_back, after);
    assert_string_equal(before, after);
    sources_release(read_back);
    sources_release(s);
    close(fd);
}

static void it_cannot_be_changed(void **state)
{
    (void)state;
    sources *s = two_files();
    int fd = source_image_make(s);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    sources_release(s);
    close(fd);
}

static int file_of(const void *bytes, size_t length)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    assert_int_equal(write(fd, bytes, length), length);
    return fd;
}

static void expect_refused(const void *bytes, size_t length)
{
    error e = {0};
    int fd = file_of(bytes, length);
    assert_null(source_image_read(fd, &e));
    assert_string_equal(e.code, "bad_image");
    close(fd);
}

static void what_is_cut_or_longer_is_refused(void **state)
{
    (void)state;
    char bytes[512];
    sources *s = two_files();
    int fd = source_image_make(s);
    ssize_t length = pread(fd, bytes, sizeof bytes - 1, 0);
    assert_in_range(length, 1, sizeof bytes - 1);
    sources *part;
    for (ssize_t i = 0; i < length; i++) {
        error e = {0};
        int cut = file_of(bytes, (size_t)i);
        part = source_image_read(cut, &e);
        close(cut);
        if (part != NULL) /* the end of a file of the script */
            assert_in_range(part->count, 1, s->count - 1);
        sources_release(part);
    }
    bytes[length] = 'x';
    expect_refused(bytes, (size_t)length + 1);
    sources_release(s);
    close(fd);
}

static void lengths_that_lie_are_refused(void **state)
{
    (void)state;
    struct __attribute__((packed)) {
        char first[18];
        uint64_t path, text;
        char rest[4];
    } image = {.rest = "abc"};
    static const uint64_t lies[][2] = {{0, 4},          {5, 0},          {2, 3},
                                       {UINT64_MAX, 1}, {1, UINT64_MAX}, {UINT64_MAX, UINT64_MAX}};
    memcpy(image.first, "moondog sources 1\n", sizeof image.first);
    image.path = 2;
    image.text = 2;
    memcpy(image.rest, "a\0bc", 4);
    expect_refused(&image, sizeof image); /* a path ends at its zero byte */
    memcpy(image.rest, "abcd", 4);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        image.path = lies[i][0];
        image.text = lies[i][1];
        expect_refused(&image, sizeof image);
    }
    expect_refused("something else altogether", 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_what_was_written),
        cmocka_unit_test(it_cannot_be_changed),
        cmocka_unit_test(what_is_cut_or_longer_is_refused),
        cmocka_unit_test(lengths_that_lie_are_refused),
    };
    return cmocka_run_group_tests_name("source_image", tests, NULL, NULL);
}
