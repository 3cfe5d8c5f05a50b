/* Names to addresses, with a deadline, which the system's resolver does not have: a thread asks it,
 * and is left to itself when it takes too long. The caller's thread and one for each question. */
#include <stdlib.h>
#include <uv.h>

#include "doctor/server.h"

/* Shared by the thread that asks and the one that waits; the last of them frees it. */
struct question {
    uv_mutex_t lock;
    uv_cond_t answered;
    unsigned references;
    bool done;
    server_address address;
    int failed;
    struct addrinfo *result;
};

static void release(struct question *q)
{
    uv_mutex_lock(&q->lock);
    bool last = --q->references == 0;
    uv_mutex_unlock(&q->lock);
    if (!last)
        return;
    if (q->result != NULL)
        freeaddrinfo(q->result);
    uv_cond_destroy(&q->answered);
    uv_mutex_destroy(&q->lock);
    free(q);
}

static void *ask(void *closure)
{
    struct question *q = closure;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *result = NULL;
    int failed = getaddrinfo(q->address.host, q->address.port, &hints, &result);
    uv_mutex_lock(&q->lock);
    q->failed = failed;
    q->result = failed == 0 ? result : NULL;
    q->done = true;
    uv_cond_signal(&q->answered);
    uv_mutex_unlock(&q->lock);
    release(q);
    return NULL;
}

static struct question *question_new(const server_address *address)
{
    struct question *q = calloc(1, sizeof *q);
    if (q == NULL || uv_mutex_init(&q->lock) != 0) {
        free(q);
        return NULL;
    }
    if (uv_cond_init(&q->answered) != 0) {
        uv_mutex_destroy(&q->lock);
        free(q);
        return NULL;
    }
    q->address = *address;
    q->references = 1;
    return q;
}

/* Whether the answer is there, at the deadline. */
static bool wait_for_answer(struct question *q, uint32_t timeout_ms)
{
    uint64_t deadline = uv_hrtime() + (uint64_t)timeout_ms * 1000000u;
    uv_mutex_lock(&q->lock);
    for (uint64_t now = uv_hrtime(); !q->done && now < deadline; now = uv_hrtime())
        uv_cond_timedwait(&q->answered, &q->lock, deadline - now);
    bool done = q->done;
    uv_mutex_unlock(&q->lock);
    return done;
}

struct addrinfo *resolve(const server_address *address, uint32_t timeout_ms, error *e)
{
    struct addrinfo *result = NULL;
    pthread_t thread;
    struct question *q = question_new(address);
    if (q == NULL) {
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory to ask for a name");
        return NULL;
    }
    q->references++;
    if (pthread_create(&thread, NULL, ask, q) != 0) {
        q->references--;
        error_set(e, "no_thread", ERROR_CLASS_LIMIT, "cannot start a thread: see ulimit -u");
    } else {
        pthread_detach(thread);
        if (!wait_for_answer(q, timeout_ms)) {
            error_set(e, "timeout", ERROR_CLASS_TIMEOUT, "no answer from the resolver in %u ms",
                      timeout_ms);
        } else if (q->failed != 0) {
            error_set(e, "unknown_host", ERROR_CLASS_NETWORK, "%s", gai_strerror(q->failed));
        } else {
            result = q->result;
            q->result = NULL;
        }
    }
    release(q);
    return result;
}
