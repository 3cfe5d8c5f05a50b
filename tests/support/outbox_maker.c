/* Makes files of outboxes for tests, and holds them as a process does: outbox_maker FILE [--hold |
 * --die]. Runs the SQL of standard input on FILE, which becomes an outbox when it is new, and
 * prints the first column of each row. --hold: then takes the lock, says "ready" and stays until it
 * is killed; --die: ends as one that was killed, and leaves the log of the database behind. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "outbox/schema.h"

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "outbox_maker: %s: %s\n", what, why);
    return 1;
}

static char *read_input(void)
{
    char *text = NULL, bytes[4096];
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, stdin)) > 0;)
        fwrite(bytes, 1, n, out);
    fclose(out);
    return text;
}

static int print_row(void *closure, int count, char **values, char **names)
{
    (void)closure;
    (void)names;
    if (count > 0)
        printf("%s\n", values[0] != NULL ? values[0] : "NULL");
    return 0;
}

static int run(sqlite3 *db, const char *sql)
{
    int code = sqlite3_exec(db, sql, print_row, NULL, NULL);
    return code == SQLITE_OK ? 0 : fail(sql, sqlite3_errmsg(db));
}

static int hold(const char *path)
{
    char name[4096];
    snprintf(name, sizeof name, "%s" OUTBOX_LOCK_SUFFIX, path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0)
        return fail(name, strerror(errno));
    printf("ready\n");
    fflush(stdout);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    char header[128];
    sqlite3 *db;
    const char *then = argc > 2 ? argv[2] : "";
    bool is_new = argc > 1 && access(argv[1], F_OK) != 0;
    if (argc < 2 || sqlite3_open(argv[1], &db) != SQLITE_OK)
        return fail("FILE", "cannot be opened");
    snprintf(header, sizeof header,
             "PRAGMA journal_mode = WAL; PRAGMA application_id = %d; PRAGMA user_version = %d",
             OUTBOX_APPLICATION_ID, OUTBOX_SCHEMA_VERSION);
    if (is_new && (run(db, "PRAGMA page_size = 4096") != 0 || run(db, header) != 0 ||
                   run(db, OUTBOX_SCHEMA) != 0))
        return 1;
    char *sql = read_input();
    int code = run(db, sql);
    free(sql);
    fflush(stdout);
    if (code == 0 && strcmp(then, "--hold") == 0)
        code = hold(argv[1]);
    if (code == 0 && strcmp(then, "--die") == 0)
        raise(SIGKILL);
    sqlite3_close(db);
    return code;
}
