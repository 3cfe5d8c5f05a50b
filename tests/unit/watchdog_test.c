/* The watchdog, one behaviour a test: links that are made, closed, replaced, stopped. Probes and
 * audits are in watchdog_probe_test.c; every order of events is tried in watchdog_explore_test.c.
 */
#include "watchdog_story.h"

/* ---- starting and dialling ---- */

static void test_idle_waits_for_nothing(void **state)
{
    (void)state;
    begin(&usual);
    assert_int_equal(w.state, WATCHDOG_IDLE);
    assert_true(watchdog_deadline(&w) == WATCHDOG_NEVER);
    assert_string_equal(wait(1000000), "");
    assert_string_equal(happens(WATCHDOG_EVENT_REPLACE), "");
    assert_string_equal(policy_says(0), "");
    assert_int_equal(w.state, WATCHDOG_IDLE);
}

static void test_start_dials_at_once(void **state)
{
    (void)state;
    begin_dialing();
    assert_int_equal(w.state, WATCHDOG_DIALING);
    assert_int_equal(w.attempt, 1);
    assert_int_equal(w.reason, WATCHDOG_REASON_START);
    assert_int_equal(w.outage_since, START_TIME);
    assert_int_equal(watchdog_deadline(&w), START_TIME + 15000);
    assert_string_equal(happens(WATCHDOG_EVENT_START), "");
}

static void test_dialed_is_up_and_ends_the_outage(void **state)
{
    (void)state;
    begin_up();
    assert_int_equal(w.state, WATCHDOG_UP);
    assert_true(w.outage_since == WATCHDOG_NEVER);
    assert_string_equal(link_says(1, WATCHDOG_EVENT_DIALED), "");
}

static void test_failed_dial_is_destroyed_and_planned_again(void **state)
{
    (void)state;
    begin_dialing();
    now += 700;
    assert_string_equal(link_says(1, WATCHDOG_EVENT_DIAL_FAILED), "destroy(1) plan");
    assert_int_equal(w.state, WATCHDOG_CLOSED);
    assert_int_equal(w.reason, WATCHDOG_REASON_DIAL_FAILED);
    assert_string_equal(link_says(1, WATCHDOG_EVENT_GONE), "");
    assert_string_equal(policy_says(300), "");
    assert_string_equal(wait(299), "");
    assert_string_equal(wait(1), "dial(2)");
    assert_int_equal(w.attempt, 2);
    assert_int_equal(w.outage_since, START_TIME);
}

static void test_dial_that_times_out_is_abandoned(void **state)
{
    (void)state;
    begin_dialing();
    assert_string_equal(wait(14999), "");
    assert_string_equal(wait(1), "abandon(1) plan");
    assert_int_equal(w.reason, WATCHDOG_REASON_DIAL_TIMEOUT);
    assert_string_equal(policy_says(0), "dial(2)"); /* it hangs: nothing to wait for */
    assert_string_equal(link_says(1, WATCHDOG_EVENT_DIALED), "");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_GONE), "");
    assert_int_equal(w.state, WATCHDOG_DIALING);
}

static void test_link_closed_while_dialing_is_a_failed_dial(void **state)
{
    (void)state;
    begin_dialing();
    assert_string_equal(link_says(1, WATCHDOG_EVENT_DISCONNECTED), "");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_RECONNECTED), "");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_CLOSED), "destroy(1) plan");
    assert_int_equal(w.reason, WATCHDOG_REASON_DIAL_FAILED);
}

static void test_silent_policy_is_not_waited_for(void **state)
{
    (void)state;
    begin_closed();
    assert_string_equal(wait(WATCHDOG_UNPLANNED_MS - 1), "");
    assert_string_equal(wait(1), "dial(2)");
}

static void test_policy_answers_once_for_each_question(void **state)
{
    (void)state;
    begin_closed();
    assert_string_equal(policy_says(1000), "");
    assert_string_equal(policy_says(3600000), ""); /* would push the dial away */
    assert_string_equal(wait(1000), "dial(2)");
}

static void test_dial_waits_for_the_old_link_to_go(void **state)
{
    (void)state;
    begin_up();
    link_says(1, WATCHDOG_EVENT_CLOSED);
    assert_string_equal(policy_says(100), "");
    assert_string_equal(wait(100), "");
    assert_string_equal(wait(1800), "");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_GONE), "dial(2)");
}

static void test_old_link_that_does_not_go_is_abandoned(void **state)
{
    (void)state;
    begin_up();
    link_says(1, WATCHDOG_EVENT_CLOSED);
    policy_says(100);
    assert_int_equal(watchdog_deadline(&w), now + 2000);
    assert_string_equal(wait_for_deadline(), "abandon(1) dial(2)");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_GONE), "");
    assert_int_equal(w.link, 2);
}

