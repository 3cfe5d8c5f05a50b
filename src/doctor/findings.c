/* Findings of the doctor as JSON. See findings.h. Main thread. */
#include "doctor/findings.h"

#include <stdarg.h>
#include <stdio.h>

#include "report.h"

#define TEXT_SIZE 1400 /* a message of an error, and what stands around it */

int findings_init(findings *f)
{
    *f = (findings){.list = json_array()};
    return f->list != NULL ? 0 : -1;
}

void findings_clear(findings *f)
{
    json_decref(f->list);
    f->list = NULL;
}

const char *finding_status_name(finding_status status)
{
    static const char *const names[] = {"ok", "warning", "problem", "skipped"};
    return names[status];
}

static void set_text(json_t *one, const char *key, const char *text)
{
    if (text != NULL)
        json_object_set_new(one, key, report_text(text));
}

void finding(findings *f, finding_status status, const char *check, const char *what, ...)
{
    char text[TEXT_SIZE];
    va_list args;
    va_start(args, what);
    vsnprintf(text, sizeof text, what, args);
    va_end(args);
    f->problems += status == FINDING_PROBLEM;
    f->warnings += status == FINDING_WARNING;
    json_t *one = json_pack("{s:s, s:s, s:o}", "check", check, "status",
                            finding_status_name(status), "what", report_text(text));
    set_text(one, "process", f->process);
    set_text(one, "connection", f->connection);
    set_text(one, "server", f->server);
    json_array_append_new(f->list, one);
}

void finding_remedy(findings *f, const char *remedy, ...)
{
    char text[TEXT_SIZE];
    va_list args;
    va_start(args, remedy);
    vsnprintf(text, sizeof text, remedy, args);
    va_end(args);
    set_text(json_array_get(f->list, json_array_size(f->list) - 1), "remedy", text);
}
