/* text.c - see text.h. */
#include "runtime/text.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool lrt_text_append(LrtText *t, const void *data, size_t size)
{
    if (size > t->capacity - t->length) {
        size_t capacity = 2 * t->capacity + size + 64;
        uint8_t *more = realloc(t->data, capacity);
        if (!more)
            return false;
        t->data = more;
        t->capacity = capacity;
    }
    if (size)
        memcpy(t->data + t->length, data, size);
    t->length += size;
    return true;
}

void lrt_text_free(LrtText *t)
{
    free(t->data);
    *t = (LrtText){0};
}

bool lrt_is_utf8(const char *text, size_t length)
{
    utf8proc_int32_t code;
    for (size_t i = 0; i < length;) {
        const size_t left = length - i < 4 ? length - i : 4;
        const utf8proc_ssize_t size = utf8proc_iterate((const uint8_t *)text + i, (utf8proc_ssize_t)left, &code);
        if (size <= 0)
            return false;
        i += (size_t)size;
    }
    return true;
}
