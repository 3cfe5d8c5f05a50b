/* A stock client: plain nats.c with infinite reconnects and otherwise the library's defaults, as
 * every tutorial writes it. It answers requests with what they said, and prints what happens to it,
 * with the time in milliseconds since the epoch, until it is killed.
 * usage: stock_client [--wait MS] [--attempts N] [--creds FILE] [--ca FILE] [--cert FILE] [--key
 * FILE]
 * [--name NAME] [--noise SUBJECT] URLS SUBJECT
 * With --ca it speaks TLS. Messages are handled on a thread of the library's own; --noise publishes
 * on the main thread. */
#include <inttypes.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOISE_US 1000 /* between two messages of --noise */

struct settings {
    const char *wait, *creds, *name, *noise, *attempts, *ca, *cert, *key, *urls, *subject;
};

static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    (void)sub, (void)closure;
    printf("%" PRId64 " message %s\n", nats_Now(), natsMsg_GetData(msg));
    if (natsMsg_GetReply(msg) != NULL)
        (void)natsConnection_Publish(nc, natsMsg_GetReply(msg), natsMsg_GetData(msg),
                                     natsMsg_GetDataLength(msg));
    natsMsg_Destroy(msg);
}

static void on_event(natsConnection *nc, void *closure)
{
    const char *why = "";
    (void)natsConnection_GetLastError(nc, &why);
    printf("%" PRId64 " %s %s\n", nats_Now(), (const char *)closure, why == NULL ? "" : why);
}

static void check(natsStatus status, const char *what)
{
    if (status == NATS_OK)
        return;
    fprintf(stderr, "stock_client: %s: %s\n", what, natsStatus_GetText(status));
    exit(1);
}

static int usage(void)
{
    fprintf(stderr, "usage: stock_client [--wait MS] [--attempts N] [--creds FILE] [--ca FILE] "
                    "[--cert FILE] [--key FILE] [--name NAME] [--noise SUBJECT] URLS SUBJECT\n");
    return 2;
}

/* Where the value of an option goes; NULL: there is no such option. */
static const char **place_of(struct settings *s, const char *option)
{
    const struct {
        const char *option, **place;
    } known[] = {{"--wait", &s->wait},         {"--creds", &s->creds},
                 {"--name", &s->name},         {"--noise", &s->noise},
                 {"--attempts", &s->attempts}, {"--ca", &s->ca},
                 {"--cert", &s->cert},         {"--key", &s->key}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(option, known[i].option) == 0)
            return known[i].place;
    }
    return NULL;
}

/* Returns 0, or -1 when the command line is none of ours. */
static int read_settings(struct settings *s, int argc, char **argv)
{
    int at = 1;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        const char **place = place_of(s, argv[at]);
        if (place == NULL)
            return -1;
        *place = argv[at + 1];
    }
    if (argc - at != 2 || (s->cert == NULL) != (s->key == NULL))
        return -1;
    s->urls = argv[at];
    s->subject = argv[at + 1];
    return 0;
}

/* The URLs are one text, with commas between them. */
static void set_servers(natsOptions *options, const char *urls)
{
    enum { MOST = 16 };
    const char *list[MOST];
    int count = 0;
    char *text = strdup(urls);
    if (text == NULL)
        check(NATS_NO_MEMORY, "servers");
    for (char *rest = text, *one; (one = strtok_r(rest, ",", &rest)) != NULL && count < MOST;)
        list[count++] = one;
    check(natsOptions_SetServers(options, list, count), "servers");
    free(text);
}

static void set_tls(natsOptions *options, const struct settings *s)
{
    if (s->ca == NULL)
        return;
    check(natsOptions_SetSecure(options, true), "TLS");
    check(natsOptions_LoadCATrustedCertificates(options, s->ca), "CA file");
    if (s->cert != NULL)
        check(natsOptions_LoadCertificatesChain(options, s->cert, s->key), "certificate");
}

static natsOptions *make_options(const struct settings *s)
{
    natsOptions *options = NULL;
    check(natsOptions_Create(&options), "options");
    set_servers(options, s->urls);
    check(natsOptions_SetMaxReconnect(options, s->attempts == NULL ? -1 : atoi(s->attempts)),
          "reconnects");
    if (s->name != NULL)
        check(natsOptions_SetName(options, s->name), "name");
    if (s->creds != NULL)
        check(natsOptions_SetUserCredentialsFromFiles(options, s->creds, NULL), "credentials");
    set_tls(options, s);
    if (s->wait != NULL) {
        check(natsOptions_SetReconnectWait(options, atoi(s->wait)), "reconnect wait");
        check(natsOptions_SetReconnectJitter(options, 0, 0), "reconnect jitter");
    }
    check(natsOptions_SetDisconnectedCB(options, on_event, "disconnected"), "callback");
    check(natsOptions_SetReconnectedCB(options, on_event, "reconnected"), "callback");
    check(natsOptions_SetClosedCB(options, on_event, "closed"), "callback");
    return options;
}

/* Publishes the numbers from 1 on, and says each that the library took: "took N". */
static void make_noise(natsConnection *nc, const char *subject)
{
    for (int64_t number = 1;; number++) {
        char text[32];
        snprintf(text, sizeof text, "%" PRId64, number);
        if (natsConnection_PublishString(nc, subject, text) == NATS_OK)
            printf("%" PRId64 " took %" PRId64 "\n", nats_Now(), number);
        usleep(NOISE_US);
    }
}

int main(int argc, char **argv)
{
    struct settings s = {0};
    natsConnection *nc = NULL;
    natsSubscription *sub = NULL;
    if (read_settings(&s, argc, argv) != 0)
        return usage();
    setvbuf(stdout, NULL, _IOLBF, 0);
    natsOptions *options = make_options(&s);
    check(natsConnection_Connect(&nc, options), "connect");
    check(natsConnection_Subscribe(&sub, nc, s.subject, on_message, NULL), "subscribe");
    check(natsConnection_Flush(nc), "flush");
    printf("%" PRId64 " connected\n", nats_Now());
    if (s.noise != NULL)
        make_noise(nc, s.noise);
    for (;;)
        pause();
}
