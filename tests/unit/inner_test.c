/* What is used of nats.c beyond its header: that it is there in the library that this build is for.
 * Without it each publish is a system call of its own, and each message has to change threads to be
 * freed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "link/inner.h"

static void the_library_has_what_is_used_beyond_its_header(void **state)
{
    (void)state;
    if (!inner_is_known())
        fail_msg("nats.c %s lacks a function of src/link/inner.h, or is newer than what was "
                 "checked: look at them there, and at src/link/inner.c",
                 nats_GetVersion());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_library_has_what_is_used_beyond_its_header),
    };
    return cmocka_run_group_tests_name("inner", tests, NULL, NULL);
}
