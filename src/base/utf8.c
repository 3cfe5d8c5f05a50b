/* UTF-8. See utf8.h. */
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

size_t utf8_decode(const unsigned char *s, size_t n, uint32_t *character)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (length == 0 || s[0] > 0xf4 || length > n)
        return 0;
    *character = length == 1 ? s[0] : s[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        *character = (*character << 6) | (s[i] & 0x3fu);
    }
    if (*character < smallest[length] || *character > 0x10ffff ||
        (*character >= 0xd800 && *character <= 0xdfff))
        return 0;
    return length;
}

char *utf8_repair(const char *bytes, size_t length)
{
    char *copy = malloc(length + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, bytes, length);
    copy[length] = '\0';
    for (size_t i = 0; i < length;) {
        uint32_t character;
        size_t size = utf8_decode((const unsigned char *)copy + i, length - i, &character);
        if (size == 0)
            copy[i] = '?';
        i += size > 0 ? size : 1;
    }
    return copy;
}
