/* The credentials of a connection, as far as they can be judged without a server. Main thread. */
#ifndef MD_DOCTOR_CREDENTIALS_H
#define MD_DOCTOR_CREDENTIALS_H

#include "doctor/findings.h"
#include "link/options.h"

/* `has_token_function`: the script makes the token. Reads the files. */
void credentials_check(findings *f, const link_options *o, bool has_token_function);

/* A file that may hold a secret, or whatever `what` is: there, readable, and not for everybody when
 * it is `secret`. Whether it can be read. */
bool credentials_check_file(findings *f, const char *what, const char *path, bool secret);

#endif
