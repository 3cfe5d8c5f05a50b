/* From the options of a link to the library's. Reads certificates and keys from files, so that each
 * dial has what is there now. The link's worker runs it; link_tls_files_changed() any but the
 * loop's. */
#include <errno.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "link/link_private.h"
#include "link/nkey.h"

#define SERVER_TIMEOUT_MIN_MS 500
#define SERVER_TIMEOUT_MAX_MS 4000
#define PINGS_OUT_MAX 2

static int library_failed(error *e, natsStatus status, const char *what, const char *path)
{
    natsStatus last = NATS_OK;
    const char *text = nats_GetLastError(&last);
    if (text == NULL || last != status)
        text = natsStatus_GetText(status);
    error_class cls = status == NATS_SSL_ERROR ? ERROR_CLASS_TLS : ERROR_CLASS_AUTH;
    return error_set(e, "bad_option", cls, "%s%s%s: %s", what, path != NULL ? " " : "",
                     path != NULL ? path : "", text);
}

static int check_readable(error *e, const char *what, const char *path)
{
    if (access(path, R_OK) == 0)
        return 0;
    return error_set(e, "unreadable", ERROR_CLASS_AUTH, "cannot read the %s %s: %s", what, path,
                     strerror(errno));
}

/* nats.c puts these texts into its CONNECT line as they are: quotes and backslashes have to be
 * escaped for it. NULL: no memory. The caller frees. */
static char *json_escape(const char *text)
{
    size_t length = strlen(text);
    char *out = malloc(length * 6 + 1);
    if (out == NULL)
        return NULL;
    char *at = out;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            *at++ = '\\';
            *at++ = (char)c;
        } else if (c < 0x20) {
            at += sprintf(at, "\\u%04x", c);
        } else {
            *at++ = (char)c;
        }
    }
    *at = '\0';
    return out;
}

static natsStatus set_servers(const struct link *l, natsOptions *o)
{
    const char *list[LINK_SERVERS_MAX];
    int count = l->options->server_count;
    for (int i = 0; i < count; i++)
        list[i] = l->options->servers[((unsigned)i + l->first_server) % (unsigned)count];
    natsStatus status = natsOptions_SetServers(o, list, count);
    if (status == NATS_OK)
        status = natsOptions_SetNoRandomize(o, true); /* we turn the list ourselves */
    return status;
}

static natsStatus set_user(const link_options *options, natsOptions *o)
{
    if (options->user == NULL)
        return NATS_OK;
    char *user = json_escape(options->user);
    char *password = json_escape(options->password != NULL ? options->password : "");
    natsStatus status = NATS_NO_MEMORY;
    if (user != NULL && password != NULL)
        status = natsOptions_SetUserInfo(o, user, password);
    free(user);
    if (password != NULL)
        explicit_bzero(password, strlen(password));
    free(password);
    return status;
}

static natsStatus set_name(const link_options *options, natsOptions *o)
{
    if (options->name == NULL)
        return NATS_OK;
    char *name = json_escape(options->name);
    natsStatus status = name == NULL ? NATS_NO_MEMORY : natsOptions_SetName(o, name);
    free(name);
    return status;
}

static int set_credentials(struct link *l, natsOptions *o, error *e)
{
    const link_options *options = l->options;
    natsStatus status;
    if (options->creds != NULL) {
        if (check_readable(e, "credentials file", options->creds) != 0)
            return -1;
        status = natsOptions_SetUserCredentialsFromFiles(o, options->creds, NULL);
        if (status != NATS_OK)
            return library_failed(e, status, "credentials file", options->creds);
    }
    if (options->nkey_seed_file != NULL) {
        char key[NKEY_PUBLIC_SIZE];
        if (nkey_public_from_file(options->nkey_seed_file, key, e) != 0)
            return -1;
        status = natsOptions_SetNKeyFromSeed(o, key, options->nkey_seed_file);
        if (status != NATS_OK)
            return library_failed(e, status, "NKEY seed file", options->nkey_seed_file);
    }
    return 0;
}

static void mark_tls_files(const link_options *o, file_mark marks[LINK_TLS_FILES])
{
    const char *const paths[LINK_TLS_FILES] = {o->tls_ca, o->tls_cert, o->tls_key};
    for (int i = 0; i < LINK_TLS_FILES; i++) {
        struct stat s = {0};
        if (paths[i] != NULL)
            (void)stat(paths[i], &s); /* no file: a mark of its own */
        marks[i] = (file_mark){s.st_dev, s.st_ino, s.st_size, s.st_mtim};
    }
}

