/* Subjects: what may be published to and subscribed, and what is said about the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "conn/subscription.h"

static void expect_good(const char *subject, size_t length, bool wildcards)
{
    error e = {0};
    if (subject_check(subject, length, wildcards, &e) != 0)
        fail_msg("wildcards=%d: %s", wildcards, e.message);
    assert_string_equal(e.code, "");
}

static void expect_bad(const char *subject, size_t length, bool wildcards, const char *why)
{
    error e = {0};
    if (subject_check(subject, length, wildcards, &e) != -1)
        fail_msg("\"%s\" was taken, wildcards=%d", subject, wildcards);
    assert_string_equal(e.code, "invalid_subject");
    assert_int_equal(e.cls, ERROR_CLASS_NONE);
    if (strstr(e.message, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", e.message, why);
}

#define EMPTY "it is empty"
#define TOKEN "an empty token"
#define BYTE "white space or a control byte"
#define WILD "nothing can be published to a wildcard"
#define LAST "> can only be its last token"

static void subjects(void **state)
{
    (void)state;
    static const struct {
        const char *subject;
        const char *publish, *subscribe; /* NULL: good; or why not */
    } cases[] = {
        {"a", NULL, NULL},
        {"orders", NULL, NULL},
        {"orders.eu.new", NULL, NULL},
        {"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p", NULL, NULL},
        {"$SYS.REQ.SERVER.PING", NULL, NULL},
        {"_INBOX.abc-123.4", NULL, NULL},
        {"Gr\xc3\xb6\xc3\x9f"
         "e.\xe2\x82\xac",
         NULL, NULL},
        {"a:b/c\\d\"e'f{}[]!", NULL, NULL},
        /* Inside a token they are characters like others. */
        {"a*", NULL, NULL},
        {"*a", NULL, NULL},
        {"a>", NULL, NULL},
        {">a.b", NULL, NULL},
        {"a.**", NULL, NULL},
        {"a.>>", NULL, NULL},
        {"a.*>", NULL, NULL},

        {"*", WILD, NULL},
        {">", WILD, NULL},
        {"a.*", WILD, NULL},
        {"*.a", WILD, NULL},
        {"a.*.b", WILD, NULL},
        {"*.*.*", WILD, NULL},
        {"a.>", WILD, NULL},
        {"*.>", WILD, NULL},
        {"a.>.b", WILD, LAST},
        {">.a", WILD, LAST},
        {">.>", WILD, LAST},
        {">.*", WILD, LAST},

        {"", EMPTY, EMPTY},
        {".", TOKEN, TOKEN},
        {"..", TOKEN, TOKEN},
        {".a", TOKEN, TOKEN},
        {"a.", TOKEN, TOKEN},
        {"a..b", TOKEN, TOKEN},
        {"a.b.", TOKEN, TOKEN},
        {">.", WILD, LAST},
        {"a.>.", WILD, LAST},
        {"*.", WILD, TOKEN},

        {" ", BYTE, BYTE},
        {" a", BYTE, BYTE},
        {"a ", BYTE, BYTE},
        {"a b", BYTE, BYTE},
        {"a. .b", BYTE, BYTE},
        {"a.b\tc", BYTE, BYTE},
        {"a\r\nPUB b 0", BYTE, BYTE},
        {"a\n", BYTE, BYTE},
        {"a.b.c\r", BYTE, BYTE},
        {"a.* ", BYTE, BYTE},
        {"\x1b[31m", BYTE, BYTE},
        {"a\x7f", BYTE, BYTE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *subject = cases[i].subject;
        size_t length = strlen(subject);
        if (cases[i].publish == NULL)
            expect_good(subject, length, false);
        else
            expect_bad(subject, length, false, cases[i].publish);
        if (cases[i].subscribe == NULL)
            expect_good(subject, length, true);
        else
            expect_bad(subject, length, true, cases[i].subscribe);
    }
}

static void every_byte(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        char subject[] = "ab.c_d.e";
        subject[4] = (char)byte;
        if (byte <= ' ' || byte == 0x7f)
            expect_bad(subject, sizeof subject - 1, true, BYTE);
        else
            expect_good(subject, sizeof subject - 1, true);
    }
}

/* The length counts, not a NUL: one inside is a control byte, and what is behind is not read. */
static void the_length_counts(void **state)
{
    (void)state;
    expect_bad("a\0b", 3, true, BYTE);
    expect_bad("a\0", 2, true, BYTE);
    expect_bad("\0", 1, false, BYTE);
    expect_good("a.b..c d", 3, false);
    expect_bad(NULL, 0, false, EMPTY);
}

static void the_longest_subject(void **state)
{
    (void)state;
    char subject[SUBJECT_MAX + 1];
    memset(subject, 'x', sizeof subject);
    expect_good(subject, SUBJECT_MAX, false);
    expect_bad(subject, SUBJECT_MAX + 1, false, "longer than 1024 bytes");
    for (size_t i = 1; i < sizeof subject; i += 2)
        subject[i] = '.';
    expect_good(subject, SUBJECT_MAX - 1, true);
    expect_bad(subject, SUBJECT_MAX, true, TOKEN);
}

static void errors_show_the_subject(void **state)
{
    (void)state;
    expect_bad("orders..new", 11, false, "bad subject \"orders..new\": it has");
    expect_bad("orders..new and more", 11, false, "bad subject \"orders..new\": it has");
    char subject[SUBJECT_MAX + 100]; /* not all of it */
    memset(subject, 'x', sizeof subject);
    error e = {0};
    assert_int_equal(subject_check(subject, sizeof subject, false, &e), -1);
    assert_true(strlen(e.message) < 200);
    assert_int_equal(subject_check("", 0, false, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subjects),
        cmocka_unit_test(every_byte),
        cmocka_unit_test(the_length_counts),
        cmocka_unit_test(the_longest_subject),
        cmocka_unit_test(errors_show_the_subject),
    };
    return cmocka_run_group_tests_name("subject", tests, NULL, NULL);
}
