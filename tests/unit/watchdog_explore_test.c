/* The watchdog under every order of events. From the idle machine on, every event is fed at every
 * moment that makes a difference to every state that can be reached, until there are no new states:
 * what holds then, holds for all sequences of any length. The configurations are small, so that
 * time can advance by single milliseconds. A long random walk with the usual configuration checks
 * that nothing was lost by counting states with the same future as one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "watchdog_model.h"

#define TICKS_TO_A_DIAL 16 /* from any state, when nothing else happens any more */
#define HEALTHY_TICKS 30
#define FAR_MS 1000000u
#define LEAVE_MS 5
#define WALK_STEPS 1000000
#define WALK_LENGTH 400

/* ---- what can happen ---- */

enum which { LINK_CURRENT, LINK_OLD, LINK_BOGUS, LINK_NONE, LINK_KINDS };

typedef struct {
    watchdog_event event;
    enum which which;
} choice;

static choice choices[160];
static size_t choice_count;

static void add_choice(watchdog_event event, enum which which)
{
    assert_true(choice_count < sizeof choices / sizeof choices[0]);
    choices[choice_count++] = (choice){event, which};
}

static void make_choices(void)
{
    choice_count = 0;
    for (int type = 0; type <= WATCHDOG_EVENT_REPLACE; type++)
        add_choice((watchdog_event){.type = (watchdog_event_type)type}, LINK_NONE);
    add_choice((watchdog_event){.type = WATCHDOG_EVENT_PLANNED, .delay_ms = 1}, LINK_NONE);
    add_choice((watchdog_event){.type = WATCHDOG_EVENT_PLANNED, .delay_ms = 9}, LINK_NONE);
    for (int which = 0; which < LINK_KINDS; which++)
        for (int type = WATCHDOG_EVENT_REPLACE + 1; type < WATCHDOG_EVENT_COUNT; type++)
            for (int status = 0; status <= WATCHDOG_LINK_OTHER; status++)
                if (status == 0 || type == WATCHDOG_EVENT_AUDITED)
                    add_choice((watchdog_event){.type = (watchdog_event_type)type,
                                                .delay_ms = LEAVE_MS,
                                                .status = (watchdog_link_status)status},
                               (enum which)which);
}

static watchdog_event event_of(const choice *c, const model *m)
{
    watchdog_event event = c->event;
    if (c->which == LINK_CURRENT)
        event.link = m->live;
    else if (c->which == LINK_OLD)
        event.link = m->ended;
    else if (c->which == LINK_BOGUS)
        event.link = m->dialled + 1 + (m->dialled & 7);
    return event;
}

/* How long nothing happens before the event: not at all, a moment, to the deadline, far beyond. */
enum { WAITS = 4 };

static uint64_t wait_of(int which, const model *m)
{
    int64_t left = model_from_now(m, watchdog_deadline(&m->w));
    const uint64_t waits[WAITS] = {0, 1, left > 0 ? (uint64_t)left : 0, FAR_MS};
    return waits[which];
}

/* ---- what must come of it in the end ---- */

static const char *tick_at_deadline(model *m)
{
    watchdog_event tick = {.type = WATCHDOG_EVENT_TICK};
    uint64_t deadline = watchdog_deadline(&m->w);
    if (deadline != WATCHDOG_NEVER && deadline > m->now)
        m->now = deadline;
    return model_step(m, &tick);
}

/* Nobody answers anything any more: a dial comes all the same; a stopped machine comes to rest. */
static const char *check_recovery(const model *from)
{
    model m = *from;
    if (m.w.state == WATCHDOG_IDLE)
        return NULL;
    for (int i = 0; i < TICKS_TO_A_DIAL; i++) {
        const char *broken = tick_at_deadline(&m);
        if (broken != NULL)
            return broken;
        if (m.dialled > from->dialled)
            return NULL;
        if (m.stopped && watchdog_deadline(&m.w) == WATCHDOG_NEVER)
            return NULL;
    }
    return m.stopped ? "a stopped machine does not come to rest" : "no dial ever comes";
}

