/* The files of a generation as one file in memory, which can be given to another process: so a
 * process can be started again with what it had, whatever the files on the disk are by then. */
#ifndef MD_SCRIPT_SOURCE_IMAGE_H
#define MD_SCRIPT_SOURCE_IMAGE_H

#include "script/source.h"

/* A sealed file in memory; -1: no memory. The caller closes it. */
int source_image_make(const sources *s);
/* The files again. NULL and *e. */
sources *source_image_read(int fd, error *e);

#endif