static bool same_mark(const file_mark *a, const file_mark *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec;
}

bool link_tls_files_changed(const struct link *l)
{
    file_mark now[LINK_TLS_FILES];
    mark_tls_files(l->options, now);
    for (int i = 0; i < LINK_TLS_FILES; i++)
        if (!same_mark(&now[i], &l->tls_files[i]))
            return true;
    return false;
}

static int set_tls(struct link *l, natsOptions *o, error *e)
{
    const link_options *options = l->options;
    if (!options->tls)
        return 0;
    mark_tls_files(options, l->tls_files); /* before they are read: a change meanwhile counts */
    natsStatus status = natsOptions_SetSecure(o, true);
    if (status != NATS_OK)
        return library_failed(e, status, "TLS", NULL);
    if (options->tls_ca != NULL) {
        if (check_readable(e, "CA file", options->tls_ca) != 0)
            return -1;
        status = natsOptions_LoadCATrustedCertificates(o, options->tls_ca);
        if (status != NATS_OK)
            return library_failed(e, status, "CA file", options->tls_ca);
    }
    if (options->tls_cert != NULL) {
        if (check_readable(e, "certificate", options->tls_cert) != 0 ||
            check_readable(e, "private key", options->tls_key) != 0)
            return -1;
        status = natsOptions_LoadCertificatesChain(o, options->tls_cert, options->tls_key);
        if (status != NATS_OK)
            return library_failed(e, status, "certificate", options->tls_cert);
    }
    if (options->tls_hostname != NULL)
        natsOptions_SetExpectedHostname(o, options->tls_hostname);
    if (options->tls_insecure)
        natsOptions_SkipServerVerification(o, true);
    return 0;
}

static int64_t server_timeout(const link_options *options)
{
    int64_t share =
        options->dial_timeout_ms / (options->server_count > 0 ? options->server_count : 1);
    if (share < SERVER_TIMEOUT_MIN_MS)
        return SERVER_TIMEOUT_MIN_MS;
    return share > SERVER_TIMEOUT_MAX_MS ? SERVER_TIMEOUT_MAX_MS : share;
}

static natsStatus set_plain(struct link *l, natsOptions *o)
{
    const link_options *options = l->options;
    natsStatus status = set_servers(l, o);
    if (status == NATS_OK)
        status = set_name(options, o);
    if (status == NATS_OK)
        status = set_user(options, o);
    if (status == NATS_OK)
        status = natsOptions_SetTimeout(o, server_timeout(options));
    if (status == NATS_OK)
        status = natsOptions_SetPingInterval(o, options->ping_ms);
    if (status == NATS_OK)
        status = natsOptions_SetMaxPingsOut(o, PINGS_OUT_MAX);
    if (status == NATS_OK)
        status = natsOptions_SetAllowReconnect(o, options->library_reconnect);
    if (status == NATS_OK)
        status = natsOptions_SetMaxReconnect(o, -1);
    /* Nothing waits inside the library while it reconnects: what waits there is lost when it
     * gives up. Our records stay with us. */
    if (status == NATS_OK)
        status = natsOptions_SetReconnectBufSize(o, 0);
    /* The worker knows where a batch ends: no reason to wait the millisecond that the library's
     * flusher waits. */
    if (status == NATS_OK)
        status = natsOptions_SetSendAsap(o, !l->batches);
    if (status == NATS_OK)
        status = natsOptions_SetWriteDeadline(o, options->dial_timeout_ms);
    if (status == NATS_OK)
        status = natsOptions_UseGlobalMessageDelivery(o, true);
    if (status == NATS_OK)
        status = natsOptions_SetNoEcho(o, options->no_echo);
    if (status == NATS_OK)
        status = natsOptions_SetIgnoreDiscoveredServers(o, options->ignore_discovered);
    return status;
}

int link_build_options(struct link *l, error *e)
{
    natsStatus status = natsOptions_Create(&l->nats_options);
    if (status != NATS_OK)
        return library_failed(e, status, "the NATS library does not start", NULL);
    status = set_plain(l, l->nats_options);
    if (status != NATS_OK)
        return library_failed(e, status, "the NATS library refuses an option", NULL);
    if (set_credentials(l, l->nats_options, e) != 0 || set_tls(l, l->nats_options, e) != 0)
        return -1;
    link_set_callbacks(l, l->nats_options);
    return 0;
}
