/* What the link relies on in nats.c, beyond its header: that it is there in the library that this
 * build is for. Without it each publish is a system call of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "link/link_private.h"

static void the_library_can_send_a_batch_as_one(void **state)
{
    (void)state;
    if (!link_can_batch())
        fail_msg("nats.c %s has no natsConn_publish(), or is newer than what was checked: look at "
                 "it, and at src/link/publish.c",
                 nats_GetVersion());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_library_can_send_a_batch_as_one),
    };
    return cmocka_run_group_tests_name("link_publish", tests, NULL, NULL);
}
