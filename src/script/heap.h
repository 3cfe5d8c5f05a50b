/* The memory of a generation: what its interpreter has, and what is charged to it besides
 * (generation_charge() in generation.h). The thread of the lua_State. */
#ifndef MD_SCRIPT_HEAP_H
#define MD_SCRIPT_HEAP_H

#include "script/generation.h"

/* A lua_State whose memory is the generation's, under its cap. NULL: there is no memory. */
lua_State *heap_new_state(struct generation *g);

#endif
