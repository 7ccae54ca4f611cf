/* arena.h - memory with a lifetime, the only allocator of the compiler.
 *
 * Nothing is freed one by one; `arena_free` frees all.  Memory comes zeroed.  Out of memory prints one line and exits with 1. */
#pragma once
#include <stddef.h>

typedef struct Arena Arena;

Arena *arena_new(void);
void arena_free(Arena *arena);
void arena_reset(Arena *arena); /* forgets everything, keeps the memory for reuse */
void *arena_alloc(Arena *arena, size_t size);
void *arena_copy(Arena *arena, const void *data, size_t size);
char *arena_format(Arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *arena_strdup(Arena *arena, const char *text);
char *arena_strndup(Arena *arena, const char *text, size_t length);

#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))
#define ARENA_ARRAY(arena, type, count) ((type *)arena_alloc((arena), sizeof(type) * (size_t)(count)))

/* Makes room for one more element in an arena-backed array: grows by doubling, old memory stays behind. */
void *arena_grow(Arena *arena, void *array, int count, int *capacity, size_t element);
#define ARENA_PUSH(arena, array, count, capacity, value)                                                        \
    ((array) = arena_grow((arena), (array), (count), &(capacity), sizeof *(array)), (array)[(count)++] = (value))

/* Growing text.  The bytes live in the arena and always end with a NUL. */
typedef struct Text {
    Arena *arena;
    char *data;
    int length, capacity;
} Text;

void text_add(Text *text, const char *string);
void text_addn(Text *text, const char *string, size_t length);
void text_format(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
