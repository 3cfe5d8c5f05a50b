/* moondog: a resilience runtime for NATS that is scripted in Lua; here for programs that have a
 * main() of their own. This header is the specification.
 *
 * Threads. A runtime has one loop thread: the one that calls md_run() or md_poll(), or that runs
 * the loop it was given. Unless it says otherwise, a function may be called from that thread only;
 * from callbacks on it, too. md_wakeup(), md_interrupt() and md_post() may be called from any
 * thread. No function blocks, unless it says so. A process may have several runtimes, on one thread
 * or on many; they share nothing of moondog's.
 *
 * Errors. Functions that can fail return -1 (or NULL) and fill *error, which may be NULL.
 *
 * Ownership. What is passed is borrowed for the call, unless it says otherwise; what a callback
 * gets is valid until it returns. A callback must not unwind through moondog: no longjmp(), no
 * exception.
 *
 * The process is yours. moondog writes to no descriptor but the log's, takes no signal unless it is
 * asked to (budget_signal), blocks all signals in the threads that it starts, and ends the process
 * only when one of its own assertions fails. The NATS library seeds rand() in the first
 * md_create(), and SIGPIPE is ignored from then on where it has no handler; a host that has one,
 * and a control socket, gets it, as libuv wants it. Once loaded it stays, since threads of the NATS
 * library go on: dlclose() leaves libmoondog.so where it is, and a plugin that has libmoondog.a
 * inside must not be unloaded.
 *
 * Lua. moondog links LuaJIT as a shared library, and modules in C that scripts require find it
 * there: a host that loads moondog with dlopen() says RTLD_GLOBAL for them. One that has a Lua of
 * its own links libmoondog.so, and its Lua from an archive with -Wl,--exclude-libs,ALL; md_create()
 * fails ("other_lua") where the one would get the calls of the other.
 *
 * ABI. What is exported begins with md_; nothing else is. Structs that begin with their size may
 * grow at the end, the others never change; functions keep what they mean. Whatever breaks this
 * changes the number in the library's name (soname). */
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
typedef struct md_error {
    char code[32];
    char message[1024];
    char traceback[4096];
} md_error;

/* ---- hooks of the host ---- */

/* One finished log line, without newline. Called on the log's own thread, one line at a time; it
 * may block. level: 0 debug, 1 info, 2 warn, 3 error. */
typedef void (*md_log_fn)(void *closure, int level, const char *line, size_t length);

/* The memory of scripts: all that their interpreters use. A new block of new_size bytes, aligned
 * for any type (block NULL); the block with another size, its content kept (NULL: there is no
 * memory, and the block is as it was); or, new_size 0, the end of the block and NULL. Called on the
 * loop thread and, at a reload, at the same time on the one that loads. */
typedef void *(*md_alloc_fn)(void *closure, void *block, size_t old_size, size_t new_size);

/* Nanoseconds since 1970: the time that log lines, reports and scripts (os.time(), os.date()) have.
 * Deadlines, timers and moondog.now() go by the system's monotonic clock, which nobody can set. Any
 * thread; it does not block. */
typedef int64_t (*md_clock_fn)(void *closure);

/* The runtime has stopped, of itself or because of md_stop(). md_free() is next, not from within
 * this, but when md_run() or md_poll() has returned; on a loop that is the caller's, uv_stop() in
 * here lets uv_run() return for it. */
typedef void (*md_stopped_fn)(void *closure);

/* Fill it with md_options_init(), then change what you want. Strings are borrowed for the call, the
 * loop until md_free(). */
typedef struct md_options {
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
    int budget_signal; /* a signal of the process's, such as SIGURG, that stops functions of
                          scripts at their budget: they run faster with one. It stays taken
                          until the process ends; several runtimes may share it. 0 (default):
                          none; the interpreter looks now and then whether it shall stop */
    md_alloc_fn alloc; /* NULL: malloc() and its like */
    void *alloc_closure;
    md_clock_fn clock; /* NULL: the system's */
    void *clock_closure;
    md_stopped_fn stopped; /* NULL: nobody is told */
    void *stopped_closure;
} md_options;

/* What a reload did. */
typedef struct md_reload_result {
    uint32_t generation; /* the number of the one that is at work now */
    uint32_t subscriptions_kept, subscriptions_added, subscriptions_removed;
    uint32_t connections_kept, connections_added, connections_removed;
    uint32_t connections_redialled; /* of those kept: their options need a new link */
    double load_ms, swap_ms;        /* swap: for so long the loop did nothing else */
} md_reload_result;

/* Called on the loop thread, when the reload is over. One of result and error is NULL; both are
 * valid for the call. */
typedef void (*md_reload_fn)(void *closure, const md_reload_result *result, const md_error *error);

