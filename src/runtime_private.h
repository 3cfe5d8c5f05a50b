/* The inside of a runtime, shared by runtime.c (its beginning and its end), load.c (the first
 * script), run.c (its turns) and poll.c (those of a host that polls), reload.c (one generation
 * after another), swap.c (one in the place of the other), retire.c (what was replaced) and
 * watch_files.c. Loop thread. */
#ifndef MD_RUNTIME_PRIVATE_H
#define MD_RUNTIME_PRIVATE_H

#include "base/clock.h"
#include "base/log.h"
#include "conn/hub.h"
#include "host/eval.h"
#include "host/events.h"
#include "host/functions.h"
#include "host/posts.h"
#include "moondog.h"
#include "outbox/outbox.h"
#include "script/failure.h"
#include "script/generation.h"

struct control;
struct load_job;
struct reload_request;
struct file_watch;

/* Generations after the first one. */
struct reloads {
    struct generation *retiring; /* replaced, and not freed yet; the newest first */
    unsigned retiring_count;
    sources *previous; /* of the generation that was replaced last; NULL: none */
    sources *seen;     /* what the files said when they were last loaded, well or not */
    bool seen_failed;
    struct load_job *job;     /* under way, or NULL */
    struct load_job *hanging; /* given up: inside code that nothing can stop */
    unsigned hanging_count;
    struct reload_request *waiting, **waiting_end; /* for the next job */
    uv_mutex_t lock;                               /* of `ended` */
    bool ended;                                    /* `loaded` is not to be used any more */
    uv_async_t loaded;
    uv_timer_t deadline; /* of the job */
    uv_timer_t tick;     /* while generations retire, or one is on probation */
    uv_work_t trim;      /* gives memory back to the system */
    bool trimming;
    unsigned handles; /* open ones of these */
    uint64_t done, failed;
    md_error last_error;      /* code "": none */
    int64_t last_error_at;    /* ms since 1970 */
    uint64_t probation_until; /* ms; 0: the generation is not on probation */
};

/* What a supervisor (src/cli/supervise.h) has told this process. */
typedef struct {
    bool active;                          /* there is one: it keeps the versions of the script */
    unsigned long crashed, wedged, ended; /* so often it was started again, by why */
    int64_t at;                           /* of the last one, ms since 1970 */
    char reason[384];                     /* why the process before ended; "": there was none */
    uint32_t worked;                      /* the generation that was told to work last */
    char script[16]; /* what this one began with: "file", "same", "last_good" */
} supervision;

static inline unsigned long supervision_restarts(const supervision *s)
{
    return s->crashed + s->wedged + s->ended;
}

struct md_runtime {
    uv_loop_t own_loop, *loop;
    char *name;
    struct hub hub;
    sentinel sentinel;
    struct logger *log;
    generation_limits limits;
    struct failures failures; /* of functions of the script */
    struct user_metrics *user_metrics;
    struct ledgers *ledgers;   /* of consumers of JetStream */
    struct messages *messages; /* what the host sends and subscribes to */
    struct outboxes outboxes;
    struct functions functions; /* of the host, for scripts */
    struct events events;       /* of the host, to scripts */
    struct evaluations evaluations;
    struct health *health; /* NULL: nobody wants to know */
    notify *manager;       /* the service manager; NULL: none */
    bool ready_told;       /* the manager knows that the script is at work */
    uint32_t stall_ms;
    supervision supervision;
    uint32_t drain_ms;
    uint32_t probation_ms;
    double probation_rate;
    uint32_t generations; /* numbers given out */
    struct generation *generation;
    struct reloads reloads;
    struct file_watch *watch; /* NULL: files are not watched */
    struct control *control;  /* NULL: no control socket */
    uint64_t created_at;      /* ms */
    uv_timer_t stop_timer;
    struct posts posts;
    sources *files;       /* that the host has given; not changed, but replaced; NULL: none */
    bool running;         /* inside md_run() */
    bool refused_to_turn; /* from within a callback: that was said */
    bool settled;         /* the last turn of a poll had nothing to do */
    bool polled_late;     /* the last poll ended because its time was over */
    unsigned late_polls;  /* how many began after such a one */
    md_stopped_fn on_stopped;
    void *stopped_closure;
    bool stopping, stopped;
    unsigned stops_asked;   /* by functions of the host: carried out between two turns */
    bool forced;            /* the second md_stop(): nothing is waited for */
    uint64_t stop_deadline; /* ms, of the whole stop */
};

