/* The HTTP service of a runtime at work: whatever bytes come, the answers are HTTP, each of them as
 * long as it says, and the next client is served. The service has a thread of its own; this one
 * only turns the loop, when the service asks for it. */
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "fuzz.h"

#define PATIENCE_MS 20000
#define ANSWERS_MAX (8u << 20)

static char answers[ANSWERS_MAX + 1];

/* Sends, ends its half, and reads until the service closes. When *closed is false it need not: the
 * bytes may be half a request, and the service waits for the rest; then the last answer may be
 * half of one, too, and *closed stays false. Returns how much came. */
static size_t talk(md_runtime *rt, const char *bytes, size_t length, bool *closed)
{
    int fd = fuzz_connect("http");
    size_t sent = 0, got = 0;
    bool open = true, patient = *closed;
    uint64_t deadline = uv_hrtime() / 1000000u + PATIENCE_MS;
    while (open) {
        struct pollfd both[2] = {{.fd = md_backend_fd(rt), .events = POLLIN},
                                 {.fd = fd, .events = POLLIN}};
        if (sent < length) {
            ssize_t n = send(fd, bytes + sent, length - sent, MSG_NOSIGNAL);
            sent = n > 0 ? sent + (size_t)n : n < 0 && errno == EAGAIN ? sent : length;
            if (sent == length)
                shutdown(fd, SHUT_WR);
        }
        bool quiet = poll(both, 2, 100) == 0 && sent == length && !patient;
        md_poll(rt, 10000);
        ssize_t n = recv(fd, answers + got, ANSWERS_MAX - got, 0);
        open = n > 0 || (n < 0 && errno == EAGAIN && !quiet);
        *closed = n == 0;
        got += n > 0 ? (size_t)n : 0;
        fuzz_check(got < ANSWERS_MAX && uv_hrtime() / 1000000u < deadline);
    }
    close(fd);
    answers[got] = '\0';
    return got;
}

static size_t length_of(const char *head, const char *end)
{
    for (const char *line = head; line < end; line = strstr(line, "\r\n") + 2)
        if (strncasecmp(line, "Content-Length:", 15) == 0)
            return strtoul(line + 15, NULL, 10);
    return 0;
}

/* One answer after the other; only HEAD has a length without a body. */
static void check_answers(size_t length, bool has_head)
{
    const char *at = answers, *end = answers + length;
    while (at < end) {
        fuzz_check_text(strncmp(at, "HTTP/1.", 7) == 0 && isdigit((unsigned char)at[9]), at);
        const char *head_end = strstr(at, "\r\n\r\n");
        fuzz_check_text(head_end != NULL, at);
        size_t body = length_of(at, head_end + 2);
        at = head_end + 4;
        if (!has_head || at + body <= end)
            fuzz_check(at + body <= end);
        if (has_head)
            return; /* where the next one begins depends on the method */
        at += body;
    }
}

void fuzz_one(const uint8_t *data, size_t size)
{
    static const char paths[][16] = {"/livez", "/readyz", "/metrics", "/status"};
    fuzz_input in = {data, size};
    md_runtime *rt = fuzz_runtime(false, true);
    unsigned which = fuzz_byte(&in);
    size_t length;
    bool closed = false;
    char *bytes = fuzz_rest(&in, &length);
    bool has_head = memmem(bytes, length, "HEAD", 4) != NULL || memchr(bytes, '\0', length) != NULL;
    size_t got = talk(rt, bytes, length, &closed);
    if (closed && strlen(answers) == got)
        check_answers(got, has_head);
    if (which % 16 == 0) {
        char request[64];
        int n = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", paths[which / 16 % 4]);
        closed = true;
        got = talk(rt, request, (size_t)n, &closed);
        fuzz_check(closed);
        fuzz_check_text(strncmp(answers, "HTTP/1.", 7) == 0 && strstr(answers, " 200 ") != NULL,
                        answers);
        check_answers(got, false);
    }
    free(bytes);
}
