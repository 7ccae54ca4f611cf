/* source.h - a source file's text and places in it. */
#pragma once
#include "ir/arena.h"

typedef struct Source {
    const char *path; /* as the user wrote it */
    const char *text; /* NUL-terminated; may hold NULs before its end */
    int length;
    int *line_starts; /* offset of each line */
    int line_count;
} Source;

/* A range of characters: line and column from 1, end exclusive.  Line 0: no place. */
typedef struct Loc {
    const Source *source;
    int line, column, end_line, end_column;
} Loc;

/* Reads a file; NULL (with errno set) when that fails. */
const Source *source_read(Arena *arena, const char *path);
const Source *source_from_memory(Arena *arena, const char *path, const char *text, int length);
/* Text of line `line` (from 1) without its end; sets its length. */
const char *source_line(const Source *source, int line, int *length);
