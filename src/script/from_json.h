/* JSON as values of Lua. */
#ifndef MD_SCRIPT_FROM_JSON_H
#define MD_SCRIPT_FROM_JSON_H

#include <jansson.h>
#include <lua.h>

/* Pushes the value: null becomes nil, so that it is not in its table; whole numbers beyond 2^53
 * lose their last digits. Raises an error when there is no memory. [-0, +1] */
void from_json(lua_State *L, const json_t *value);

#endif
