/* Records: what goes into a queue comes out of it, in order, whole, and counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link/records.h"

#define LARGER_THAN_A_CHUNK (1u << 20)

static int push(record_queue *q, const char *subject, const char *data)
{
    record_message m = {.subject = subject,
                        .subject_length = strlen(subject),
                        .data = data,
                        .data_length = strlen(data)};
    return record_push_message(q, &m);
}

static void push_number(record_queue *q, unsigned number)
{
    char data[32];
    (void)snprintf(data, sizeof data, "%u", number);
    assert_int_equal(push(q, "numbers", data), 0);
}

/* Where one is in a chunk. */
typedef struct {
    const record_chunk *chunk;
    size_t index;
} place;

/* The next record, or NULL. */
static const record *next(place *p)
{
    return p->index < p->chunk->count ? record_at(p->chunk, p->index++) : NULL;
}

static size_t chunk_bytes(const record_chunk *c)
{
    return c->used + c->count * sizeof(record);
}

static void assert_text(const char *text, size_t length, const char *wanted)
{
    assert_int_equal(length, strlen(wanted));
    assert_memory_equal(text, wanted, length);
}

static void assert_data(const record *r, const char *wanted)
{
    assert_text(record_data(r), r->data_length, wanted);
}

/* Of the tests that publish numbers. */
static uint64_t number_in(const record *r)
{
    return strtoull(record_data(r), NULL, 10); /* the line's end is behind it */
}

/* Takes all chunks and expects the publishes first..last-1 in them, and nothing else. */
static unsigned expect_numbers(record_queue *q, unsigned first, unsigned last)
{
    unsigned chunks = 0;
    for (record_chunk *c; (c = record_queue_take(q)) != NULL; free(c)) {
        chunks++;
        assert_null(c->next);
        place at = {c, 0};
        for (const record *r; (r = next(&at)) != NULL; first++) {
            assert_int_equal(r->type, RECORD_PUBLISH);
            assert_int_equal(number_in(r), first);
        }
    }
    assert_int_equal(first, last);
    return chunks;
}

/* The counts of a queue, against what lies in its chunks. */
static void assert_counts_right(const record_queue *q)
{
    size_t bytes = 0;
    uint64_t publishes = 0;
    const record_chunk *last = NULL;
    for (const record_chunk *c = q->head; c != NULL; last = c, c = c->next) {
        assert_true(chunk_bytes(c) <= c->capacity);
        size_t used = 0;
        uint64_t among = 0;
        for (size_t i = 0; i < c->count; i++) {
            const record *r = record_at(c, i);
            assert_int_equal((uintptr_t)r % _Alignof(record), 0);
            bytes += record_size(r);
            among += r->type == RECORD_PUBLISH;
            if (r->type != RECORD_PUBLISH)
                continue;
            assert_ptr_equal(r->bytes, c->bytes + used); /* one piece of memory */
            used += r->length;
        }
        assert_int_equal(c->used, used);
        assert_int_equal(c->publishes, among);
        publishes += among;
    }
    assert_ptr_equal(q->tail, last);
    assert_int_equal(q->bytes, bytes);
    assert_int_equal(q->publishes, publishes);
}

static void assert_empty(const record_queue *q)
{
    assert_null(q->head);
    assert_null(q->tail);
    assert_int_equal(q->bytes, 0);
    assert_int_equal(q->publishes, 0);
}

/* ---- one record ---- */

static void a_message_comes_out_as_it_went_in(void **state)
{
    (void)state;
    static const char headers[] = "Trace\0abc\0Empty\0";
    static const char data[] = "before\0after\0";
    record_message m = {.subject = "orders.new",
                        .subject_length = 10,
                        .reply = "_INBOX.1",
                        .reply_length = 8,
                        .headers = headers,
                        .header_length = sizeof headers,
                        .header_count = 2,
                        .data = data,
                        .data_length = sizeof data};
    record_queue q = {0};
    assert_int_equal(record_push_message(&q, &m), 0);
    assert_int_equal(q.publishes, 1);
    assert_int_equal(q.bytes, record_message_size(&m));

    record_chunk *c = record_queue_take(&q);
    assert_int_equal(c->count, 1);
    const record *r = record_at(c, 0);
    assert_int_equal(r->type, RECORD_PUBLISH);
    assert_int_equal(record_size(r), record_message_size(&m));
    assert_text(record_subject(r), r->subject_length, "orders.new");
    assert_int_equal(record_subject(r)[r->subject_length], ' ');
    assert_text(record_reply(r), r->reply_length, "_INBOX.1");
    assert_int_equal(record_reply(r)[r->reply_length], ' ');
    assert_int_equal(r->header_length, sizeof headers);
    assert_memory_equal(record_headers(r), headers, sizeof headers);
    assert_int_equal(r->data_length, sizeof data);
    assert_memory_equal(record_data(r), data, sizeof data);
    free(c);
}

