/* How long frames took: a histogram in steps of ten microseconds. One thread. */
#ifndef FRAMES_H
#define FRAMES_H

#define FRAMES_STEP_NS 10000
#define FRAMES_STEPS 5000 /* 50 ms; what is longer counts as that */

struct frames {
    unsigned long count, missed;
    unsigned long late;   /* polls that were longer than the budget */
    unsigned long behind; /* polls that left something to the next frame */
    long budget_ns, longest_ns;
    /* Of polls also the processor's time: on a machine that is busy the rest is not theirs. */
    unsigned long polls[FRAMES_STEPS], busy[FRAMES_STEPS], whole[FRAMES_STEPS];
};

struct frame_times {
    long long poll_ns, busy_ns, whole_ns;
};

/* `left`: what the poll left to the next frame. */
void frames_add(struct frames *f, const struct frame_times *t, int left);
/* On standard output. */
void frames_print(const struct frames *f, unsigned long inputs);

#endif
