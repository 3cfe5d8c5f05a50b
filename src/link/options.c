/* The options of a link. See options.h. Any thread: they do not change once made. */
#include "link/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define URL_MAX 512

link_options *link_options_new(void)
{
    link_options *o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    atomic_init(&o->references, 1);
    o->library_reconnect = true;
    o->ping_ms = 20000;
    o->dial_timeout_ms = 15000;
    o->probe_timeout_ms = 2500;
    o->fallback = (backoff)BACKOFF_DEFAULT;
    return o;
}

link_options *link_options_retain(link_options *o)
{
    atomic_fetch_add(&o->references, 1);
    return o;
}

static void wipe(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void link_options_release(link_options *o)
{
    if (o == NULL || atomic_fetch_sub(&o->references, 1) != 1)
        return;
    for (int i = 0; i < o->server_count; i++)
        wipe(o->servers[i]);
    wipe(o->user);
    wipe(o->password);
    wipe(o->token);
    free(o->name);
    free(o->creds);
    free(o->nkey_seed_file);
    free(o->tls_ca);
    free(o->tls_cert);
    free(o->tls_key);
    free(o->tls_hostname);
    free(o->inbox_prefix);
    free(o);
}

/* Replaces the borrowed text. False: no memory, and it is NULL. */
static bool own(char **text)
{
    if (*text == NULL)
        return true;
    *text = strdup(*text);
    return *text != NULL;
}

link_options *link_options_only(const link_options *o, int server)
{
    link_options *one = malloc(sizeof *one);
    if (one == NULL)
        return NULL;
    memcpy(one, o, sizeof *one);
    atomic_init(&one->references, 1);
    one->server_count = 1;
    one->servers[0] = o->servers[server];
    char **const texts[] = {&one->servers[0],     &one->user,         &one->password,
                            &one->token,          &one->name,         &one->creds,
                            &one->nkey_seed_file, &one->tls_ca,       &one->tls_cert,
                            &one->tls_key,        &one->tls_hostname, &one->inbox_prefix};
    bool complete = true;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        complete &= own(texts[i]);
    if (complete)
        return one;
    link_options_release(one);
    return NULL;
}

static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool link_options_equal(const link_options *a, const link_options *b)
{
    if (a->server_count != b->server_count)
        return false;
    for (int i = 0; i < a->server_count; i++)
        if (!same(a->servers[i], b->servers[i]))
            return false;
    return same(a->name, b->name) && same(a->user, b->user) && same(a->password, b->password) &&
           same(a->token, b->token) && same(a->creds, b->creds) &&
           same(a->nkey_seed_file, b->nkey_seed_file) && a->tls == b->tls &&
           a->tls_insecure == b->tls_insecure && same(a->tls_ca, b->tls_ca) &&
           same(a->tls_cert, b->tls_cert) && same(a->tls_key, b->tls_key) &&
           same(a->tls_hostname, b->tls_hostname) && same(a->inbox_prefix, b->inbox_prefix) &&
           a->no_echo == b->no_echo && a->ignore_discovered == b->ignore_discovered &&
           a->library_reconnect == b->library_reconnect && a->ping_ms == b->ping_ms;
}

/* Where the host starts: behind "scheme://" and "user:password@". */
static const char *skip_user_info(const char *rest)
{
    const char *at = strrchr(rest, '@');
    return at == NULL ? rest : at + 1;
}

/* Behind "scheme://". What comes before a "://" is a scheme only when it is made of the letters of
 * one: it could be a password. */
static const char *skip_scheme(const char *url)
{
    size_t length =
        strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    return strncmp(url + length, "://", 3) == 0 ? url + length + 3 : url;
}

/* How much of "host:port" can be shown: what stands where the port should be may be a password
 * whose host is missing. */
static int showable(const char *host)
{
    const char *colon = strrchr(host, ':');
    if (colon == NULL || host[0] == '[' || colon[1 + strspn(colon + 1, "0123456789")] == '\0')
        return (int)strlen(host);
    return (int)(colon - host) + 1;
}

const char *link_redact_url(const char *url, char *buffer, unsigned size)
{
    const char *rest = skip_scheme(url);
    const char *host = skip_user_info(rest);
    int length = showable(host);
    snprintf(buffer, size, "%.*s%.*s%s", (int)(rest - url), url, length, host,
             host[length] != '\0' ? "..." : "");
    return buffer;
}

static int bad_url(error *e, const char *url, const char *why)
{
    char shown[128];
    return error_set(e, "bad_url", ERROR_CLASS_NONE,
                     "bad server URL \"%s\": %s; write it like nats://host:4222",
                     link_redact_url(url, shown, sizeof shown), why);
}

/* Checks "host", "host:port" or "[v6]:port"; *port_at: where ":port" starts, or the end. */
static const char *check_host(const char *host, const char **port_at)
{
    size_t length;
    if (host[0] == '[') {
        const char *end = strchr(host, ']');
        if (end == NULL)
            return "the ] of the address is missing";
        length = (size_t)(end - host) + 1;
    } else {
        length = strcspn(host, ":/");
    }
    if (length == 0 || strncmp(host, "[]", 2) == 0)
        return "it has no host";
    for (size_t i = 0; i < length; i++)
        if (host[i] <= ' ' || host[i] == 0x7f || host[i] == '"' || host[i] == '\\')
            return "its host has a character that no host has";
    *port_at = host + length;
    return NULL;
}

static const char *check_port(const char *at)
{
    if (*at == '\0' || strcmp(at, "/") == 0)
        return NULL;
    if (*at != ':')
        return "there is something behind its host";
    size_t digits = strspn(at + 1, "0123456789");
    const char *end = at + 1 + digits;
    long port = digits <= 5 ? strtol(at + 1, NULL, 10) : 0;
    if (port < 1 || port > 65535 || (*end != '\0' && strcmp(end, "/") != 0))
        return "its port is not a number from 1 to 65535";
    return NULL;
}

int link_options_add_server(link_options *o, const char *url, error *e)
{
    if (o->server_count == LINK_SERVERS_MAX)
        return error_set(e, "too_many_servers", ERROR_CLASS_NONE, "more than %d servers",
                         LINK_SERVERS_MAX);
    if (strlen(url) >= URL_MAX)
        return bad_url(e, "(long)", "it is too long");
    const char *rest = skip_scheme(url);
    if (rest != url && strncasecmp(url, "nats://", 7) != 0 && strncasecmp(url, "tls://", 6) != 0)
        return bad_url(e, url, "its scheme is neither nats nor tls");
    const char *host = skip_user_info(rest);
    const char *port_at = NULL;
    const char *why = check_host(host, &port_at);
    if (why == NULL)
        why = check_port(port_at);
    if (why != NULL)
        return bad_url(e, url, why);
    char text[URL_MAX + 16];
    bool has_port = port_at[0] == ':';
    snprintf(text, sizeof text, "%s%.*s%s", rest == url ? "nats://" : "",
             has_port ? (int)strlen(url) : (int)(port_at - url), url, has_port ? "" : ":4222");
    char *copy = strdup(text);
    if (copy == NULL)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a server URL");
    if (strncasecmp(copy, "tls://", 6) == 0)
        o->tls = true;
    o->servers[o->server_count++] = copy;
    return 0;
}

/* Of a URL of the list, or of one that the library gives. */
static const char *host_of(const char *url)
{
    return skip_user_info(skip_scheme(url));
}

bool link_url_same_server(const char *a, const char *b)
{
    const char *host_a = host_of(a), *host_b = host_of(b);
    size_t length = strcspn(host_a, "/");
    return length == strcspn(host_b, "/") && strncasecmp(host_a, host_b, length) == 0;
}

bool link_url_host(const char *url, char *buffer, size_t size)
{
    const char *host = host_of(url);
    bool brackets = host[0] == '[';
    host += brackets;
    size_t length = strcspn(host, brackets ? "]" : ":/");
    if (length >= size)
        return false;
    memcpy(buffer, host, length);
    buffer[length] = '\0';
    return true;
}

uint16_t link_url_port(const char *url)
{
    const char *colon =
        strrchr(url, ':'); /* there is a port: link_options_add_server() saw to it */
    return colon == NULL ? 0 : (uint16_t)strtoul(colon + 1, NULL, 10);
}
