/* The benches' client of plain nats.c; and what sends to all clients and answers them. It takes
 * orders as requests on the subject "bench.NAME":
 *   OP COUNT VALUE SUBJECT SUBJECTS
 *   PAYLOAD
 * and answers when it is done: how many messages, the seconds that it took, and of what was timed
 * one by one the median and the 99th and 99.9th percentile, in seconds.
 *   subscribe  SUBJECT.0 and so on, instead of what there was; the handler counts
 *   received   how many have come since
 *   offer      publishes COUNT messages into these in turn, VALUE a second (0: as fast as it can);
 *              it begins behind the subscription at which the one before ended
 *   publish    publishes COUNT messages, and flushes after each VALUE of them; flushes are timed
 *   request    makes COUNT requests, VALUE at a time
 *   answer     answers requests on SUBJECT.0 and so on with what they said
 *   connect    makes COUNT connections more
 *
 * usage: bench_client URL NAME default|pool|asap|stock
 *
 * By default each subscription has a thread of its own, what is published waits for others for up
 * to a millisecond, and it tries to reconnect every 10 ms. pool: the library's pool of threads
 * delivers messages. asap: each message is sent at once. stock: the library's own waits. */
#include <inttypes.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ORDER_MS = 24 * 3600 * 1000, /* the bench ends this process */
    WAIT_MS = 30000,             /* what lasts longer is an error */
    PENDING_MESSAGES = 524288,   /* of a subscription; the same in all clients */
    PENDING_BYTES = 64 << 20,
    RECONNECT_MS = 10, /* the same in all clients */
    NAME_SIZE = 64,
    SUBJECT_SIZE = NAME_SIZE + 16,
    ANSWER_SIZE = 192,
    LANES_MAX = 64,
    TICK_NS = 1000000, /* between two bursts of an offer */
};

typedef struct {
    int count;
    int value;
    char subject[NAME_SIZE];
    int subjects;
    const char *data;
    int size;
} order_t;

typedef struct {
    int64_t count;
    double seconds;
    double median, p99, p999;
} result_t;

/* One of the subscriptions that are measured. Its handler alone writes the counter. */
typedef struct {
    natsSubscription *nats;
    _Atomic int64_t received;
} target_t;

static natsOptions *options;
static natsConnection *nc;
static target_t *targets;
static int target_count;

static void check(natsStatus status, const char *what)
{
    if (status == NATS_OK)
        return;
    fprintf(stderr, "bench_client: %s: %s\n", what, natsStatus_GetText(status));
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        check(NATS_NO_MEMORY, "memory");
    return memory;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarize(double *latencies, int count, result_t *result)
{
    qsort(latencies, (size_t)count, sizeof *latencies, compare);
    result->median = latencies[count / 2];
    result->p99 = latencies[(int)(0.99 * count)];
    result->p999 = latencies[(int)(0.999 * count)];
}

/* ---- subscriptions ---- */

static void on_message(natsConnection *c, natsSubscription *sub, natsMsg *msg, void *closure)
{
    target_t *target = closure;
    int64_t before = atomic_load_explicit(&target->received, memory_order_relaxed);
    (void)c, (void)sub;
    atomic_store_explicit(&target->received, before + 1, memory_order_relaxed);
    natsMsg_Destroy(msg);
}

/* The counters are not freed: a handler may still be at work. */
static void drop_targets(void)
{
    for (int i = 0; i < target_count; i++) {
        (void)natsSubscription_Unsubscribe(targets[i].nats);
        natsSubscription_Destroy(targets[i].nats);
    }
    target_count = 0;
}

/* When the library cannot make so many (each may want a thread), there are none. */
static natsStatus subscribe(const order_t *order, result_t *result)
{
    natsStatus status = NATS_OK;
    drop_targets();
    targets = allocate((size_t)order->subjects + 1, sizeof *targets);
    for (int i = 0; i < order->subjects && status == NATS_OK; i++) {
        target_t *target = &targets[i];
        char subject[SUBJECT_SIZE];
        snprintf(subject, sizeof subject, "%s.%d", order->subject, i);
        status = natsConnection_Subscribe(&target->nats, nc, subject, on_message, target);
        if (status != NATS_OK)
            break;
        target_count++;
        status = natsSubscription_SetPendingLimits(target->nats, PENDING_MESSAGES, PENDING_BYTES);
    }
    if (status == NATS_OK)
        status = natsConnection_FlushTimeout(nc, WAIT_MS);
    else
        drop_targets();
    result->count = target_count;
    return status;
}

static natsStatus received(const order_t *order, result_t *result)
{
    (void)order;
    for (int i = 0; i < target_count; i++)
        result->count += atomic_load_explicit(&targets[i].received, memory_order_relaxed);
    return NATS_OK;
}

static void on_request(natsConnection *c, natsSubscription *sub, natsMsg *msg, void *closure)
{
    (void)sub, (void)closure;
    (void)natsConnection_Publish(c, natsMsg_GetReply(msg), natsMsg_GetData(msg),
                                 natsMsg_GetDataLength(msg));
    natsMsg_Destroy(msg);
}

/* These subscriptions last as long as the process; so do the connections of connect_more(). */
static natsStatus answer(const order_t *order, result_t *result)
{
    natsStatus status = NATS_OK;
    for (int i = 0; i < order->subjects && status == NATS_OK; i++) {
        natsSubscription *sub = NULL;
        char subject[SUBJECT_SIZE];
        snprintf(subject, sizeof subject, "%s.%d", order->subject, i);
        status = natsConnection_Subscribe(&sub, nc, subject, on_request, NULL);
        result->count++;
    }
    if (status == NATS_OK)
        status = natsConnection_FlushTimeout(nc, WAIT_MS);
    return status;
}

static natsStatus connect_more(const order_t *order, result_t *result)
{
    natsStatus status = NATS_OK;
    for (int i = 0; i < order->count && status == NATS_OK; i++) {
        natsConnection *more = NULL;
        status = natsConnection_Connect(&more, options);
        result->count++;
    }
    return status;
}

/* ---- sending ---- */

static void wait_tick(struct timespec *next)
{
    next->tv_nsec += TICK_NS;
    if (next->tv_nsec >= 1000000000) {
        next->tv_nsec -= 1000000000;
        next->tv_sec++;
    }
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL);
}

