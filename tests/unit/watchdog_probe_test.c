/* The watchdog, one behaviour a test: how it finds links that are up and deaf, events that were
 * lost and workers that hang, and when a link has proved itself. */
#include "watchdog_story.h"

/* ---- probes ---- */

static void test_answered_probes_keep_the_link(void **state)
{
    (void)state;
    begin_up();
    assert_string_equal(wait(4999), "");
    assert_string_equal(wait(1), "probe(1)");
    now += 20;
    assert_string_equal(link_says(1, WATCHDOG_EVENT_PROBE_ANSWERED), "");
    assert_int_equal(watchdog_deadline(&w), START_TIME + 10000);
    live_for(3600000);
}

static void test_one_missed_probe_is_deaf_and_an_answer_is_hearing(void **state)
{
    (void)state;
    begin_up();
    wait(5000);
    assert_string_equal(wait(2499), "");
    assert_string_equal(wait(1), "deaf(1)");
    assert_int_equal(w.state, WATCHDOG_UP);
    assert_string_equal(wait(2500), "probe(1)");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_PROBE_ANSWERED), "hearing(1)");
    assert_int_equal(w.probes_missed, 0);
    live_for(60000);
}

static void test_late_answer_is_hearing_too(void **state)
{
    (void)state;
    begin_up();
    wait(5000);
    assert_string_equal(wait(2500), "deaf(1)");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_PROBE_ANSWERED), "hearing(1)");
}

static void test_two_missed_probes_replace_the_link(void **state)
{
    (void)state;
    begin_up();
    assert_string_equal(wait_for_deadline(), "probe(1)");
    assert_string_equal(wait_for_deadline(), "deaf(1)");
    assert_string_equal(wait_for_deadline(), "probe(1)");
    assert_string_equal(wait_for_deadline(), "closed(1 probe) destroy(1) plan");
    assert_int_equal(now, START_TIME + 12500);
}

static void test_very_late_tick_is_one_miss_only(void **state)
{
    (void)state;
    begin_up();
    wait(5000);
    assert_string_equal(wait(14000), "deaf(1) probe(1)"); /* the loop was stuck */
    assert_string_equal(link_says(1, WATCHDOG_EVENT_PROBE_ANSWERED), "hearing(1)");
}

static void test_reconnect_forgets_missed_probes(void **state)
{
    (void)state;
    begin_up();
    wait(5000);
    assert_string_equal(wait(2500), "deaf(1)");
    link_says(1, WATCHDOG_EVENT_DISCONNECTED);
    link_says(1, WATCHDOG_EVENT_RECONNECTED);
    assert_string_equal(wait(5000), "probe(1)");
    assert_string_equal(wait(2500), "deaf(1)");
    assert_int_equal(w.state, WATCHDOG_UP);
}

static void test_probe_timeout_longer_than_the_period_asks_one_at_a_time(void **state)
{
    (void)state;
    watchdog_config config = usual;
    config.probe_timeout_ms = 12000;
    begin(&config);
    happens(WATCHDOG_EVENT_START);
    link_says(1, WATCHDOG_EVENT_DIALED);
    assert_string_equal(wait(5000), "probe(1)");
    assert_string_equal(wait(5000), "");
    assert_string_equal(wait(7000), "deaf(1) probe(1)");
}

static void test_probes_can_be_disabled(void **state)
{
    (void)state;
    watchdog_config config = usual;
    config.probe_ms = 0;
    begin(&config);
    happens(WATCHDOG_EVENT_START);
    link_says(1, WATCHDOG_EVENT_DIALED);
    assert_string_equal(wait_for_deadline(), "audit(1)");
    assert_int_equal(now, START_TIME + 30000);
    assert_int_equal(w.attempt, 1);
    assert_string_equal(audit_says(1, WATCHDOG_LINK_CONNECTED), "");
    assert_int_equal(w.attempt, 0); /* without probes the audit is the proof */
    live_for(600000);
}

/* ---- the audit: events that were lost ---- */

static void begin_audited(void)
{
    begin_up();
    live_for(25000);
    assert_string_equal(wait(5000), "audit(1) probe(1)");
    link_says(1, WATCHDOG_EVENT_PROBE_ANSWERED);
}

static void test_audit_finds_a_lost_closure(void **state)
{
    (void)state;
    begin_audited();
    assert_string_equal(audit_says(1, WATCHDOG_LINK_CLOSED), "closed(1 closed) destroy(1) plan");
}

static void test_audit_finds_a_lost_disconnect(void **state)
{
    (void)state;
    begin_audited();
    assert_string_equal(audit_says(1, WATCHDOG_LINK_RECONNECTING), "disconnected(1)");
    assert_int_equal(w.state, WATCHDOG_RECONNECTING);
    assert_string_equal(link_says(1, WATCHDOG_EVENT_DISCONNECTED), ""); /* it was only late */
    assert_string_equal(link_says(1, WATCHDOG_EVENT_RECONNECTED), "reconnected(1)");
}

static void test_audit_finds_a_lost_reconnect(void **state)
{
    (void)state;
    begin_reconnecting();
    assert_string_equal(wait(30000), "audit(1)");
    assert_string_equal(audit_says(1, WATCHDOG_LINK_CONNECTED), "reconnected(1)");
    assert_int_equal(w.state, WATCHDOG_UP);
}

static void test_audit_finds_a_closure_while_reconnecting(void **state)
{
    (void)state;
    begin_reconnecting();
    wait(30000);
    assert_string_equal(audit_says(1, WATCHDOG_LINK_CLOSED), "closed(1 closed) destroy(1) plan");
}