static void test_long_delay_goes_on_after_the_old_link_was_abandoned(void **state)
{
    (void)state;
    begin_up();
    link_says(1, WATCHDOG_EVENT_CLOSED);
    policy_says(10000);
    assert_string_equal(wait_for_deadline(), "abandon(1)");
    assert_string_equal(wait_for_deadline(), "dial(2)");
    assert_int_equal(now, START_TIME + 10000);
}

/* ---- the library closes, or hangs ---- */

static void test_closure_begins_recovery_at_once(void **state)
{
    (void)state;
    begin_up();
    live_for(7000);
    now += 100;
    assert_string_equal(link_says(1, WATCHDOG_EVENT_CLOSED), "closed(1 closed) destroy(1) plan");
    assert_int_equal(w.state, WATCHDOG_CLOSED);
    assert_int_equal(w.outage_since, now);
    assert_int_equal(w.attempt, 0);
}

static void test_closure_while_reconnecting_keeps_the_age_of_the_outage(void **state)
{
    (void)state;
    begin_reconnecting();
    now += 600;
    assert_string_equal(link_says(1, WATCHDOG_EVENT_CLOSED), "closed(1 closed) destroy(1) plan");
    assert_int_equal(w.outage_since, START_TIME);
}

static void test_fresh_link_tells_why_it_was_needed(void **state)
{
    (void)state;
    begin_closed();
    policy_says(0);
    link_says(2, WATCHDOG_EVENT_DIAL_FAILED);
    link_says(2, WATCHDOG_EVENT_GONE);
    assert_int_equal(w.reason, WATCHDOG_REASON_DIAL_FAILED);
    assert_string_equal(policy_says(0), "dial(3)");
    assert_string_equal(link_says(3, WATCHDOG_EVENT_DIALED), "up(3 closed)");
}

static void test_library_reconnects_by_itself(void **state)
{
    (void)state;
    begin_reconnecting();
    assert_int_equal(w.outage_since, START_TIME);
    now += 4000;
    assert_string_equal(link_says(1, WATCHDOG_EVENT_RECONNECTED), "reconnected(1)");
    assert_int_equal(w.state, WATCHDOG_UP);
    assert_true(w.outage_since == WATCHDOG_NEVER);
    assert_int_equal(watchdog_deadline(&w), now + 5000); /* the first probe */
    live_for(600000);
}

static void test_stuck_reconnecting_is_replaced(void **state)
{
    (void)state;
    begin_reconnecting();
    assert_string_equal(wait(59999), "audit(1)");
    assert_string_equal(wait_for_deadline(), "closed(1 reconnecting) destroy(1) plan");
    assert_int_equal(now, START_TIME + 60000);
    assert_int_equal(w.outage_since, START_TIME);
}

/* ---- replace and stop ---- */

static void test_replace_while_up_or_reconnecting(void **state)
{
    (void)state;
    begin_up();
    assert_string_equal(happens(WATCHDOG_EVENT_REPLACE), "closed(1 requested) destroy(1)");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_GONE), "dial(2)"); /* no delay: it is wanted */
    assert_string_equal(link_says(2, WATCHDOG_EVENT_DIALED), "up(2 requested)");
    begin_reconnecting();
    assert_string_equal(happens(WATCHDOG_EVENT_REPLACE), "closed(1 requested) destroy(1)");
    assert_string_equal(wait_for_deadline(), "abandon(1) dial(2)");
}

static void test_replace_while_closed_brings_the_dial_forward(void **state)
{
    (void)state;
    begin_closed();
    policy_says(60000);
    assert_string_equal(happens(WATCHDOG_EVENT_REPLACE), "dial(2)");
}

static void test_replace_is_not_postponed_by_a_late_plan(void **state)
{
    (void)state;
    begin_up();
    link_says(1, WATCHDOG_EVENT_CLOSED);
    assert_string_equal(happens(WATCHDOG_EVENT_REPLACE), "");
    assert_string_equal(policy_says(60000), "");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_GONE), "dial(2)");
}

static void test_replace_while_dialing_is_ignored(void **state)
{
    (void)state;
    begin_dialing();
    assert_string_equal(happens(WATCHDOG_EVENT_REPLACE), "");
    assert_int_equal(w.link, 1);
}

static void stays_stopped(void)
{
    assert_int_equal(w.state, WATCHDOG_STOPPED);
    assert_true(w.outage_since == WATCHDOG_NEVER);
    assert_string_equal(happens(WATCHDOG_EVENT_START), "");
    assert_string_equal(happens(WATCHDOG_EVENT_STOP), "");
    assert_string_equal(happens(WATCHDOG_EVENT_REPLACE), "");
    assert_string_equal(policy_says(0), "");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_DIALED), "");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_CLOSED), "");
    assert_int_equal(w.state, WATCHDOG_STOPPED);
}

