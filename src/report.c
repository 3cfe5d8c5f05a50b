/* Reports about a generation. See report.h. Loop thread. */
#include "report.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/binding.h"
#include "script/generation.h"

/* The handlers of a binding are listed newest first; people read them in the order of the script.
 */
static json_t *describe_subscriptions(const struct binding *b)
{
    json_t *list = json_array();
    for (const struct handler *h = b->handlers; h != NULL; h = h->next) {
        json_t *one = json_object();
        json_object_set_new(one, "subject", json_string(h->subject));
        if (h->queue != NULL)
            json_object_set_new(one, "queue", json_string(h->queue));
        if (h->options.max > 0)
            json_object_set_new(one, "max", json_integer((json_int_t)h->options.max));
        json_array_insert_new(list, 0, one);
    }
    return list;
}

static bool same_subscription(const struct handler *a, const struct handler *b)
{
    if (strcmp(a->subject, b->subject) != 0 || (a->queue == NULL) != (b->queue == NULL))
        return false;
    return a->queue == NULL || strcmp(a->queue, b->queue) == 0;
}

static void add_problem(json_t *problems, const char *where, const char *text)
{
    json_array_append_new(problems, json_sprintf("%s%s", where, text));
}

static void find_problems(const struct binding *b, json_t *problems)
{
    for (const struct handler *h = b->handlers; h != NULL; h = h->next)
        for (const struct handler *other = h->next; other != NULL; other = other->next) {
            if (!same_subscription(h, other))
                continue;
            json_array_append_new(
                problems, json_sprintf("%sconnection %s subscribes to %s twice: each message "
                                       "is handled by both",
                                       b->place, b->name, h->subject));
            break;
        }
}

static json_t *describe(const struct generation *g)
{
    json_t *connections = json_array();
    json_t *problems = json_array();
    for (const struct binding *b = g->bindings; b != NULL; b = b->next) {
        json_t *servers = json_array();
        for (int i = 0; i < b->options.link->server_count; i++) {
            char url[256];
            json_array_append_new(servers, json_string(link_redact_url(b->options.link->servers[i],
                                                                       url, sizeof url)));
        }
        json_array_append_new(connections, json_pack("{s:s, s:s, s:o, s:o}", "name", b->name,
                                                     "place", b->place, "servers", servers,
                                                     "subscriptions", describe_subscriptions(b)));
        find_problems(b, problems);
    }
    if (g->bindings == NULL)
        add_problem(problems, g->path, ": it declares no connection: call moondog.connect{...}");
    return json_pack("{s:s, s:b, s:o, s:o, s:I}", "path", g->path, "ok",
                     json_array_size(problems) == 0, "connections", connections, "problems",
                     problems, "memory", (json_int_t)g->memory);
}

static void print_connection(FILE *out, const json_t *c)
{
    size_t i;
    json_t *one;
    fprintf(out, "connection %s ->", json_string_value(json_object_get(c, "name")));
    json_array_foreach(json_object_get(c, "servers"), i, one)
        fprintf(out, " %s", json_string_value(one));
    fputc('\n', out);
    json_array_foreach(json_object_get(c, "subscriptions"), i, one)
    {
        const char *queue = json_string_value(json_object_get(one, "queue"));
        fprintf(out, "  subscription %s", json_string_value(json_object_get(one, "subject")));
        if (queue != NULL)
            fprintf(out, " (queue %s)", queue);
        fputc('\n', out);
    }
}

static char *as_text(const json_t *report)
{
    char *text = NULL;
    size_t size, i;
    json_t *one;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    bool ok = json_is_true(json_object_get(report, "ok"));
    fprintf(out, "%s: %s\n", json_string_value(json_object_get(report, "path")),
            ok ? "ok" : "can be loaded, but");
    json_array_foreach(json_object_get(report, "connections"), i, one) print_connection(out, one);
    json_array_foreach(json_object_get(report, "problems"), i, one)
        fprintf(out, "problem: %s\n", json_string_value(one));
    fclose(out);
    return text;
}

char *report_declarations(const struct generation *g, bool json, unsigned *problems)
{
    json_t *report = describe(g);
    if (report == NULL)
        return NULL;
    *problems = (unsigned)json_array_size(json_object_get(report, "problems"));
    char *text = json ? json_dumps(report, JSON_COMPACT) : as_text(report);
    json_decref(report);
    return text;
}
