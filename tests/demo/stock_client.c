/* A stock client: plain nats.c with infinite reconnects, as every tutorial writes it. It prints
 * what happens to it, with the time in milliseconds since the epoch, until it is killed.
 * usage: stock_client URL SUBJECT */
#include <inttypes.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    (void)nc, (void)sub, (void)closure;
    printf("%" PRId64 " message %s\n", nats_Now(), natsMsg_GetData(msg));
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

int main(int argc, char **argv)
{
    natsOptions *options = NULL;
    natsConnection *nc = NULL;
    natsSubscription *sub = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: stock_client URL SUBJECT\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    check(natsOptions_Create(&options), "options");
    check(natsOptions_SetURL(options, argv[1]), "URL");
    check(natsOptions_SetMaxReconnect(options, -1), "infinite reconnects");
    check(natsOptions_SetReconnectWait(options, 250), "reconnect wait");
    check(natsOptions_SetReconnectJitter(options, 0, 0), "reconnect jitter");
    check(natsOptions_SetDisconnectedCB(options, on_event, "disconnected"), "callback");
    check(natsOptions_SetReconnectedCB(options, on_event, "reconnected"), "callback");
    check(natsOptions_SetClosedCB(options, on_event, "closed"), "callback");
    check(natsConnection_Connect(&nc, options), "connect");
    check(natsConnection_Subscribe(&sub, nc, argv[2], on_message, NULL), "subscribe");
    check(natsConnection_Flush(nc), "flush");
    printf("%" PRId64 " connected\n", nats_Now());
    for (;;)
        pause();
}
