/* NKEYs: public keys of seeds, against pairs that were computed elsewhere, and what is said about
 * seeds and files that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "link/nkey.h"

/* The third secret key is the first of the test vectors of RFC 8032, the fourth the second; the
 * encoding of the first five was made with Python's base64, binascii and cryptography. The last two
 * are published with clients of NATS, and the same computation confirms them. */
static const struct {
    const char *seed, *public_key;
} pairs[] = {
    {"SUAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEQ",
     "UA5WUJ54Z23KILLCUOUNAKTPBVZWKMQVO4O6EQ5GHLAERIMLLHNCTYM5"},
    {"SUAP777777777777777777777777777777777777777777777777775UUA",
     "UB3KCWJAISTOJ5IREZN4U45GATMQWBJJ2HPWAK7DBIM2SJLWMDI7LRYD"},
    {"SUAJ2YNRTXX72WTAXKCEV5ES5QWMIRCJYVUXWMTJDFYDXLADDSXH6YALCA",
     "UDLVVGABQKYQVN6VJP7NHSLEA45A5YLS6PNKMIZFV4BBU2HXA5IRUVAL"},
    {"SUAEZTIITMUP7FW2TW3MGRXMCFHA6W4KGGPTLK5GETNIZ5XNJ64KN63OVI",
     "UA6UAF6D5BBYSWUSW4FKOTI3P26JZGBMZ4XMJFUMYDGVL4JK6RTAYUDN"},
    {"SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y",
     "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK"},
    {"SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU",
     "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L"},
    {"SUAOBFVHF4ZWKTBJ6QP4C362WLBBBFIE7ENFTPYKUGZ3M2ESOXY353LXDI",
     "UBIWK4X3RXCPJ4CMIAVLAFDFABMLCCMZDDLAO5OZZ2265MDLXUTOGO4B"},
};
#define SEED pairs[4].seed
#define PUBLIC_KEY pairs[4].public_key

/* Right in length and checksum, but of a private key ("P..."), not of a seed. */
#define NO_SEED "PQAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H6LRM"

