/* TLS with a server. See tls.h. Main thread. */
#include "doctor/tls.h"

#include <nats/nats.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "doctor/credentials.h"
#include "doctor/moment.h"

#define NAME_SIZE 128
#define NATS_WITH_SNI 0x030900 /* the version from which on it says the host's name */

/* Why the last call of OpenSSL failed. */
static const char *last_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = ERR_reason_error_string(code);
    ERR_clear_error();
    return text != NULL ? text : "no reason is given";
}

/* ---- certificates ---- */

static int64_t seconds_of(const ASN1_TIME *t)
{
    struct tm tm = {0};
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* The name of its subject, as people know it. */
static const char *name_of(const X509 *cert, char out[NAME_SIZE])
{
    const X509_NAME *subject = X509_get_subject_name(cert);
    int length =
        X509_NAME_get_text_by_NID((X509_NAME *)(uintptr_t)subject, NID_commonName, out, NAME_SIZE);
    if (length <= 0)
        X509_NAME_oneline(subject, out, NAME_SIZE);
    return out;
}

/* The certificate `what`, as "of the server", against the clock. */
static void judge_dates(findings *f, const char *what, const X509 *cert)
{
    char name[NAME_SIZE], when[MOMENT_TEXT_SIZE], span[MOMENT_TEXT_SIZE];
    int64_t from = seconds_of(X509_get0_notBefore(cert));
    int64_t until = seconds_of(X509_get0_notAfter(cert));
    int64_t now = (int64_t)time(NULL);
    name_of(cert, name);
    switch (moment_judge(from, until, now)) {
    case MOMENT_EXPIRED:
        finding(f, FINDING_PROBLEM, "certificate", "the certificate %s (%s) expired %s ago, at %s",
                what, name, moment_span(now - until, span), moment_text(until, when));
        finding_remedy(f, "renew it, and let what uses it read it again: a NATS server does so at "
                          "SIGHUP, moondog at the next dial");
        break;
    case MOMENT_SOON:
        finding(f, FINDING_WARNING, "certificate", "the certificate %s (%s) expires in %s, at %s",
                what, name, moment_span(until - now, span), moment_text(until, when));
        finding_remedy(f, "renew it before that");
        break;
    case MOMENT_NOT_YET:
        finding(f, FINDING_PROBLEM, "certificate",
                "the certificate %s (%s) is valid only from %s on", what, name,
                moment_text(from, when));
        finding_remedy(f, "the clock of this machine, or of the one that made it, is probably "
                          "wrong: compare it with date -u");
        break;
    case MOMENT_GOOD:
        finding(f, FINDING_OK, "certificate", "the certificate %s (%s) is valid until %s", what,
                name, moment_text(until, when));
        break;
    }
}

/* Of a chain that was verified, the one that expires first. */
static const X509 *first_to_expire(const SSL *ssl, const X509 *own)
{
    const STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);
    const X509 *first = own;
    for (int i = 0; chain != NULL && i < sk_X509_num(chain); i++) {
        const X509 *one = sk_X509_value(chain, i);
        if (seconds_of(X509_get0_notAfter(one)) < seconds_of(X509_get0_notAfter(first)))
            first = one;
    }
    return first;
}

/* ---- the connection's files ---- */

/* Nobody is asked for a passphrase. */
static int no_passphrase(char *out, int size, int writing, void *closure)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)closure;
    return 0;
}

static void check_certificate(findings *f, const char *path)
{
    BIO *file = BIO_new_file(path, "re");
    X509 *cert = file != NULL ? PEM_read_bio_X509(file, NULL, no_passphrase, NULL) : NULL;
    BIO_free(file);
    if (cert == NULL) {
        finding(f, FINDING_PROBLEM, "certificate", "there is no certificate in %s: %s", path,
                last_reason());
        finding_remedy(f, "it has to be PEM: -----BEGIN CERTIFICATE-----");
        return;
    }
    judge_dates(f, "of the client", cert);
    X509_free(cert);
}

/* A context with all that the connection gives. Whether it could be loaded; otherwise *why. */
static bool load_files(SSL_CTX *ctx, const link_options *o, const char **what)
{
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_default_verify_paths(ctx);
    *what = "the certificate of the authority";
    if (o->tls_ca != NULL && SSL_CTX_load_verify_locations(ctx, o->tls_ca, NULL) != 1)
        return false;
    if (o->tls_cert == NULL)
        return true;
    *what = "the certificate";
    if (SSL_CTX_use_certificate_chain_file(ctx, o->tls_cert) != 1)
        return false;
    *what = "the private key (an encrypted one cannot be used, and it has to fit the certificate)";
    return SSL_CTX_use_PrivateKey_file(ctx, o->tls_key, SSL_FILETYPE_PEM) == 1 &&
           SSL_CTX_check_private_key(ctx) == 1;
}

