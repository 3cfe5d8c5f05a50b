/* What is served over HTTP: /livez, /readyz, /metrics, /status. The HTTP server's thread. */
#ifndef MD_HEALTH_PAGES_H
#define MD_HEALTH_PAGES_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>

struct health;
struct pages;

/* NULL: no memory. */
struct pages *pages_new(struct health *h);
void pages_free(struct pages *p);

typedef struct {
    unsigned status;
    size_t length;
    struct MHD_Response *response; /* for MHD_queue_response(); not the caller's to destroy */
} page_answer;

/* The answer to a request; also when there is no such page. False: no memory. */
bool pages_answer(struct pages *p, const char *method, const char *path, page_answer *out);

#endif