/* Without headers it is what a server reads. */
static void messages_lie_there_as_on_the_wire(void **state)
{
    (void)state;
    record_message ball = {
        .subject = "a.b", .subject_length = 3, .data = "0123456789", .data_length = 10};
    record_message empty = {.subject = "c", .subject_length = 1, .reply = "d", .reply_length = 1};
    record_queue q = {0};
    assert_int_equal(record_push_message(&q, &ball), 0);
    assert_int_equal(record_push_command(&q, RECORD_FLUSH, NULL, 0, 0), 0);
    assert_int_equal(record_push_message(&q, &empty), 0);
    assert_counts_right(&q);
    record_chunk *c = record_queue_take(&q);
    assert_text(c->bytes, c->used, "PUB a.b 10\r\n0123456789\r\nPUB c d 0\r\n\r\n");
    free(c);
}

static void what_a_message_lacks_is_empty(void **state)
{
    (void)state;
    record_message m = {.subject = "a", .subject_length = 1};
    record_queue q = {0};
    assert_int_equal(record_push_message(&q, &m), 0);
    record_chunk *c = record_queue_take(&q);
    const record *r = record_at(c, 0);
    assert_text(record_subject(r), r->subject_length, "a");
    assert_int_equal(r->reply_length + r->header_length + r->data_length, 0);
    assert_text(r->bytes, r->length, "PUB a 0\r\n\r\n");
    free(c);
}

/* Lengths count, not NULs: a subject that is a part of a longer text. */
static void strings_need_no_nul(void **state)
{
    (void)state;
    record_message m = {.subject = "abcdef",
                        .subject_length = 3,
                        .reply = "ghijkl",
                        .reply_length = 2,
                        .data = "mnopqr",
                        .data_length = 1};
    record_queue q = {0};
    assert_int_equal(record_push_message(&q, &m), 0);
    record_chunk *c = record_queue_take(&q);
    const record *r = record_at(c, 0);
    assert_text(record_subject(r), r->subject_length, "abc");
    assert_text(record_reply(r), r->reply_length, "gh");
    assert_data(r, "m");
    free(c);
}

static void sizes_are_those_that_were_said(void **state)
{
    (void)state;
    static char data[100001];
    for (size_t length = 0; length < sizeof data; length += length < 110 ? 1 : 9983) {
        record_message m = {
            .subject = "s", .subject_length = 1, .data = data, .data_length = length};
        char number[16];
        size_t digits = (size_t)snprintf(number, sizeof number, "%zu", length);
        size_t size = record_message_size(&m);
        assert_int_equal(size, sizeof(record) + strlen("PUB s \r\n\r\n") + digits + length);
        record_queue q = {0};
        assert_int_equal(record_push_message(&q, &m), 0);
        assert_int_equal(q.bytes, size);
        assert_counts_right(&q);
        const record *r = record_at(q.head, 0);
        assert_memory_equal(r->bytes + strlen("PUB s "), number, digits);
        record_queue_clear(&q);
    }
}

static void commands_keep_their_arguments(void **state)
{
    (void)state;
    int target = 0;
    record_queue q = {0};
    assert_int_equal(record_push_command(&q, RECORD_SUBSCRIBE, &target, 0, 0), 0);
    assert_int_equal(record_push_command(&q, RECORD_FLUSH, NULL, UINT64_MAX, 1234), 0);
    assert_int_equal(q.publishes, 0);
    assert_counts_right(&q);
    record_chunk *c = record_queue_take(&q);
    assert_int_equal(c->count, 2);
    const record *r = record_at(c, 0);
    assert_int_equal(r->type, RECORD_SUBSCRIBE);
    assert_ptr_equal(r->pointer, &target);
    r = record_at(c, 1);
    assert_int_equal(r->type, RECORD_FLUSH);
    assert_null(r->pointer);
    assert_true(r->number == UINT64_MAX);
    assert_int_equal(r->value, 1234);
    free(c);
}