static natsStatus offer(const order_t *order, result_t *result)
{
    static unsigned next_subject; /* so that a few messages at a time reach all of many */
    natsStatus status = NATS_OK;
    char(*subjects)[SUBJECT_SIZE] = allocate((size_t)order->subjects, sizeof *subjects);
    struct timespec next;
    double begun;
    for (int i = 0; i < order->subjects; i++)
        snprintf(subjects[i], sizeof subjects[i], "%s.%d", order->subject, i);
    clock_gettime(CLOCK_MONOTONIC, &next);
    begun = now();
    for (int sent = 0; sent < order->count && status == NATS_OK;) {
        double wanted = order->value == 0 ? order->count : (now() - begun) * order->value;
        for (; sent < order->count && sent < wanted && status == NATS_OK; sent++)
            status = natsConnection_Publish(
                nc, subjects[next_subject++ % (unsigned)order->subjects], order->data, order->size);
        if (sent < order->count)
            wait_tick(&next);
    }
    if (status == NATS_OK)
        status = natsConnection_FlushTimeout(nc, WAIT_MS);
    result->count = order->count;
    result->seconds = now() - begun;
    free(subjects);
    return status;
}

static natsStatus publish(const order_t *order, result_t *result)
{
    natsStatus status = NATS_OK;
    int batches = order->count / order->value;
    double *latencies = allocate((size_t)batches, sizeof *latencies);
    double begun = now(), before = begun;
    for (int batch = 0; batch < batches && status == NATS_OK; batch++) {
        for (int i = 0; i < order->value && status == NATS_OK; i++)
            status = natsConnection_Publish(nc, order->subject, order->data, order->size);
        if (status == NATS_OK)
            status = natsConnection_FlushTimeout(nc, WAIT_MS);
        double after = now();
        latencies[batch] = after - before;
        before = after;
    }
    result->count = order->count;
    result->seconds = before - begun;
    summarize(latencies, batches, result);
    free(latencies);
    return status;
}

/* Requests that several threads share. */
typedef struct {
    const order_t *order;
    double *latencies;
    atomic_int next;
    atomic_int failure; /* a natsStatus */
} requests_t;