/* ---- the life of a runtime ---- */

/* The version of the library, as "1.2.3". Any thread. */
MD_API const char *md_version(void);

/* Defaults for all that this header knows: it has to be called through the macro, which says how
 * much that is. */
MD_API void md_options_init_sized(md_options *options, size_t size);
#define md_options_init(options) md_options_init_sized((options), sizeof(md_options))

/* A runtime without a script. NULL and *error when it cannot be made: then it may have turned the
 * loop, as md_free() does. The caller frees it. */
MD_API md_runtime *md_create(const md_options *options, md_error *error);

/* Runs the loop until the runtime has stopped, or something calls uv_stop(). 0; -1: it is called
 * from a callback of the runtime's, and does nothing, which the log says. */
MD_API int md_run(md_runtime *runtime);

/* For a host that has a frame to draw: does what there is to do, for at most max_us microseconds,
 * and never waits; UINT64_MAX: until all is done. It takes longer than that by one function of the
 * script or of the host at most, and less than a microsecond when nothing has happened; each call
 * gets at least one thing done, and nothing waits for ever because of other things. Returns how
 * many messages and other things still wait (0: all is done), or -1: the runtime has stopped, or
 * this is called from a callback of the runtime's: then it does nothing, which the log says. On a
 * loop that is the caller's this turns that loop: what else is on it, other runtimes too, has no
 * limit. */
MD_API int md_poll(md_runtime *runtime, uint64_t max_us);

/* For a host with an event loop of its own: a descriptor that can be read (epoll, poll) when
 * md_poll() has something to do, and after how many milliseconds md_poll() is to be called at the
 * latest; 0: now, -1: only when the descriptor can be read. Ask for the time again after each call
 * of any function of moondog. The descriptor is the runtime's and stays the same. */
MD_API int md_backend_fd(const md_runtime *runtime);
MD_API int md_backend_timeout(const md_runtime *runtime);

/* Begins to stop: subscriptions are drained, handlers that run are finished, what was published is
 * flushed, all within drain_ms; then md_run() returns, md_poll() returns -1, and options.stopped is
 * called. Called again: at once. */
MD_API void md_stop(md_runtime *runtime);

/* Ends everything and frees; what was posted and never run is told so. Blocks, for two seconds at
 * most, when links are up or a disk is slow: after md_stop() it hardly does. It turns the loop, so
 * it must not be called from a callback, of the loop or of moondog. Subscriptions that are left are
 * freed: none of them may be used any more. Returns how many threads had to be left to themselves
 * because they hang inside the NATS library or in a script, or because a second md_stop() wanted
 * nothing to be waited for: 0 nearly always; otherwise nats_Close() must not be called. NULL is
 * harmless. */
MD_API unsigned md_free(md_runtime *runtime);

/* ---- from any thread, until md_free() begins ---- */

/* The loop turns: what waits in md_run(), or on the backend descriptor, goes on. */
MD_API void md_wakeup(md_runtime *runtime);

/* The function of the script that runs now is stopped at one of its next instructions, as if its
 * budget were over: it gets an error, which is logged and counted, and the next one is called as
 * ever; so are a load that is under way, which fails, and an evaluation. When none runs, nothing
 * happens. It is not for signal handlers. Neither code inside C functions nor what was compiled can
 * be stopped. */
MD_API void md_interrupt(md_runtime *runtime);

/* `runtime` NULL: it was freed before it came to this; all that is left is to free the closure. */
typedef void (*md_post_fn)(md_runtime *runtime, void *closure);

/* Calls fn on the loop thread, soon, once, in the order of the posts. -1: MD_POSTS_MAX of them wait
 * already (the status counts those that were refused), there is no memory, or fn is NULL; then fn
 * is not called. options.log_write may call this, and no other function of the runtime's, also
 * while md_free() goes on: then it is refused. */
MD_API int md_post(md_runtime *runtime, md_post_fn fn, void *closure);
#define MD_POSTS_MAX 65536

/* ---- scripts ---- */

/* From the next load on, the file `path` (a script or a module that it requires; spelt as it is
 * asked for: modules are FOLDER/NAME.lua, in the folder of the script) has this text, whatever is
 * on the disk. `text` is copied; NULL: what is on the disk counts again. -1 and *error: it is
 * larger than 16 MiB, all of them together than 64 MiB, or there is no memory. */
MD_API int md_set_file(md_runtime *runtime, const char *path, const char *text, size_t length,
                       md_error *error);

/* Loads the script and puts it to work: its connections are dialled, its subscriptions made. Blocks
 * for at most load_budget_ms. When anything is wrong, nothing has changed. A runtime has one
 * script: after this it is md_reload(). -1 and *error ("unreadable", "syntax", "script": it raised
 * an error; "loaded": there is one already; "stopping"; "no_memory"; others name what a declaration
 * has wrong). */
