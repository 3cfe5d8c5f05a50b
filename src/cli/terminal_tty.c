/* Modes and signals. See terminal_tty.h.
 *
 * The signal handlers write a byte into a pipe: what waits in poll() cannot miss it, whichever
 * thread they run in. */
#include "cli/terminal_tty.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ENDING 0 /* the handler of a signal that ends the process */

static const struct {
    int number;
    unsigned bit;
    bool always; /* also when nothing is edited */
} wanted[] = {
    {SIGINT, TTY_INTERRUPT, true},  {SIGTSTP, TTY_STOP, false}, {SIGCONT, TTY_CONTINUED, false},
    {SIGWINCH, TTY_RESIZED, false}, {SIGTERM, ENDING, false},   {SIGHUP, ENDING, false},
    {SIGQUIT, ENDING, false},       {SIGABRT, ENDING, false},
};
#define WANTED (sizeof wanted / sizeof wanted[0])

static struct {
    int wake[2];
    bool open, editing;
    struct termios original, ours;
    struct sigaction before[WANTED];
    sigset_t mask_before;
    volatile sig_atomic_t came[WANTED];
} the = {.wake = {-1, -1}};

static const char paste_off[] = "\033[?2004l";

static void restore_modes(void)
{
    ssize_t ignored = write(STDOUT_FILENO, paste_off, sizeof paste_off - 1);
    (void)ignored;
    tcsetattr(STDIN_FILENO, TCSANOW, &the.original);
}

static size_t index_of(int number)
{
    size_t i = 0;
    while (i < WANTED - 1 && wanted[i].number != number)
        i++;
    return i;
}

static void on_signal(int number)
{
    int saved = errno;
    the.came[index_of(number)] = 1;              /* before the byte: who has read that finds this */
    ssize_t ignored = write(the.wake[1], "", 1); /* full: it wakes already */
    (void)ignored;
    errno = saved;
}

static void on_ending_signal(int number)
{
    restore_modes();
    signal(number, SIG_DFL);
    raise(number); /* delivered when this returns */
}

static void at_exit(void)
{
    if (the.open && the.editing)
        restore_modes();
}

static bool is_taken(size_t i)
{
    return the.editing || wanted[i].always;
}

/* What the process was told to ignore, such as SIGHUP by nohup, stays ignored. */
static void take_signal(size_t i)
{
    struct sigaction action = {.sa_flags = SA_RESTART};
    action.sa_handler = wanted[i].bit == ENDING ? on_ending_signal : on_signal;
    sigemptyset(&action.sa_mask);
    sigaction(wanted[i].number, NULL, &the.before[i]);
    if (wanted[i].bit != ENDING || the.before[i].sa_handler != SIG_IGN)
        sigaction(wanted[i].number, &action, NULL);
}

static void take_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < WANTED; i++) {
        the.came[i] = 0;
        if (is_taken(i)) {
            take_signal(i);
            sigaddset(&set, wanted[i].number);
        }
    }
    pthread_sigmask(SIG_UNBLOCK, &set, &the.mask_before);
}

int tty_open(bool editing)
{
    static bool registered;
    the.editing = editing;
    if (editing && tcgetattr(STDIN_FILENO, &the.original) != 0)
        return -1;
    if (pipe2(the.wake, O_CLOEXEC | O_NONBLOCK) != 0)
        return -1;
    if (!registered && atexit(at_exit) == 0)
        registered = true;
    the.open = true;
    take_signals();
    return 0;
}

void tty_close(void)
{
    if (!the.open)
        return;
    if (the.editing)
        restore_modes();
    for (size_t i = 0; i < WANTED; i++)
        if (is_taken(i))
            sigaction(wanted[i].number, &the.before[i], NULL);
    pthread_sigmask(SIG_SETMASK, &the.mask_before, NULL);
    the.open = false;
    close(the.wake[0]);
    close(the.wake[1]);
    the.wake[0] = the.wake[1] = -1;
}

int tty_signal_fd(void)
{
    return the.wake[0];
}

void tty_woken(void)
{
    for (char bytes[64]; read(the.wake[0], bytes, sizeof bytes) > 0;) {
    }
}

unsigned tty_take_signals(void)
{
    unsigned bits = 0;
    for (size_t i = 0; i < WANTED; i++)
        if (the.came[i]) {
            the.came[i] = 0;
            bits |= wanted[i].bit;
        }
    if (bits & TTY_CONTINUED)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &the.ours);
    return bits;
}

void tty_stop(void)
{
    size_t stop = index_of(SIGTSTP);
    struct sigaction ours, by_default = {.sa_handler = SIG_DFL};
    sigaction(SIGTSTP, &by_default, &ours);
    restore_modes();
    raise(SIGTSTP); /* returns when the process goes on */
    sigaction(SIGTSTP, &ours, NULL);
    the.came[stop] = the.came[index_of(SIGCONT)] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &the.ours);
}

void tty_keep_modes(void)
{
    tcgetattr(STDIN_FILENO, &the.ours);
}

void tty_size(int *columns, int *rows)
{
    struct winsize size = {0};
    bool known = ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0;
    *columns = known && size.ws_col >= 2 ? size.ws_col : 80; /* libedit thinks the same */
    *rows = known && size.ws_row >= 1 ? size.ws_row : 24;
}