/* All is answered at once, and the server stays: the link is left alone. */
static const char *check_patience(const model *from)
{
    model m = *from;
    if (m.leave_at != WATCHDOG_NEVER)
        return NULL;
    for (int i = 0; m.w.state == WATCHDOG_UP && i < HEALTHY_TICKS; i++) {
        watchdog_event probe = {.type = WATCHDOG_EVENT_PROBE_ANSWERED, .link = m.live};
        watchdog_event audit = {.type = WATCHDOG_EVENT_AUDITED, .link = m.live};
        const char *broken = model_step(&m, &probe);
        if (broken == NULL)
            broken = model_step(&m, &audit);
        if (broken == NULL)
            broken = tick_at_deadline(&m);
        if (broken != NULL)
            return broken;
    }
    return m.live == from->live && m.w.state == from->w.state ? NULL : "a healthy link is replaced";
}

/* ---- the states found so far ---- */

typedef struct {
    model m;
    model_key key;
    uint32_t parent, depth;
    watchdog_event event; /* that led here from the parent */
} node;

static node *nodes;
static uint32_t node_count, node_room;
static uint32_t *table; /* of node index + 1; a power of two in size, at most half full */
static uint32_t table_size;

static uint32_t hash_of(const model_key *key)
{
    const unsigned char *bytes = (const unsigned char *)key;
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < sizeof *key; i++)
        h = (h ^ bytes[i]) * 16777619u;
    return h ^ (h >> 15);
}

/* Where this key is, or is to be put. */
static uint32_t *place_of(const model_key *key)
{
    uint32_t at = hash_of(key) & (table_size - 1);
    while (table[at] != 0 && memcmp(&nodes[table[at] - 1].key, key, sizeof *key) != 0)
        at = (at + 1) & (table_size - 1);
    return &table[at];
}

static void make_room(void)
{
    if (node_count < node_room)
        return;
    node_room = node_room > 0 ? node_room * 2 : 4096;
    nodes = realloc(nodes, node_room * sizeof *nodes);
    free(table);
    table_size = node_room * 2;
    table = calloc(table_size, sizeof *table);
    assert_true(nodes != NULL && table != NULL);
    for (uint32_t i = 0; i < node_count; i++)
        *place_of(&nodes[i].key) = i + 1;
}

static bool add_node(const model *m, uint32_t parent, const watchdog_event *event)
{
    make_room();
    model_key key = model_key_of(m);
    uint32_t *place = place_of(&key);
    if (*place != 0)
        return false;
    *place = node_count + 1;
    uint32_t depth = node_count > 0 ? nodes[parent].depth + 1 : 0;
    nodes[node_count++] = (node){*m, key, parent, depth, *event};
    return true;
}

static void forget_nodes(void)
{
    free(nodes);
    free(table);
    nodes = NULL;
    table = NULL;
    node_count = node_room = table_size = 0;
}

static void print_event(const model *at, const watchdog_event *e)
{
    fprintf(stderr, "  at %llu event %d link %llu delay %u status %d -> %s\n",
            (unsigned long long)at->now, (int)e->type, (unsigned long long)e->link, e->delay_ms,
            (int)e->status, watchdog_state_name(at->w.state));
}

static void print_story(uint32_t index)
{
    if (nodes[index].depth > 0)
        print_story(nodes[index].parent);
    print_event(&nodes[index].m, &nodes[index].event);
}

static void expect_kept(const char *broken, uint32_t from, const model *at, const watchdog_event *e)
{
    if (broken == NULL)
        return;
    print_story(from);
    print_event(at, e);
    fail_msg("%s", broken);
}

/* ---- the tests ---- */

