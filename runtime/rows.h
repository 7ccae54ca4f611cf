/* rows.h - the rows of a data file, whatever its format: lines of JSON (.jsonl), or .csv and .tsv, whose first line names the
 * columns. */
#pragma once
#include <jansson.h>

#include "runtime/csv.h"

typedef struct LrtRow {
    const char *path;
    int64_t line;
    const json_t *object;        /* .jsonl, else NULL */
    const LrtCsv *names, *csv;   /* .csv, .tsv: the first line, and this row, which has as many fields */
} LrtRow;

typedef enum LrtCellKind {
    LRT_CELL_NONE, /* no such key or column, or null */
    LRT_CELL_TEXT,
    LRT_CELL_INTEGER,
    LRT_CELL_REAL,
    LRT_CELL_OTHER
} LrtCellKind;

/* What a row has under a name; separated files have texts only. */
typedef struct LrtCell {
    LrtCellKind kind;
    const char *text; /* TEXT; not terminated, may have NUL bytes in it */
    size_t length;
    int64_t integer;  /* INTEGER */
    double real;      /* REAL */
} LrtCell;

bool lrt_is_rows_file(const char *path); /* by its extension */
/* Calls `use` for each row, as long as it returns true.  false with an error that names file and line. */
typedef bool LrtUseRow(void *user, const LrtRow *row, LrtError *error);
bool lrt_rows_each(const char *path, LrtUseRow *use, void *user, LrtError *error);

LrtCell lrt_row_cell(const LrtRow *row, const char *name);
/* Reports that a row has not what is expected (a list of quoted names), and what columns there are.  Always false. */
bool lrt_row_expected(const LrtRow *row, const char *what, LrtError *error);
