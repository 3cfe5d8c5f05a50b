/* Frames of the control protocol: whatever pieces they come in. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "control/frame.h"

static void expect_frame(frame_reader *r, const char *text)
{
    size_t length = 0;
    bool bad = true;
    const char *json = frame_take(r, &length, &bad);
    assert_non_null(json);
    assert_false(bad);
    assert_int_equal(length, strlen(text));
    assert_string_equal(json, text);
}

static void expect_none(frame_reader *r)
{
    size_t length;
    bool bad = true;
    assert_null(frame_take(r, &length, &bad));
    assert_false(bad);
}

static void add_text(frame_reader *r, const char *text)
{
    size_t size = 0;
    char *frame = frame_make(text, strlen(text), &size);
    assert_non_null(frame);
    assert_int_equal(size, strlen(text) + FRAME_HEAD);
    assert_int_equal(frame_add(r, frame, size), 0);
    free(frame);
}

static void what_was_made_can_be_taken(void **state)
{
    (void)state;
    frame_reader r = {0};
    expect_none(&r);
    add_text(&r, "{\"id\":1}");
    add_text(&r, "");
    add_text(&r, "{}");
    expect_frame(&r, "{\"id\":1}");
    expect_frame(&r, "");
    add_text(&r, "[3]");
    expect_frame(&r, "{}");
    expect_frame(&r, "[3]");
    expect_none(&r);
    frame_clear(&r);
}

static void frames_come_in_any_pieces(void **state)
{
    (void)state;
    static const char stream[] = "\0\0\0\3abc\0\0\0\0\0\0\0\5hello";
    for (size_t piece = 1; piece < sizeof stream; piece++) {
        frame_reader r = {0};
        static const char *const expected[] = {"abc", "", "hello"};
        size_t count = 0;
        for (size_t at = 0; at < sizeof stream - 1; at += piece) {
            size_t left = sizeof stream - 1 - at;
            assert_int_equal(frame_add(&r, stream + at, left < piece ? left : piece), 0);
            size_t length;
            bool bad;
            for (const char *json; (json = frame_take(&r, &length, &bad)) != NULL; count++)
                assert_string_equal(json, expected[count]);
        }
        assert_int_equal(count, 3);
        frame_clear(&r);
    }
}

static void a_frame_that_is_too_large_is_bad_at_once(void **state)
{
    (void)state;
    frame_reader r = {0};
    size_t length;
    bool bad = false;
    assert_int_equal(frame_add(&r, "\0\x10\0\1", 4), 0);
    assert_null(frame_take(&r, &length, &bad));
    assert_true(bad);
    frame_clear(&r);
    char *large = calloc(1, FRAME_BYTES_MAX + 1);
    assert_non_null(large);
    assert_null(frame_make(large, FRAME_BYTES_MAX + 1, &length));
    char *frame = frame_make(large, FRAME_BYTES_MAX, &length);
    assert_non_null(frame);
    assert_int_equal(length, FRAME_BYTES_MAX + FRAME_HEAD);
    free(frame);
    free(large);
}

/* Seconds that each of those that look for trouble may take; 0: a fixed number of rounds. */
static unsigned long fuzz_seconds(void)
{
    const char *text = getenv("MOONDOG_FUZZ_SECONDS");
    return text != NULL ? strtoul(text, NULL, 10) : 0;
}

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

/* One stream: random bytes, good frames and damaged ones, in random pieces. It ends in frames, in
 * waiting, or in a bad one; the address sanitizer looks on. */
static void read_stream(uint64_t *random)
{
    frame_reader r = {0};
    bool bad = false;
    for (int piece = 0; piece < 20 && !bad; piece++) {
        char bytes[512];
        size_t length = next_random(random) % sizeof bytes;
        for (size_t i = 0; i < length; i++)
            bytes[i] = (char)(next_random(random) % 4 == 0 ? *random >> 32 & 255 : 0);
        if (length > FRAME_HEAD + 1 && *random % 3 != 0) {
            frame_write("{}", 2, bytes);
            bytes[3] = (char)(next_random(random) % 8 == 0 ? *random >> 40 : length - FRAME_HEAD);
        }
        assert_int_equal(frame_add(&r, bytes, length), 0);
        size_t taken;
        for (const char *json; (json = frame_take(&r, &taken, &bad)) != NULL;) {
            assert_true(taken <= FRAME_BYTES_MAX);
            assert_int_equal(json[taken], '\0');
        }
    }
    frame_clear(&r);
}

static void random_bytes_break_nothing(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252u, rounds = 0;
    time_t until = time(NULL) + (time_t)fuzz_seconds();
    for (; rounds < 20000 || time(NULL) < until; rounds++)
        read_stream(&random);
    print_message("streams: %" PRIu64 "\n", rounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_made_can_be_taken),
        cmocka_unit_test(frames_come_in_any_pieces),
        cmocka_unit_test(a_frame_that_is_too_large_is_bad_at_once),
        cmocka_unit_test(random_bytes_break_nothing),
    };
    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
