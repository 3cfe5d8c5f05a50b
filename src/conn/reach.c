/* Whether a server can be reached. See reach.h. It frees itself when its handles are closed and the
 * look-up of its name has ended: nothing stops one that is under way. Loop thread. */
#include "conn/reach.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/thread.h"
#include "conn/hub.h"
#include "link/options.h"

struct reach {
    struct hub *hub;
    reach_done done; /* NULL: nobody wants to know any more */
    void *closure;
    uint32_t timeout_ms;
    bool begun, closing, looking_up;
    unsigned open; /* handles */
    uv_timer_t timer;
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_getaddrinfo_t look_up;
    char host[256], port[8];
};

static void free_if_over(struct reach *r)
{
    if (r->open > 0 || r->looking_up)
        return;
    r->hub->handles--;
    free(r);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct reach *r = handle->data;
    r->open--;
    free_if_over(r);
}

static void end(struct reach *r)
{
    if (r->closing)
        return;
    r->closing = true;
    if (r->looking_up)
        uv_cancel((uv_req_t *)&r->look_up);
    uv_close((uv_handle_t *)&r->timer, on_handle_closed);
    uv_close((uv_handle_t *)&r->tcp, on_handle_closed);
}

static void tell(struct reach *r, bool reached)
{
    reach_done done = r->done;
    r->done = NULL;
    end(r);
    if (done != NULL)
        done(r->closure, reached);
}

static void on_connected(uv_connect_t *request, int status)
{
    struct reach *r = request->data;
    if (!r->closing)
        tell(r, status == 0);
}

/* The first address has to do: it is the one that a dial begins with. */
static void on_looked_up(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct reach *r = request->data;
    r->looking_up = false;
    if (r->closing) {
        uv_freeaddrinfo(found);
        free_if_over(r);
        return;
    }
    r->connect.data = r;
    bool asked = status == 0 && found != NULL &&
                 uv_tcp_connect(&r->connect, &r->tcp, found->ai_addr, on_connected) == 0;
    uv_freeaddrinfo(found);
    if (!asked)
        tell(r, false);
}

static void on_timer(uv_timer_t *timer)
{
    struct reach *r = timer->data;
    hub_awake(r->hub);
    if (r->begun) {
        tell(r, false);
        return;
    }
    r->begun = true;
    uv_timer_start(&r->timer, on_timer, r->timeout_ms, 0);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    sigset_t before;
    r->look_up.data = r;
    thread_block_signals(&before); /* it may start the threads of libuv's pool */
    r->looking_up =
        uv_getaddrinfo(r->hub->loop, &r->look_up, on_looked_up, r->host, r->port, &hints) == 0;
    thread_restore_signals(&before);
    if (!r->looking_up)
        tell(r, false);
}

struct reach *reach_start(struct hub *h, const char *url, uint32_t wait_ms, uint32_t timeout_ms,
                          reach_done done, void *closure)
{
    struct reach *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    *r = (struct reach){.hub = h, .done = done, .closure = closure, .timeout_ms = timeout_ms};
    if (!link_url_host(url, r->host, sizeof r->host)) {
        free(r);
        return NULL;
    }
    snprintf(r->port, sizeof r->port, "%u", link_url_port(url));
    h->handles++;
    uv_timer_init(h->loop, &r->timer);
    uv_tcp_init(h->loop, &r->tcp);
    r->open = 2;
    r->timer.data = r->tcp.data = r;
    uv_update_time(h->loop);
    uv_timer_start(&r->timer, on_timer, wait_ms, 0);
    return r;
}

void reach_cancel(struct reach *r)
{
    if (r == NULL)
        return;
    r->done = NULL;
    end(r);
}