MD_API int md_load(md_runtime *runtime, const char *path, md_error *error);

/* Loads the script again, in a thread of its own, and puts it to work in the place of the running
 * one: no message is lost, and none is handled twice, but where options of a connection have
 * changed that need a new link: while both links are up, a subscription without a queue group may
 * get one from each. When anything is wrong, nothing has changed. `previous`: from the text of the
 * generation before instead of the files. Reloads come one after the other; those that are asked
 * for meanwhile become one, and the last one says whether it is `previous`. fn is never called from
 * within this; it may be NULL. -1 and *error ("no_script", "stopping", "no_memory"): it was not
 * begun, and fn is not called. */
MD_API int md_reload(md_runtime *runtime, int previous, md_reload_fn fn, void *closure,
                     md_error *error);

/* Loads the script without putting it to work, and writes what it declares to *report, as lines of
 * text or as one line of JSON. The caller frees *report with free(). 0; 1 when something is
 * probably a mistake, which the report says; -1 and *error when it cannot be loaded: then there is
 * no report. Blocks for at most load_budget_ms. */
MD_API int md_check(md_runtime *runtime, const char *path, int json, char **report,
                    md_error *error);

/* The state of the runtime as one line of JSON, to be freed with free(). NULL: no memory. */
MD_API char *md_status(md_runtime *runtime);

/* What the log has from now on: "debug", "info", "warn", "error" or "off". -1: it is none of these.
 * Any thread. */
MD_API int md_set_log_level(md_runtime *runtime, const char *level);

/* ---- plain data ---- */

/* What host and script tell each other: nil, booleans, numbers, strings of any bytes, lists and
 * maps with strings as keys, MD_DEPTH_MAX deep and MD_DATA_BYTES_MAX large at most. */
typedef enum { MD_NIL, MD_BOOLEAN, MD_NUMBER, MD_STRING, MD_LIST, MD_MAP } md_type;
#define MD_DEPTH_MAX 32
#define MD_DATA_BYTES_MAX (8u * 1024 * 1024)

typedef struct md_value md_value;
typedef struct md_field md_field;

struct md_value {
    md_type type;
    union {
        int boolean;
        double number;
        struct {
            const char *data; /* what moondog gives has a zero byte behind it */
            size_t length;
        } string;
        struct {
            const md_value *items;
            size_t count;
        } list; /* a table with the keys 1..count, and {}; to scripts, a nil in it is a hole */
        struct {
            const md_field *fields;
            size_t count;
        } map; /* in no order */
    } as;
};

struct md_field {
    const char *name; /* ends with a zero byte */
    md_value value;
};

/* Values for the caller to fill in; what they point to is borrowed. Any thread. */
MD_API md_value md_nil(void);
MD_API md_value md_boolean(int boolean);
MD_API md_value md_number(double number);
MD_API md_value md_string(const char *text); /* NULL: nil */
MD_API md_value md_bytes(const void *data, size_t length);
MD_API md_value md_list(const md_value *items, size_t count);
MD_API md_value md_map(const md_field *fields, size_t count);

/* The value of that name in a map; a nil when there is none, or `map` is none. Never NULL. Any
 * thread. */
MD_API const md_value *md_get(const md_value *map, const char *name);

/* ---- host and script ---- */

/* A call of a function of the host, by a script. */
typedef struct md_call md_call;

/* It does not have to return anything. A script cannot wait in it. It may call whatever may be
 * called from a callback. */
typedef void (*md_function)(void *closure, md_call *call);

/* From now on scripts, also those that are at work, have host.name(...), until md_free(). They can
 * call it from when they are at work (moondog.on_start), not while they are loaded. A name that was
 * registered before gets the new function; fn NULL: there is none any more. -1, and the log says
 * why: the name is no identifier, or there is no memory. */
MD_API int md_register(md_runtime *runtime, const char *name, md_function fn, void *closure);

/* What it was called with, as it was called; a nil where there is nothing. Never NULL. Something
 * that is no plain data is the script's error: then the function is not called. */
MD_API size_t md_call_count(const md_call *call);
MD_API const md_value *md_call_argument(const md_call *call, size_t index);
/* One more result. It is copied. -1: too large, too deep, or no memory: the call fails then. */
MD_API int md_call_return(md_call *call, const md_value *value);
/* The script gets nil and an error of this code and message, as from moondog's own functions. */
MD_API void md_call_fail(md_call *call, const char *code, const char *message);
/* The script has used it wrongly: an error is raised where it called. */
MD_API void md_call_misuse(md_call *call, const char *message);