/* ---- many records ---- */

static void order_is_kept_over_chunk_borders(void **state)
{
    (void)state;
    record_queue q = {0};
    for (unsigned i = 0; i < 5000; i++) {
        push_number(&q, i);
        assert_int_equal(q.publishes, i + 1);
    }
    assert_counts_right(&q);
    assert_true(expect_numbers(&q, 0, 5000) > 3);
    assert_empty(&q);
}

static void commands_and_publishes_stay_in_one_order(void **state)
{
    (void)state;
    record_queue q = {0};
    for (uint64_t i = 0; i < 4000; i++) {
        if (i % 3 == 0)
            assert_int_equal(record_push_command(&q, RECORD_FLUSH, NULL, i, 0), 0);
        else
            push_number(&q, (unsigned)i);
    }
    assert_counts_right(&q);
    uint64_t wanted = 0;
    for (record_chunk *c; (c = record_queue_take(&q)) != NULL; free(c)) {
        assert_counts_right(&q);
        place at = {c, 0};
        for (const record *r; (r = next(&at)) != NULL; wanted++) {
            assert_int_equal(r->type, wanted % 3 == 0 ? RECORD_FLUSH : RECORD_PUBLISH);
            uint64_t is = r->type == RECORD_FLUSH ? r->number : number_in(r);
            assert_int_equal(is, wanted);
        }
    }
    assert_int_equal(wanted, 4000);
    assert_empty(&q);
}

static void a_message_may_be_larger_than_a_chunk(void **state)
{
    (void)state;
    char *data = malloc(LARGER_THAN_A_CHUNK);
    assert_non_null(data);
    for (size_t i = 0; i < LARGER_THAN_A_CHUNK; i++)
        data[i] = (char)(i * 31);
    record_message big = {
        .subject = "big", .subject_length = 3, .data = data, .data_length = LARGER_THAN_A_CHUNK};
    record_queue q = {0};
    assert_int_equal(push(&q, "small", "before"), 0);
    assert_int_equal(record_push_message(&q, &big), 0);
    assert_int_equal(push(&q, "small", "after"), 0);
    assert_int_equal(q.publishes, 3);
    assert_counts_right(&q);

    static const char *const wanted[] = {"before", NULL, "after"};
    unsigned at = 0;
    for (record_chunk *c; (c = record_queue_take(&q)) != NULL; free(c)) {
        place in = {c, 0};
        for (const record *r; (r = next(&in)) != NULL; at++) {
            assert_in_range(at, 0, 2);
            if (wanted[at] != NULL) {
                assert_data(r, wanted[at]);
                continue;
            }
            assert_text(record_subject(r), r->subject_length, "big");
            assert_int_equal(r->data_length, LARGER_THAN_A_CHUNK);
            assert_memory_equal(record_data(r), data, LARGER_THAN_A_CHUNK);
        }
    }
    assert_int_equal(at, 3);
    free(data);
}

static void a_queue_may_start_with_a_large_message(void **state)
{
    (void)state;
    char *data = calloc(1, LARGER_THAN_A_CHUNK);
    assert_non_null(data);
    record_message big = {.data = data, .data_length = LARGER_THAN_A_CHUNK};
    record_queue q = {0};
    assert_int_equal(record_push_message(&q, &big), 0);
    assert_counts_right(&q);
    record_queue_clear(&q);
    assert_empty(&q);
    free(data);
}

static void a_lone_record_takes_little_memory(void **state)
{
    (void)state;
    record_queue q = {0};
    push_number(&q, 0);
    assert_in_range(q.head->capacity, 1, 4096);
    record_queue_clear(&q);
}

/* ---- handing over ---- */

static void taking_counts_down_and_ends_with_null(void **state)
{
    (void)state;
    record_queue q = {0};
    assert_null(record_queue_take(&q));
    for (unsigned i = 0; i < 3000; i++)
        push_number(&q, i);
    size_t bytes = q.bytes;
    uint64_t publishes = q.publishes;
    for (record_chunk *c; (c = record_queue_take(&q)) != NULL; free(c)) {
        bytes -= chunk_bytes(c);
        publishes -= c->publishes;
        assert_int_equal(q.bytes, bytes);
        assert_int_equal(q.publishes, publishes);
        assert_counts_right(&q);
    }
    assert_empty(&q);
    assert_null(record_queue_take(&q));
}

