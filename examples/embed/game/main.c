/* A game server: 60 frames a second, a thousand players, and NATS between them. The world is C; the
 * rules are Lua, and change while people play.
 *
 *   cc -O2 -D_GNU_SOURCE -o game main.c world.c frames.c $(pkg-config --cflags --libs moondog) -lm
 *   ./game --url nats://127.0.0.1:4222 --seconds 10
 *
 * Each frame has two milliseconds for moondog: md_poll() handles the inputs that have come, by the
 * rules, and leaves the rest to the next frame. Whatever happens to NATS meanwhile, and whenever
 * the rules are loaded again (SIGHUP), the frames go on. At the end it prints how long they took.
 *
 * The players are a second runtime in a thread of its own, which only runs a script. */
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <moondog.h>

#include "frames.h"
#include "world.h"

#define RATE 60 /* frames a second */
#define FRAME_NS (1000000000ll / RATE)
#define MARGIN_US 200 /* of the budget: for the function that runs when a poll's time is over */

struct settings {
    const char *url, *rules, *players_script;
    double seconds;        /* 0: until a signal */
    double reload_seconds; /* 0: only when SIGHUP says so */
    long budget_us, inputs;
};

static volatile sig_atomic_t stop_wanted, reload_wanted;

static void on_signal(int number)
{
    if (number == SIGHUP)
        reload_wanted = 1;
    else
        stop_wanted = 1;
}

static void on_log(void *closure, int level, const char *line, size_t length)
{
    (void)level;
    fprintf(stderr, "%s: %.*s\n", (const char *)closure, (int)length, line);
}

static long long clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static long long now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* ---- what the rules can do ---- */

/* host.move(player, x, y): the points that the player has then, or nothing. */
static void host_move(void *closure, md_call *call)
{
    struct world *w = closure;
    const md_value *player = md_call_argument(call, 0);
    const md_value *x = md_call_argument(call, 1), *y = md_call_argument(call, 2);
    if (player->type != MD_NUMBER || x->type != MD_NUMBER || y->type != MD_NUMBER) {
        md_call_misuse(call, "move(player, x, y) takes three numbers");
        return;
    }
    int points = world_move(w, player->as.number, x->as.number, y->as.number);
    if (points >= 0) {
        md_value result = md_number(points);
        md_call_return(call, &result);
    }
}

static void host_new_round(void *closure, md_call *call)
{
    const md_value *match = md_call_argument(call, 0);
    if (match->type != MD_NUMBER)
        md_call_misuse(call, "new_round(match) takes a number");
    else
        world_new_round(closure, match->as.number);
}

/* host.snapshot(match): where its players are, in one text. */
static void host_snapshot(void *closure, md_call *call)
{
    char text[WORLD_SNAPSHOT_SIZE];
    const md_value *match = md_call_argument(call, 0);
    if (match->type != MD_NUMBER) {
        md_call_misuse(call, "snapshot(match) takes a number");
        return;
    }
    md_value result = md_bytes(text, world_snapshot(closure, match->as.number, text));
    md_call_return(call, &result);
}

/* host.settings(): of the players. */
static void host_settings(void *closure, md_call *call)
{
    const struct settings *s = closure;
    md_field fields[] = {{"rate", md_number((double)s->inputs)},
                         {"players", md_number(WORLD_PLAYERS)},
                         {"matches", md_number(WORLD_MATCHES)}};
    md_value result = md_map(fields, sizeof fields / sizeof fields[0]);
    md_call_return(call, &result);
}

/* ---- runtimes ---- */

static md_runtime *make_runtime(const char *name, const char *control)
{
    md_options o;
    md_error e;
    md_options_init(&o);
    o.name = name;
    o.control = control; /* for `moondog attach` */
    o.log_write = on_log;
    o.log_closure = (void *)name;
    o.budget_signal = SIGURG; /* rules run at full speed */
    md_runtime *rt = md_create(&o, &e);
    if (rt == NULL)
        fprintf(stderr, "game: %s\n", e.message);
    return rt;
}

static int load(md_runtime *rt, const char *path)
{
    md_error e;
    int failed = md_load(rt, path, &e);
    if (failed != 0)
        fprintf(stderr, "game: %s\n", e.message);
    return failed;
}

static void stop_players(md_runtime *rt, void *closure)
{
    (void)closure;
    if (rt != NULL)
        md_stop(rt);
}

static void *run_players(void *closure)
{
    md_run(closure);
    return NULL;
}

/* ---- the game ---- */

static void on_reloaded(void *closure, const md_reload_result *result, const md_error *e)
{
    (void)closure;
    if (e != NULL)
        fprintf(stderr, "game: the rules stay as they were: %s\n", e->message);
    else
        fprintf(stderr, "game: the rules are number %u now\n", result->generation);
}

