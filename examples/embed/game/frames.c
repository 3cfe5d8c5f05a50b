/* How long frames took. See frames.h. */
#include "frames.h"

#include <stdio.h>

static void add(unsigned long *steps, long long ns)
{
    long long step = ns / FRAMES_STEP_NS;
    steps[step < FRAMES_STEPS ? step : FRAMES_STEPS - 1]++;
}

void frames_add(struct frames *f, const struct frame_times *t, int left)
{
    f->count++;
    f->late += t->poll_ns > f->budget_ns;
    f->behind += left > 0;
    f->longest_ns = t->poll_ns > f->longest_ns ? (long)t->poll_ns : f->longest_ns;
    add(f->polls, t->poll_ns);
    add(f->busy, t->busy_ns);
    add(f->whole, t->whole_ns);
}

/* In milliseconds: the end of the step that this part of all is within. */
static double quantile(const unsigned long *steps, unsigned long count, double part)
{
    unsigned long wanted = (unsigned long)(part * (double)count), seen = 0;
    int step = 0;
    while (step < FRAMES_STEPS - 1 && (seen += steps[step]) <= wanted)
        step++;
    return (step + 1) * (FRAMES_STEP_NS / 1e6);
}

static void print_line(const char *what, const unsigned long *steps, unsigned long count)
{
    printf("%s: p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms\n", what, quantile(steps, count, 0.5),
           quantile(steps, count, 0.99), quantile(steps, count, 0.999));
}

/* Steps of a doubling width. */
static void print_histogram(const struct frames *f)
{
    int from = 0;
    for (int to = 5; from < FRAMES_STEPS; to *= 2) {
        unsigned long in = 0;
        for (int i = from; i < to && i < FRAMES_STEPS; i++)
            in += f->polls[i];
        if (in > 0)
            printf("  up to %6.2f ms  %6lu  %.*s\n", to * (FRAMES_STEP_NS / 1e6), in,
                   (int)(60.0 * (double)in / (double)f->count + 0.9),
                   "############################################################");
        from = to;
    }
}

void frames_print(const struct frames *f, unsigned long inputs)
{
    printf("%lu frames, %lu inputs, %lu frames missed\n", f->count, inputs, f->missed);
    print_line("messaging", f->polls, f->count);
    print_line("messaging, processor's time", f->busy, f->count);
    print_line("the whole frame", f->whole, f->count);
    printf("longer than the budget of %.2f ms: %lu, the longest %.2f ms; "
           "left something for the next frame: %lu\n",
           (double)f->budget_ns / 1e6, f->late, (double)f->longest_ns / 1e6, f->behind);
    print_histogram(f);
}
