/* The Lua files that are part of the binary: generated from lua/ by cmake/embed.cmake. */
#ifndef MD_SCRIPT_EMBEDDED_H
#define MD_SCRIPT_EMBEDDED_H

#include <stddef.h>
#include <string.h>

typedef struct {
    const char *name;  /* as require() knows it: "moondog.sandbox" */
    const char *chunk; /* as errors name it: "@lua/moondog/sandbox.lua" */
    const char *text;
    size_t length;
} embedded_module;

extern const embedded_module embedded_modules[]; /* ends with a NULL name */

/* The module of this name, or NULL. */
static inline const embedded_module *embedded_find(const char *name)
{
    for (const embedded_module *m = embedded_modules; m->name != NULL; m++)
        if (strcmp(m->name, name) == 0)
            return m;
    return NULL;
}

#endif
