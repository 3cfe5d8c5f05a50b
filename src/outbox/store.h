/* The file of an outbox: one SQLite database (outbox/schema.h) and the lock beside it. Every call
 * may wait for the disk. A store belongs to one thread at a time, which is never the loop's:
 * outbox/writer.h. */
#ifndef MD_OUTBOX_STORE_H
#define MD_OUTBOX_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct store store;

typedef struct {
    const char *path;  /* borrowed for the call */
    bool fsync;        /* what was committed survives a loss of power, not only of the process */
    int64_t max_bytes; /* of all entries, as store_totals.bytes counts them */
    int64_t last_id;   /* the ids are larger than this, also of a new file; 0: any */
    uint32_t
        max_pages; /* of the file; 0: no limit but the disk's. Fewer than there are: no change */
} store_options;

/* Opens the file, and makes it (mode 0600) when there is none. NULL and *e: "outbox_locked"
 * (another process has it), "outbox_corrupt" (it is damaged, or no outbox), "disk_full",
 * "outbox_file" (all else: no folder, no permission, ...). A file that is not good is left as it
 * is. */
store *store_open(const store_options *options, error *e);
/* What was not committed is undone. NULL is harmless. */
void store_close(store *s);
void store_set_limits(store *s, int64_t max_bytes, bool fsync);

/* Whether the file is not at its path any more: somebody has moved or deleted it. */
bool store_has_moved(store *s);

/* Everything below happens in a transaction. Errors: "disk_full", "outbox_corrupt", "outbox_file",
 * "no_memory"; the transaction is to be rolled back then. */
int store_begin(store *s, error *e);
/* -1 and *e: it was rolled back. */
int store_commit(store *s, error *e);
void store_rollback(store *s);

typedef struct {
    const char *msg_id, *subject, *headers, *data;
    size_t header_length, data_length; /* header_length 0: none */
    int64_t created, expires;          /* ms since 1970; expires 0: never */
    bool latest;      /* takes the place of the one of the same subject that waits... */
    int64_t sent_max; /* ...unless its id is not larger than this: it may be on its way */
} store_message;

typedef struct {
    int64_t id;       /* of the entry that is there now */
    bool known;       /* its msg_id was waiting already: nothing was written */
    int64_t replaced; /* the id of the entry whose place it took; 0: none */
} store_put_result;

/* Also "outbox_full" and "set_aside" (an entry with this msg_id was refused for good): these two
 * have changed nothing, and the transaction can go on. */
int store_put(store *s, const store_message *m, store_put_result *out, error *e);
/* True in *was_there when there was such an entry. */
int store_remove(store *s, int64_t id, bool *was_there, error *e);
int store_set_aside(store *s, int64_t id, const char *reason, int64_t now, error *e);
/* Looks at those that wait with an id beyond *after, `max` of them, and removes those that expire
 * at `now` or before. *after is then the id up to which it has looked; 0: there are no more. */
int store_expire(store *s, int64_t *after, int64_t now, unsigned max, unsigned *count, error *e);
/* Where the last acknowledged entry is, and so the last one of this stream. */
int store_set_last(store *s, const char *stream, uint64_t sequence, error *e);

/* What lies in the file; everything in it is borrowed for the call. */
typedef struct {
    int64_t id, created, expires;
    const char *msg_id, *subject, *headers, *data;
    size_t msg_id_length, subject_length, header_length, data_length;
} store_entry;

/* Not 0: no more of them. */
typedef int (*store_entry_fn)(void *closure, const store_entry *entry);
/* Those that wait with an id beyond `after`, in order, `max` at most. Outside of a transaction,
 * too. */
int store_read(store *s, int64_t after, unsigned max, store_entry_fn fn, void *closure, error *e);
#define STORE_STREAM_SIZE 256
/* Streams whose last entry is known; the one that was used longest ago gives way. */
#define STORE_PLACES_MAX 32u

typedef struct {
    unsigned count;
    struct {
        char stream[STORE_STREAM_SIZE];
        uint64_t sequence;
    } list[STORE_PLACES_MAX];
} store_places;

void store_places_note(store_places *p, const char *stream, uint64_t sequence);
/* 0: not known. */
uint64_t store_places_get(const store_places *p, const char *stream);
/* As store_set_last() has left them. Outside of a transaction, too. */
int store_get_places(store *s, store_places *out, error *e);

typedef struct {
    uint64_t waiting, set_aside;
    int64_t bytes;       /* of all entries, about: with what each takes beside its payload */
    int64_t first;       /* the id of the first one that waits; 0: none */
    int64_t first_since; /* when that was created */
    int64_t last;        /* the largest id that was ever given */
} store_totals;

/* As of the last call above. */
const store_totals *store_get_totals(const store *s);

/* What an entry counts for, beside its texts and data. */
#define STORE_ENTRY_BYTES 128

#endif