/* Calls what scripts gave to moondog.on_event(event, f), as f(data), in the order in which they
 * gave it; what waits in there goes on later. From within a function of the host it happens soon
 * after that, and in a poll whose time is over in a later one, in the order of the calls. `data`
 * NULL: nil. Returns how many were called, or will be; -1, and the log says why: too large, too
 * deep, no memory, or MD_EVENTS_MAX of them, or 64 MiB of data, wait already (the status counts
 * what was refused). */
MD_API int md_emit(md_runtime *runtime, const char *event, const md_value *data);
#define MD_EVENTS_MAX 65536

/* What a piece of Lua evaluated to. One of error and results is NULL. */
typedef void (*md_eval_fn)(void *closure, const md_value *results, size_t count,
                           const md_error *error);

/* Runs an expression or statements in the globals of the script, as a console does: in slices,
 * beside all else; it may wait. fn is called once, on the loop thread, never from within this: with
 * the results (what is no plain data as its text), or with the error; code "replaced" when a reload
 * or md_free() came before its end. `fn` may be NULL. -1 and *error: it was not begun
 * ("no_script", "stopped", "too_large", "too_many": MD_EVALS_MAX are under way, "no_memory"). */
MD_API int md_eval(md_runtime *runtime, const char *code, md_eval_fn fn, void *closure,
                   md_error *error);
#define MD_EVALS_MAX 64

/* ---- messages without Lua ---- */

/* Over a connection that the script declares, with all that is done for it: fresh links, what waits
 * for one, reloads. `connection` is its name; NULL: the only one, or the first. */

typedef struct md_header {
    const char *name, *value;
} md_header;

/* Begin with `md_outgoing m = {.size = sizeof m}`; in C++ `md_outgoing m = {}; m.size = sizeof m`.
 */
typedef struct md_outgoing {
    size_t size;            /* of this struct, as the caller knows it */
    const char *connection; /* NULL: see above */
    const char *subject;
    const char *reply; /* NULL: none; md_request() has one of its own */
    const void *data;
    size_t length;
    const md_header *headers;
    size_t header_count;
    uint32_t timeout_ms; /* of md_request(); 0: 2000 */
} md_outgoing;

/* A message that came. */
typedef struct md_message md_message;
MD_API const char *md_message_subject(const md_message *message);
MD_API const char *md_message_reply(const md_message *message); /* NULL: none */
MD_API const void *md_message_data(const md_message *message, size_t *length);
/* The first value of that header, whose name is compared as it is; NULL: there is none. A message
 * with more than 1000 lines of headers has none that can be read. */
MD_API const char *md_message_header(const md_message *message, const char *name);

/* Takes the message, to be sent in order. -1 and *error when it is refused ("pending_full",
 * "too_large", "invalid_subject", "invalid_header", "no_connection", "closed", "no_memory";
 * "usage": the struct makes no sense). */
MD_API int md_publish(md_runtime *runtime, const md_outgoing *message, md_error *error);

/* Once: with the answer, or with an error ("timeout", "no_responders", "disconnected", "closed").
 */
typedef void (*md_answer_fn)(void *closure, const md_message *answer, const md_error *error);

/* fn is never called from within this. -1 and *error: it was not sent, and fn is not called; codes
 * as of md_publish(), and "disconnected" while there is no link, "too_many" when 262144 wait. */
MD_API int md_request(md_runtime *runtime, const md_outgoing *message, md_answer_fn fn,
                      void *closure, md_error *error);

typedef struct md_subscription md_subscription;

/* Begin with the size, as above. */
typedef struct md_interest {
    size_t size;            /* of this struct, as the caller knows it */
    const char *connection; /* NULL: see above */
    const char *subject;
    const char *queue;         /* group; NULL: none */
    uint64_t pending_messages; /* that may wait to be handled; 0: 524288 */
    /* Of subject, reply, headers and data; 0: 64 MiB. At these caps the newest are dropped and
     * counted. */
    uint64_t pending_bytes;
} md_interest;

typedef void (*md_message_fn)(void *closure, md_subscription *subscription,
                              const md_message *message);

/* fn handles the messages of the subject until md_unsubscribe() or md_free(). The subscription
 * survives reloads: while no script declares the connection it waits for one that does (and may be
 * made before the first script is loaded). NULL and *error: the subject is none, there is no
 * memory, or there are a million. When a reload changes the options of the connection, a message
 * may come twice while the new link takes the place of the old one; with a queue group it does not.
 */
MD_API md_subscription *md_subscribe(md_runtime *runtime, const md_interest *interest,
                                     md_message_fn fn, void *closure, md_error *error);
/* No message is handled after this; it is freed. May be called from its own fn. Not after
 * md_free(). NULL is harmless. */
MD_API void md_unsubscribe(md_subscription *subscription);

#ifdef __cplusplus
}
#endif

#endif
