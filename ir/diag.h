/* diag.h - messages to the user: FILE:LINE:COL: error: text, the line, a caret.
 *
 * Text is lower case, without full stop, names in single quotes, expected then got.  Errors are counted; after 20 the compilation stops. */
#pragma once
#include <stdbool.h>
#include <stdio.h>

#include "ir/arena.h"
#include "ir/source.h"

typedef enum Severity { SEV_NOTE, SEV_WARNING, SEV_ERROR, SEV_COUNT } Severity;

typedef struct Diag {
    FILE *out;
    bool color;
    int errors, warnings;
} Diag;

enum { DIAG_MAX_ERRORS = 20 };

/* Colour follows NO_COLOR and whether `out` is a terminal. */
Diag diag_new(FILE *out);
void diag_error(Diag *diag, Loc at, const char *format, ...) __attribute__((format(printf, 3, 4)));
void diag_warning(Diag *diag, Loc at, const char *format, ...) __attribute__((format(printf, 3, 4)));
void diag_note(Diag *diag, Loc at, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool diag_full(const Diag *diag); /* 20 errors: give up */

/* A broken invariant of ours: prints "internal error: ..." and aborts. */
_Noreturn void ice(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The candidate nearest to `word` by edit distance, or NULL when none is near enough (a third of the word's length). */
const char *nearest_word(const char *word, const char *const *candidates, int count);
