/* text_scan.h - the words, numbers and strings of IR text, inside ir/.
 *
 * Each scan_<kind> reads one value of a kind of attrs.def or params.def.  All functions stay
 * within the line; those that return bool report an error and return false when the text is
 * something else (scan_accept: without an error). */
#pragma once
#include "ir/diag.h"
#include "ir/graph.h"

typedef struct Scan {
    Arena *arena;
    Diag *diag;
    const Source *source;
    const char *at, *end, *line_start;
    int line;
    bool failed; /* an error was reported */
} Scan;

Loc scan_loc(const Scan *s, const char *at, size_t length);
/* Reports an error about `length` bytes from `at`; false.  At most one for a line, since each
 * caller gives up. */
#define SCAN_ERROR(s, at, length, ...)                                                         \
    (diag_error((s)->diag, scan_loc((s), (at), (size_t)(length)), __VA_ARGS__), scan_failed(s))
bool scan_failed(Scan *s);
bool scan_unexpected(Scan *s, const char *expected);

void scan_space(Scan *s); /* spaces and a comment */
bool scan_line_end(Scan *s);
void scan_next_line(Scan *s);
void scan_empty_lines(Scan *s);

bool scan_accept(Scan *s, char c);
bool scan_accept_word(Scan *s, const char *word);
bool scan_expect(Scan *s, char c);
bool scan_word(Scan *s, const char *expected, const char **word);

bool scan_f64(Scan *s, double *value);
bool scan_int(Scan *s, int64_t *value);
bool scan_count(Scan *s, int *value);
bool scan_bool(Scan *s, bool *value);
bool scan_dims(Scan *s, Dims *dims);
bool scan_text(Scan *s, const char **value);
bool scan_layer(Scan *s, int *layer);
bool scan_init(Scan *s, Init *init);
