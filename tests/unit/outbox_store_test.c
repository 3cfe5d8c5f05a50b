/* The file of an outbox: what is put, found, taken and set aside, its caps, and files that are not
 * good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "outbox/schema.h"
#include "outbox/store.h"

static char folder[64], path[128];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/moondog-store-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/out.db", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char name[160];
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        unlink(name);
    }
    return rmdir(folder);
}

static store *open_with(uint32_t max_pages, int64_t max_bytes)
{
    error e = {0};
    store_options options = {
        .path = path, .fsync = true, .max_bytes = max_bytes, .max_pages = max_pages};
    store *s = store_open(&options, &e);
    if (s == NULL)
        fail_msg("%s", e.message);
    return s;
}

static store *open_store(void)
{
    return open_with(0, 1 << 30);
}

static void expect_refused(const char *code, const char *text)
{
    error e = {0};
    store_options options = {.path = path, .fsync = true, .max_bytes = 1 << 30};
    assert_null(store_open(&options, &e));
    assert_string_equal(e.code, code);
    if (strstr(e.message, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", e.message, text);
}

static void begin(store *s)
{
    error e = {0};
    if (store_begin(s, &e) != 0)
        fail_msg("%s", e.message);
}

static void commit(store *s)
{
    error e = {0};
    if (store_commit(s, &e) != 0)
        fail_msg("%s", e.message);
}

static int64_t put(store *s, store_message m)
{
    error e = {0};
    store_put_result r;
    if (m.created == 0)
        m.created = 1000;
    if (store_put(s, &m, &r, &e) != 0)
        fail_msg("%s", e.message);
    return r.id;
}

static int append(void *closure, const store_entry *e)
{
    char *text = closure;
    sprintf(text + strlen(text), "%s=%.*s ", e->msg_id, (int)e->data_length,
            e->data != NULL ? e->data : "");
    return 0;
}

static void expect_entries(store *s, const char *wanted)
{
    char text[1024] = "";
    error e = {0};
    assert_int_equal(store_read(s, 0, 100, append, text, &e), 0);
    assert_string_equal(text, wanted);
}

static void entries_are_kept_in_order_over_a_restart(void **state)
{
    (void)state;
    store *s = open_store();
    begin(s);
    int64_t a =
        put(s, (store_message){
                   .msg_id = "a", .subject = "s.1", .data = "one", .data_length = 3, .created = 5});
    put(s, (store_message){.msg_id = "b", .subject = "s.2", .data = "two", .data_length = 3});
    put(s, (store_message){.msg_id = "c", .subject = "s.1"});
    commit(s);
    begin(s);
    put(s, (store_message){.msg_id = "lost", .subject = "s"});
    store_close(s); /* not committed */
    s = open_store();
    const store_totals *t = store_get_totals(s);
    assert_int_equal(t->waiting, 3);
    assert_int_equal(t->first, a);
    assert_int_equal(t->first_since, 5);
    int64_t bytes = t->bytes;
    assert_int_equal(bytes, 3 * STORE_ENTRY_BYTES + 3 * (1 + 3) + 6);
    expect_entries(s, "a=one b=two c= ");
    bool there;
    error e = {0};
    begin(s);
    assert_int_equal(store_remove(s, a, &there, &e), 0);
    assert_true(there);
    assert_int_equal(store_remove(s, a, &there, &e), 0);
    assert_false(there);
    assert_int_equal(store_set_last(s, "STREAM", 77, &e), 0);
    assert_int_equal(store_set_last(s, "OTHER", 3, &e), 0);
    assert_int_equal(store_set_last(s, "STREAM", 78, &e), 0);
    commit(s);
    assert_int_equal(t->waiting, 2);
    assert_int_equal(t->bytes, bytes - STORE_ENTRY_BYTES - 7);
    store_close(s);
    s = open_store();
    store_places places;
    assert_int_equal(store_get_places(s, &places, &e), 0);
    assert_int_equal(places.count, 2);
    assert_int_equal(store_places_get(&places, "STREAM"), 78);
    assert_int_equal(store_places_get(&places, "OTHER"), 3);
    assert_int_equal(store_places_get(&places, "NONE"), 0);
    expect_entries(s, "b=two c= ");
    begin(s);
    assert_true(put(s, (store_message){.msg_id = "a", .subject = "s"}) > a + 2); /* never again */
    commit(s);
    store_close(s);
}

