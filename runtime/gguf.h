/* gguf.h - the GGUF container, version 3: metadata and tensors as the file has them. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "runtime/checkpoint.h"
#include "runtime/file.h"

typedef enum GgufType {
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64,
    GGUF_F64, GGUF_TYPE_COUNT
} GgufType;

/* A string of the file; not NUL-terminated. */
typedef struct GgufString {
    const char *data;
    uint64_t length;
} GgufString;

typedef struct GgufValue {
    GgufString key;
    GgufType type;           /* of the value, or of an array's elements */
    bool is_array;
    uint64_t count;          /* 1, or the array's length */
    const uint8_t *data;     /* first element */
} GgufValue;

typedef struct GgufFile {
    LrtMap map;
    char *path;
    GgufValue *values;
    uint64_t value_count;
    LrtTensor *tensors;      /* names as in the file (malloc'ed), shapes slowest first */
    uint64_t tensor_count;
} GgufFile;

GgufFile *gguf_open(const char *path, LrtError *error);
GgufFile *gguf_open_memory(const void *data, size_t size, LrtError *error); /* borrows the bytes */
void gguf_close(GgufFile *file);

const GgufValue *gguf_find(const GgufFile *file, const char *key); /* NULL: none */
/* A scalar as a number; `fallback` when the key is missing or no number. */
double gguf_number(const GgufFile *file, const char *key, double fallback);
/* Element i of an array of numbers. */
double gguf_element(const GgufValue *value, uint64_t index);
/* A string value; data NULL when there is none. */
GgufString gguf_string(const GgufFile *file, const char *key);
bool gguf_string_is(GgufString string, const char *text);
/* All elements of an array of strings (malloc'ed array of views); false with an error when the key is missing or another type. */
bool gguf_strings(const GgufFile *file, const char *key, GgufString **strings, uint64_t *count, LrtError *error);