static void expect_refused(const char *seed, const char *why)
{
    char out[NKEY_PUBLIC_SIZE];
    error e = {0};
    assert_int_equal(nkey_public_from_seed(seed, out, &e), -1);
    assert_string_equal(e.code, "bad_seed");
    assert_int_equal(e.cls, ERROR_CLASS_AUTH);
    if (strstr(e.message, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", e.message, why);
    if (strlen(seed) > 3 && strstr(e.message, seed) != NULL)
        fail_msg("\"%s\" shows the seed", e.message);
}

/* ---- seeds ---- */

static void public_keys_of_known_seeds(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char out[NKEY_PUBLIC_SIZE];
        error e = {0};
        assert_int_equal(nkey_public_from_seed(pairs[i].seed, out, &e), 0);
        assert_string_equal(out, pairs[i].public_key);
        assert_string_equal(e.code, "");
    }
}

static void a_seed_of_the_wrong_length_is_refused(void **state)
{
    (void)state;
    char seed[128];
    for (size_t length = 0; length < strlen(SEED); length++) {
        memcpy(seed, SEED, length);
        seed[length] = '\0';
        expect_refused(seed, "SU... expected");
    }
    (void)snprintf(seed, sizeof seed, "%sA", SEED);
    expect_refused(seed, "58 characters");
    (void)snprintf(seed, sizeof seed, "%s\n", SEED);
    expect_refused(seed, "58 characters");
}

/* A typing error anywhere is found. */
static void a_wrong_character_breaks_the_checksum(void **state)
{
    (void)state;
    char seed[64];
    (void)snprintf(seed, sizeof seed, "%s", SEED);
    /* Of the last character some bits are not used. */
    for (size_t i = 0; i + 1 < strlen(SEED); i++) {
        seed[i] = SEED[i] == 'B' ? 'C' : 'B';
        expect_refused(seed, "checksum");
        seed[i] = SEED[i];
    }
    seed[10] = SEED[11];
    seed[11] = SEED[10];
    expect_refused(seed, "checksum");
}

static void only_the_alphabet_of_base32_is_taken(void **state)
{
    (void)state;
    static const char foreign[] = "0189abz=-_ \t\x80\xff";
    for (size_t i = 0; i < sizeof foreign - 1; i++) {
        char seed[64];
        (void)snprintf(seed, sizeof seed, "%s", SEED);
        seed[20] = foreign[i];
        expect_refused(seed, "SU... expected");
    }
}

static void what_is_no_seed_is_refused(void **state)
{
    (void)state;
    expect_refused(NO_SEED, "not an NKEY seed");
    expect_refused(PUBLIC_KEY, "not an NKEY seed");
}

static void an_error_may_be_ignored(void **state)
{
    (void)state;
    char out[NKEY_PUBLIC_SIZE];
    assert_int_equal(nkey_public_from_seed("", out, NULL), -1);
    assert_int_equal(nkey_public_from_file("/does/not/exist", out, NULL), -1);
}

/* ---- files ---- */

static int read_text(const char *text, char out[NKEY_PUBLIC_SIZE], error *e)
{
    char path[] = "/tmp/moondog-nkey-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
    int result = nkey_public_from_file(path, out, e);
    assert_int_equal(unlink(path), 0);
    if (result != 0)
        assert_null(strstr(e->message, SEED));
    return result;
}

static void expect_key_in(const char *before, const char *behind)
{
    char text[2048];
    char out[NKEY_PUBLIC_SIZE];
    error e = {0};
    (void)snprintf(text, sizeof text, "%s%s%s", before, SEED, behind);
    if (read_text(text, out, &e) != 0)
        fail_msg("%s in: %s", e.message, text);
    assert_string_equal(out, PUBLIC_KEY);
}

static void seed_files_are_read(void **state)
{
    (void)state;
    expect_key_in("", "");
    expect_key_in("", "\n");
    expect_key_in("", "\r\n");
    expect_key_in("", "  \n");
    expect_key_in("\n\n", "\n\n");
    expect_key_in("# the seed of orders\n# Seed: see below\n", "\n# end\n");
    expect_key_in("Secret things below\nS\n\n", "\n");
}

static void credentials_files_are_read(void **state)
{
    (void)state;
    expect_key_in("-----BEGIN NATS USER JWT-----\n"
                  "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJzdWIiOiJVQSJ9.c2ln\n"
                  "------END NATS USER JWT------\n\n"
                  "************************* IMPORTANT *************************\n"
                  "NKEY Seed printed below can be used to sign and prove identity.\n"
                  "NKEYs are sensitive and should be treated as secrets.\n\n"
                  "-----BEGIN USER NKEY SEED-----\n",
                  "\n------END USER NKEY SEED------\n\n"
                  "*************************************************************\n");
}

/* A token of many kilobytes lies before the seed: lines are read in pieces. */
static void long_lines_do_not_hide_the_seed(void **state)
{
    (void)state;
    char before[1500];
    memset(before, 'e', sizeof before);
    before[sizeof before - 2] = '\n';
    before[sizeof before - 1] = '\0';
    expect_key_in(before, "\n");
}

static void a_damaged_seed_in_a_file_is_refused(void **state)
{
    (void)state;
    char text[128];
    char out[NKEY_PUBLIC_SIZE];
    error e = {0};
    (void)snprintf(text, sizeof text, "%s\n", SEED);
    text[30] = text[30] == 'B' ? 'C' : 'B';
    assert_int_equal(read_text(text, out, &e), -1);
    assert_string_equal(e.code, "bad_seed");
    assert_non_null(strstr(e.message, "checksum"));
}

static void a_file_without_a_seed_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n", "nothing here\n", "SUSHI\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char out[NKEY_PUBLIC_SIZE];
        error e = {0};
        assert_int_equal(read_text(texts[i], out, &e), -1);
        assert_string_equal(e.code, "bad_seed");
        assert_int_equal(e.cls, ERROR_CLASS_AUTH);
        assert_non_null(strstr(e.message, "moondog-nkey-")); /* names the file, */
        assert_non_null(strstr(e.message, "SU..."));         /* and what should be in it */
    }
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    char out[NKEY_PUBLIC_SIZE];
    error e = {0};
    assert_int_equal(nkey_public_from_file("/does/not/exist.nk", out, &e), -1);
    assert_string_equal(e.code, "unreadable");
    assert_int_equal(e.cls, ERROR_CLASS_AUTH);
    assert_non_null(strstr(e.message, "/does/not/exist.nk"));
    assert_non_null(strstr(e.message, "No such file"));
    assert_int_equal(nkey_public_from_file("/", out, &e), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(public_keys_of_known_seeds),
        cmocka_unit_test(a_seed_of_the_wrong_length_is_refused),
        cmocka_unit_test(a_wrong_character_breaks_the_checksum),
        cmocka_unit_test(only_the_alphabet_of_base32_is_taken),
        cmocka_unit_test(what_is_no_seed_is_refused),
        cmocka_unit_test(an_error_may_be_ignored),
        cmocka_unit_test(seed_files_are_read),
        cmocka_unit_test(credentials_files_are_read),
        cmocka_unit_test(long_lines_do_not_hide_the_seed),
        cmocka_unit_test(a_damaged_seed_in_a_file_is_refused),
        cmocka_unit_test(a_file_without_a_seed_is_refused),
        cmocka_unit_test(a_missing_file_is_named),
    };
    return cmocka_run_group_tests_name("nkey", tests, NULL, NULL);
}
