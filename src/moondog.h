/* moondog: a resilience runtime for NATS that is scripted in Lua.
 *
 * A runtime has one loop thread. Unless it says otherwise, a function may be called from that
 * thread only, and from callbacks on it. Functions that can fail return 0 or -1 and fill *error. */
#ifndef MOONDOG_H
#define MOONDOG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MD_API __attribute__((visibility("default")))

typedef struct md_runtime md_runtime;
struct uv_loop_s;

/* code: a stable identifier ("" = no error). message: one line that says what, where (file:line for
 * a script), and what to do. traceback: of the script, or "". */
typedef struct {
    char code[32];
    char message[1024];
    char traceback[4096];
} md_error;

/* One finished log line, without newline. Called on the log's own thread. level: 0 debug, 1 info,
 * 2 warn, 3 error. */
typedef void (*md_log_fn)(void *closure, int level, const char *line, size_t length);

/* Fill it with md_options_init(), then change what you want. Strings and the loop are borrowed: the
 * strings for the call, the loop until md_free(). */
typedef struct {
    size_t size;            /* of this struct, as the caller knows it */
    struct uv_loop_s *loop; /* NULL: the runtime has a loop of its own */
    const char *name;       /* of this runtime, in logs; default "moondog" */
    int log_fd;             /* default 2; ignored when log_write is set */
    const char *log_format; /* "auto" (default), "logfmt", "short", "json" */
    const char *log_level;  /* "debug", "info" (default), "warn", "error", "off" */
    md_log_fn log_write;    /* NULL: lines go to log_fd */
    void *log_closure;
    uint32_t handler_budget_ms; /* of an entry into Lua; default 100; 0: none */
    uint32_t load_budget_ms;    /* of loading a script; default 1000; 0: none */
    size_t memory_cap;          /* of a generation, in bytes; default 256 MiB; 0: none */
    uint32_t drain_ms;          /* deadline of the drain in md_stop(); default 10000 */
    uint32_t retire_ms;         /* for a replaced generation to finish; default 30000 */
    size_t state_cap;           /* of moondog.state at a reload, in bytes; default 16 MiB */
    int watch;                  /* not 0: reload when the script or one of its modules changes */
    uint32_t probation_ms;      /* after a reload; 0 (default): none */
    double probation_rate;      /* errors a handled message at which the generation before comes
                                   back; default 0.1 */
    const char *control;        /* path of the control socket; NULL (default): none */
    uint32_t stall_ms;          /* a loop that has not turned for so long is reported as stalled:
                                   not live; default 1000, and never less than twice
                                   handler_budget_ms and 250 ms more */
    int notify;                 /* not 0: the service manager of $NOTIFY_SOCKET is told what
                                   becomes of the runtime, by systemd's protocol */
    const char *http;           /* where health and metrics are served: "ADDRESS:PORT", "PORT" (on
                                   127.0.0.1), "unix:PATH"; NULL (default): nowhere */
} md_options;

/* What a reload did. */
typedef struct {
    uint32_t generation; /* the number of the one that is at work now */
    uint32_t subscriptions_kept, subscriptions_added, subscriptions_removed;
    uint32_t connections_kept, connections_added, connections_removed;
    uint32_t connections_redialled; /* of those kept: their options need a new link */
    double load_ms, swap_ms;        /* swap: for so long the loop did nothing else */
} md_reload_result;

/* Called on the loop thread, when the reload is over. One of result and error is NULL; both are
 * valid for the call. */
typedef void (*md_reload_fn)(void *closure, const md_reload_result *result, const md_error *error);

/* The version, as "1.2.3". Any thread. */
MD_API const char *md_version(void);
MD_API void md_options_init(md_options *options);

/* A runtime without a script. NULL and *error when it cannot be made. The caller frees it. */
MD_API md_runtime *md_create(const md_options *options, md_error *error);

/* Loads the script and puts it to work: its connections are dialled, its subscriptions made. Blocks
 * for at most load_budget_ms. When anything is wrong, nothing has changed. */
MD_API int md_load(md_runtime *runtime, const char *path, md_error *error);

/* Loads the script again, in a thread of its own, and puts it to work in the place of the running
 * one: no message is lost, none is handled twice. When anything is wrong, nothing has changed.
 * `previous`: from the text of the generation before instead of the files. Reloads come one after
 * the other; those that are asked for meanwhile become one. `fn` may be NULL. -1 and *error: it was
 * not begun, and fn is not called. May be called from a callback. */
MD_API int md_reload(md_runtime *runtime, int previous, md_reload_fn fn, void *closure,
                     md_error *error);

/* What the log has from now on: "debug", "info", "warn", "error" or "off". -1: it is none of these.
 * Any thread. */
MD_API int md_set_log_level(md_runtime *runtime, const char *level);

/* The state of the runtime as one line of JSON, to be freed with free(). NULL: no memory. */
MD_API char *md_status(md_runtime *runtime);

/* Loads the script without putting it to work, and writes what it declares to *report, as lines of
 * text or as one line of JSON. The caller frees *report with free(). 0; 1 when something is
 * probably a mistake, which the report says; -1 and *error when it cannot be loaded: then there is
 * no report. */
MD_API int md_check(md_runtime *runtime, const char *path, int json, char **report,
                    md_error *error);

/* Runs the loop until the runtime has stopped. */
MD_API int md_run(md_runtime *runtime);

/* Begins to stop: subscriptions are drained, handlers that run are finished, what was published is
 * flushed, all within drain_ms; then md_run() returns. Called again: at once. */
MD_API void md_stop(md_runtime *runtime);

/* Ends everything and frees. Links that hang inside the NATS library are left to themselves. NULL
 * is harmless. Not from a callback. */
MD_API void md_free(md_runtime *runtime);

#ifdef __cplusplus
}
#endif

#endif
