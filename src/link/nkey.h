/* NKEYs: the public key that belongs to a seed, which nats.c wants to be told. Any thread. */
#ifndef MD_LINK_NKEY_H
#define MD_LINK_NKEY_H

#include "base/error.h"

#define NKEY_PUBLIC_SIZE 57 /* 56 characters and NUL */

/* Reads the user seed ("SU...") out of a file (the first line that starts with S, so creds files
 * work too) and writes the public key ("U..."). 0, or -1 and *e. Blocks: reads a file. */
int nkey_public_from_file(const char *path, char out[NKEY_PUBLIC_SIZE], error *e);

/* The same for a seed in memory. */
int nkey_public_from_seed(const char *seed, char out[NKEY_PUBLIC_SIZE], error *e);

#endif