static void an_emptied_queue_can_be_used_again(void **state)
{
    (void)state;
    record_queue q = {0};
    for (unsigned round = 0; round < 3; round++) {
        push_number(&q, round);
        assert_counts_right(&q);
        (void)expect_numbers(&q, round, round + 1);
        assert_empty(&q);
    }
}

static void appending_moves_everything_behind_the_end(void **state)
{
    (void)state;
    static const unsigned sizes[] = {0, 1, 3000};
    for (unsigned i = 0; i < 9; i++) {
        unsigned first = sizes[i / 3];
        unsigned second = sizes[i % 3];
        record_queue to = {0};
        record_queue from = {0};
        for (unsigned n = 0; n < first; n++)
            push_number(&to, n);
        for (unsigned n = first; n < first + second; n++)
            push_number(&from, n);
        size_t bytes = to.bytes + from.bytes;
        record_queue_append(&to, &from);
        assert_empty(&from);
        assert_int_equal(to.bytes, bytes);
        assert_int_equal(to.publishes, first + second);
        assert_counts_right(&to);
        push_number(&to, first + second); /* and it goes on behind that */
        push_number(&from, 0);
        assert_counts_right(&to);
        assert_counts_right(&from);
        (void)expect_numbers(&to, 0, first + second + 1);
        (void)expect_numbers(&from, 0, 1);
    }
}

/* ---- salvage ---- */

/* A chunk with a flush before each of the publishes 0..count-1. */
static record_chunk *mixed_chunk(unsigned count)
{
    record_queue q = {0};
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(record_push_command(&q, RECORD_FLUSH, NULL, i, 0), 0);
        push_number(&q, i);
    }
    record_chunk *c = record_queue_take(&q);
    assert_empty(&q); /* few enough for one chunk */
    return c;
}

static void salvage_keeps_publishes_and_drops_commands(void **state)
{
    (void)state;
    record_chunk *c = mixed_chunk(8);
    record_queue q = {0};
    assert_int_equal(record_queue_salvage(&q, c, 0), 0);
    assert_int_equal(q.publishes, 8);
    assert_counts_right(&q);
    free(c); /* they are copies */
    (void)expect_numbers(&q, 0, 8);
}

static void salvage_starts_where_it_is_told(void **state)
{
    (void)state;
    record_chunk *c = mixed_chunk(8);
    for (unsigned done = 0; done <= 8; done++) {
        record_queue q = {0};
        assert_int_equal(record_queue_salvage(&q, c, (size_t)2 * done), 0);
        assert_int_equal(q.publishes, 8 - done);
        assert_counts_right(&q);
        (void)expect_numbers(&q, done, 8);
    }
    free(c);
}

static void salvage_appends_to_what_is_there(void **state)
{
    (void)state;
    record_queue source = {0};
    for (unsigned i = 1; i < 3000; i++)
        push_number(&source, i);
    record_queue q = {0};
    push_number(&q, 0);
    for (record_chunk *c; (c = record_queue_take(&source)) != NULL; free(c)) {
        assert_int_equal(record_queue_salvage(&q, c, 0), 0);
        assert_counts_right(&q);
    }
    (void)expect_numbers(&q, 0, 3000);
}

static void salvaged_messages_are_whole(void **state)
{
    (void)state;
    char *data = malloc(LARGER_THAN_A_CHUNK);
    assert_non_null(data);
    memset(data, 'x', LARGER_THAN_A_CHUNK);
    data[0] = data[LARGER_THAN_A_CHUNK - 1] = '\0';
    record_message m = {.subject = "big",
                        .subject_length = 3,
                        .reply = "back",
                        .reply_length = 4,
                        .headers = "a\0b",
                        .header_length = 4,
                        .header_count = 1,
                        .data = data,
                        .data_length = LARGER_THAN_A_CHUNK};
    record_queue source = {0};
    assert_int_equal(record_push_message(&source, &m), 0);
    record_chunk *c = record_queue_take(&source);
    record_queue q = {0};
    assert_int_equal(record_queue_salvage(&q, c, 0), 0);
    assert_int_equal(q.bytes, record_message_size(&m));
    free(c);
    c = record_queue_take(&q);
    const record *r = record_at(c, 0);
    assert_text(record_subject(r), r->subject_length, "big");
    assert_text(record_reply(r), r->reply_length, "back");
    assert_int_equal(r->header_length, 4);
    assert_memory_equal(record_headers(r), "a\0b", 4);
    assert_int_equal(r->data_length, LARGER_THAN_A_CHUNK);
    assert_memory_equal(record_data(r), data, LARGER_THAN_A_CHUNK);
    free(c);
    free(data);
}

