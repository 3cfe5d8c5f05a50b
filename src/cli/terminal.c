/* A terminal on which a line is edited while other things happen. See terminal.h. Main thread.
 *
 * libedit asks for the next character (EL_GETCFN); whatever else happens is done while it waits for
 * that. To it, a pasted character is a typed one, so that pastes work in all of its states. */
#include "cli/terminal.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/terminal_private.h"
#include "cli/terminal_text.h"
#include "cli/terminal_tty.h"

#define SETTLE_MS 50 /* that the window keeps its size, before anything is drawn for it */

static const char paste_on[] = "\033[?2004h", paste_off[] = "\033[?2004l";

bool terminal_is_interactive(const terminal *t)
{
    return t->el != NULL;
}

/* ---- what happens while somebody types ---- */

static bool stop(terminal *t, terminal_event event)
{
    t->stopped = true;
    t->event = event;
    return false;
}

static void suspend(terminal *t)
{
    if (t->editing)
        display_leave(t, "");
    tty_stop();
    if (t->editing) {
        display_write(paste_on);
        el_resize(t->el);
        display_draw(t);
    }
}

static void go_on(terminal *t)
{
    if (t->editing) {
        display_write(paste_on);
        display_write("\r");
        display_draw(t);
    }
}

/* A window that is dragged has another size many times in a row. What is drawn for one of them
 * while the terminal shows the next would be in the wrong place. */
static unsigned let_settle(unsigned signals)
{
    struct pollfd polled = {.fd = tty_signal_fd(), .events = POLLIN};
    int count = 1;
    tty_woken();
    signals |= tty_take_signals();
    while ((signals & TTY_INTERRUPT) == 0 && count != 0) {
        count = poll(&polled, 1, SETTLE_MS);
        if (count < 0 && errno != EINTR)
            break;
        tty_woken();
        signals |= tty_take_signals();
    }
    return signals;
}

/* false: the line is over, t->event says why. */
static bool attend_signals(terminal *t)
{
    unsigned signals = tty_take_signals();
    if (t->editing && (signals & TTY_RESIZED) != 0)
        signals = let_settle(signals);
    if (signals & TTY_STOP)
        suspend(t);
    if (signals & TTY_CONTINUED)
        go_on(t);
    if (signals & TTY_RESIZED)
        display_resize(t);
    if ((signals & TTY_INTERRUPT) == 0)
        return true;
    input_discard(&t->input);
    if (t->editing)
        display_leave(t, "^C");
    return stop(t, TERMINAL_INTERRUPT);
}

static bool is_ready(terminal *t)
{
    return t->callbacks.ready == NULL || t->callbacks.ready(t->closure);
}

/* Waits until something happens, and attends to all of it but signals. false as above. */
static bool wait_for_input(terminal *t)
{
    struct pollfd polled[] = {
        {.fd = STDIN_FILENO, .events = POLLIN},
        {.fd = tty_signal_fd(), .events = POLLIN},
        {.fd = t->callbacks.ready != NULL ? t->fd : -1, .events = POLLIN},
    };
    if (poll(polled, 3, -1) < 0)
        return errno == EINTR || stop(t, TERMINAL_END);
    if (polled[1].revents != 0) {
        tty_woken();
        return true;
    }
    if (polled[2].revents != 0 && !is_ready(t)) {
        if (t->editing)
            display_leave(t, "");
        return stop(t, TERMINAL_LEFT);
    }
    if (polled[0].revents != 0)
        input_fill(&t->input, STDIN_FILENO, t->el == NULL || (polled[0].revents & POLLHUP) != 0);
    return true;
}

#define SEARCH 0x12 /* Ctrl-R */
#define ESCAPE 0x1b
#define BACKSPACE 0x08
#define KILL_WORD 0x17 /* Ctrl-W: takes a word from the line into what is looked for */
#define BELL 0x07      /* bound to nothing but a beep; in a search, to its end */

/* libedit's search keeps no more than 1024 characters of the line that it leaves. */
static wchar_t without_loss(const terminal *t, wchar_t c)
{
    const LineInfoW *line = el_wline(t->el);
    return c == SEARCH && line->lastchar - line->buffer > 1000 ? BELL : c;
}

/* libedit takes the escape of a key, such as an arrow, for the end of the search, and what follows
 * for text: it gets one escape for each. */
static void note_search(terminal *t, wchar_t c)
{
    if (t->searching && c == ESCAPE)
        input_repeat_escape(&t->input);
    bool goes_on = c >= ' ' || c == BACKSPACE || c == KILL_WORD;
    t->searching = c == SEARCH || (t->searching && goes_on);
}