/* Whether a callback of the runtime's goes on, so that `what` must not turn the loop; says so. */
bool runtime_refuses_to_turn(md_runtime *rt, const char *what);
/* As md_load(); files that are in `from` are taken from there. It belongs to the runtime, in any
 * case; NULL: all are read. */
int runtime_load(md_runtime *rt, const char *path, sources *from, md_error *out);
/* Whether the script at work is not the newest one, but the last good one of the supervisor's. */
bool runtime_is_fallback(const md_runtime *rt);
/* A generation was put to work: a supervisor gets its text. */
void runtime_keep_version(md_runtime *rt, const struct generation *g);
/* Both return -1. */
int runtime_fail(md_error *out, const char *code, const char *message);
int runtime_error(md_error *out, const error *e, const char *traceback);

/* run.c */
#define RUNTIME_END_GRACE_MS 2000u /* for links to end, once the drain is over */
/* Between two turns of the loop; `rt` is the closure. */
void runtime_turn(void *rt);
/* The loop turns now and then, and what stops is stopped at its deadline. */
void runtime_start_tick(md_runtime *rt);
/* Whether all are closed. What hangs inside the library is not waited for. */
bool runtime_connections_are_over(const md_runtime *rt);
/* It is freed next. */
void runtime_forget(md_runtime *rt, const struct connection *c);

/* reload.c */
int reload_init(md_runtime *rt);
/* Tells those who wait, ends the generations that retire, at once. Returns how many loads hang, in
 * threads that still use the runtime. */
unsigned reload_end_all(md_runtime *rt);
/* Starts to close the handles; reload_closed() says when they are. */
void reload_close(md_runtime *rt);
bool reload_closed(const md_runtime *rt);
/* Between two turns. */
void reload_turn(md_runtime *rt);
/* Because files may have changed; `maybe_new`: there may be one that was missing. */
void reload_if_changed(md_runtime *rt, bool maybe_new);
/* The generation before shall come back, if number `from` is still at work then. -1: no memory. */
int reload_go_back(md_runtime *rt, uint32_t from);
/* The files were loaded, and this is what they said; NULL: unknown. */
void reload_note_seen(md_runtime *rt, sources *seen, bool failed);

/* swap.c */
/* Puts `fresh` to work in the place of the running one. `previous`: it is one that was before, and
 * needs no probation. Fills *result but for load_ms. 0, or -1 and *e: then all is as before. */
int swap_in(md_runtime *rt, struct generation *fresh, bool previous, md_reload_result *result,
            error *e);
/* Between two turns. */
void swap_check_probation(md_runtime *rt);

/* retire.c */
/* It was replaced: see generation_retire(). */
void retire_add(md_runtime *rt, struct generation *g);
/* It was made, and is not put to work. NULL is harmless. */
void retire_discard(md_runtime *rt, struct generation *g);
/* Between two turns: those that retire make progress. */
void retire_turn(md_runtime *rt);
/* The loop turns now and then from here on, until nothing needs it any more. */
void retire_start_tick(md_runtime *rt);
/* Ends all of them, at once. */
void retire_end_all(md_runtime *rt);

/* watch_files.c */
/* NULL: no memory. */
struct file_watch *file_watch_new(md_runtime *rt);
/* From now on the files of both are watched; each may be NULL. */
void file_watch_set(struct file_watch *w, const sources *a, const sources *b);
/* Closes the handles; it is freed when they are closed. */
void file_watch_close(struct file_watch *w);
bool file_watch_closed(const md_runtime *rt);

#endif
