/* The bench of JetStream for plain nats.c. It takes orders as requests on the subject "bench.c":
 * "OP COUNT SIZE SUBJECT STREAM CONSUMER", and answers when it is done: the seconds that it took,
 * and for single publishes the median and the 99th percentile, in seconds, too.
 * usage: jetstream_client URL */
#include <nats/nats.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ORDER_MS = 24 * 3600 * 1000, /* the bench ends this process */
    WAIT_MS = 30000,             /* what lasts longer is an error */
    MAX_PENDING = 4096,          /* acknowledgements on their way; the same in all clients */
    BATCH = 256,                 /* messages of one pull; the same in all clients */
    NAME_SIZE = 64,
    ANSWER_SIZE = 128,
};

typedef struct {
    int count;
    int size;
    char subject[NAME_SIZE];
    char stream[NAME_SIZE];
    char consumer[NAME_SIZE];
} order_t;

typedef struct {
    double seconds;
    double median;
    double p99;
} result_t;

static natsConnection *nc;
static jsCtx *js;

static void check(natsStatus status, const char *what)
{
    if (status == NATS_OK)
        return;
    fprintf(stderr, "jetstream_client: %s: %s\n", what, natsStatus_GetText(status));
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *allocate(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL)
        check(NATS_NO_MEMORY, "memory");
    return memory;
}

/* To be freed. */
static char *payload(int size)
{
    char *data = allocate((size_t)size);
    memset(data, 'x', (size_t)size);
    return data;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One publish after the other, each with its acknowledgement. */
static void publish_single(const order_t *order, result_t *result)
{
    char *data = payload(order->size);
    double *latencies = allocate((size_t)order->count * sizeof *latencies);
    double begun = now(), before = begun;
    for (int i = 0; i < order->count; i++) {
        check(js_Publish(NULL, js, order->subject, data, order->size, NULL, NULL), "publish");
        double after = now();
        latencies[i] = after - before;
        before = after;
    }
    result->seconds = before - begun;
    qsort(latencies, (size_t)order->count, sizeof *latencies, compare);
    result->median = latencies[order->count / 2];
    result->p99 = latencies[(int)(0.99 * order->count)];
    free(latencies);
    free(data);
}

static void publish_pipelined(const order_t *order, result_t *result)
{
    char *data = payload(order->size);
    jsPubOptions options;
    double begun = now();
    for (int i = 0; i < order->count; i++)
        check(js_PublishAsync(js, order->subject, data, order->size, NULL), "publish");
    check(jsPubOptions_Init(&options), "options");
    options.MaxWait = WAIT_MS;
    check(js_PublishAsyncComplete(js, &options), "all acknowledgements");
    result->seconds = now() - begun;
    free(data);
}

static void fetch(const order_t *order, result_t *result)
{
    natsSubscription *sub = NULL;
    jsSubOptions options;
    double begun = now();
    check(jsSubOptions_Init(&options), "options");
    options.Stream = order->stream;
    options.Consumer = order->consumer;
    check(js_PullSubscribe(&sub, js, order->subject, NULL, NULL, &options, NULL), "a consumer");
    for (int taken = 0; taken < order->count;) {
        natsMsgList list = {0};
        int wanted = order->count - taken < BATCH ? order->count - taken : BATCH;
        check(natsSubscription_Fetch(&list, sub, wanted, WAIT_MS, NULL), "fetch");
        for (int i = 0; i < list.Count; i++)
            check(natsMsg_Ack(list.Msgs[i], NULL), "ack");
        taken += list.Count;
        natsMsgList_Destroy(&list);
    }
    check(natsConnection_FlushTimeout(nc, WAIT_MS), "flush");
    result->seconds = now() - begun;
    natsSubscription_Destroy(sub);
}

static const struct {
    const char *name;
    void (*run)(const order_t *order, result_t *result);
} operations[] = {
    {"single", publish_single},
    {"pipelined", publish_pipelined},
    {"fetch", fetch},
};

/* Whether there was such an operation. */
static bool perform(const char *text, result_t *result)
{
    order_t order = {0};
    char name[NAME_SIZE] = "";
    if (sscanf(text, "%63s %d %d %63s %63s %63s", name, &order.count, &order.size, order.subject,
               order.stream, order.consumer) != 6 ||
        order.count < 1 || order.size < 1)
        return false;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        if (strcmp(operations[i].name, name) == 0) {
            operations[i].run(&order, result);
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    natsSubscription *orders = NULL;
    jsOptions options;
    if (argc != 2) {
        fprintf(stderr, "usage: jetstream_client URL\n");
        return 2;
    }
    check(natsConnection_ConnectTo(&nc, argv[1]), "connect");
    check(jsOptions_Init(&options), "options");
    options.PublishAsync.MaxPending = MAX_PENDING;
    options.PublishAsync.StallWait = WAIT_MS;
    check(natsConnection_JetStream(&js, nc, &options), "JetStream");
    check(natsConnection_SubscribeSync(&orders, nc, "bench.c"), "subscribe");
    for (;;) {
        natsMsg *msg = NULL;
        result_t result = {0};
        char answer[ANSWER_SIZE] = "error: there is no such operation";
        check(natsSubscription_NextMsg(&msg, orders, ORDER_MS), "an order");
        if (perform(natsMsg_GetData(msg), &result))
            snprintf(answer, sizeof answer, "%.9f %.9f %.9f", result.seconds, result.median,
                     result.p99);
        check(natsConnection_PublishString(nc, natsMsg_GetReply(msg), answer), "an answer");
        natsMsg_Destroy(msg);
    }
}
