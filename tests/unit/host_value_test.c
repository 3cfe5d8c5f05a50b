/* Plain data: made, found, copied, to Lua and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <lauxlib.h>
#include <lualib.h>

#include "host/value.h"

/* ---- in C ---- */

static void values_are_what_they_were_made_of(void **state)
{
    (void)state;
    md_value items[] = {md_number(1), md_string("two"), md_boolean(7), md_nil()};
    md_field fields[] = {{"list", md_list(items, 4)}, {"text", md_string(NULL)}};
    md_value map = md_map(fields, 2);
    assert_int_equal(map.type, MD_MAP);
    assert_int_equal(md_get(&map, "list")->as.list.count, 4);
    assert_int_equal(md_get(&map, "list")->as.list.items[2].as.boolean, 1);
    assert_int_equal(md_get(&map, "text")->type, MD_NIL);
    assert_int_equal(md_get(&map, "other")->type, MD_NIL);
    assert_int_equal(md_get(md_get(&map, "list"), "deeper")->type, MD_NIL);
    assert_int_equal(md_get(NULL, "list")->type, MD_NIL);
    assert_int_equal(md_get(&map, NULL)->type, MD_NIL);
}

static void copies_are_deep(void **state)
{
    (void)state;
    char text[] = "a\0b", name[] = "name";
    md_value item = md_bytes(text, 3), copy;
    md_field field = {name, md_list(&item, 1)};
    md_value map = md_map(&field, 1);
    arena a = {0};
    error e = {0};
    assert_int_equal(value_copy(&a, &map, &copy, &e), 0);
    memset(text, 'x', sizeof text);
    memset(name, 'x', sizeof name);
    const md_value *list = md_get(&copy, "name");
    assert_int_equal(list->as.list.count, 1);
    assert_int_equal(list->as.list.items[0].as.string.length, 3);
    assert_memory_equal(list->as.list.items[0].as.string.data, "a\0b", 4);
    arena_free(&a);
}

static void assert_no_copy(const md_value *value, const char *code)
{
    arena a = {0};
    error e = {0};
    md_value copy;
    assert_int_equal(value_copy(&a, value, &copy, &e), -1);
    assert_string_equal(e.code, code);
    arena_free(&a);
}

static void copies_have_caps(void **state)
{
    (void)state;
    arena a = {0};
    error e = {0};
    md_value nested[MD_DEPTH_MAX + 1], copy;
    nested[0] = md_list(NULL, 0);
    for (int i = 1; i <= MD_DEPTH_MAX; i++)
        nested[i] = md_list(&nested[i - 1], 1);
    assert_int_equal(value_copy(&a, &nested[MD_DEPTH_MAX - 1], &copy, &e), 0);
    arena_free(&a);
    assert_no_copy(&nested[MD_DEPTH_MAX], "too_deep");

    char *large = calloc(1, MD_DATA_BYTES_MAX);
    md_value fits = md_bytes(large, MD_DATA_BYTES_MAX - 1);
    assert_int_equal(value_copy(&a, &fits, &copy, &e), 0);
    arena_free(&a);
    md_value does_not = md_bytes(large, MD_DATA_BYTES_MAX), absurd = md_bytes(large, SIZE_MAX);
    assert_no_copy(&does_not, "too_large");
    assert_no_copy(&absurd, "too_large");
    free(large);
    md_value one = md_nil(), items[2] = {one, one};
    md_value many = md_list(items, SIZE_MAX / 8), fields = md_map((md_field *)items, SIZE_MAX / 8);
    assert_no_copy(&many, "too_large");
    assert_no_copy(&fields, "too_large");
}

static void what_points_nowhere_is_refused(void **state)
{
    (void)state;
    md_field nameless = {NULL, md_nil()};
    md_value list = md_list(NULL, 1), map = md_map(NULL, 1), text = md_bytes(NULL, 1),
             field = md_map(&nameless, 1), no_type = {.type = (md_type)99};
    assert_no_copy(&list, "bad_value");
    assert_no_copy(&map, "bad_value");
    assert_no_copy(&text, "bad_value");
    assert_no_copy(&field, "bad_value");
    assert_no_copy(&no_type, "bad_value");
    assert_int_equal(md_get(&field, "a")->type, MD_NIL);
}

/* ---- from Lua ---- */

/* What `return CODE` gives, read into *to; the error's message, or "". With `lenient` texts stand
 * for what is no plain data. */
