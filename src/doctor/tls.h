/* TLS with a server: the handshake that the NATS library would make, with a deadline, and what the
 * certificates say. Main thread. */
#ifndef MD_DOCTOR_TLS_H
#define MD_DOCTOR_TLS_H

#include <stdbool.h>

#include "doctor/findings.h"
#include "doctor/server.h"
#include "link/options.h"

/* The files of the connection: authority, certificate and key, and when these expire. */
void tls_check_files(findings *f, const link_options *o);

/* The handshake, on the connection of the server, which is of no use afterwards. */
void tls_check_server(findings *f, const server *s, const link_options *o, uint32_t timeout_ms);

#endif
