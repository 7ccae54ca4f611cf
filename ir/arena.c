/* arena.c - see arena.h.  Chunks of growing size; the only file of the compiler that calls
 * malloc. */
#include "ir/arena.h"

#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CHUNK = 64 * 1024, LARGEST_CHUNK = 16 * 1024 * 1024, ALIGNMENT = 16 };

typedef struct Chunk Chunk;
struct Chunk {
    Chunk *next;
    size_t size, used;
    _Alignas(ALIGNMENT) char data[];
};

struct Arena {
    Chunk *chunks; /* the newest first */
};

static _Noreturn void out_of_memory(void)
{
    fputs("loracc: error: out of memory\n", stderr);
    exit(1);
}

Arena *arena_new(void)
{
    Arena *arena = calloc(1, sizeof *arena);
    if (!arena)
        out_of_memory();
    return arena;
}

static void free_chunks(Chunk *chunk)
{
    while (chunk) {
        Chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}

void arena_free(Arena *arena)
{
    if (!arena)
        return;
    free_chunks(arena->chunks);
    free(arena);
}

void arena_reset(Arena *arena)
{
    if (!arena->chunks)
        return;
    free_chunks(arena->chunks->next);
    arena->chunks->next = NULL;
    arena->chunks->used = 0;
}

static void add_chunk(Arena *arena, size_t size)
{
    size_t want = arena->chunks ? arena->chunks->size * 2 : FIRST_CHUNK;
    if (want > LARGEST_CHUNK)
        want = LARGEST_CHUNK;
    if (want < size)
        want = size;
    Chunk *chunk = malloc(sizeof *chunk + want);
    if (!chunk)
        out_of_memory();
    chunk->next = arena->chunks;
    chunk->size = want;
    chunk->used = 0;
    arena->chunks = chunk;
}

void *arena_alloc(Arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2)
        out_of_memory();
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!arena->chunks || arena->chunks->size - arena->chunks->used < size)
        add_chunk(arena, size);
    void *memory = arena->chunks->data + arena->chunks->used;
    arena->chunks->used += size;
    return memset(memory, 0, size);
}

void *arena_copy(Arena *arena, const void *data, size_t size)
{
    void *memory = arena_alloc(arena, size);
    if (size)
        memcpy(memory, data, size);
    return memory;
}

char *arena_strndup(Arena *arena, const char *text, size_t length)
{
    char *copy = arena_alloc(arena, length + 1);
    memcpy(copy, text, length);
    return copy;
}

char *arena_strdup(Arena *arena, const char *text)
{
    return arena_strndup(arena, text, strlen(text));
}

static char *format_list(Arena *arena, const char *format, va_list args, int *length)
{
    va_list again;
    va_copy(again, args);
    *length = vsnprintf(NULL, 0, format, args);
    char *text = arena_alloc(arena, (size_t)*length + 1);
    vsnprintf(text, (size_t)*length + 1, format, again);
    va_end(again);
    return text;
}

char *arena_format(Arena *arena, const char *format, ...)
{
    int length;
    va_list args;
    va_start(args, format);
    char *text = format_list(arena, format, args, &length);
    va_end(args);
    return text;
}

void *arena_grow(Arena *arena, void *array, int count, int *capacity, size_t element)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity ? *capacity * 2 : 8;
    void *larger = arena_alloc(arena, element * (size_t)*capacity);
    if (count)
        memcpy(larger, array, element * (size_t)count);
    return larger;
}

void text_addn(Text *text, const char *string, size_t length)
{
    if (length >= INT_MAX / 4 || text->length >= INT_MAX / 4)
        out_of_memory();
    if (text->length + (int)length + 1 > text->capacity) {
        int capacity = text->capacity ? text->capacity : 64;
        while (capacity < text->length + (int)length + 1)
            capacity *= 2;
        char *data = arena_alloc(text->arena, (size_t)capacity);
        if (text->length)
            memcpy(data, text->data, (size_t)text->length);
        text->data = data;
        text->capacity = capacity;
    }
    memcpy(text->data + text->length, string, length);
    text->length += (int)length;
    text->data[text->length] = '\0';
}

void text_add(Text *text, const char *string)
{
    text_addn(text, string, strlen(string));
}

void text_format(Text *text, const char *format, ...)
{
    char small[256];
    int length;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    length = vsnprintf(small, sizeof small, format, args);
    if ((size_t)length < sizeof small)
        text_addn(text, small, (size_t)length);
    else
        text_addn(text, format_list(text->arena, format, again, &length), (size_t)length);
    va_end(again);
    va_end(args);
}
