/* Errors as values, and what the NATS server and library say made into them. Pure functions on the
 * caller's memory: any thread. */
#include "base/error.h"

#include <ctype.h>
#include <nats/status.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Enough for what nats.c keeps of a text (256 bytes) with its own decoration around it. */
#define RAW_TEXT_SIZE 512

const char *error_class_name(error_class cls)
{
    static const char *const names[] = {
        [ERROR_CLASS_NONE] = "none",       [ERROR_CLASS_AUTH] = "auth",
        [ERROR_CLASS_NETWORK] = "network", [ERROR_CLASS_TIMEOUT] = "timeout",
        [ERROR_CLASS_STALE] = "stale",     [ERROR_CLASS_TLS] = "tls",
        [ERROR_CLASS_LIMIT] = "limit",     [ERROR_CLASS_PROTOCOL] = "protocol",
    };
    return (size_t)cls < sizeof names / sizeof names[0] ? names[cls] : "unknown";
}

/* Half a UTF-8 character at the end of a cut text would make the whole of it invalid. */
static void trim_cut_character(char *text)
{
    size_t end = strlen(text);
    size_t start = end;
    while (start > 0 && end - start < 3 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
        start--;
    if (start == 0 || (unsigned char)text[start - 1] < 0xc0)
        return;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t wanted = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (end - (start - 1) < wanted)
        text[start - 1] = '\0';
}

int error_set(error *e, const char *code, error_class cls, const char *fmt, ...)
{
    if (e == NULL)
        return -1;
    error made = {.cls = cls}; /* apart from *e: the arguments may point into it */
    (void)snprintf(made.code, sizeof made.code, "%s", code != NULL ? code : "");
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(made.message, sizeof made.message, fmt, args);
    va_end(args);
    if (length >= (int)sizeof made.message)
        trim_cut_character(made.message);
    *e = made;
    return -1;
}

void error_clear(error *e)
{
    if (e != NULL)
        *e = (error){0};
}

/* ---- what NATS says ---- */

/* A NULL sentence: the text itself is the message. */
struct text_rule {
    const char *text; /* found anywhere, in any case; the first rule that matches wins */
    const char *code;
    error_class cls;
    const char *sentence;
};

/* The texts of nats-server (its -ERRs) and of nats.c. The first two quote what somebody else
 * wrote, a subject or bytes of the stream, so they come before everything that could be in it. */
static const struct text_rule text_rules[] = {
    {"permissions violation", "permissions", ERROR_CLASS_PROTOCOL, NULL}, /* the link stays */
    {"parse error [", "protocol", ERROR_CLASS_PROTOCOL, NULL},

    {"authorization violation", "auth_failed", ERROR_CLASS_AUTH, NULL},
    {"authentication violation", "auth_failed", ERROR_CLASS_AUTH, NULL},
    {"authentication error", "auth_failed", ERROR_CLASS_AUTH, NULL},
    {"failed account registration", "auth_failed", ERROR_CLASS_AUTH, NULL},
    {"authentication expired", "auth_expired", ERROR_CLASS_AUTH, NULL}, /* User or Account ... */
    {"account expired", "auth_expired", ERROR_CLASS_AUTH, NULL},
    {"authentication revoked", "auth_revoked", ERROR_CLASS_AUTH, NULL},
    {"credentials have been revoked", "auth_revoked", ERROR_CLASS_AUTH, NULL},
    {"authentication timeout", "auth_timeout", ERROR_CLASS_AUTH, NULL},
    /* nats.c reads a credentials file at every dial, and no other file then. */
    {"error opening file", "unreadable", ERROR_CLASS_AUTH, NULL},
    {"no nkey user seed found", "bad_seed", ERROR_CLASS_AUTH, NULL},

    {"account active connections exceeded", "max_account_connections", ERROR_CLASS_LIMIT, NULL},
    {"maximum connections exceeded", "max_connections", ERROR_CLASS_LIMIT, NULL},
    {"maximum subscriptions exceeded", "max_subscriptions", ERROR_CLASS_LIMIT, NULL},
    {"maximum payload", "max_payload", ERROR_CLASS_LIMIT, NULL},
    {"maximum control line exceeded", "max_control_line", ERROR_CLASS_LIMIT, NULL},
    {"connection throttling", "throttled", ERROR_CLASS_LIMIT, NULL},
    {"slow consumer", "slow_consumer", ERROR_CLASS_LIMIT, NULL},
    {"exceeded", "limit", ERROR_CLASS_LIMIT, NULL},

    {"stale connection", "stale_connection", ERROR_CLASS_STALE, NULL},

    {"secure connection - tls required", "tls", ERROR_CLASS_TLS, NULL},
    {"ssl handshake error", "tls", ERROR_CLASS_TLS, NULL},
    /* Also how nats.c sees that its certificate is refused: with TLS 1.3 its own handshake is over.
     */
    {"expected 'pong', got ''", "ended", ERROR_CLASS_NETWORK,
     "the server ended the connection during the login, without a word: its log says why (does it "
     "accept the certificate of this client?)"},

    {"getaddrinfo error", "dns", ERROR_CLASS_NETWORK, NULL},
    {"connection refused", "no_server", ERROR_CLASS_NETWORK, NULL},
    /* It quotes a part of the URL, which may be the password. */
    {"invalid percent encoding in url", "bad_url", ERROR_CLASS_NONE,
     "a server URL has an invalid percent encoding: write % as %25"},

    {"unknown protocol operation", "unknown_operation", ERROR_CLASS_PROTOCOL, NULL},
    {"invalid subject", "invalid_subject", ERROR_CLASS_PROTOCOL, NULL},
    {"invalid publish subject", "invalid_subject", ERROR_CLASS_PROTOCOL, NULL},
    {"attempted to connect to", "wrong_port", ERROR_CLASS_PROTOCOL, NULL}, /* a route's, ... */
};

struct status_rule {
    natsStatus status;
    const char *library_text; /* what nats.c says for it when it has nothing better to say */
    const char *code;
    error_class cls;
    const char *sentence;
};

static const struct status_rule status_rules[] = {
    {NATS_ERR, "Error", "protocol", ERROR_CLASS_PROTOCOL, "the NATS library failed"},
    {NATS_PROTOCOL_ERROR, "Protocol Error", "protocol", ERROR_CLASS_PROTOCOL,
     "what the server sent is not the NATS protocol"},
    {NATS_IO_ERROR, "IO Error", "io_error", ERROR_CLASS_NETWORK,
     "reading from or writing to the server failed"},
    {NATS_LINE_TOO_LONG, "Line too long", "protocol", ERROR_CLASS_PROTOCOL,
     "a protocol line from the server is too long"},
    {NATS_CONNECTION_CLOSED, "Connection Closed", "closed", ERROR_CLASS_NETWORK,
     "the NATS library closed the connection for good"},
    {NATS_NO_SERVER, "No server available for connection", "no_server", ERROR_CLASS_NETWORK,
     "no server can be reached: is one running there, and does the name resolve?"},
    {NATS_STALE_CONNECTION, "Stale Connection", "stale_connection", ERROR_CLASS_STALE,
     "the server does not answer pings any more"},
    {NATS_SECURE_CONNECTION_WANTED, "Secure Connection not available", "tls", ERROR_CLASS_TLS,
     "TLS is configured, but the server does not offer it"},
    {NATS_SECURE_CONNECTION_REQUIRED, "Secure Connection Required", "tls", ERROR_CLASS_TLS,
     "the server requires TLS: configure it, or use a tls:// URL"},
    {NATS_CONNECTION_DISCONNECTED, "Connection Disconnected", "disconnected", ERROR_CLASS_NETWORK,
     "the connection to the server was lost"},
    {NATS_CONNECTION_AUTH_FAILED, "Authentication Violation", "auth_failed", ERROR_CLASS_AUTH,
     "the server refused the credentials"},
    {NATS_NOT_PERMITTED, "Not Permitted", "permissions", ERROR_CLASS_PROTOCOL,
     "the server does not permit it"},
    {NATS_NOT_FOUND, "Not Found", "not_found", ERROR_CLASS_NONE, "not found"},
    {NATS_ADDRESS_MISSING, "TCP Address missing", "bad_url", ERROR_CLASS_NONE,
     "a server URL has no host"},
    {NATS_INVALID_SUBJECT, "Invalid Subject", "invalid_subject", ERROR_CLASS_NONE,
     "the subject is not valid"},
    {NATS_INVALID_ARG, "Invalid Argument", "invalid_argument", ERROR_CLASS_NONE,
     "the NATS library refused an argument"},
    {NATS_INVALID_SUBSCRIPTION, "Invalid Subscription", "invalid_subscription", ERROR_CLASS_NONE,
     "the subscription has ended"},
    {NATS_INVALID_TIMEOUT, "Invalid Timeout", "invalid_argument", ERROR_CLASS_NONE,
     "the timeout is not valid"},
    {NATS_ILLEGAL_STATE, "Illegal State", "illegal_state", ERROR_CLASS_NONE,
     "the NATS library cannot do that now"},
    {NATS_SLOW_CONSUMER, "Slow Consumer, messages dropped", "slow_consumer", ERROR_CLASS_LIMIT,
     "messages arrive faster than they are handled: some were dropped"},
    {NATS_MAX_PAYLOAD, "Maximum Payload Exceeded", "max_payload", ERROR_CLASS_LIMIT,
     "the message is larger than the server takes"},
    {NATS_MAX_DELIVERED_MSGS, "Maximum Messages Delivered", "max_delivered", ERROR_CLASS_NONE,
     "the subscription had as many messages as it asked for"},
    {NATS_INSUFFICIENT_BUFFER, "Insufficient Buffer", "buffer_full", ERROR_CLASS_LIMIT,
     "the NATS library's buffer is full"},
    {NATS_NO_MEMORY, "No Memory", "no_memory", ERROR_CLASS_LIMIT, "the NATS library has no memory"},
    {NATS_SYS_ERROR, "System Error", "system", ERROR_CLASS_NETWORK, "a system call failed"},
    {NATS_TIMEOUT, "Timeout", "timeout", ERROR_CLASS_TIMEOUT, "no answer in time"},
    {NATS_FAILED_TO_INITIALIZE, "Initialization Failed", "library", ERROR_CLASS_NONE,
     "the NATS library did not start"},
    {NATS_NOT_INITIALIZED, "Not Initialized", "library", ERROR_CLASS_NONE,
     "the NATS library is not started"},
    {NATS_SSL_ERROR, "SSL Error", "tls", ERROR_CLASS_TLS, "the TLS handshake failed"},
    {NATS_NO_SERVER_SUPPORT, "Not Supported By Server", "not_supported", ERROR_CLASS_PROTOCOL,
     "the server does not support it"},
    {NATS_NOT_YET_CONNECTED, "Not Yet Connected", "disconnected", ERROR_CLASS_NETWORK,
     "there is no connection yet"},
    {NATS_DRAINING, "Draining in progress", "draining", ERROR_CLASS_NONE, "it is being drained"},
    {NATS_INVALID_QUEUE_NAME, "Invalid queue name", "invalid_queue", ERROR_CLASS_NONE,
     "the queue name is not valid"},
    {NATS_NO_RESPONDERS, "No responders available for request", "no_responders", ERROR_CLASS_NONE,
     "nobody answers on that subject"},
    {NATS_MISMATCH, "Mismatch", "mismatch", ERROR_CLASS_PROTOCOL,
     "messages of the consumer were lost"},
    {NATS_MISSED_HEARTBEAT, "Missed Server Heartbeat", "missed_heartbeat", ERROR_CLASS_STALE,
     "the consumer's heartbeats stopped"},
};

static const struct text_rule *find_text_rule(const char *text)
{
    for (size_t i = 0; i < sizeof text_rules / sizeof text_rules[0]; i++)
        if (strcasestr(text, text_rules[i].text) != NULL)
            return &text_rules[i];
    return NULL;
}

static const struct status_rule *find_status_rule(int status)
{
    for (size_t i = 0; i < sizeof status_rules / sizeof status_rules[0]; i++)
        if ((int)status_rules[i].status == status)
            return &status_rules[i];
    return NULL;
}

/* nats.c puts "(conn.c:2088): " before its texts: of no use to anybody here. */
static const char *skip_source_place(const char *text)
{
    if (text[0] != '(')
        return text;
    const char *place = strstr(text, ".c:");
    const char *end = strstr(text, "): ");
    if (place == NULL || end == NULL || place > end || memchr(text, ' ', (size_t)(end - text)))
        return text;
    return end + 3;
}

/* "-ERR 'Stale Connection'\r\n" as it comes off the wire, or what is left of it. */
static void strip_decoration(char *text)
{
    const char *from = skip_source_place(text);
    from += strspn(from, " \t\r\n");
    if (strncasecmp(from, "-ERR", 4) == 0)
        from += 4 + strspn(from + 4, " \t");
    size_t length = strlen(from);
    while (length > 0 && isspace((unsigned char)from[length - 1]))
        length--;
    if (length >= 2 && from[0] == '\'' && from[length - 1] == '\'') {
        from++;
        length -= 2;
    }
    memmove(text, from, length);
    text[length] = '\0';
}

/* Copies as much as fits, without what stands between "://" and "@": a password or a token. They
 * are looked for in the whole text, because what is cut may be the "@". */
static void copy_without_credentials(char clean[RAW_TEXT_SIZE], const char *text)
{
    size_t used = 0, skip = 0;
    for (const char *at = text; *at != '\0' && used < RAW_TEXT_SIZE - 1; at += skip) {
        const char *host = NULL;
        if (used >= 3 && memcmp(clean + used - 3, "://", 3) == 0)
            host = memrchr(at, '@', strcspn(at, " \t\r\n\"'"));
        skip = 1;
        if (host != NULL && host > at) {
            skip = (size_t)(host - at);
            for (int stars = 0; stars < 3 && used < RAW_TEXT_SIZE - 1; stars++)
                clean[used++] = '*';
        } else {
            clean[used++] = *at;
        }
    }
    clean[used] = '\0';
    if (used == RAW_TEXT_SIZE - 1)
        trim_cut_character(clean);
}

static void blank_control_bytes(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at != '\0'; at++)
        if (*at < 0x20 || *at == 0x7f)
            *at = ' ';
}