/* ---- a server that will go ---- */

static const char *lame_duck(uint64_t link, uint32_t delay_ms)
{
    return feed(
        (watchdog_event){.type = WATCHDOG_EVENT_LAME_DUCK, .link = link, .delay_ms = delay_ms});
}

static void test_lame_duck_is_left_in_time(void **state)
{
    (void)state;
    begin_up();
    assert_string_equal(lame_duck(1, 3000), "");
    assert_string_equal(wait(1000), "");
    assert_string_equal(lame_duck(1, 9000), ""); /* the first word counts */
    assert_string_equal(wait(1999), "");
    assert_string_equal(wait(1), "closed(1 lame_duck) destroy(1)");
    assert_string_equal(policy_says(5000), ""); /* it was not asked */
    assert_string_equal(link_says(1, WATCHDOG_EVENT_GONE), "dial(2)");
    assert_string_equal(link_says(2, WATCHDOG_EVENT_DIALED), "up(2 lame_duck)");
    live_for(60000); /* and the new one stays */
}

static void test_lame_duck_is_left_before_its_probes_and_audits(void **state)
{
    (void)state;
    begin_up();
    lame_duck(1, 0);
    assert_true(watchdog_deadline(&w) == now);
    assert_string_equal(wait(0), "closed(1 lame_duck) destroy(1)");
}

static void test_lame_duck_that_sends_us_away_needs_no_leaving(void **state)
{
    (void)state;
    begin_up();
    lame_duck(1, 3000);
    assert_string_equal(link_says(1, WATCHDOG_EVENT_DISCONNECTED), "disconnected(1)");
    assert_string_equal(lame_duck(1, 10), ""); /* a late word */
    assert_string_equal(wait(3000), "");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_RECONNECTED), "reconnected(1)");
    live_for(60000);
    begin_up();
    lame_duck(1, 3000);
    assert_string_equal(link_says(1, WATCHDOG_EVENT_RECONNECTED), "reconnected(1)");
    live_for(60000);
}

static void test_stop_of_an_idle_machine(void **state)
{
    (void)state;
    begin(&usual);
    assert_string_equal(happens(WATCHDOG_EVENT_STOP), "");
    stays_stopped();
    assert_true(watchdog_deadline(&w) == WATCHDOG_NEVER);
}

static void test_stop_destroys_the_link_and_waits_for_it(void **state)
{
    (void)state;
    void (*const begins[])(void) = {begin_dialing, begin_up, begin_reconnecting};
    for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++) {
        begins[i]();
        assert_string_equal(happens(WATCHDOG_EVENT_STOP), "destroy(1)");
        stays_stopped();
        assert_int_equal(watchdog_deadline(&w), now + 2000);
        assert_string_equal(link_says(1, WATCHDOG_EVENT_GONE), "");
        assert_true(watchdog_deadline(&w) == WATCHDOG_NEVER);
        assert_string_equal(wait(1000000), "");
    }
}

static void test_stop_abandons_a_link_that_hangs(void **state)
{
    (void)state;
    begin_up();
    happens(WATCHDOG_EVENT_STOP);
    assert_string_equal(wait_for_deadline(), "abandon(1)");
    assert_true(watchdog_deadline(&w) == WATCHDOG_NEVER);
    stays_stopped();
}

static void test_stop_while_closed_cancels_the_dial(void **state)
{
    (void)state;
    begin_closed();
    policy_says(100);
    assert_string_equal(happens(WATCHDOG_EVENT_STOP), "");
    assert_true(watchdog_deadline(&w) == WATCHDOG_NEVER);
    assert_string_equal(wait(1000000), "");
    stays_stopped();
    begin_up();
    link_says(1, WATCHDOG_EVENT_CLOSED);
    assert_string_equal(happens(WATCHDOG_EVENT_STOP), ""); /* it was told already, and is tracked */
    assert_string_equal(wait_for_deadline(), "abandon(1)");
    stays_stopped();
}

/* ---- what must not confuse it ---- */

static void test_late_words_of_an_old_link_are_ignored(void **state)
{
    (void)state;
    begin_closed();
    policy_says(0);
    assert_string_equal(link_says(2, WATCHDOG_EVENT_DIALED), "up(2 closed)");
    for (int type = 0; type < WATCHDOG_EVENT_COUNT; type++) {
        if (type <= WATCHDOG_EVENT_REPLACE)
            continue;
        assert_string_equal(link_says(1, (watchdog_event_type)type), "");
        assert_string_equal(link_says(77, (watchdog_event_type)type), "");
        assert_string_equal(link_says(0, (watchdog_event_type)type), "");
    }
    assert_string_equal(audit_says(1, WATCHDOG_LINK_CLOSED), "");
    assert_int_equal(w.state, WATCHDOG_UP);
    assert_int_equal(w.attempt, 2);
}

