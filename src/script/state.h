/* moondog.state: plain data of the script that crosses from one generation to the next. It is
 * packed out of one lua_State and unpacked into another. Loop thread. */
#ifndef MD_SCRIPT_STATE_H
#define MD_SCRIPT_STATE_H

#include <stddef.h>

#include "base/error.h"
#include "script/generation.h"

#define STATE_DEPTH_MAX 100 /* tables inside tables */

typedef struct {
    char *bytes;
    size_t length, capacity;
    size_t cap;
} packed_state;

/* Packs what moondog.state of `g` holds: nil, booleans, numbers, strings of any bytes, and tables
 * of these. -1 and *e ("bad_state", with the path of what cannot cross; "state_too_large";
 * "no_memory"); `g` is unchanged in any case. The caller frees with packed_state_clear(). */
int state_pack(struct generation *g, size_t cap, packed_state *out, error *e);
void packed_state_clear(packed_state *p);

/* Puts it into moondog.state of `g`, over what its top level has declared there; only `version`
 * stays as declared, and the old one becomes g->old_version_ref. -1 and *e: then `g` is not to be
 * used. */
int state_unpack(struct generation *g, const packed_state *p, error *e);

#endif
