/* The Lua files that are part of the binary: generated from lua/ by cmake/embed.cmake. */
#ifndef MD_SCRIPT_EMBEDDED_H
#define MD_SCRIPT_EMBEDDED_H

#include <stddef.h>

typedef struct {
    const char *name;  /* as require() knows it: "moondog.sandbox" */
    const char *chunk; /* as errors name it: "@lua/moondog/sandbox.lua" */
    const char *text;
    size_t length;
} embedded_module;

extern const embedded_module embedded_modules[]; /* ends with a NULL name */

#endif