static void one_record_can_be_copied(void **state)
{
    (void)state;
    int target = 0;
    record_queue source = {0};
    push_number(&source, 0);
    assert_int_equal(record_push_command(&source, RECORD_DRAIN, &target, 3, 4), 0);
    record_chunk *c = record_queue_take(&source);
    record_queue q = {0};
    for (size_t i = 0; i < c->count; i++)
        assert_int_equal(record_queue_copy(&q, record_at(c, i)), 0);
    free(c);
    assert_int_equal(q.publishes, 1);
    assert_counts_right(&q);
    c = record_queue_take(&q);
    const record *r = record_at(c, 0);
    assert_data(r, "0");
    r = record_at(c, 1);
    assert_int_equal(r->type, RECORD_DRAIN);
    assert_ptr_equal(r->pointer, &target);
    assert_int_equal(r->number, 3);
    assert_int_equal(r->value, 4);
    free(c);
}

static void a_prepended_chunk_comes_first(void **state)
{
    (void)state;
    static const unsigned sizes[] = {0, 1, 3000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        record_queue q = {0};
        push_number(&q, 0);
        push_number(&q, 1);
        record_chunk *c = record_queue_take(&q);
        for (unsigned n = 2; n < 2 + sizes[i]; n++)
            push_number(&q, n);
        record_queue_prepend(&q, c);
        assert_int_equal(q.publishes, sizes[i] + 2);
        assert_counts_right(&q);
        push_number(&q, 2 + sizes[i]);
        assert_counts_right(&q);
        (void)expect_numbers(&q, 0, 3 + sizes[i]);
        assert_empty(&q);
    }
}

static void clearing_leaves_an_empty_queue(void **state)
{
    (void)state;
    record_queue q = {0};
    record_queue_clear(&q);
    assert_empty(&q);
    for (unsigned i = 0; i < 3000; i++)
        push_number(&q, i);
    record_queue_clear(&q);
    assert_empty(&q);
    push_number(&q, 7);
    assert_counts_right(&q);
    (void)expect_numbers(&q, 7, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_comes_out_as_it_went_in),
        cmocka_unit_test(messages_lie_there_as_on_the_wire),
        cmocka_unit_test(what_a_message_lacks_is_empty),
        cmocka_unit_test(strings_need_no_nul),
        cmocka_unit_test(sizes_are_those_that_were_said),
        cmocka_unit_test(commands_keep_their_arguments),
        cmocka_unit_test(order_is_kept_over_chunk_borders),
        cmocka_unit_test(commands_and_publishes_stay_in_one_order),
        cmocka_unit_test(a_message_may_be_larger_than_a_chunk),
        cmocka_unit_test(a_queue_may_start_with_a_large_message),
        cmocka_unit_test(a_lone_record_takes_little_memory),
        cmocka_unit_test(taking_counts_down_and_ends_with_null),
        cmocka_unit_test(an_emptied_queue_can_be_used_again),
        cmocka_unit_test(appending_moves_everything_behind_the_end),
        cmocka_unit_test(salvage_keeps_publishes_and_drops_commands),
        cmocka_unit_test(salvage_starts_where_it_is_told),
        cmocka_unit_test(salvage_appends_to_what_is_there),
        cmocka_unit_test(salvaged_messages_are_whole),
        cmocka_unit_test(one_record_can_be_copied),
        cmocka_unit_test(a_prepended_chunk_comes_first),
        cmocka_unit_test(clearing_leaves_an_empty_queue),
    };
    return cmocka_run_group_tests_name("records", tests, NULL, NULL);
}
