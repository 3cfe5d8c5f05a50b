/* Values of Lua as JSON. */
#ifndef MD_SCRIPT_TO_JSON_H
#define MD_SCRIPT_TO_JSON_H

#include <jansson.h>
#include <lua.h>

/* The value at `index`: plain data without cycles. Bytes of strings that are no UTF-8 become ?.
 * Tables with the keys 1..n, n > 0, are arrays. A new reference, or NULL: no memory, no plain data,
 * or nested too deeply. [-0, +0] */
json_t *to_json(lua_State *L, int index);

#endif
