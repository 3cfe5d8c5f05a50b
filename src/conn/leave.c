/* Leaving a lame duck: a server that will go is left before it sends its clients away, not by all
 * of them at once, and only when another one of the list can be reached; until then it is looked
 * for again and again. Loop thread. */
#include "conn/connection_private.h"
#include "conn/reach.h"

#define LOOK_MS 2000u  /* at one server */
#define AGAIN_MS 1000u /* after all were looked at in vain */

static void look(struct connection *c, uint32_t wait_ms);

static const char *server_at(const struct connection *c, unsigned server)
{
    const link_options *o = c->options.link;
    return o->servers[server % (unsigned)o->server_count];
}

static bool is_current(const struct connection *c, unsigned server)
{
    return link_url_same_server(server_at(c, server), c->server);
}

/* False: the list has only the current one. */
static bool pass_current(const struct connection *c, unsigned *server)
{
    for (int i = 0; i < c->options.link->server_count; i++, ++*server)
        if (!is_current(c, *server))
            return true;
    return false;
}

void connection_pass_server(struct connection *c)
{
    pass_current(c, &c->next_server);
}

static void on_looked(void *closure, bool reached)
{
    struct connection *c = closure;
    c->reach = NULL;
    if (c->dog.link != c->reach_link || c->draining)
        return;
    if (c->dog.state == WATCHDOG_DIALING) { /* it has connected, and is not ready yet */
        look(c, AGAIN_MS);
        return;
    }
    if (!reached) {
        c->reach_server++;
        look(c, --c->reach_left > 0 ? 0 : AGAIN_MS);
        return;
    }
    c->next_server = c->reach_server;
    watchdog_event leave = {
        .type = WATCHDOG_EVENT_LAME_DUCK,
        .link = c->dog.link,
        .delay_ms = (uint32_t)(hub_random(c->hub) * c->options.lame_duck_ms),
    };
    connection_feed(c, &leave);
}

static void look(struct connection *c, uint32_t wait_ms)
{
    if (c->reach_left == 0)
        c->reach_left = (unsigned)c->options.link->server_count;
    if (pass_current(c, &c->reach_server))
        c->reach =
            reach_start(c->hub, server_at(c, c->reach_server), wait_ms, LOOK_MS, on_looked, c);
}

void connection_leave_lame_duck(struct connection *c)
{
    if (c->options.lame_duck_ms == 0 || c->reach != NULL)
        return;
    c->reach_link = c->dog.link;
    c->reach_server = c->next_server;
    c->reach_left = 0;
    look(c, 0);
}

void connection_stay(struct connection *c)
{
    reach_cancel(c->reach);
    c->reach = NULL;
}
