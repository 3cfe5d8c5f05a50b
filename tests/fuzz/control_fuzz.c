/* The control socket of a runtime at work: whatever a client sends, it gets whole frames of JSON,
 * and the next client is served as if nothing had been. One thread. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "control/frame.h"
#include "fuzz.h"

#define PATIENCE_MS 20000
#define END "\"the end\""

static const char *const verbs[] = {"status", "errors", "eval",   "complete", "level",   "log",
                                    "watch",  "tap",    "cancel", "closures", "no verb", "reload"};

struct text {
    char *bytes;
    size_t length;
};

static void add(struct text *t, const char *bytes, size_t length)
{
    t->bytes = realloc(t->bytes, t->length + length + 1);
    fuzz_check(t->bytes != NULL);
    memcpy(t->bytes + t->length, bytes, length);
    t->length += length;
}

static void add_frame(struct text *t, const char *json, size_t length)
{
    size_t size;
    char *frame = frame_make(json, length, &size);
    add(t, frame, size);
    free(frame);
}

/* {"id":..,"verb":..,"args":{..}} with arguments of any kind, or with a code that is text. */
static void add_request(fuzz_input *in, struct text *out)
{
    static const char *const ids[] = {"1", "2", "\"a\"", "null", "1.5", "{}", "-1"};
    const char *verb = verbs[fuzz_below(in, sizeof verbs / sizeof verbs[0])];
    const char *id = ids[fuzz_below(in, sizeof ids / sizeof ids[0])];
    bool as_text = (fuzz_byte(in) & 1) != 0;
    size_t length;
    char *rest = fuzz_bytes(in, &length), *request = NULL;
    json_t *code = json_string(fuzz_is_utf8(rest, length) ? rest : "?");
    char *quoted = json_dumps(code, JSON_ENCODE_ANY);
    int size = as_text
                   ? asprintf(&request,
                              "{\"id\":%s,\"verb\":\"%s\",\"args\":{\"code\":%s,\"text\":%s,"
                              "\"subject\":%s,\"level\":%s,\"id\":%s}}",
                              id, verb, quoted, quoted, quoted, quoted, quoted)
                   : asprintf(&request, "{\"id\":%s,\"verb\":\"%s\",\"args\":%s}", id, verb, rest);
    fuzz_check(size > 0);
    add_frame(out, request, (size_t)size);
    json_decref(code);
    free(quoted);
    free(request);
    free(rest);
}

static struct text make_input(fuzz_input *in)
{
    struct text out = {0};
    while (in->left > 0) {
        unsigned kind = fuzz_below(in, 4);
        size_t length;
        if (kind < 2) {
            add_request(in, &out);
            continue;
        }
        char *bytes = fuzz_bytes(in, &length);
        if (kind == 2)
            add_frame(&out, bytes, length);
        else
            add(&out, bytes, length);
        free(bytes);
    }
    return out;
}

/* Code of scripts may do what a user may; and this runtime has to go on. */
static bool is_harmless(const struct text *input)
{
    static const char *const words[] = {"stop", "os", "io", "load", "exec", "require", "\\"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (input->length > 0 &&
            memmem(input->bytes, input->length, words[i], strlen(words[i])) != NULL)
            return false;
    return true;
}

/* A frame without an end: the runtime waits for the rest, for longer than this has time. */
static bool is_cut(const struct text *input)
{
    frame_reader reader = {0};
    size_t length;
    bool bad = false;
    fuzz_check(input->length == 0 || frame_add(&reader, input->bytes, input->length) == 0);
    while (frame_take(&reader, &length, &bad) != NULL) {
    }
    bool cut = !bad && frame_is_partial(&reader);
    frame_clear(&reader);
    return cut;
}

/* Whether it is the answer to the last request. */
static bool check_answer(const char *json, size_t length)
{
    json_error_t why;
    json_t *answer = json_loadb(json, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    fuzz_check_text(json_is_object(answer), json);
    const json_t *id = json_object_get(answer, "id"), *ok = json_object_get(answer, "ok");
    fuzz_check_text(id != NULL, json);
    if (ok == NULL) {
        fuzz_check_text(json_is_string(json_object_get(answer, "event")), json);
        fuzz_check_text(json_object_get(answer, "data") != NULL, json);
    } else if (json_is_true(ok)) {
        fuzz_check_text(json_object_get(answer, "result") != NULL, json);
    } else {
        const json_t *e = json_object_get(answer, "error");
        fuzz_check_text(json_is_string(json_object_get(e, "code")), json);
        fuzz_check_text(json_is_string(json_object_get(e, "message")), json);
    }
    bool last = ok != NULL && json_is_string(id) && strcmp(json_string_value(id), "the end") == 0;
    json_decref(answer);
    return last;
}

/* Sends and reads until the end is answered, or the runtime hangs up. */
static bool talk(md_runtime *rt, int fd, const struct text *input)
{
    size_t sent = 0;
    frame_reader reader = {0};
    uint64_t deadline = uv_hrtime() / 1000000u + PATIENCE_MS;
    bool ended = false, hung_up = false, bad = false, cut = is_cut(input);
    while (!ended && !hung_up) {
        char bytes[65536];
        size_t length;
        if (sent < input->length) {
            ssize_t n = send(fd, input->bytes + sent, input->length - sent, MSG_NOSIGNAL);
            sent = n > 0 ? sent + (size_t)n : n < 0 && errno == EAGAIN ? sent : input->length;
            if (sent == input->length && cut)
                shutdown(fd, SHUT_WR);
        }
        int left = md_poll(rt, 50000);
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        hung_up = n == 0 || (n < 0 && errno != EAGAIN);
        if (n > 0)
            fuzz_check(frame_add(&reader, bytes, (size_t)n) == 0);
        for (const char *json; (json = frame_take(&reader, &length, &bad)) != NULL;)
            ended |= check_answer(json, length);
        fuzz_check(!bad && uv_hrtime() / 1000000u < deadline);
        if (n < 0 && !hung_up && left == 0) {
            struct pollfd both[2] = {{.fd = md_backend_fd(rt), .events = POLLIN},
                                     {.fd = fd, .events = POLLIN}};
            int wait = md_backend_timeout(rt);
            poll(both, 2, wait < 0 || wait > 100 ? 100 : wait);
        }
    }
    fuzz_check(!frame_is_partial(&reader));
    frame_clear(&reader);
    return ended;
}

void fuzz_one(const uint8_t *data, size_t size)
{
    static const char last[] = "{\"id\":" END ",\"verb\":\"level\"}";
    fuzz_input in = {data, size};
    md_runtime *rt = fuzz_runtime(true, false);
    struct text input = make_input(&in), nothing = {0};
    add_frame(&nothing, last, sizeof last - 1);
    if (is_harmless(&input)) {
        int fd = fuzz_connect("control");
        add_frame(&input, last, sizeof last - 1);
        if (!talk(rt, fd, &input)) { /* it was no protocol */
            close(fd);
            fd = fuzz_connect("control");
            fuzz_check(talk(rt, fd, &nothing));
        }
        close(fd);
        md_set_log_level(rt, "off");
        while (md_poll(rt, UINT64_MAX) > 0) {
        }
    }
    free(input.bytes);
    free(nothing.bytes);
}
