/* The modes of the terminal at standard input, and the signals that have to do with it. Main
 * thread; one in a process, because signals are. */
#ifndef MD_CLI_TERMINAL_TTY_H
#define MD_CLI_TERMINAL_TTY_H

#include <stdbool.h>

enum {
    TTY_INTERRUPT = 1, /* Ctrl-C */
    TTY_STOP = 2,      /* Ctrl-Z: tty_stop() is wanted */
    TTY_CONTINUED = 4, /* somebody stopped us with SIGSTOP, and the modes are set anew */
    TTY_RESIZED = 8,
};

/* Remembers the modes and takes the signals; without `editing` only SIGINT, and no modes. 0, or -1
 * with errno. */
int tty_open(bool editing);
/* Gives both back. */
void tty_close(void);

/* The modes that are set now are those that lines are edited with: tty_stop() sets them again. */
void tty_keep_modes(void);

/* Readable when there are new signals; then tty_woken() is to be called, and after that
 * tty_take_signals(). */
int tty_signal_fd(void);
void tty_woken(void);
/* Those that came since the last call, TTY_ bits. Cheap. */
unsigned tty_take_signals(void);

/* Gives the modes back, stops the process as SIGTSTP does, and takes the modes again when it goes
 * on. */
void tty_stop(void);

/* The size of the window. */
void tty_size(int *columns, int *rows);

#endif