static void the_stream_that_was_used_longest_ago_gives_way(void **state)
{
    (void)state;
    store_places p = {0};
    char name[16];
    for (unsigned i = 0; i < STORE_PLACES_MAX; i++) {
        snprintf(name, sizeof name, "S%u", i);
        store_places_note(&p, name, i + 1);
    }
    store_places_note(&p, p.list[0].stream, 100); /* S0, from the list itself */
    store_places_note(&p, "NEW", 7);
    assert_int_equal(p.count, STORE_PLACES_MAX);
    assert_int_equal(store_places_get(&p, "S0"), 100);
    assert_int_equal(store_places_get(&p, "S1"), 0);
    assert_int_equal(store_places_get(&p, "S2"), 3);
    assert_int_equal(store_places_get(&p, "NEW"), 7);
}

static void headers_and_zero_bytes_come_back(void **state)
{
    (void)state;
    store *s = open_store();
    begin(s);
    put(s, (store_message){.msg_id = "a",
                           .subject = "s",
                           .headers = "k\0v\0",
                           .header_length = 4,
                           .data = "x\0y",
                           .data_length = 3});
    commit(s);
    store_close(s);
    sqlite3 *db;
    sqlite3_stmt *row;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_prepare_v2(db, "SELECT headers, data, expires FROM entry", -1, &row, NULL);
    assert_int_equal(sqlite3_step(row), SQLITE_ROW);
    assert_int_equal(sqlite3_column_bytes(row, 0), 4);
    assert_memory_equal(sqlite3_column_blob(row, 0), "k\0v\0", 4);
    assert_memory_equal(sqlite3_column_blob(row, 1), "x\0y", 3);
    assert_int_equal(sqlite3_column_type(row, 2), SQLITE_NULL);
    sqlite3_finalize(row);
    sqlite3_close(db);
}

static void a_message_id_is_there_once(void **state)
{
    (void)state;
    store *s = open_store();
    error e = {0};
    store_put_result r;
    store_message m = {.msg_id = "a", .subject = "s", .created = 1};
    begin(s);
    int64_t id = put(s, m);
    assert_int_equal(store_put(s, &m, &r, &e), 0);
    assert_true(r.known);
    assert_int_equal(r.id, id);
    assert_int_equal(store_set_aside(s, id, "no such thing", 9, &e), 0);
    assert_int_equal(store_put(s, &m, &r, &e), -1);
    assert_string_equal(e.code, "set_aside");
    assert_non_null(strstr(e.message, "no such thing"));
    commit(s);
    assert_int_equal(store_get_totals(s)->waiting, 0);
    assert_int_equal(store_get_totals(s)->set_aside, 1);
    expect_entries(s, "");
    store_close(s);
}

static void the_latest_takes_the_place_of_one_that_was_not_sent(void **state)
{
    (void)state;
    store *s = open_store();
    error e = {0};
    store_put_result r;
    begin(s);
    int64_t old = put(s, (store_message){.msg_id = "a", .subject = "p.1", .latest = true});
    put(s, (store_message){.msg_id = "b", .subject = "p.2", .latest = true});
    commit(s);
    store_close(s);
    s = open_store(); /* what waits is known also then */
    begin(s);
    store_message m = {.msg_id = "c", .subject = "p.1", .created = 1, .latest = true};
    assert_int_equal(store_put(s, &m, &r, &e), 0);
    assert_int_equal(r.replaced, old);
    store_rollback(s);
    expect_entries(s, "a= b= ");
    begin(s);
    assert_int_equal(store_put(s, &m, &r, &e), 0);
    assert_int_equal(r.replaced, old);
    int64_t id = r.id;
    m.msg_id = "d";
    m.sent_max = id;
    assert_int_equal(store_put(s, &m, &r, &e), 0);
    assert_int_equal(r.replaced, 0); /* it may be on its way */
    commit(s);
    expect_entries(s, "b= c= d= ");
    assert_int_equal(store_get_totals(s)->waiting, 3);
    store_close(s);
}

