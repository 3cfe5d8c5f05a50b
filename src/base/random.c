/* Random numbers for jitter. See random.h. */
#include "base/random.h"

#include <stddef.h>
#include <uv.h>

uint64_t random_seed(void)
{
    uint64_t seed = uv_hrtime();
    uv_random(NULL, NULL, &seed, sizeof seed, 0, NULL);
    return seed | 1; /* zero would stay zero */
}

/* xorshift64*: jitter needs no better. */
double random_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return (double)((x * 0x2545f4914f6cdd1dULL) >> 11) / 9007199254740992.0;
}
