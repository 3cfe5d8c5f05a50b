/* The inside of a store, shared by store.c (its entries) and store_open.c (its file). */
#ifndef MD_OUTBOX_STORE_PRIVATE_H
#define MD_OUTBOX_STORE_PRIVATE_H

#include <sqlite3.h>

#include "outbox/store.h"

/* Subjects whose latest entry is remembered; beyond it the table is made anew from what waits. */
#define STORE_LATEST_MAX 100000u

typedef enum {
    STATEMENT_BEGIN,
    STATEMENT_COMMIT,
    STATEMENT_ROLLBACK,
    STATEMENT_FIND,
    STATEMENT_INSERT,
    STATEMENT_REMOVE,
    STATEMENT_LATEST,
    STATEMENT_SET_LATEST,
    STATEMENT_IS_WAITING,
    STATEMENT_SET_ASIDE,
    STATEMENT_READ,
    STATEMENT_EXPIRED,
    STATEMENT_SET_META,
    STATEMENT_PLACES,
    STATEMENT_FIRST,
    STATEMENT_COUNT
} store_statement_name;

struct store {
    sqlite3 *db;
    char *path;
    int lock; /* the descriptor of the file beside it; -1: none */
    int64_t max_bytes;
    uint32_t latest_count; /* subjects in temp.latest, about; 0: it was not made */
    store_totals totals, before;
    sqlite3_stmt *statements[STATEMENT_COUNT];
};

/* What SQLite says, as ours. Returns -1. */
int store_error(store *s, int code, error *e);
/* NULL and *e. */
sqlite3_stmt *store_statement(store *s, store_statement_name name, error *e);
/* Finds the first entry that waits. */
int store_refresh_first(store *s, error *e);

#endif
