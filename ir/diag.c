/* diag.c - see diag.h. */
#define _POSIX_C_SOURCE 200809L
#include "ir/diag.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Diag diag_new(FILE *out)
{
    const char *no_color = getenv("NO_COLOR");
    return (Diag){.out = out, .color = !(no_color && *no_color) && isatty(fileno(out))};
}

bool diag_full(const Diag *diag)
{
    return diag->errors >= DIAG_MAX_ERRORS;
}

/* The line, and a caret under what is meant; tabs stay tabs, so that the caret stands right. */
static void show_place(const Diag *diag, Loc at)
{
    int length;
    const char *line = source_line(at.source, at.line, &length);
    if (length > 400)
        return;
    fprintf(diag->out, "%5d | %.*s\n      | ", at.line, length, line);
    for (int i = 0; i < at.column - 1; i++)
        fputc(i < length && line[i] == '\t' ? '\t' : ' ', diag->out);
    int end = at.end_line == at.line ? at.end_column : length + 1;
    fputs(diag->color ? "\033[1;32m^" : "^", diag->out);
    for (int i = at.column + 1; i < end && i <= length; i++)
        fputc('~', diag->out);
    fputs(diag->color ? "\033[0m\n" : "\n", diag->out);
}

static void report(Diag *diag, Severity severity, Loc at, const char *format, va_list args)
{
    static const char *const names[SEV_COUNT] = {"note", "warning", "error"};
    static const char *const colors[SEV_COUNT] = {"\033[1;36m", "\033[1;35m", "\033[1;31m"};
    if (at.source)
        fprintf(diag->out, "%s:%d:%d: ", at.source->path, at.line, at.column);
    else
        fputs("loracc: ", diag->out);
    fprintf(diag->out, "%s%s:%s ", diag->color ? colors[severity] : "", names[severity],
            diag->color ? "\033[0m" : "");
    vfprintf(diag->out, format, args);
    fputc('\n', diag->out);
    if (at.source && at.line > 0)
        show_place(diag, at);
}

void diag_error(Diag *diag, Loc at, const char *format, ...)
{
    va_list args;
    if (diag_full(diag))
        return;
    va_start(args, format);
    report(diag, SEV_ERROR, at, format, args);
    va_end(args);
    if (++diag->errors == DIAG_MAX_ERRORS)
        fputs("loracc: error: too many errors, giving up\n", diag->out);
}

void diag_warning(Diag *diag, Loc at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(diag, SEV_WARNING, at, format, args);
    va_end(args);
    diag->warnings++;
}

void diag_note(Diag *diag, Loc at, const char *format, ...)
{
    va_list args;
    if (diag_full(diag))
        return;
    va_start(args, format);
    report(diag, SEV_NOTE, at, format, args);
    va_end(args);
}

void ice(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("loracc: internal error: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

enum { WORD_MAX = 64 };

/* Damerau-Levenshtein distance without the transposition of edited parts. */
static int edit_distance(const char *a, const char *b)
{
    int m = (int)strlen(a), n = (int)strlen(b);
    int rows[3][WORD_MAX + 1];
    for (int j = 0; j <= n; j++)
        rows[0][j] = j;
    for (int i = 1; i <= m; i++) {
        int *row = rows[i % 3], *above = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[m % 3][n];
}

const char *nearest_word(const char *word, const char *const *candidates, int count)
{
    size_t length = strlen(word);
    const char *best = NULL;
    if (length == 0 || length > WORD_MAX)
        return NULL;
    int limit = length > 1 ? (int)(length + 2) / 3 : 0, best_distance = limit + 1;
    for (int i = 0; i < count; i++) {
        if (!candidates[i] || strlen(candidates[i]) > WORD_MAX)
            continue;
        int distance = edit_distance(word, candidates[i]);
        if (distance < best_distance)
            best = candidates[i], best_distance = distance;
    }
    return best;
}