static const char *read_code(arena *a, const char *code, bool lenient, md_value *to)
{
    static char message[ERROR_TEXT_SIZE];
    char text[512];
    error e = {0};
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    lua_getglobal(L, "tostring");
    snprintf(text, sizeof text, "return %s", code);
    if (luaL_dostring(L, text) != 0)
        fail_msg("%s", lua_tostring(L, -1));
    value_reader reader = {.arena = a, .root = "argument 1", .tostring = lenient ? 1 : 0, .e = &e};
    int failed = value_read(&reader, L, 2, to);
    assert_int_equal(lua_gettop(L), 2);
    assert_true((failed != 0) == (e.code[0] != '\0'));
    lua_close(L);
    snprintf(message, sizeof message, "%s", e.message);
    return message;
}

static void plain_data_comes_from_lua(void **state)
{
    (void)state;
    arena a = {0};
    md_value v;
    assert_string_equal(read_code(&a,
                                  "{ a = 1.5, b = { true, 'x\\0y', {} }, ['with space'] = false,"
                                  " c = { { n = 0/0 } } }",
                                  false, &v),
                        "");
    assert_int_equal(v.type, MD_MAP);
    assert_int_equal(v.as.map.count, 4);
    assert_true(md_get(&v, "a")->as.number == 1.5);
    const md_value *b = md_get(&v, "b");
    assert_int_equal(b->as.list.count, 3);
    assert_int_equal(b->as.list.items[0].as.boolean, 1);
    assert_int_equal(b->as.list.items[1].as.string.length, 3);
    assert_memory_equal(b->as.list.items[1].as.string.data, "x\0y", 4);
    assert_int_equal(b->as.list.items[2].type, MD_LIST);
    assert_int_equal(b->as.list.items[2].as.list.count, 0);
    assert_int_equal(md_get(&v, "with space")->type, MD_BOOLEAN);
    arena_free(&a);
}

static void what_is_no_plain_data_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *code, *message;
    } cases[] = {
        {"print", "argument 1 is a function: host functions take plain data"},
        {"{ players = { 1, 2, print } }",
         "argument 1.players.3 is a function: host functions take plain data"},
        {"{ 1, b = 2 }", "argument 1 is a table with names and numbers as keys, neither a list nor "
                         "a map: host functions take plain data"},
        {"{ a = { [1] = 1, [3] = 3 } }",
         "argument 1.a is a list with holes: host functions take plain data"},
        {"{ [0] = 1 }", "argument 1 is a table with a number as a key that is not 1, 2, 3, ...: "
                        "host functions take plain data"},
        {"{ [1.5] = 1 }", "argument 1 is a table with a number as a key that is not 1, 2, 3, ...: "
                          "host functions take plain data"},
        {"{ [1e300] = 1 }", "argument 1 is a table with a number as a key that is not 1, 2, 3, "
                            "...: host functions take plain data"},
        {"{ [true] = 1 }", "argument 1 is a table with a key that is neither a string nor a "
                           "number: host functions take plain data"},
        {"{ ['a\\0b'] = 1 }",
         "argument 1 is a table with a zero byte in a key: host functions take plain data"},
        {"setmetatable({}, {})",
         "argument 1 is a table with a metatable: host functions take plain data"},
        {"(function() local t = { a = {} } t.a.b = t return t end)()",
         "argument 1.a.b is a table that contains itself: host functions take plain data"},
        {"io.stdout", "argument 1 is a userdata: host functions take plain data"},
        {"coroutine.create(print)", "argument 1 is a thread: host functions take plain data"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        arena a = {0};
        md_value v;
        assert_string_equal(read_code(&a, cases[i].code, false, &v), cases[i].message);
        arena_free(&a);
    }
}

static void reading_has_caps(void **state)
{
    (void)state;
    static const char nest[] =
        "(function() local t = {} for _ = 2, %d do t = { t } end return t end)()";
    arena a = {0};
    md_value v;
    char code[160];
    snprintf(code, sizeof code, nest, MD_DEPTH_MAX);
    assert_string_equal(read_code(&a, code, false, &v), "");
    arena_free(&a);
    snprintf(code, sizeof code, nest, MD_DEPTH_MAX + 1);
    assert_non_null(
        strstr(read_code(&a, code, false, &v), ".1.1.1 is a table that is nested too "));
    arena_free(&a);
    assert_string_equal(read_code(&a, "{ a = ('x'):rep(8 * 1024 * 1024) }", false, &v),
                        "argument 1.a goes beyond the 8388608 bytes of plain data");
    arena_free(&a);
    assert_string_equal(read_code(&a,
                                  "(function() local t = {} for i = 1, 4e5 "
                                  "do t[i] = i end return t end)()",
                                  false, &v),
                        "argument 1 goes beyond the 8388608 bytes of plain data");
    arena_free(&a);
    /* Each level twice: what it takes doubles, and the tables are few. */
    assert_non_null(strstr(read_code(&a,
                                     "(function() local t = {} for _ = 1, 30 do t = { t, t } end "
                                     "return t end)()",
                                     true, &v),
                           "goes beyond"));
    arena_free(&a);
}

