/* What a service manager is told, in systemd's protocol: one datagram a message, to the socket that
 * $NOTIFY_SOCKET names, or, under a supervisor, through the socket that is open as descriptor
 * number $MOONDOG_NOTIFY_FD. Nothing here blocks: libsystemd's sd_notify() would wait for a manager
 * that does not read, and with it whoever called. What the manager cannot take now is kept, up to
 * NOTIFY_QUEUE messages, and sent by notify_flush(); beyond that the newest is dropped and counted:
 * a manager that does not read for that long is told by the watchdog's silence. Any thread. */
#ifndef MD_BASE_NOTIFY_H
#define MD_BASE_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#define NOTIFY_QUEUE 16u
#define NOTIFY_TEXT_MAX 512u
#define NOTIFY_FD_VARIABLE "MOONDOG_NOTIFY_FD"

typedef struct notify notify;

/* The manager of this process, from its environment. NULL: there is none, or no memory. Everything
 * below takes NULL, and does nothing then. */
notify *notify_open(void);
void notify_close(notify *n);

/* Lines such as "READY=1". `fd` is sent along, and closed here in any case; -1: none. */
void notify_send(notify *n, int fd, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Sends what could not be sent before. */
void notify_flush(notify *n);

/* How often the manager wants to hear that the loop turns: half of the time after which it acts, in
 * ns; 0: it does not want to. */
uint64_t notify_watchdog_ns(const notify *n);

/* Messages dropped so far. */
uint64_t notify_dropped(notify *n);

#endif
