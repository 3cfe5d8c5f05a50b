/* Random numbers for jitter and names, not for secrets. A state belongs to one thread at a time. */
#ifndef MD_BASE_RANDOM_H
#define MD_BASE_RANDOM_H

#include <stdint.h>

/* A state to start with, from the system's randomness. */
uint64_t random_seed(void);
/* Uniform in [0, 1). */
double random_next(uint64_t *state);

#endif
