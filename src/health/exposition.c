/* Prometheus' text format. See exposition.h. */
#include "health/exposition.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* Returns the end, or NULL when there is no room for it and a zero byte. */
static char *escape(char *at, const char *end, const char *value)
{
    for (; *value != '\0'; value++) {
        bool two = *value == '\n' || *value == '"' || *value == '\\';
        if (end - at < 4)
            return NULL;
        if (two)
            *at++ = '\\';
        *at++ = *value == '\n' ? 'n' : *value;
    }
    return at;
}

bool exposition_label(char *out, size_t size, const char *name, const char *value)
{
    size_t length = strlen(out);
    char *end = out + size;
    int n = snprintf(out + length, size - length, "%s%s=\"", length > 0 ? "," : "", name);
    char *good = utf8_repair(value, strlen(value));
    char *at = good != NULL && n > 0 && (size_t)n < size - length
                   ? escape(out + length + n, end, good)
                   : NULL;
    free(good);
    if (at == NULL || end - at < 2) {
        out[length] = '\0';
        return false;
    }
    *at++ = '"';
    *at = '\0';
    return true;
}

/* In HELP, a quote stands for itself. */
static void write_help(FILE *out, const char *help)
{
    for (; *help != '\0'; help++) {
        if (*help == '\n')
            fputs("\\n", out);
        else if (*help == '\\')
            fputs("\\\\", out);
        else
            fputc(*help, out);
    }
}

void exposition_family(exposition *x, const char *name, const char *type, const char *help)
{
    x->family = name;
    fprintf(x->out, "# HELP %s ", name);
    write_help(x->out, help);
    fprintf(x->out, "\n# TYPE %s %s\n", name, type);
}

/* As short as it can be without being another number. */
static void write_bound(char *out, size_t size, double bound)
{
    for (int digits = 10; digits <= 17; digits++) {
        snprintf(out, size, "le=\"%.*g\"", digits, bound);
        if (strtod(out + 4, NULL) == bound)
            return;
    }
}

static void write_number(FILE *out, double value)
{
    if (isnan(value))
        fputs("NaN", out);
    else if (isinf(value))
        fputs(value > 0 ? "+Inf" : "-Inf", out);
    else
        fprintf(out, "%.17g", value);
}

static void write_name(exposition *x, const char *suffix, const char *labels, const char *more)
{
    fprintf(x->out, "%s%s", x->family, suffix);
    if (labels[0] != '\0' || more[0] != '\0')
        fprintf(x->out, "{%s%s%s}", labels, labels[0] != '\0' && more[0] != '\0' ? "," : "", more);
    fputc(' ', x->out);
}

void exposition_sample(exposition *x, const char *labels, double value)
{
    write_name(x, "", labels, "");
    write_number(x->out, value);
    fputc('\n', x->out);
}

void exposition_count(exposition *x, const char *labels, uint64_t value)
{
    write_name(x, "", labels, "");
    fprintf(x->out, "%llu\n", (unsigned long long)value);
}

void exposition_histogram(exposition *x, const char *labels, const histogram_shape *shape,
                          const histogram *h)
{
    char bound[48];
    uint64_t below = 0;
    for (unsigned i = 0; i <= shape->count; i++) {
        below += h->counts[i];
        if (i < shape->count)
            write_bound(bound, sizeof bound, shape->bounds[i]);
        else
            snprintf(bound, sizeof bound, "le=\"+Inf\"");
        write_name(x, "_bucket", labels, bound);
        fprintf(x->out, "%llu\n", (unsigned long long)below);
    }
    write_name(x, "_sum", labels, "");
    write_number(x->out, h->sum);
    fputc('\n', x->out);
    write_name(x, "_count", labels, "");
    fprintf(x->out, "%llu\n", (unsigned long long)below);
}

void exposition_single(exposition *x, const char *name, const char *type, const char *help,
                       double value)
{
    exposition_family(x, name, type, help);
    exposition_sample(x, "", value);
}
