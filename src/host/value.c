/* Plain data, as C has it: making, finding, copying. See value.h and moondog.h. Any thread. */
#include "host/value.h"

#include <string.h>

static const md_value nothing = {.type = MD_NIL};

md_value md_nil(void)
{
    return nothing;
}

md_value md_boolean(int boolean)
{
    return (md_value){.type = MD_BOOLEAN, .as.boolean = boolean != 0};
}

md_value md_number(double number)
{
    return (md_value){.type = MD_NUMBER, .as.number = number};
}

md_value md_string(const char *text)
{
    return text != NULL ? md_bytes(text, strlen(text)) : nothing;
}

md_value md_bytes(const void *data, size_t length)
{
    return (md_value){.type = MD_STRING, .as.string = {.data = data, .length = length}};
}

md_value md_list(const md_value *items, size_t count)
{
    return (md_value){.type = MD_LIST, .as.list = {.items = items, .count = count}};
}

md_value md_map(const md_field *fields, size_t count)
{
    return (md_value){.type = MD_MAP, .as.map = {.fields = fields, .count = count}};
}

const md_value *md_get(const md_value *map, const char *name)
{
    if (map == NULL || name == NULL || map->type != MD_MAP)
        return &nothing;
    for (size_t i = 0; i < map->as.map.count; i++)
        if (map->as.map.fields[i].name != NULL && strcmp(map->as.map.fields[i].name, name) == 0)
            return &map->as.map.fields[i].value;
    return &nothing;
}

/* ---- copying ---- */

static int refuse(const arena *a, error *e)
{
    if (a->full)
        return error_set(e, "too_large", ERROR_CLASS_LIMIT,
                         "the value has more than %u bytes (MD_DATA_BYTES_MAX)", MD_DATA_BYTES_MAX);
    return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a value");
}

static int points_nowhere(error *e, const char *what)
{
    return error_set(e, "bad_value", ERROR_CLASS_NONE, "%s of the value is NULL", what);
}

/* Memory for `count` things of `size` bytes; NULL and *e. */
static void *take_many(arena *a, size_t count, size_t size, error *e)
{
    if (count > arena_room(a) / size) /* it might overflow */
        a->full = true;
    void *taken = a->full ? NULL : arena_take(a, count * size);
    if (taken == NULL)
        refuse(a, e);
    return taken;
}

static const char *copy_bytes(arena *a, const char *data, size_t length, error *e)
{
    if (data == NULL && length > 0) {
        points_nowhere(e, "a string");
        return NULL;
    }
    a->full |= length >= arena_room(a); /* length + 1 might overflow */
    char *copy = take_many(a, length + 1, 1, e);
    if (copy == NULL)
        return NULL;
    if (length > 0)
        memcpy(copy, data, length);
    copy[length] = '\0';
    return copy;
}

static int copy(arena *a, const md_value *from, md_value *to, int depth, error *e);

static int copy_list(arena *a, const md_value *from, md_value *to, int depth, error *e)
{
    size_t count = from->as.list.count;
    if (from->as.list.items == NULL && count > 0)
        return points_nowhere(e, "a list");
    md_value *items = take_many(a, count, sizeof *items, e);
    if (items == NULL)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (copy(a, &from->as.list.items[i], &items[i], depth, e) != 0)
            return -1;
    *to = md_list(items, count);
    return 0;
}

static int copy_map(arena *a, const md_value *from, md_value *to, int depth, error *e)
{
    size_t count = from->as.map.count;
    if (from->as.map.fields == NULL && count > 0)
        return points_nowhere(e, "a map");
    md_field *fields = take_many(a, count, sizeof *fields, e);
    if (fields == NULL)
        return -1;
    for (size_t i = 0; i < count; i++) {
        const md_field *field = &from->as.map.fields[i];
        if (field->name == NULL)
            return points_nowhere(e, "the name of a field");
        fields[i].name = copy_bytes(a, field->name, strlen(field->name), e);
        if (fields[i].name == NULL || copy(a, &field->value, &fields[i].value, depth, e) != 0)
            return -1;
    }
    *to = md_map(fields, count);
    return 0;
}

/* `depth`: how many lists and maps it is in. */
static int copy(arena *a, const md_value *from, md_value *to, int depth, error *e)
{
    switch (from->type) {
    case MD_NIL:
    case MD_BOOLEAN:
    case MD_NUMBER:
        *to = *from;
        return 0;
    case MD_STRING: {
        size_t length = from->as.string.length;
        const char *data = copy_bytes(a, from->as.string.data, length, e);
        *to = md_bytes(data, length);
        return data != NULL ? 0 : -1;
    }
    case MD_LIST:
    case MD_MAP:
        if (depth == MD_DEPTH_MAX)
            return error_set(e, "too_deep", ERROR_CLASS_LIMIT,
                             "the value has more than %d lists and maps inside of each other "
                             "(MD_DEPTH_MAX)",
                             MD_DEPTH_MAX);
        return from->type == MD_LIST ? copy_list(a, from, to, depth + 1, e)
                                     : copy_map(a, from, to, depth + 1, e);
    }
    return error_set(e, "bad_value", ERROR_CLASS_NONE,
                     "a value has the type %d: there are MD_NIL to "
                     "MD_MAP",
                     (int)from->type);
}

int value_copy(arena *a, const md_value *from, md_value *to, error *e)
{
    return copy(a, from != NULL ? from : &nothing, to, 0, e);
}