static void *request_lane(void *argument)
{
    requests_t *requests = argument;
    const order_t *order = requests->order;
    int i;
    while ((i = atomic_fetch_add(&requests->next, 1)) < order->count) {
        natsMsg *reply = NULL;
        double begun = now();
        natsStatus status =
            natsConnection_Request(&reply, nc, order->subject, order->data, order->size, WAIT_MS);
        requests->latencies[i] = now() - begun;
        natsMsg_Destroy(reply);
        if (status != NATS_OK) {
            atomic_store(&requests->failure, (int)status);
            break;
        }
    }
    return NULL;
}

static natsStatus request(const order_t *order, result_t *result)
{
    requests_t requests = {.order = order};
    pthread_t threads[LANES_MAX];
    int lanes = order->value < LANES_MAX ? order->value : LANES_MAX;
    double begun;
    requests.latencies = allocate((size_t)order->count, sizeof *requests.latencies);
    begun = now();
    for (int i = 0; i < lanes; i++) {
        if (pthread_create(&threads[i], NULL, request_lane, &requests) != 0)
            check(NATS_NO_MEMORY, "a thread");
    }
    for (int i = 0; i < lanes; i++)
        pthread_join(threads[i], NULL);
    result->count = order->count;
    result->seconds = now() - begun;
    summarize(requests.latencies, order->count, result);
    free(requests.latencies);
    return (natsStatus)atomic_load(&requests.failure);
}

/* ---- orders ---- */

static const struct {
    const char *name;
    natsStatus (*run)(const order_t *order, result_t *result);
} operations[] = {
    {"subscribe", subscribe},  {"received", received}, {"offer", offer},
    {"publish", publish},      {"request", request},   {"answer", answer},
    {"connect", connect_more},
};

static bool read_order(natsMsg *msg, char *name, order_t *order)
{
    const char *text = natsMsg_GetData(msg), *end = strchr(text, '\n');
    if (end == NULL || sscanf(text, "%63s %d %d %63s %d", name, &order->count, &order->value,
                              order->subject, &order->subjects) != 5)
        return false;
    order->data = end + 1;
    order->size = natsMsg_GetDataLength(msg) - (int)(order->data - text);
    return order->count > 0 && order->value >= 0 && order->subjects > 0;
}

/* Writes what came of an order. */
static void perform(natsMsg *msg, char *text, size_t size)
{
    order_t order = {0};
    result_t result = {0};
    char name[NAME_SIZE] = "";
    natsStatus status = NATS_INVALID_ARG;
    if (read_order(msg, name, &order)) {
        for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
            if (strcmp(operations[i].name, name) == 0)
                status = operations[i].run(&order, &result);
        }
    }
    if (status == NATS_OK)
        snprintf(text, size, "%" PRId64 " %.9f %.9f %.9f %.9f", result.count, result.seconds,
                 result.median, result.p99, result.p999);
    else
        snprintf(text, size, "error: %s: %s", name, natsStatus_GetText(status));
}

static void connect_to(const char *url, const char *name, const char *mode)
{
    check(natsOptions_Create(&options), "options");
    check(natsOptions_SetURL(options, url), "the URL");
    check(natsOptions_SetName(options, name), "the name");
    check(natsOptions_SetMaxReconnect(options, -1), "reconnects");
    if (strcmp(mode, "stock") != 0) {
        check(natsOptions_SetReconnectWait(options, RECONNECT_MS), "the wait");
        check(natsOptions_SetReconnectJitter(options, 0, 0), "no jitter");
    }
    check(natsOptions_UseGlobalMessageDelivery(options, strcmp(mode, "pool") == 0),
          "the way of delivery");
    check(natsOptions_SetSendAsap(options, strcmp(mode, "asap") == 0), "the way of sending");
    check(natsConnection_Connect(&nc, options), "connect");
}

int main(int argc, char **argv)
{
    natsSubscription *orders = NULL;
    char subject[SUBJECT_SIZE];
    if (argc != 4) {
        fprintf(stderr, "usage: bench_client URL NAME default|pool|asap|stock\n");
        return 2;
    }
    connect_to(argv[1], argv[2], argv[3]);
    snprintf(subject, sizeof subject, "bench.%s", argv[2]);
    check(natsConnection_SubscribeSync(&orders, nc, subject), "subscribe");
    for (;;) {
        natsMsg *msg = NULL;
        char text[ANSWER_SIZE];
        check(natsSubscription_NextMsg(&msg, orders, ORDER_MS), "an order");
        perform(msg, text, sizeof text);
        check(natsConnection_PublishString(nc, natsMsg_GetReply(msg), text), "an answer");
        natsMsg_Destroy(msg);
    }
}