static void what_expires_goes(void **state)
{
    (void)state;
    store *s = open_store();
    error e = {0};
    unsigned count;
    begin(s);
    int64_t first = put(s, (store_message){.msg_id = "a", .subject = "s", .expires = 50});
    put(s, (store_message){.msg_id = "b", .subject = "s", .expires = 50});
    put(s, (store_message){.msg_id = "c", .subject = "s"});
    put(s, (store_message){.msg_id = "d", .subject = "s", .expires = 60});
    int64_t after = first;
    assert_int_equal(store_expire(s, &after, 49, 10, &count, &e), 0);
    assert_int_equal(count, 0);
    assert_int_equal(after, 0); /* it has looked at all */
    after = first;
    assert_int_equal(store_expire(s, &after, 60, 2, &count, &e), 0);
    assert_int_equal(count, 1);
    assert_int_equal(after, first + 2);
    assert_int_equal(store_expire(s, &after, 50, 2, &count, &e), 0);
    assert_int_equal(count, 0);
    commit(s);
    expect_entries(s, "a= c= d= ");
    store_close(s);
}

static void the_cap_is_one_of_bytes(void **state)
{
    (void)state;
    store *s = open_with(0, 2 * (STORE_ENTRY_BYTES + 12));
    error e = {0};
    store_put_result r;
    store_message m = {
        .msg_id = "a", .subject = "s", .created = 1, .data = "0123456789", .data_length = 10};
    begin(s);
    put(s, m);
    m.msg_id = "b";
    put(s, m);
    m.msg_id = "c";
    assert_int_equal(store_put(s, &m, &r, &e), -1);
    assert_string_equal(e.code, "outbox_full");
    commit(s); /* the others are good */
    expect_entries(s, "a=0123456789 b=0123456789 ");
    store_close(s);
}

static void a_full_disk_keeps_what_is_there(void **state)
{
    (void)state;
    static char big[3000];
    store *s = open_with(40, 1 << 30);
    error e = {0};
    store_put_result r;
    memset(big, 'x', sizeof big);
    unsigned count = 0;
    for (;; count++) {
        char id[16];
        snprintf(id, sizeof id, "%u", count);
        store_message m = {
            .msg_id = id, .subject = "s", .created = 1, .data = big, .data_length = sizeof big};
        begin(s);
        if (store_put(s, &m, &r, &e) != 0)
            break;
        commit(s);
        assert_true(count < 100);
    }
    assert_string_equal(e.code, "disk_full");
    store_rollback(s);
    assert_true(count > 10);
    assert_int_equal(store_get_totals(s)->waiting, count);
    bool there;
    begin(s);
    assert_int_equal(store_remove(s, 1, &there, &e), 0);
    assert_int_equal(store_remove(s, 2, &there, &e), 0);
    commit(s);
    begin(s);
    put(s, (store_message){.msg_id = "new", .subject = "s", .data = big, .data_length = 2000});
    commit(s);
    assert_int_equal(store_get_totals(s)->waiting, count - 1);
    store_close(s);
}

static void a_second_process_is_refused(void **state)
{
    (void)state;
    store *s = open_store();
    expect_refused("outbox_locked", "another process has this file"); /* flock: by descriptor */
    pid_t child = fork();
    if (child == 0) {
        error e = {0};
        store_options options = {.path = path, .max_bytes = 1 << 30};
        _exit(store_open(&options, &e) == NULL && strcmp(e.code, "outbox_locked") == 0 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    store_close(s);
    store_close(open_store());
}

static void write_file(const char *text, size_t length)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, length, out), length);
    fclose(out);
}

