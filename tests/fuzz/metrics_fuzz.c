/* Metrics of scripts: names, helps, labels and numbers of any kind. What is written can be read by
 * whoever knows Prometheus' format. One thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "fuzz.h"
#include "health/exposition.h"
#include "health/user_metrics.h"

/* The value of a label as it was before it was escaped; the end of it, behind the quote. */
static const char *unescape(const char *at, char *out)
{
    for (; *at != '"'; at++) {
        fuzz_check(*at != '\0' && *at != '\n');
        if (*at == '\\') {
            at++;
            fuzz_check(*at == 'n' || *at == '"' || *at == '\\');
            *out++ = *at == 'n' ? '\n' : *at;
        } else {
            *out++ = *at;
        }
    }
    *out = '\0';
    return at + 1;
}

/* What was put in comes out, but for bytes that are not UTF-8. */
static bool check_label(char *labels, size_t size, const char *value)
{
    size_t before = strlen(labels);
    if (!exposition_label(labels, size, "name", value)) {
        fuzz_check(strlen(labels) == before);
        return false;
    }
    char *good = utf8_repair(value, strlen(value)), *read = malloc(size);
    const char *from = strchr(labels + before, '"') + 1;
    fuzz_check(*unescape(from, read) == '\0');
    fuzz_check(strcmp(read, good) == 0);
    free(good);
    free(read);
    return true;
}

/* One line: a comment, or `name value` or `name{labels} value`. */
static void check_line(char *line)
{
    char *labels = strchr(line, '{'), *end = NULL;
    if (line[0] == '#') {
        fuzz_check(strncmp(line, "# HELP ", 7) == 0 || strncmp(line, "# TYPE ", 7) == 0);
        return;
    }
    char *value = labels != NULL ? strrchr(labels, '}') + 1 : strchr(line, ' ');
    fuzz_check_text(value != NULL && value[0] == ' ', line);
    (void)strtod(value + 1, &end); /* takes +Inf, -Inf and NaN */
    fuzz_check_text(end > value + 1 && *end == '\0', line);
    size_t name = strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:");
    fuzz_check_text(name > 0 && (line[name] == '{' || line[name] == ' '), line);
}

static void check_page(struct user_metrics *all)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    struct user_metrics_copy *copy = user_metrics_copy(all);
    user_metrics_write(copy, out);
    user_metrics_copy_free(copy);
    fclose(out);
    fuzz_check(strlen(text) == length);
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        check_line(line);
    }
    free(text);
}

static void change(fuzz_input *in, struct metric *m, const char *labels)
{
    error e = {0};
    double number = fuzz_number(in);
    switch (metric_get_type(m)) {
    case METRIC_COUNTER:
        metric_add(m, labels, number, &e);
        break;
    case METRIC_GAUGE:
        metric_set(m, labels, number, &e);
        break;
    case METRIC_HISTOGRAM:
        metric_observe(m, labels, number, &e);
        break;
    }
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    char labels[USER_LABELS_BYTES];
    size_t ignored;
    struct user_metrics *all = user_metrics_new();
    while (in.left > 0) {
        error e = {0};
        metric_type type = (metric_type)fuzz_below(&in, 3);
        char *name = fuzz_bytes(&in, &ignored), *help = fuzz_bytes(&in, &ignored);
        struct metric *m =
            metric_declare(all, &(metric_declaration){type, name, help, histogram_handler}, &e);
        fuzz_check((m == NULL) == (e.code[0] != '\0'));
        labels[0] = '\0';
        for (unsigned i = fuzz_below(&in, 3); i > 0; i--) {
            char *value = fuzz_bytes(&in, &ignored);
            check_label(labels, sizeof labels, value);
            free(value);
        }
        if (m != NULL) {
            change(&in, m, labels);
            check_page(all);
            metric_release(m);
        }
        free(name);
        free(help);
    }
    user_metrics_free(all);
}
