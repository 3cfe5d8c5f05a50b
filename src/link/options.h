/* What a link needs to know to be made: the parsed options of a connection that concern the
 * library. Immutable once made and counted, because link workers on other threads read them. */
#ifndef MD_LINK_OPTIONS_H
#define MD_LINK_OPTIONS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "watch/backoff.h"

#define LINK_SERVERS_MAX 64
#define LINK_INBOX_PREFIX_MAX 64

/* A text that comes in here has to be known to link_options_equal(), _only() and _release(). */
typedef struct {
    atomic_int references;
    char *name;
    char *servers[LINK_SERVERS_MAX]; /* URLs; may carry user info: never log them whole */
    int server_count;
    char *user, *password, *token; /* NULL: none */
    char *creds, *nkey_seed_file;  /* paths, read again at each dial by the worker */
    bool tls, tls_insecure;
    char *tls_ca, *tls_cert, *tls_key, *tls_hostname;
    char *inbox_prefix; /* with its dot at the end; default "_INBOX." */
    bool no_echo, ignore_discovered, library_reconnect;
    uint32_t ping_ms;
    uint32_t dial_timeout_ms; /* for a whole dial; a server of the list gets its share */
    uint32_t probe_timeout_ms;
    backoff fallback; /* between the library's own attempts, when the policy does not answer */
} link_options;

/* All defaults, no servers. NULL when out of memory. The caller has the one reference. */
link_options *link_options_new(void);
link_options *link_options_retain(link_options *o);
/* Wipes the secrets and frees at the last release. NULL is harmless. */
void link_options_release(link_options *o);

/* Whether a link that was made with the one can go on with the other: everything but the timeouts
 * and the fallback, which count for the next link. */
bool link_options_equal(const link_options *a, const link_options *b);

/* Checks one server URL (scheme nats, tls or none; host; port) and appends a normalised copy. */
int link_options_add_server(link_options *o, const char *url, error *e);

/* The URL without user info, for logs: writes at most `size` bytes, returns buffer. */
const char *link_redact_url(const char *url, char *buffer, unsigned size);

/* A copy with the one server of this number, to be changed and released by the caller. NULL when
 * out of memory. */
link_options *link_options_only(const link_options *o, int server);

/* Whether two URLs name the same host and port. */
bool link_url_same_server(const char *a, const char *b);

/* The host of a URL of the list, without the brackets of an address. False: it does not fit. */
bool link_url_host(const char *url, char *buffer, size_t size);

/* The port of a URL of the list. */
uint16_t link_url_port(const char *url);

#endif
