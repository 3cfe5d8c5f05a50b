/* Errors as every part of moondog passes them on: a code for programs, a class for
 * policies, a sentence for people. Plain values; any thread. */
#ifndef MD_BASE_ERROR_H
#define MD_BASE_ERROR_H

/* What kind of trouble it is: the reconnect policy decides by it. */
typedef enum {
    ERROR_CLASS_NONE,
    ERROR_CLASS_AUTH,     /* credentials refused, expired or revoked; the auth service hiccups */
    ERROR_CLASS_NETWORK,  /* refused, reset, unresolvable, closed by the peer */
    ERROR_CLASS_TIMEOUT,  /* no answer in time */
    ERROR_CLASS_STALE,    /* pings or probes are not answered any more */
    ERROR_CLASS_TLS,      /* handshake, certificate, host name */
    ERROR_CLASS_LIMIT,    /* a limit of the server or the account */
    ERROR_CLASS_PROTOCOL, /* any other -ERR, or what we cannot parse */
} error_class;

#define ERROR_CLASS_COUNT (ERROR_CLASS_PROTOCOL + 1)

#define ERROR_CODE_SIZE 32
#define ERROR_TEXT_SIZE 512

typedef struct {
    char code[ERROR_CODE_SIZE]; /* stable identifier, such as "timeout"; "" = no error */
    error_class cls;
    char message[ERROR_TEXT_SIZE]; /* what, where, what to do; never a secret */
} error;

/* The class's name as scripts, logs and metrics spell it: "none", "auth", "network", ... */
const char *error_class_name(error_class cls);

/* Fills *e (truncating). A NULL e is allowed and ignored. Returns -1, so that a function
 * can `return error_set(...)`. */
int error_set(error *e, const char *code, error_class cls, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

void error_clear(error *e);

/* Classifies what the server or the library said, text first ("-ERR" texts are matched without
 * regard to case; see FAULT F3: never trust one string, so unknown texts are PROTOCOL, and a
 * fresh link is made all the same). nats_status is nats.c's natsStatus as an int; text may be
 * NULL. */
void error_from_nats(error *e, int nats_status, const char *text);

/* The same for a dial that failed: where the library says that the connection is closed, the server
 * has hung up. */
void error_from_dial(error *e, int nats_status, const char *text);

#endif