static void clean_text(char clean[RAW_TEXT_SIZE], const char *text)
{
    copy_without_credentials(clean, text != NULL ? text : "");
    strip_decoration(clean);
    blank_control_bytes(clean);
}

static void fill_by_status(error *e, int status, const char *text)
{
    const struct status_rule *rule = find_status_rule(status);
    if (rule != NULL)
        error_set(e, rule->code, rule->cls, "%s", text[0] != '\0' ? text : rule->sentence);
    else if (status != NATS_OK || text[0] != '\0')
        error_set(e, "protocol", ERROR_CLASS_PROTOCOL, "%s",
                  text[0] != '\0' ? text : "the NATS library failed");
    else
        error_clear(e);
}

/* It says no more than the status does, and our sentence for that says more. */
static bool is_status_text(int status, const char *text)
{
    const struct status_rule *rule = find_status_rule(status);
    return rule != NULL && strcasecmp(text, rule->library_text) == 0;
}

void error_from_nats(error *e, int nats_status, const char *text)
{
    char clean[RAW_TEXT_SIZE];
    clean_text(clean, text);
    if (is_status_text(nats_status, clean))
        clean[0] = '\0';
    const struct text_rule *rule = find_text_rule(clean);
    if (rule == NULL)
        fill_by_status(e, nats_status, clean);
    else
        error_set(e, rule->code, rule->cls, "%s", rule->sentence != NULL ? rule->sentence : clean);
}

void error_from_dial(error *e, int nats_status, const char *text)
{
    if (nats_status == NATS_CONNECTION_CLOSED)
        error_set(e, "ended", ERROR_CLASS_NETWORK,
                  "the server hung up in the middle of the handshake");
    else
        error_from_nats(e, nats_status, text);
}
