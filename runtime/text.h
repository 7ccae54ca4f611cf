/* text.h - bytes that grow, and whether they are text. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct LrtText {
    uint8_t *data;
    size_t length, capacity;
} LrtText;

bool lrt_text_append(LrtText *text, const void *data, size_t size); /* false: out of memory */
void lrt_text_free(LrtText *text);

bool lrt_is_utf8(const char *text, size_t length);
