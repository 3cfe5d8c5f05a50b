/* What the file of an outbox holds: one SQLite database, in WAL mode. The running process that
 * forwards it, and `moondog outbox` that looks into it, agree on this. */
#ifndef MD_OUTBOX_SCHEMA_H
#define MD_OUTBOX_SCHEMA_H

/* PRAGMA application_id: "moob". A database with another one is not an outbox, and is left alone.
 */
#define OUTBOX_APPLICATION_ID 0x6d6f6f62
/* PRAGMA user_version: of the tables below. */
#define OUTBOX_SCHEMA_VERSION 1

/* entry.state */
#define OUTBOX_WAITING 0   /* to be forwarded, in the order of id */
#define OUTBOX_SET_ASIDE 1 /* a stream refused it for good: kept, with the reason, for a person */

/* entry: id gives the order, and is never used twice. msg_id is what Nats-Msg-Id says. headers is
 * "name\0value\0" for each value, or NULL. Times are ms since 1970; expires NULL: never.
 * meta: "last_seq" and "last_stream": where the last acknowledged entry is; "last_seq." and the
 * name of a stream: where the last one is that went there. */
#define OUTBOX_SCHEMA                                                                              \
    "CREATE TABLE entry ("                                                                         \
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"                                                      \
    "  msg_id TEXT NOT NULL UNIQUE,"                                                               \
    "  subject TEXT NOT NULL,"                                                                     \
    "  headers BLOB,"                                                                              \
    "  data BLOB NOT NULL,"                                                                        \
    "  created INTEGER NOT NULL,"                                                                  \
    "  expires INTEGER,"                                                                           \
    "  state INTEGER NOT NULL DEFAULT 0,"                                                          \
    "  reason TEXT,"                                                                               \
    "  set_aside INTEGER);"                                                                        \
    "CREATE INDEX entry_order ON entry (state, id);"                                               \
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;"

/* The file beside it that is locked with flock() by whoever changes entries. */
#define OUTBOX_LOCK_SUFFIX ".lock"

#endif
