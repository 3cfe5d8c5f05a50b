/* The history of lines, in memory by libedit and in a file shared with other consoles. Main thread.
 *
 * A line is appended with one write() under a lock. Only at the start, when it has grown too long,
 * the file is rewritten, in place and under the same lock: who appends meanwhile waits. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/terminal_private.h"
#include "cli/terminal_text.h"

#define ENTRIES_MAX 10000
#define FILE_MAX (16 << 20) /* bytes; of a longer file, the end counts */

int history_start(terminal *t)
{
    HistEventW event;
    t->history = history_winit();
    if (t->history == NULL)
        return -1;
    history_w(t->history, &event, H_SETSIZE, ENTRIES_MAX);
    history_w(t->history, &event, H_SETUNIQUE, 1);
    return el_wset(t->el, EL_HIST, history_w, t->history);
}

void history_stop(terminal *t)
{
    if (t->history != NULL)
        history_wend(t->history);
    free(t->history_path);
    free(t->draft);
}

/* ---- up and down ---- */

void history_rewind(terminal *t)
{
    free(t->draft);
    t->draft = NULL;
    t->history_at = 0;
}

/* The entry, from 1 for the newest; NULL: there are not so many. */
static const wchar_t *entry(terminal *t, int number)
{
    HistEventW event;
    int result = history_w(t->history, &event, H_FIRST);
    while (result == 0 && --number > 0)
        result = history_w(t->history, &event, H_NEXT);
    return result == 0 ? event.str : NULL;
}

static unsigned char replace_line(EditLine *el, const wchar_t *text)
{
    const LineInfoW *line = el_wline(el);
    el_cursor(el, (int)(line->lastchar - line->cursor));
    el_deletestr(el, (int)(line->lastchar - line->buffer));
    if (text[0] != L'\0' && el_winsertstr(el, text) != 0)
        return CC_REFRESH_BEEP;
    return CC_REFRESH;
}

static bool keep_draft(terminal *t)
{
    const LineInfoW *line = el_wline(t->el);
    size_t length = (size_t)(line->lastchar - line->buffer);
    history_rewind(t);
    t->draft = calloc(length + 1, sizeof *t->draft);
    if (t->draft != NULL)
        wmemcpy(t->draft, line->buffer, length);
    return t->draft != NULL;
}

unsigned char history_on_older(EditLine *el, wint_t c)
{
    (void)c;
    terminal *t = NULL;
    el_wget(el, EL_CLIENTDATA, &t);
    const wchar_t *text = entry(t, t->history_at + 1);
    if (text == NULL || (t->history_at == 0 && !keep_draft(t)))
        return CC_ERROR;
    t->history_at++;
    return replace_line(el, text);
}

unsigned char history_on_newer(EditLine *el, wint_t c)
{
    (void)c;
    terminal *t = NULL;
    el_wget(el, EL_CLIENTDATA, &t);
    const wchar_t *text = t->history_at > 1 ? entry(t, t->history_at - 1) : t->draft;
    if (t->history_at == 0 || text == NULL)
        return CC_ERROR;
    t->history_at--;
    return replace_line(el, text);
}

/* ---- lines ---- */

/* true: it was not the last one already. */
static bool enter(terminal *t, const char *line, size_t length)
{
    HistEventW event;
    wchar_t *wide = text_decode(line, length);
    if (wide == NULL)
        return false;
    bool repeated = history_w(t->history, &event, H_FIRST) == 0 && wcscmp(event.str, wide) == 0;
    bool added = !repeated && history_w(t->history, &event, H_ENTER, wide) >= 0;
    free(wide);
    return added;
}

/* ---- the file ---- */

/* Another process may have it for a moment. A file system without locks does without. */
static int open_locked(const char *path, int flags)
{
    struct stat status;
    int fd = open(path, flags | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    if (fd < 0)
        return -1;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        (void)flock(fd, LOCK_EX);
        return fd;
    }
    close(fd);
    errno = EINVAL; /* a device, a FIFO: nothing that could be read again */
    return -1;
}

static int make_folders(const char *path)
{
    char *folder = strdup(path);
    if (folder == NULL)
        return -1;
    int result = 0;
    for (char *slash = strchr(folder + 1, '/'); slash != NULL && result == 0;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, 0700) != 0 && errno != EEXIST)
            result = -1;
        *slash = '/';
    }
    free(folder);
    return result;
}

/* The end of the file, to be freed; NULL when it cannot be read. */
static char *read_file(int fd, size_t *length)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return NULL;
    off_t from = status.st_size > FILE_MAX ? status.st_size - FILE_MAX : 0;
    size_t size = (size_t)(status.st_size - from);
    char *text = malloc(size + 1);
    *length = 0;
    while (text != NULL && *length < size) {
        ssize_t count = pread(fd, text + *length, size - *length, from + (off_t)*length);
        if (count <= 0)
            break;
        *length += (size_t)count;
    }
    return text;
}

/* Where the last ENTRIES_MAX lines of the text begin. */
static size_t start_of_last(const char *text, size_t length)
{
    size_t lines = 0, at = length;
    while (at > 0) {
        if (text[at - 1] == '\n' && at < length && ++lines == ENTRIES_MAX)
            return at;
        at--;
    }
    return 0;
}

static void write_all(int fd, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t count = write(fd, text, length);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return;
        text += count;
        length -= (size_t)count;
    }
}

static void shorten(int fd, const char *text, size_t length)
{
    if (lseek(fd, 0, SEEK_SET) == 0 && ftruncate(fd, 0) == 0)
        write_all(fd, text, length);
}

static void load(terminal *t, int fd)
{
    size_t length;
    char *text = read_file(fd, &length);
    if (text == NULL)
        return;
    size_t at = start_of_last(text, length);
    struct stat status;
    if (at > 0 || (fstat(fd, &status) == 0 && status.st_size > FILE_MAX))
        shorten(fd, text + at, length - at);
    while (at < length) {
        char *newline = memchr(text + at, '\n', length - at);
        size_t end = newline != NULL ? (size_t)(newline - text) : length;
        if (end > at)
            enter(t, text + at, end - at);
        at = end + 1;
    }
    free(text);
}

int terminal_open_history(terminal *t, const char *path)
{
    if (t->el == NULL)
        return 0;
    int fd = make_folders(path) == 0 ? open_locked(path, O_RDWR) : -1;
    if (fd < 0)
        return -1;
    (void)fchmod(fd, 0600); /* lines may contain secrets */
    load(t, fd);
    close(fd);
    free(t->history_path);
    t->history_path = strdup(path);
    return t->history_path != NULL ? 0 : -1;
}

static void append(const char *path, const char *line, size_t length)
{
    char *text = malloc(length + 1);
    int fd = open_locked(path, O_WRONLY | O_APPEND);
    if (text != NULL && fd >= 0) {
        memcpy(text, line, length);
        text[length] = '\n';
        write_all(fd, text, length + 1);
    }
    free(text);
    if (fd >= 0)
        close(fd);
}

void terminal_add_history(terminal *t, const char *line)
{
    size_t length = strcspn(line, "\n");
    if (t->el != NULL && length > 0 && enter(t, line, length) && t->history_path != NULL)
        append(t->history_path, line, length);
}