static void texts_can_stand_for_other_things(void **state)
{
    (void)state;
    arena a = {0};
    md_value v;
    assert_string_equal(
        read_code(&a,
                  "(function() local t = { print, io.stdout, { 1, b = 2 }, { [2] = 1 },"
                  " setmetatable({}, { __tostring = function() return 'my text' end }), 7,"
                  " setmetatable({ a = 1 }, {}), 1LL } t[9] = t return t end)()",
                  true, &v),
        "");
    static const char *const begin[] = {"function: ", "file (", "table: ", "table: ", "my text"};
    assert_int_equal(v.as.list.count, 9);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(v.as.list.items[i].type, MD_STRING);
        assert_memory_equal(v.as.list.items[i].as.string.data, begin[i], strlen(begin[i]));
    }
    assert_true(v.as.list.items[5].as.number == 7);
    assert_true(md_get(&v.as.list.items[6], "a")->as.number == 1);
    assert_string_equal(v.as.list.items[7].as.string.data, "1LL");
    assert_int_equal(v.as.list.items[8].type, MD_STRING); /* itself */
    arena_free(&a);
}

/* A __tostring may change what is being read. */
static void what_changes_meanwhile_is_refused(void **state)
{
    (void)state;
    static const char *const changes[] = {"t.a, t[1] = nil, 1", "t.a, t[true] = nil, 1",
                                          "for i = 1, 100 do t['k' .. i] = i end",
                                          "for k in pairs(t) do t[k] = nil end"};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        arena a = {0};
        md_value v;
        char code[400];
        snprintf(code, sizeof code,
                 "(function() local t = {} local m = setmetatable({}, { __tostring = function() %s "
                 "return 'text' end }) t.a, t.b, t.c = m, m, m return t end)()",
                 changes[i]);
        const char *message = read_code(&a, code, true, &v);
        if (message[0] != '\0')
            assert_string_equal(message, "argument 1 was changed while it was read");
        else
            assert_int_equal(v.type, MD_MAP);
        arena_free(&a);
    }
}

/* ---- there and back ---- */

static void to_lua_and_back_it_is_the_same(void **state)
{
    (void)state;
    arena a = {0};
    error e = {0};
    md_value items[] = {md_bytes("\0\xff", 2), md_number(-0.5), md_boolean(0), md_list(NULL, 0)};
    md_field fields[] = {{"list", md_list(items, 4)}, {"gone", md_nil()}, {"", md_boolean(1)}};
    md_value map = md_map(fields, 3), back;
    lua_State *L = luaL_newstate();
    value_push(L, &map);
    value_reader reader = {.arena = &a, .root = "it", .e = &e};
    assert_int_equal(value_read(&reader, L, 1, &back), 0);
    lua_close(L);
    assert_int_equal(back.as.map.count, 2);
    const md_value *list = md_get(&back, "list");
    assert_int_equal(list->as.list.count, 4);
    assert_memory_equal(list->as.list.items[0].as.string.data, "\0\xff", 3);
    assert_true(list->as.list.items[1].as.number == -0.5);
    assert_int_equal(list->as.list.items[2].type, MD_BOOLEAN);
    assert_int_equal(list->as.list.items[3].type, MD_LIST);
    assert_int_equal(md_get(&back, "")->as.boolean, 1);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_what_they_were_made_of),
        cmocka_unit_test(copies_are_deep),
        cmocka_unit_test(copies_have_caps),
        cmocka_unit_test(what_points_nowhere_is_refused),
        cmocka_unit_test(plain_data_comes_from_lua),
        cmocka_unit_test(what_is_no_plain_data_is_named),
        cmocka_unit_test(reading_has_caps),
        cmocka_unit_test(texts_can_stand_for_other_things),
        cmocka_unit_test(what_changes_meanwhile_is_refused),
        cmocka_unit_test(to_lua_and_back_it_is_the_same),
    };
    return cmocka_run_group_tests_name("host_value", tests, NULL, NULL);
}
