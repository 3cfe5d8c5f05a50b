/* Pieces of Lua that the host has evaluated in the globals of the script. */
#include "host_fixture.h"

typedef struct {
    fixture *f;
    int answers;
    char text[512]; /* the results, or the code of the error */
    md_error error;
} answer;

static void add(answer *a, const char *format, const char *text)
{
    size_t at = strlen(a->text);
    snprintf(a->text + at, sizeof a->text - at, format, text);
}

static void on_answer(void *closure, const md_value *results, size_t count, const md_error *e)
{
    answer *a = closure;
    assert_true((results == NULL) != (e == NULL));
    a->answers++;
    a->text[0] = '\0';
    a->error = e != NULL ? *e : (md_error){0};
    if (e != NULL)
        add(a, "%s ", e->code);
    for (size_t i = 0; i < count; i++) {
        char number[32];
        snprintf(number, sizeof number, "%.14g", results[i].as.number);
        switch (results[i].type) {
        case MD_STRING:
            assert_int_equal(results[i].as.string.data[results[i].as.string.length], '\0');
            add(a, "'%s' ", results[i].as.string.data);
            break;
        case MD_NUMBER:
            add(a, "%s ", number);
            break;
        default:
            snprintf(number, sizeof number, "type %d", results[i].type);
            add(a, "%s ", number);
        }
    }
}

static void begin(fixture *f, answer *a, const char *code)
{
    md_error e = {0};
    int before = a->answers;
    if (md_eval(f->runtime, code, on_answer, a, &e) != 0)
        fail_msg("%s", e.message);
    assert_int_equal(a->answers, before); /* never from within */
}

static const char *eval(fixture *f, const char *code)
{
    static answer a;
    int before = a.answers;
    begin(f, &a, code);
    while (a.answers == before)
        uv_run(&f->loop, UV_RUN_ONCE);
    assert_int_equal(a.answers, before + 1);
    return a.text;
}

static void expressions_and_statements_have_results(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    load(&f, "level = 7\nlocal hidden = 1");
    assert_string_equal(eval(&f, "level + 1"), "8 ");
    assert_string_equal(eval(&f, "= level, nil, 'x', true, { 1 }"), "7 type 0 'x' type 1 type 4 ");
    assert_string_equal(eval(&f, "level = 9"), "");
    assert_string_equal(eval(&f, "return level, hidden"), "9 type 0 ");
    assert_string_equal(eval(&f, "moondog.sleep(0.001)"), "type 1 ");
    assert_string_equal(eval(&f, "host.tell('called', level)"), "");
    assert_string_equal(f.told, "called 9 ");
    assert_string_equal(eval(&f, ""), "");
    end(&f);
}

static void what_is_no_plain_data_is_its_text(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    load(&f, "");
    assert_string_equal(eval(&f, "setmetatable({}, { __tostring = function() return 'mine' end })"),
                        "'mine' ");
    assert_int_equal(strncmp(eval(&f, "print"), "'function: ", 11), 0);
    assert_int_equal(strncmp(eval(&f, "_G"), "type 5 ", 7), 0);
    assert_int_equal(
        strncmp(eval(&f, "(function() local t = {} t[1] = t return t[1][1] end)()"), "type 4 ", 7),
        0);
    end(&f);
}

static void errors_have_codes(void **state)
{
    (void)state;
    fixture f;
    answer a = {0};
    create(&f, 0);
    load(&f, "");
    assert_string_equal(eval(&f, "x = = 1"), "syntax ");
    assert_string_equal(eval(&f, "for i = 1, 2 do"), "incomplete ");
    assert_string_equal(eval(&f, "('x'):rep(9 * 1024 * 1024)"), "too_large ");
    assert_string_equal(
        eval(&f, "setmetatable({}, { __tostring = function() error('no text') end })"), "script ");
    begin(&f, &a, "local function inner() error('oh no') end inner()");
    while (a.answers == 0)
        uv_run(&f.loop, UV_RUN_ONCE);
    assert_string_equal(a.error.code, "script");
    assert_string_equal(a.error.message, "eval:1: oh no");
    assert_non_null(strstr(a.error.traceback, "inner"));
    end(&f);
}

static void large_code_is_compiled_elsewhere(void **state)
{
    (void)state;
    fixture f;
    md_error e = {0};
    answer a = {0};
    size_t size = 600u * 1024;
    char *code = malloc(size + 1);
    memset(code, ' ', size);
    code[size] = '\0';
    create(&f, 0);
    load(&f, "level = 7");
    assert_int_equal(md_eval(f.runtime, code, NULL, NULL, &e), -1);
    assert_string_equal(e.code, "too_large");
    code[100 * 1024] = '\0';
    memcpy(code, "level + ", 8);
    code[100 * 1024 - 1] = '1';
    assert_string_equal(eval(&f, code), "8 ");
    code[100 * 1024 - 1] = ' ';
    assert_string_equal(eval(&f, code), "incomplete ");
    begin(&f, &a, code);
    uv_run(&f.loop, UV_RUN_ONCE);
    free(code);
    end(&f); /* in the middle of it */
    assert_int_equal(a.answers, 1);
}