/* EL_GETCFN: 1, or -1 when the line is over. */
static int next_character(EditLine *el, wchar_t *c)
{
    terminal *t = NULL;
    el_wget(el, EL_CLIENTDATA, &t);
    while (!t->stopped && attend_signals(t)) {
        if (input_take(&t->input, c)) {
            *c = without_loss(t, *c);
            if (!t->input.pasting)
                note_search(t, *c);
            return 1;
        }
        if (t->input.over)
            stop(t, TERMINAL_END);
        else
            wait_for_input(t);
    }
    return -1;
}

/* A begin mark that arrived in parts. */
static unsigned char on_paste(EditLine *el, wint_t key)
{
    (void)key;
    terminal *t = NULL;
    el_wget(el, EL_CLIENTDATA, &t);
    t->input.pasting = true;
    return CC_NORM;
}

static wchar_t *prompt_of(EditLine *el)
{
    terminal *t = NULL;
    el_wget(el, EL_CLIENTDATA, &t);
    return t->prompt;
}

/* ---- beginning and end ---- */

static void set_locale(void)
{
    if (setlocale(LC_CTYPE, "") == NULL || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

static bool can_edit(void)
{
    const char *kind = getenv("TERM");
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && kind != NULL && kind[0] != '\0' &&
           strcmp(kind, "dumb") != 0;
}

/* libedit binds what terminfo says; terminals send these as well. Those that are unassigned would
 * lose a long line (a search), or run commands of libedit (M-x). */
static const wchar_t *const keys[][2] = {
    {L"^I", L"moondog-complete"},        {L"\\e[200~", L"moondog-paste"},
    {L"^P", L"moondog-older"},           {L"\\e[A", L"moondog-older"},
    {L"\\eOA", L"moondog-older"},        {L"^N", L"moondog-newer"},
    {L"\\e[B", L"moondog-newer"},        {L"\\eOB", L"moondog-newer"},
    {L"\\e[3~", L"ed-delete-next-char"}, {L"\\e[1~", L"ed-move-to-beg"},
    {L"\\e[7~", L"ed-move-to-beg"},      {L"\\e[H", L"ed-move-to-beg"},
    {L"\\eOH", L"ed-move-to-beg"},       {L"\\e[4~", L"ed-move-to-end"},
    {L"\\e[8~", L"ed-move-to-end"},      {L"\\e[F", L"ed-move-to-end"},
    {L"\\eOF", L"ed-move-to-end"},       {L"\\e[1;5C", L"em-next-word"},
    {L"\\e[1;3C", L"em-next-word"},      {L"\\e[1;5D", L"ed-prev-word"},
    {L"\\e[1;3D", L"ed-prev-word"},      {L"^@", L"ed-unassigned"},
    {L"\\ep", L"ed-unassigned"},         {L"\\en", L"ed-unassigned"},
    {L"\\eP", L"ed-unassigned"},         {L"\\eN", L"ed-unassigned"},
    {L"\\ex", L"ed-unassigned"},         {L"\\eX", L"ed-unassigned"},
};

/* Modes: between two lines the same as in one, or the kernel would edit and echo what is typed
 * ahead. A read never waits (min=): poll() does, and after a Ctrl-C there may be nothing left. */
static void set_up(terminal *t)
{
    EditLine *el = t->el;
    el_wset(el, EL_CLIENTDATA, t);
    el_wset(el, EL_SIGNAL, 0);
    el_wset(el, EL_EDITOR, L"emacs");
    el_wset(el, EL_PROMPT, prompt_of);
    el_wset(el, EL_GETCFN, next_character);
    el_wset(el, EL_ADDFN, L"moondog-complete", L"Completes a word", complete_on_tab);
    el_wset(el, EL_ADDFN, L"moondog-paste", L"Begins a paste", on_paste);
    el_wset(el, EL_ADDFN, L"moondog-older", L"The line before", history_on_older);
    el_wset(el, EL_ADDFN, L"moondog-newer", L"The line behind", history_on_newer);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        el_wset(el, EL_BIND, keys[i][0], keys[i][1], NULL);
    el_wset(el, EL_SETTY, L"-d", L"-ixon", L"-inlcr", L"min=", NULL);
    el_wset(el, EL_SETTY, L"-x", L"-icanon", L"-echo", L"-iexten", L"-ixon", L"min=", NULL);
    el_wset(el, EL_PREP_TERM, 1);
    tty_keep_modes();
}

static int start_editing(terminal *t, const char *name, error *e)
{
    t->el = el_init(name, stdin, stdout, stderr);
    if (t->el == NULL || history_start(t) != 0)
        return error_set(e, "memory", ERROR_CLASS_LIMIT, "no memory for the terminal");
    set_up(t);
    return 0;
}

terminal *terminal_new(const char *name, int fd, const terminal_callbacks *callbacks, void *closure,
                       error *e)
{
    terminal *t = calloc(1, sizeof *t);
    wchar_t *prompt = calloc(1, sizeof *prompt);
    if (t == NULL || prompt == NULL) {
        free(t);
        free(prompt);
        error_set(e, "memory", ERROR_CLASS_LIMIT, "no memory for the terminal");
        return NULL;
    }
    *t = (terminal){.fd = fd, .callbacks = *callbacks, .closure = closure, .prompt = prompt};
    t->colours = isatty(STDOUT_FILENO);
    set_locale();
    bool editing = can_edit();
    if (tty_open(editing) != 0)
        error_set(e, "system", ERROR_CLASS_NONE, "the terminal: %s", strerror(errno));
    else if (!editing || start_editing(t, name, e) == 0)
        return t;
    terminal_free(t);
    return NULL;
}

void terminal_free(terminal *t)
{
    if (t == NULL)
        return;
    if (t->el != NULL)
        el_end(t->el);
    tty_close();
    history_stop(t);
    free(t->prompt);
    free(t);
}

/* ---- reading ---- */

/* The line that libedit has, or NULL without memory. */
static char *take_line(const wchar_t *text, int length)
{
    size_t count = (size_t)length;
    if (count > 0 && text[count - 1] == L'\n')
        count--;
    return text_encode(text, count);
}

static terminal_event read_edited(terminal *t, char **line)
{
    int length = 0;
    history_rewind(t);
    t->searching = false;
    display_write(paste_on);
    t->editing = true;
    const wchar_t *text = el_wgets(t->el, &length);
    t->editing = false;
    if (!t->input.pasting)
        display_write(paste_off);
    if (t->stopped && t->event != TERMINAL_END)
        return t->event;
    if (text == NULL) {
        display_write("\r\n"); /* libedit has written ^D */
        return TERMINAL_END;
    }
    *line = take_line(text, length);
    return *line != NULL ? TERMINAL_LINE : TERMINAL_END;
}

static terminal_event read_plain(terminal *t, char **line)
{
    char *text = NULL;
    size_t length = 0;
    bool whole = false;
    while (!t->stopped && !whole && attend_signals(t)) {
        if (!input_is_empty(&t->input))
            whole = input_take_line(&t->input, &text, &length);
        else if (t->input.over)
            stop(t, TERMINAL_END);
        else
            wait_for_input(t);
    }
    if (text == NULL || (!whole && t->event != TERMINAL_END)) {
        free(text);
        return whole ? TERMINAL_END : t->event;
    }
    *line = text_without_zeros(text, length);
    return *line != NULL ? TERMINAL_LINE : TERMINAL_END;
}

terminal_event terminal_read(terminal *t, char **line)
{
    *line = NULL;
    t->stopped = false;
    return t->el != NULL ? read_edited(t, line) : read_plain(t, line);
}

terminal_event terminal_wait(terminal *t, int timeout_ms)
{
    struct pollfd polled[] = {
        {.fd = tty_signal_fd(), .events = POLLIN},
        {.fd = t->fd, .events = POLLIN},
    };
    for (;;) {
        t->stopped = false;
        if (!attend_signals(t)) {
            if (t->el != NULL)
                display_write("^C\r\n");
            return t->event;
        }
        int count = poll(polled, 2, timeout_ms);
        if (count == 0)
            return TERMINAL_TIMEOUT;
        if (count > 0 && polled[0].revents != 0)
            tty_woken();
        else if (count > 0)
            return TERMINAL_READY;
    }
}

bool terminal_has_more_input(const terminal *t)
{
    struct pollfd polled = {.fd = STDIN_FILENO, .events = POLLIN};
    return !input_is_empty(&t->input) || (!t->input.over && poll(&polled, 1, 0) > 0);
}

/* ---- writing ---- */

void terminal_set_prompt(terminal *t, const char *prompt)
{
    wchar_t *wide = text_decode(prompt, strlen(prompt));
    if (wide == NULL)
        return;
    for (wchar_t *c = wide; *c != L'\0'; c++)
        if (wcwidth(*c) < 0)
            *c = L'?';
    bool redraw = t->editing && wcscmp(wide, t->prompt) != 0;
    if (redraw)
        display_erase(t);
    free(t->prompt);
    t->prompt = wide;
    if (redraw)
        display_draw(t);
}

void terminal_print(terminal *t, const char *text, size_t length)
{
    char *harmless = length > 0 ? text_harmless(text, length, t->colours) : NULL;
    if (harmless == NULL)
        return;
    if (t->editing)
        display_erase(t);
    display_write(harmless);
    if (t->editing)
        display_draw(t);
    free(harmless);
}