static void test_link_that_goes_unasked_is_closed(void **state)
{
    (void)state;
    begin_up();
    assert_string_equal(link_says(1, WATCHDOG_EVENT_GONE), "closed(1 closed) destroy(1) plan");
    assert_string_equal(policy_says(0), "dial(2)"); /* it is gone: nothing to wait for */
}

static void test_end_of_time_is_not_never(void **state)
{
    (void)state;
    begin(&usual);
    now = UINT64_MAX - 10;
    happens(WATCHDOG_EVENT_START);
    assert_true(watchdog_deadline(&w) == UINT64_MAX - 1);
    assert_string_equal(wait_for_deadline(), "abandon(1) plan dial(2)");
    assert_true(watchdog_deadline(&w) != WATCHDOG_NEVER);
}

static void test_zero_periods_make_no_endless_loop(void **state)
{
    (void)state;
    begin(&(watchdog_config){0});
    happens(WATCHDOG_EVENT_START);
    link_says(1, WATCHDOG_EVENT_DIALED);
    for (int i = 0; i < 100; i++) {
        assert_true(watchdog_deadline(&w) > now);
        wait_for_deadline();
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(watchdog_state_name(WATCHDOG_IDLE), "idle");
    assert_string_equal(watchdog_state_name(WATCHDOG_DIALING), "dialing");
    assert_string_equal(watchdog_state_name(WATCHDOG_UP), "up");
    assert_string_equal(watchdog_state_name(WATCHDOG_RECONNECTING), "reconnecting");
    assert_string_equal(watchdog_state_name(WATCHDOG_CLOSED), "closed");
    assert_string_equal(watchdog_state_name(WATCHDOG_STOPPED), "stopped");
    static const char *const reasons[] = {"none",         "start",        "closed", "dial_failed",
                                          "dial_timeout", "reconnecting", "probe",  "hung",
                                          "requested",    "lame_duck"};
    for (int i = 0; i < WATCHDOG_REASON_COUNT; i++)
        assert_string_equal(watchdog_reason_name((watchdog_reason)i), reasons[i]);
    assert_string_equal(watchdog_reason_name(WATCHDOG_REASON_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle_waits_for_nothing),
        cmocka_unit_test(test_start_dials_at_once),
        cmocka_unit_test(test_dialed_is_up_and_ends_the_outage),
        cmocka_unit_test(test_failed_dial_is_destroyed_and_planned_again),
        cmocka_unit_test(test_dial_that_times_out_is_abandoned),
        cmocka_unit_test(test_link_closed_while_dialing_is_a_failed_dial),
        cmocka_unit_test(test_silent_policy_is_not_waited_for),
        cmocka_unit_test(test_policy_answers_once_for_each_question),
        cmocka_unit_test(test_dial_waits_for_the_old_link_to_go),
        cmocka_unit_test(test_old_link_that_does_not_go_is_abandoned),
        cmocka_unit_test(test_long_delay_goes_on_after_the_old_link_was_abandoned),
        cmocka_unit_test(test_closure_begins_recovery_at_once),
        cmocka_unit_test(test_closure_while_reconnecting_keeps_the_age_of_the_outage),
        cmocka_unit_test(test_fresh_link_tells_why_it_was_needed),
        cmocka_unit_test(test_library_reconnects_by_itself),
        cmocka_unit_test(test_stuck_reconnecting_is_replaced),
        cmocka_unit_test(test_replace_while_up_or_reconnecting),
        cmocka_unit_test(test_replace_while_closed_brings_the_dial_forward),
        cmocka_unit_test(test_replace_is_not_postponed_by_a_late_plan),
        cmocka_unit_test(test_replace_while_dialing_is_ignored),
        cmocka_unit_test(test_lame_duck_is_left_in_time),
        cmocka_unit_test(test_lame_duck_is_left_before_its_probes_and_audits),
        cmocka_unit_test(test_lame_duck_that_sends_us_away_needs_no_leaving),
        cmocka_unit_test(test_stop_of_an_idle_machine),
        cmocka_unit_test(test_stop_destroys_the_link_and_waits_for_it),
        cmocka_unit_test(test_stop_abandons_a_link_that_hangs),
        cmocka_unit_test(test_stop_while_closed_cancels_the_dial),
        cmocka_unit_test(test_late_words_of_an_old_link_are_ignored),
        cmocka_unit_test(test_link_that_goes_unasked_is_closed),
        cmocka_unit_test(test_end_of_time_is_not_never),
        cmocka_unit_test(test_zero_periods_make_no_endless_loop),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
