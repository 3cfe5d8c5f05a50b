/* Callbacks: what functions of a script are called in reports. */
#include "host_fixture.h"

#include "script/callback.h"

static void expect(const struct callback *cb, const char *name, const char *place)
{
    char text[CALLBACK_TEXT];
    assert_string_equal(callback_name(cb, text), name);
    assert_string_equal(callback_place(cb, text), place);
}

static void without_a_name_the_place_is_it(void **state)
{
    (void)state;
    struct callback cb;
    callback_init(&cb, "timer", NULL);
    expect(&cb, "", "");
    cb.source = "gateway.lua";
    expect(&cb, "gateway.lua", "gateway.lua");
    cb.line = 12;
    expect(&cb, "gateway.lua:12", "gateway.lua:12");
    cb.name = "orders.*";
    expect(&cb, "orders.*", "gateway.lua:12");
}

static void what_is_too_long_is_cut(void **state)
{
    (void)state;
    char longer[2 * CALLBACK_TEXT], name[CALLBACK_TEXT], place[CALLBACK_TEXT];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    snprintf(name, sizeof name, "%.*s", (int)sizeof name - 1, longer);
    snprintf(place, sizeof place, "%.64s:7", longer);
    struct callback cb;
    callback_init(&cb, "handler", longer);
    cb.source = longer;
    cb.line = 7;
    expect(&cb, name, place);
}

static void files_beyond_the_cap_have_no_name(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    load(&f, "local moondog = require 'moondog'\n"
             "moondog.on_start(function()\n" /* the first file */
             "  local function timer(name)\n"
             "    return tostring(moondog.after(60, loadstring('return function() end', name)()))\n"
             "  end\n"
             "  for i = 2, 255 do timer('=f' .. i) end\n"
             "  host.tell(timer('=last'), timer('=more'), timer('=f2'), timer('=last'))\n"
             "end)");
    assert_string_equal(f.told, "timer last:1 timer ?:1 timer f2:1 timer last:1 ");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_name_the_place_is_it),
        cmocka_unit_test(what_is_too_long_is_cut),
        cmocka_unit_test(files_beyond_the_cap_have_no_name),
    };
    return cmocka_run_group_tests_name("callback", tests, NULL, NULL);
}
