/* The HTTP server of health: /livez, /readyz, /metrics, /status. A thread of its own, which reads
 * what the loop has published and never waits for it. What clients can take of it is bounded:
 * connections, time, bytes; when there are too many, the one that was silent for the longest makes
 * room. */
#ifndef MD_HEALTH_HTTP_H
#define MD_HEALTH_HTTP_H

#include "base/error.h"
#include "base/log.h"

#define HTTP_CLIENTS_MAX 64u      /* more connections: the oldest idle one is closed */
#define HTTP_IDLE_S 5u            /* a connection that is silent for so long is closed */
#define HTTP_REQUEST_BYTES 16384u /* of one connection's buffers: a larger request is refused */
/* Of answers that clients have not read yet: beyond it, those that read for the longest are closed.
 */
#define HTTP_ANSWER_BYTES (32u << 20)

struct health;
struct http;

/* Listens at `where` ("ADDRESS:PORT", "PORT", "unix:PATH"). NULL and *e. */
struct http *http_new(struct health *h, const char *where, struct logger *log, error *e);
/* NULL is harmless. */
void http_free(struct http *s);

#endif