static void endless_code_goes_on_beside_the_rest(void **state)
{
    (void)state;
    fixture f;
    answer a = {0};
    create(&f, 0);
    load(&f, "");
    begin(&f, &a, "while true do end");
    assert_string_equal(eval(&f, "1"), "1 ");
    assert_string_equal(eval(&f, "2"), "2 ");
    assert_int_equal(a.answers, 0);
    assert_status(&f, "\"evaluations\":1");
    reload(&f, "");
    while (a.answers == 0)
        uv_run(&f.loop, UV_RUN_ONCE);
    assert_string_equal(a.text, "replaced ");
    assert_string_equal(eval(&f, "3"), "3 ");
    end(&f);
}

static void the_end_comes_before_the_answer(void **state)
{
    (void)state;
    fixture f;
    answer a[3] = {{0}, {0}, {0}};
    create(&f, 0);
    load(&f, "");
    begin(&f, &a[0], "moondog.sleep(1000)");
    begin(&f, &a[1], "while true do end");
    assert_string_equal(eval(&f, "1"), "1 ");
    begin(&f, &a[2], "2");
    end(&f);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(a[i].answers, 1);
        assert_string_equal(a[i].text, "replaced ");
    }
}

static void there_has_to_be_a_script(void **state)
{
    (void)state;
    fixture f;
    md_error e = {0};
    create(&f, 0);
    assert_int_equal(md_eval(f.runtime, "1", on_answer, NULL, &e), -1);
    assert_string_equal(e.code, "no_script");
    end(&f);
}

static void there_is_a_cap(void **state)
{
    (void)state;
    fixture f;
    md_error e = {0};
    answer a = {0};
    create(&f, 0);
    load(&f, "");
    for (int i = 0; i < MD_EVALS_MAX; i++)
        begin(&f, &a, "moondog.sleep(0.001)");
    assert_int_equal(md_eval(f.runtime, "1", on_answer, NULL, &e), -1);
    assert_string_equal(e.code, "too_many");
    while (a.answers < MD_EVALS_MAX)
        uv_run(&f.loop, UV_RUN_ONCE);
    assert_string_equal(eval(&f, "1"), "1 ");
    end(&f);
}

static void what_is_printed_is_logged(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    load(&f, "");
    assert_string_equal(eval(&f, "print('printed', 1)"), "");
    wait_for_log(&f, "printed");
    end(&f);
}

/* host.eval(code): from within the script. */
static void eval_in_a_function(void *closure, md_call *call)
{
    answer *a = closure;
    begin(a->f, a, md_call_argument(call, 0)->as.string.data);
}

static void a_function_of_the_host_may_evaluate(void **state)
{
    (void)state;
    fixture f;
    answer a = {.f = &f};
    create(&f, 0);
    md_register(f.runtime, "eval", eval_in_a_function, &a);
    load(&f, "require('moondog').on_start(function() host.eval('1 + 1') host.tell('begun') end)");
    assert_string_equal(f.told, "begun ");
    while (a.answers == 0)
        uv_run(&f.loop, UV_RUN_ONCE);
    assert_string_equal(a.text, "2 ");
    end(&f);
}

/* An answer may ask for the next one, emit, and stop. */
static void on_chained(void *closure, const md_value *results, size_t count, const md_error *e)
{
    answer *a = closure;
    md_error no = {0};
    a->answers++;
    if (e != NULL)
        return;
    assert_int_equal(count, 1);
    assert_int_equal(md_emit(a->f->runtime, "answer", results), 1);
    if (a->answers < 5)
        assert_int_equal(md_eval(a->f->runtime, "n = (n or 0) + 1 return n", on_chained, a, &no),
                         0);
    else
        md_stop(a->f->runtime);
}

static void an_answer_may_do_what_it_likes(void **state)
{
    (void)state;
    fixture f;
    answer a = {.f = &f};
    md_error e = {0};
    create(&f, 0);
    load(&f, "require('moondog').on_event('answer', function(n) host.tell(n) end)");
    assert_int_equal(md_eval(f.runtime, "0", on_chained, &a, &e), 0);
    md_run(f.runtime);
    assert_string_equal(f.told, "0 1 2 3 4 ");
    assert_int_equal(md_eval(f.runtime, "0", on_chained, &a, &e), -1);
    assert_string_equal(e.code, "stopped");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_and_statements_have_results),
        cmocka_unit_test(what_is_no_plain_data_is_its_text),
        cmocka_unit_test(errors_have_codes),
        cmocka_unit_test(large_code_is_compiled_elsewhere),
        cmocka_unit_test(endless_code_goes_on_beside_the_rest),
        cmocka_unit_test(the_end_comes_before_the_answer),
        cmocka_unit_test(there_has_to_be_a_script),
        cmocka_unit_test(there_is_a_cap),
        cmocka_unit_test(what_is_printed_is_logged),
        cmocka_unit_test(a_function_of_the_host_may_evaluate),
        cmocka_unit_test(an_answer_may_do_what_it_likes),
    };
    return cmocka_run_group_tests_name("host_eval", tests, NULL, NULL);
}
