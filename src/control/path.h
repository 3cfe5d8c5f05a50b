/* Where control sockets are: in one folder of the user's, NAME.sock for each process. */
#ifndef MD_CONTROL_PATH_H
#define MD_CONTROL_PATH_H

#include <stddef.h>

#define CONTROL_PATH_SIZE 108 /* what the system takes for a Unix socket */

/* $XDG_RUNTIME_DIR/moondog, or /run/moondog for root, or /tmp/moondog-UID. */
void control_folder(char *out, size_t size);
/* The socket of a process of this name. -1: the path is too long for a socket. */
int control_path(const char *name, char *out, size_t size);
/* The name of the process whose socket this is, more or less: the file without its folder and
 * suffix. */
void control_name(const char *path, char *out, size_t size);
/* Makes the folder, for this user alone. -1, and errno. */
int control_make_folder(void);
/* The names of the sockets in the folder, in order, each followed by a line feed; to be freed. */
char *control_names(void);

#endif
