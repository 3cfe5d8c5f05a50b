/* What a server says before anybody logs in, as `moondog doctor` looks at it: through a real
 * socket, whose other end is a thread of this file. What is said of it can be shown. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "doctor/server.h"
#include "fuzz.h"

#define TIMEOUT_MS 20000

static struct {
    int fd;
    char url[64];
} listener;

static struct {
    const char *bytes;
    size_t length;
} greeting;

/* One client: it gets the bytes, and the end. */
static void *serve(void *closure)
{
    struct linger none = {.l_onoff = 1}; /* no port waits for anything */
    int fd = accept(listener.fd, NULL, NULL);
    (void)closure;
    fuzz_check(fd >= 0);
    for (size_t sent = 0; sent < greeting.length;) {
        ssize_t n = send(fd, greeting.bytes + sent, greeting.length - sent, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    shutdown(fd, SHUT_WR);
    char ignored[64];
    while (recv(fd, ignored, sizeof ignored, 0) > 0) {
    }
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(fd);
    return NULL;
}

static void open_listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fuzz_check(bind(listener.fd, (struct sockaddr *)&address, sizeof address) == 0);
    fuzz_check(listen(listener.fd, 16) == 0);
    fuzz_check(getsockname(listener.fd, (struct sockaddr *)&address, &length) == 0);
    snprintf(listener.url, sizeof listener.url, "nats://127.0.0.1:%u", ntohs(address.sin_port));
}

static void check_findings(const findings *f)
{
    size_t i;
    json_t *one;
    char *text = json_dumps(f->list, 0);
    fuzz_check(text != NULL && json_array_size(f->list) > 0);
    json_array_foreach(f->list, i, one)
    {
        const char *said = json_string_value(json_object_get(one, "what"));
        fuzz_check_text(said != NULL && said[0] != '\0', text);
    }
    free(text);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    findings f;
    server s;
    pthread_t thread;
    link_options *o = link_options_new();
    if (listener.url[0] == '\0')
        open_listener();
    char *text = fuzz_rest(&in, &greeting.length);
    greeting.bytes = text;
    fuzz_check(findings_init(&f) == 0 && pthread_create(&thread, NULL, serve, NULL) == 0);
    if (server_reach(&s, &f, o, listener.url, TIMEOUT_MS))
        fuzz_check(json_is_object(s.info));
    else
        fuzz_check(f.problems > 0);
    server_leave(&s);
    pthread_join(thread, NULL);
    check_findings(&f);
    findings_clear(&f);
    link_options_release(o);
    free(text);
}