void tls_check_files(findings *f, const link_options *o)
{
    const char *what = "";
    bool there = o->tls_ca == NULL || credentials_check_file(f, "CA file", o->tls_ca, false);
    if (o->tls_cert != NULL) {
        there &= credentials_check_file(f, "certificate", o->tls_cert, false);
        there &= credentials_check_file(f, "private key", o->tls_key, true);
    }
    if (!there)
        return;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx != NULL && !load_files(ctx, o, &what)) {
        finding(f, FINDING_PROBLEM, "tls", "%s is not taken: %s", what, last_reason());
        finding_remedy(f, "each of the files has to be PEM, and the key the one that the "
                          "certificate was made for");
    } else if (o->tls_cert != NULL) {
        check_certificate(f, o->tls_cert);
    }
    SSL_CTX_free(ctx);
    ERR_clear_error();
}

/* ---- the handshake ---- */

/* 1: done; 0: the deadline has passed; -1: it failed. */
static int shake_hands(SSL *ssl, int fd, uint64_t deadline)
{
    for (;;) {
        ERR_clear_error();
        int done = SSL_connect(ssl);
        if (done == 1)
            return 1;
        int why = SSL_get_error(ssl, done);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
            return -1;
        int ready = server_poll(fd, why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline);
        if (ready <= 0)
            return ready;
    }
}

static void judge_trust(findings *f, const SSL *ssl, const X509 *cert, const link_options *o)
{
    long result = SSL_get_verify_result(ssl);
    bool own_dates =
        result == X509_V_ERR_CERT_HAS_EXPIRED || result == X509_V_ERR_CERT_NOT_YET_VALID;
    if (o->tls_insecure) {
        finding(f, FINDING_WARNING, "tls",
                "the connection trusts any certificate (tls.insecure): whoever stands in between "
                "can read and change everything");
        finding_remedy(f, "take insecure out, and give the authority: tls = { ca = ... }");
    } else if (result != X509_V_OK &&
               !(own_dates && X509_cmp_current_time(X509_get0_notAfter(cert)) < 0)) {
        finding(f, FINDING_PROBLEM, "tls", "the certificate of the server is not trusted: %s",
                X509_verify_cert_error_string(result));
        finding_remedy(f, "%s",
                       o->tls_ca != NULL ? "tls.ca has to be the authority that signed it"
                                         : "give the authority that signed it: tls = { ca = ... }; "
                                           "otherwise those of the system count");
    }
}

static void judge_name(findings *f, X509 *cert, const char *host, const link_options *o)
{
    const char *wanted = o->tls_hostname != NULL ? o->tls_hostname : host;
    bool fits =
        X509_check_host(cert, wanted, 0, 0, NULL) == 1 || X509_check_ip_asc(cert, wanted, 0) == 1;
    if (fits)
        return;
    finding(f, FINDING_PROBLEM, "tls", "the certificate of the server is not for the name %s",
            wanted);
    finding_remedy(f, "use a name that it has (openssl x509 -noout -ext subjectAltName shows "
                      "them), or say which one is meant: tls = { hostname = ... }");
}

static void judge_authority(findings *f, const SSL *ssl, const X509 *cert)
{
    const X509 *first = first_to_expire(ssl, cert);
    int64_t until = seconds_of(X509_get0_notAfter(first));
    if (X509_cmp(first, cert) != 0 && moment_judge(0, until, (int64_t)time(NULL)) != MOMENT_GOOD)
        judge_dates(f, "of the authority of the server", first);
}

static void judge_peer(findings *f, const SSL *ssl, const server *s, const link_options *o)
{
    X509 *cert = SSL_get1_peer_certificate(ssl);
    finding(f, FINDING_OK, "tls", "the handshake works: %s, %s", SSL_get_version(ssl),
            SSL_get_cipher(ssl));
    if (cert == NULL)
        return;
    judge_trust(f, ssl, cert, o);
    if (!o->tls_insecure) {
        judge_name(f, cert, s->address.host, o);
        judge_dates(f, "of the server", cert);
        judge_authority(f, ssl, cert);
    }
    X509_free(cert);
}

void tls_check_server(findings *f, const server *s, const link_options *o, uint32_t timeout_ms)
{
    const char *what = "";
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL || !load_files(ctx, o, &what)) {
        finding(f, FINDING_SKIPPED, "tls", "no handshake: %s cannot be loaded", what);
        SSL_CTX_free(ctx);
        return;
    }
    /* Whatever the certificate is worth is judged afterwards, so that all of it is known. */
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL *ssl = SSL_new(ctx);
    if (ssl != NULL && SSL_set_fd(ssl, s->fd) == 1) {
        if (nats_GetVersionNumber() >= NATS_WITH_SNI)
            (void)SSL_set_tlsext_host_name(ssl, s->address.host);
        int done = shake_hands(ssl, s->fd, clock_ms() + timeout_ms);
        if (done == 1) {
            judge_peer(f, ssl, s, o);
        } else {
            finding(f, FINDING_PROBLEM, "tls", "the handshake %s%s",
                    done == 0 ? "does not end in time" : "fails: ", done == 0 ? "" : last_reason());
            finding_remedy(f, "look at the log of the server: it says why; it and this machine may "
                              "have no version or cipher in common (TLS 1.2 at least)");
        }
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    ERR_clear_error();
}
