/* `moondog doctor`: looks at a policy's connections, at a running process, and at the machine, and
 * says what is wrong and what to do. Main thread. */
#ifndef MD_DOCTOR_DOCTOR_H
#define MD_DOCTOR_DOCTOR_H

#include <lua.h>

/* The exit code. The table of arguments is at index 1 of L. *left: threads that hang inside the
 * NATS library or in the script are added. */
int doctor(lua_State *L, unsigned *left);

#endif
