/* Addresses: the URLs of servers, and where health is served. One thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doctor/server.h"
#include "fuzz.h"
#include "health/address.h"
#include "link/options.h"

/* What stands in front of an @ is never shown. */
static void check_redaction(const char *url)
{
    char shown[128], with_secret[1024];
    if (strlen(url) > 700 || strchr(url, '@') != NULL)
        return;
    snprintf(with_secret, sizeof with_secret, "nats://user:hunter2secret@%s", url);
    link_redact_url(with_secret, shown, sizeof shown);
    fuzz_check_text(strstr(url, "hunter") != NULL || strstr(shown, "hunter") == NULL, shown);
    error e = {0};
    link_options *o = link_options_new();
    if (link_options_add_server(o, with_secret, &e) != 0)
        fuzz_check_text(strstr(url, "hunter") != NULL || strstr(e.message, "hunter") == NULL,
                        e.message);
    link_options_release(o);
}

/* What was taken is taken again as it is, and has all of its parts. */
static void check_url(const char *url)
{
    error e = {0};
    link_options *o = link_options_new();
    if (link_options_add_server(o, url, &e) != 0) {
        fuzz_check(e.code[0] != '\0' && e.message[0] != '\0' && o->server_count == 0);
        link_options_release(o);
        return;
    }
    const char *taken = o->servers[0];
    server_address a;
    fuzz_check(o->server_count == 1);
    fuzz_check_text(link_url_port(taken) > 0, taken);
    fuzz_check_text(strncasecmp(taken, "nats://", 7) == 0 || strncasecmp(taken, "tls://", 6) == 0,
                    taken);
    if (strlen(url) < 200)
        fuzz_check_text(server_split(taken, &a) == 0 && strtoul(a.port, NULL, 10) > 0, taken);
    fuzz_check_text(strlen(url) > 500 || link_options_add_server(o, taken, &e) == 0, e.message);
    if (o->server_count == 2)
        fuzz_check_text(strcmp(o->servers[0], o->servers[1]) == 0, o->servers[1]);
    link_options *one = link_options_only(o, 0);
    fuzz_check(strcmp(one->servers[0], taken) == 0);
    link_options_release(one);
    link_options_release(o);
}

/* What is said of an address is the same address. */
static void check_listen(const char *text)
{
    listen_address a, again;
    char shown[LISTEN_TEXT_SIZE];
    error e = {0};
    if (listen_parse(text, &a, &e) != 0) {
        fuzz_check(strcmp(e.code, "usage") == 0);
        return;
    }
    fuzz_check_text((text[0] == '[') == (a.address.ss_family == AF_INET6), text);
    listen_describe(-1, &a, shown);
    fuzz_check_text(listen_parse(shown, &again, &e) == 0, shown);
    fuzz_check_text(a.length == again.length && memcmp(&a.address, &again.address, a.length) == 0,
                    shown);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    char *text = fuzz_rest_text(&in);
    check_url(text);
    check_redaction(text);
    check_listen(text);
    free(text);
}