static void frame(md_runtime *rt, struct world *w, struct frames *f, long budget_us)
{
    long long start = now_ns(), busy = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    int left = md_poll(rt, (uint64_t)(budget_us > MARGIN_US ? budget_us - MARGIN_US : 0));
    struct frame_times times = {.poll_ns = now_ns() - start,
                                .busy_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - busy};
    world_step(w, 1.0 / RATE);
    md_field fields[] = {{"number", md_number((double)f->count)},
                         {"rate", md_number(RATE)},
                         {"matches", md_number(WORLD_MATCHES)}};
    md_value tick = md_map(fields, sizeof fields / sizeof fields[0]);
    md_emit(rt, "tick", &tick);
    times.whole_ns = now_ns() - start;
    frames_add(f, &times, left);
}

static void sleep_until(long long ns)
{
    struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL); /* a signal: one frame is early */
}

static void play(md_runtime *rt, struct world *w, struct frames *f, const struct settings *s)
{
    long long start = now_ns(), next = start;
    long long end = s->seconds > 0 ? start + (long long)(s->seconds * 1e9) : 0;
    long long reload_every = (long long)(s->reload_seconds * 1e9);
    long long reload_at = start + reload_every;
    while (!stop_wanted && (end == 0 || next < end)) {
        if (reload_every > 0 && next >= reload_at) {
            reload_at += reload_every;
            reload_wanted = 1;
        }
        if (reload_wanted) {
            reload_wanted = 0;
            md_reload(rt, 0, on_reloaded, NULL, NULL);
        }
        frame(rt, w, f, s->budget_us);
        next += FRAME_NS;
        long long now = now_ns();
        if (next < now) { /* frames that a machine under load has missed are not made up for */
            f->missed += (unsigned long)((now - next) / FRAME_NS) + 1;
            next = now;
        }
        sleep_until(next);
    }
}

static void finish(md_runtime *rt)
{
    md_stop(rt);
    while (md_poll(rt, 10000) >= 0)
        sleep_until(now_ns() + 1000000);
}

/* Frames are drawn when it is time, and others wait: as far as the system allows that. */
static void hurry(void)
{
    struct sched_param first = {.sched_priority = 1};
    (void)pthread_setschedparam(pthread_self(), SCHED_RR, &first);
}

static int usage(void)
{
    fprintf(stderr, "usage: game [--url URL] [--rules FILE] [--players FILE] [--seconds N]\n"
                    "            [--inputs N] [--budget US] [--reload SECONDS]\n");
    return 2;
}

static int read_settings(int argc, char **argv, struct settings *s)
{
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},     {"rules", required_argument, NULL, 'r'},
        {"players", required_argument, NULL, 'p'}, {"seconds", required_argument, NULL, 's'},
        {"inputs", required_argument, NULL, 'i'},  {"budget", required_argument, NULL, 'b'},
        {"reload", required_argument, NULL, 'e'},  {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'u':
            s->url = optarg;
            break;
        case 'r':
            s->rules = optarg;
            break;
        case 'p':
            s->players_script = optarg;
            break;
        case 's':
            s->seconds = atof(optarg);
            break;
        case 'i':
            s->inputs = atol(optarg);
            break;
        case 'b':
            s->budget_us = atol(optarg);
            break;
        case 'e':
            s->reload_seconds = atof(optarg);
            break;
        default:
            return -1;
        }
    }
    return optind == argc && s->inputs >= 0 && s->budget_us > 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct settings s = {
        .rules = "rules.lua", .players_script = "players.lua", .inputs = 20000, .budget_us = 2000};
    if (read_settings(argc, argv, &s) != 0)
        return usage();
    if (s.url != NULL)
        setenv("NATS_URL", s.url, 1); /* what moondog.connect() uses when a script names none */
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);

    struct world world;
    struct frames frames = {.budget_ns = s.budget_us * 1000};
    pthread_t thread;
    world_init(&world);
    md_runtime *game = make_runtime("game", NULL);
    md_runtime *players = make_runtime("players", NULL);
    int code = 1;
    if (game != NULL && players != NULL) {
        md_register(game, "move", host_move, &world);
        md_register(game, "new_round", host_new_round, &world);
        md_register(game, "snapshot", host_snapshot, &world);
        md_register(players, "settings", host_settings, &s);
        if (load(game, s.rules) == 0 && load(players, s.players_script) == 0 &&
            pthread_create(&thread, NULL, run_players, players) == 0) {
            hurry();
            play(game, &world, &frames, &s);
            md_post(players, stop_players, NULL);
            pthread_join(thread, NULL);
            finish(game);
            frames_print(&frames, world.moves);
            code = 0;
        }
    }
    md_free(players);
    md_free(game);
    return code;
}
