/* file.h - mapped files and atomic writes. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/error.h"

typedef struct LrtMap {
    uint8_t *data;
    size_t size;
    bool mapped; /* else borrowed memory */
} LrtMap;

/* Maps a regular file for reading. */
bool lrt_map_file(LrtMap *map, const char *path, LrtError *error);
void lrt_unmap(LrtMap *map);

/* A file that appears under its name only when all of it is there: temporary name beside it, fsync, rename. */
typedef struct LrtOutput {
    FILE *file;
    char *path, *temporary;
} LrtOutput;

bool lrt_output_open(LrtOutput *output, const char *path, LrtError *error);
bool lrt_output_write(LrtOutput *output, const void *data, size_t size, LrtError *error);
/* Closes and renames; on failure, or when `keep` is false, removes the temporary file. */
bool lrt_output_close(LrtOutput *output, bool keep, LrtError *error);

/* "DIR/NAME" (malloc'ed; NULL: out of memory). */
char *lrt_path_join(const char *directory, const char *name);
bool lrt_is_directory(const char *path);
bool lrt_file_exists(const char *path);
