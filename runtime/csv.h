/* csv.h - rows of separated text in memory.
 *
 * CSV (RFC 4180): fields stand between commas; one that begins with a double quote ends with a double quote, may have commas
 * and line ends in it, and writes its own quotes twice.  As in Python's csv module a quote inside a field that does not begin
 * with one is itself; text behind a closing quote is an error, as in its strict mode.
 * TSV: fields stand between tabs, and a quote is itself.
 * Rows end with LF, CR LF or CR; lines without anything on them are no rows. */
#pragma once
#include "runtime/error.h"
#include "runtime/text.h"

typedef struct LrtField {
    size_t start, length; /* in the row's text */
} LrtField;

typedef struct LrtCsv {
    const char *path; /* for messages */
    const char *data;
    size_t size, at;
    int64_t next_line;
    bool tabs;
    /* the last row */
    int64_t line; /* where it begins; the first line is 1 */
    LrtText text;
    LrtField *fields;
    size_t count, capacity;
} LrtCsv;

/* Borrows path and data. */
void lrt_csv_open(LrtCsv *csv, const char *path, const char *data, size_t size, bool tabs);
/* The next row; false at the end, and with an error. */
bool lrt_csv_next(LrtCsv *csv, LrtError *error);
const char *lrt_csv_field(const LrtCsv *csv, size_t index, size_t *length); /* not terminated */
void lrt_csv_close(LrtCsv *csv);