static void test_audit_that_agrees_changes_nothing(void **state)
{
    (void)state;
    begin_audited();
    assert_string_equal(audit_says(1, WATCHDOG_LINK_CONNECTED), "");
    live_for(60000);
    begin_audited();
    assert_string_equal(audit_says(1, WATCHDOG_LINK_OTHER), "");
    live_for(60000);
    begin_reconnecting();
    wait(30000);
    assert_string_equal(audit_says(1, WATCHDOG_LINK_RECONNECTING), "");
    assert_int_equal(w.state, WATCHDOG_RECONNECTING);
}

static void test_audit_older_than_an_event_is_void(void **state)
{
    (void)state;
    begin_audited();
    link_says(1, WATCHDOG_EVENT_DISCONNECTED);
    assert_string_equal(audit_says(1, WATCHDOG_LINK_CONNECTED), ""); /* as it was before */
    link_says(1, WATCHDOG_EVENT_RECONNECTED);
    assert_string_equal(audit_says(1, WATCHDOG_LINK_RECONNECTING), "");
    assert_int_equal(w.state, WATCHDOG_UP);
    assert_string_equal(audit_says(1, WATCHDOG_LINK_CLOSED), "closed(1 closed) destroy(1) plan");
}

static void test_unanswered_audit_is_a_hang(void **state)
{
    (void)state;
    begin_audited();
    live_for(14999);
    assert_string_equal(wait_for_deadline(), "closed(1 hung) destroy(1) plan");
    assert_int_equal(now, START_TIME + 45000);
}

static void test_unanswered_audit_while_reconnecting_is_asked_again(void **state)
{
    (void)state;
    watchdog_config config = usual;
    config.reconnecting_ms = 600000;
    begin(&config);
    happens(WATCHDOG_EVENT_START);
    link_says(1, WATCHDOG_EVENT_DIALED);
    link_says(1, WATCHDOG_EVENT_DISCONNECTED);
    assert_string_equal(wait(30000), "audit(1)");
    assert_string_equal(wait(15000), "");
    assert_int_equal(w.state, WATCHDOG_RECONNECTING);
    assert_string_equal(wait(15000), "audit(1)");
}

static void test_audit_asked_while_reconnecting_is_no_hang_when_up_again(void **state)
{
    (void)state;
    begin_reconnecting();
    assert_string_equal(wait(30000), "audit(1)");
    wait(14000);
    link_says(1, WATCHDOG_EVENT_RECONNECTED);
    live_for(29000);
}

/* ---- proof ---- */

static void test_attempts_count_until_a_link_proves_itself(void **state)
{
    (void)state;
    begin_up();
    for (uint32_t i = 1; i <= 5; i++) { /* each is up, and closed at once */
        assert_int_equal(w.attempt, i);
        link_says(i, WATCHDOG_EVENT_CLOSED);
        link_says(i, WATCHDOG_EVENT_GONE);
        assert_int_equal(w.attempt, i);
        policy_says(0);
        link_says(i + 1, WATCHDOG_EVENT_DIALED);
    }
    assert_string_equal(wait(5000), "probe(6)");
    assert_int_equal(w.attempt, 6);
    link_says(6, WATCHDOG_EVENT_PROBE_ANSWERED);
    assert_int_equal(w.attempt, 0);
    link_says(6, WATCHDOG_EVENT_CLOSED);
    link_says(6, WATCHDOG_EVENT_GONE);
    assert_string_equal(policy_says(0), "dial(7)");
    assert_int_equal(w.attempt, 1);
}

static void test_audit_is_no_proof_where_there_are_probes(void **state)
{
    (void)state;
    watchdog_config config = usual;
    config.interval_ms = 1000;
    begin(&config);
    happens(WATCHDOG_EVENT_START);
    link_says(1, WATCHDOG_EVENT_DIALED);
    assert_string_equal(wait(1000), "audit(1)");
    audit_says(1, WATCHDOG_LINK_CONNECTED);
    assert_int_equal(w.attempt, 1);
}

static void test_no_probes_while_reconnecting(void **state)
{
    (void)state;
    begin_reconnecting();
    assert_string_equal(wait_for_deadline(), "audit(1)");
    assert_int_equal(now, START_TIME + 30000);
    assert_string_equal(link_says(1, WATCHDOG_EVENT_PROBE_ANSWERED), "");
    assert_int_equal(w.attempt, 1); /* no proof: it was sent before the link was lost */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answered_probes_keep_the_link),
        cmocka_unit_test(test_one_missed_probe_is_deaf_and_an_answer_is_hearing),
        cmocka_unit_test(test_late_answer_is_hearing_too),
        cmocka_unit_test(test_two_missed_probes_replace_the_link),
        cmocka_unit_test(test_very_late_tick_is_one_miss_only),
        cmocka_unit_test(test_reconnect_forgets_missed_probes),
        cmocka_unit_test(test_probe_timeout_longer_than_the_period_asks_one_at_a_time),
        cmocka_unit_test(test_probes_can_be_disabled),
        cmocka_unit_test(test_audit_finds_a_lost_closure),
        cmocka_unit_test(test_audit_finds_a_lost_disconnect),
        cmocka_unit_test(test_audit_finds_a_lost_reconnect),
        cmocka_unit_test(test_audit_finds_a_closure_while_reconnecting),
        cmocka_unit_test(test_audit_that_agrees_changes_nothing),
        cmocka_unit_test(test_audit_older_than_an_event_is_void),
        cmocka_unit_test(test_unanswered_audit_is_a_hang),
        cmocka_unit_test(test_unanswered_audit_while_reconnecting_is_asked_again),
        cmocka_unit_test(test_audit_asked_while_reconnecting_is_no_hang_when_up_again),
        cmocka_unit_test(test_attempts_count_until_a_link_proves_itself),
        cmocka_unit_test(test_audit_is_no_proof_where_there_are_probes),
        cmocka_unit_test(test_no_probes_while_reconnecting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
