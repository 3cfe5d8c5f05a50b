/* Requests: all answers come to one subscription of the connection and are told apart by the end of
 * their subject. Loop thread. */
#ifndef MD_CONN_REQUEST_H
#define MD_CONN_REQUEST_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "link/records.h"

struct connection;

#define REQUESTS_MAX 262144u /* waiting at a time, per connection */

/* Exactly once, unless cancelled: the answer (to be destroyed by the callee), or NULL and *e
 * ("no_responders", "disconnected", "closed"). Never from within connection_request(). */
typedef void (*request_done)(void *closure, natsMsg *answer, const error *e);

/* Publishes the message with a reply subject of ours (message->reply is ignored). The deadline is
 * the caller's: connection_request_cancel(). Returns a number, or 0 and *e ("disconnected",
 * "too_many", "pending_full", ...). A request while there is no link fails at once: waiting for one
 * is the caller's decision. */
uint64_t connection_request(struct connection *c, const record_message *message, request_done done,
                            void *closure, error *e);
void connection_request_cancel(struct connection *c, uint64_t number);

/* Whether requests are taken now; otherwise *e says why not, unless it is NULL. */
bool connection_can_ask(const struct connection *c, error *e);

/* How many are waiting. */
uint32_t connection_requests(const struct connection *c);

#endif
