/* A login as moondog makes it, and what the account may do: see account.c. Main thread. */
#ifndef MD_DOCTOR_ACCOUNT_H
#define MD_DOCTOR_ACCOUNT_H

#include <stddef.h>

#include "doctor/findings.h"
#include "link/options.h"

/* Logs in to number `server` of the list, and asks for the account. `token`: of a function, or
 * NULL. Returns how many threads hang inside the NATS library and were left to themselves. */
unsigned account_check(findings *f, const link_options *o, int server, const char *token,
                       uint32_t timeout_ms);

/* jetstream.c: the answer to $JS.API.INFO. Pure. */
void jetstream_judge(findings *f, const char *answer, size_t length);

#endif
