/* source.c - see source.h. */
#define _POSIX_C_SOURCE 200809L
#include "ir/source.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const Source *source_from_memory(Arena *arena, const char *path, const char *text, int length)
{
    Source *source = ARENA_NEW(arena, Source);
    int capacity = 0;
    source->path = arena_strdup(arena, path);
    source->text = arena_strndup(arena, text, (size_t)length);
    source->length = length;
    ARENA_PUSH(arena, source->line_starts, source->line_count, capacity, 0);
    for (int i = 0; i < length; i++)
        if (text[i] == '\n')
            ARENA_PUSH(arena, source->line_starts, source->line_count, capacity, i + 1);
    return source;
}

enum { SOURCE_MAX = 16 * 1024 * 1024 };

const Source *source_read(Arena *arena, const char *path)
{
    FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (!file)
        return NULL;
    Text text = {.arena = arena};
    char block[16384];
    size_t count;
    text_addn(&text, "", 0);
    while ((count = fread(block, 1, sizeof block, file)) > 0 && text.length < SOURCE_MAX)
        text_addn(&text, block, count);
    int error = ferror(file) ? errno : text.length >= SOURCE_MAX ? EFBIG : 0;
    if (file != stdin)
        fclose(file);
    if (error) {
        errno = error;
        return NULL;
    }
    return source_from_memory(arena, path, text.data, text.length);
}

const char *source_line(const Source *source, int line, int *length)
{
    if (line < 1 || line > source->line_count) {
        *length = 0;
        return "";
    }
    int start = source->line_starts[line - 1];
    int end = line < source->line_count ? source->line_starts[line] - 1 : source->length;
    if (end > start && source->text[end - 1] == '\r')
        end--;
    *length = end - start;
    return source->text + start;
}