static void what_is_no_outbox_is_left_alone(void **state)
{
    (void)state;
    static const char text[] = "This is a letter, and no database at all; it is longer than a page "
                               "header of one, so that nobody takes it for an empty file.";
    char found[sizeof text];
    write_file(text, sizeof text);
    expect_refused("outbox_corrupt", "it is left as it is");
    FILE *in = fopen(path, "rb");
    assert_int_equal(fread(found, 1, sizeof found, in), sizeof text);
    fclose(in);
    assert_memory_equal(found, text, sizeof text);

    unlink(path);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE t (x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    expect_refused("outbox_corrupt", "a database of another program");
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK); /* nor is its journal another one */
    sqlite3_stmt *row;
    sqlite3_prepare_v2(db, "PRAGMA journal_mode", -1, &row, NULL);
    assert_int_equal(sqlite3_step(row), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(row, 0), "delete");
    sqlite3_finalize(row);
    sqlite3_close(db);
}

static void a_damaged_page_is_said(void **state)
{
    (void)state;
    store *s = open_store();
    error e = {0};
    begin(s);
    for (int i = 0; i < 200; i++) {
        char id[16], data[200] = "";
        snprintf(id, sizeof id, "%d", i);
        put(s, (store_message){.msg_id = id, .subject = "s", .data = data, .data_length = 200});
    }
    commit(s);
    store_close(s);
    int fd = open(path, O_RDWR);
    struct stat what;
    assert_int_equal(fstat(fd, &what), 0);
    static char noise[4096];
    memset(noise, 0xa5, sizeof noise);
    for (off_t at = 4096; at < what.st_size; at += 4096)
        assert_int_equal(pwrite(fd, noise, sizeof noise, at), sizeof noise);
    close(fd);
    store_options options = {.path = path, .max_bytes = 1 << 30};
    assert_null(store_open(&options, &e));
    assert_string_equal(e.code, "outbox_corrupt");
    assert_non_null(strstr(e.message, path));
}

static void the_file_is_for_its_user_alone(void **state)
{
    (void)state;
    umask(0);
    store *s = open_store();
    struct stat what;
    assert_int_equal(stat(path, &what), 0);
    assert_int_equal(what.st_mode & 0777, 0600);
    store_close(s);
}

static void a_file_that_was_moved_away_is_noticed(void **state)
{
    (void)state;
    char aside[160];
    store *s = open_store();
    snprintf(aside, sizeof aside, "%s.aside", path);
    begin(s);
    int64_t id = put(s, (store_message){.msg_id = "a", .subject = "s"});
    commit(s);
    assert_false(store_has_moved(s));
    assert_int_equal(rename(path, aside), 0);
    assert_true(store_has_moved(s));
    store_close(s);
    error e = {0};
    store_options options = {.path = path, .max_bytes = 1 << 30, .last_id = id};
    s = store_open(&options, &e);
    assert_non_null(s);
    begin(s);
    assert_int_equal(put(s, (store_message){.msg_id = "b", .subject = "s"}), id + 1);
    commit(s);
    store_close(s);
    unlink(aside);
}

static void a_missing_folder_is_said(void **state)
{
    (void)state;
    char whole[sizeof path];
    memcpy(whole, path, sizeof path);
    snprintf(path, sizeof path, "%s/none/out.db", folder);
    expect_refused("outbox_file", "No such file or directory");
    memcpy(path, whole, sizeof path);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(entries_are_kept_in_order_over_a_restart),
        cmocka_unit_test(the_stream_that_was_used_longest_ago_gives_way),
        TEST(headers_and_zero_bytes_come_back),
        TEST(a_message_id_is_there_once),
        TEST(the_latest_takes_the_place_of_one_that_was_not_sent),
        TEST(what_expires_goes),
        TEST(the_cap_is_one_of_bytes),
        TEST(a_full_disk_keeps_what_is_there),
        TEST(a_second_process_is_refused),
        TEST(what_is_no_outbox_is_left_alone),
        TEST(a_damaged_page_is_said),
        TEST(the_file_is_for_its_user_alone),
        TEST(a_file_that_was_moved_away_is_noticed),
        TEST(a_missing_folder_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