static uint64_t try_all_from(uint32_t index)
{
    uint64_t tried = 0;
    for (int wait = 0; wait < WAITS; wait++) {
        for (size_t i = 0; i < choice_count; i++) {
            model m = nodes[index].m;
            m.now += wait_of(wait, &m);
            watchdog_event event = event_of(&choices[i], &m);
            expect_kept(model_step(&m, &event), index, &m, &event);
            tried++;
            if (!add_node(&m, index, &event))
                continue;
            expect_kept(check_recovery(&m), index, &m, &event);
            expect_kept(check_patience(&m), index, &m, &event);
        }
    }
    return tried;
}

static void explore(const char *name, const watchdog_config *config)
{
    clock_t began = clock();
    model m;
    watchdog_event none = {.type = WATCHDOG_EVENT_TICK};
    model_init(&m, config);
    make_choices();
    forget_nodes();
    add_node(&m, 0, &none);
    uint64_t tried = 0;
    for (uint32_t i = 0; i < node_count; i++)
        tried += try_all_from(i);
    printf(
        "%s: complete: %u states, %llu sequences of up to %u events (%zu choices each), %.1f s\n",
        name, node_count, (unsigned long long)tried, nodes[node_count - 1].depth + 1,
        choice_count * WAITS, (double)(clock() - began) / CLOCKS_PER_SEC);
    forget_nodes();
}

static void test_every_order_of_events(void **state)
{
    (void)state;
    explore("probes and audits", &(watchdog_config){.interval_ms = 7,
                                                    .timeout_ms = 4,
                                                    .probe_ms = 3,
                                                    .probe_timeout_ms = 2,
                                                    .reconnecting_ms = 9,
                                                    .grace_ms = 3});
}

static void test_every_order_of_events_without_probes(void **state)
{
    (void)state;
    explore("without probes", &(watchdog_config){.interval_ms = 6,
                                                 .timeout_ms = 4,
                                                 .probe_ms = 0,
                                                 .probe_timeout_ms = 2,
                                                 .reconnecting_ms = 20,
                                                 .grace_ms = 2});
}

/* Answers may be due later than the next question. */
static void test_every_order_of_events_with_timeouts_longer_than_periods(void **state)
{
    (void)state;
    explore("long timeouts", &(watchdog_config){.interval_ms = 3,
                                                .timeout_ms = 8,
                                                .probe_ms = 2,
                                                .probe_timeout_ms = 5,
                                                .reconnecting_ms = 4,
                                                .grace_ms = 9});
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void random_step(model *m, uint64_t *seed)
{
    const choice *c = &choices[next_random(seed) % choice_count];
    uint64_t wait = wait_of((int)(next_random(seed) % WAITS), m);
    if (wait == 1)
        wait = next_random(seed) % 20000;
    if (c->event.type == WATCHDOG_EVENT_STOP && next_random(seed) % 50 != 0)
        c = &choices[WATCHDOG_EVENT_TICK];
    watchdog_event event = event_of(c, m);
    if (event.type == WATCHDOG_EVENT_PLANNED)
        event.delay_ms = (uint32_t)next_random(seed) >> (next_random(seed) % 32);
    m->now += wait;
    const char *broken = model_step(m, &event);
    if (broken == NULL)
        broken = check_recovery(m);
    if (broken == NULL)
        broken = check_patience(m);
    if (broken != NULL) {
        print_event(m, &event);
        fail_msg("%s", broken);
    }
}

static void test_random_walks_with_the_usual_configuration(void **state)
{
    (void)state;
    const watchdog_config usual = {30000, 15000, 5000, 2500, 60000, 2000};
    uint64_t seed = 0x9e3779b97f4a7c15u;
    make_choices();
    model m;
    for (int i = 0; i < WALK_STEPS; i++) {
        if (i % WALK_LENGTH == 0)
            model_init(&m, &usual);
        random_step(&m, &seed);
    }
    printf("random walks: %d sequences of %d events\n", WALK_STEPS / WALK_LENGTH, WALK_LENGTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_order_of_events),
        cmocka_unit_test(test_every_order_of_events_without_probes),
        cmocka_unit_test(test_every_order_of_events_with_timeouts_longer_than_periods),
        cmocka_unit_test(test_random_walks_with_the_usual_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
