/* text_scan.c - see text_scan.h. */
#include "ir/text_scan.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "ir/text.h"

/* --- characters --- */

Loc scan_loc(const Scan *s, const char *at, size_t length)
{
    int column = (int)(at - s->line_start) + 1;
    return (Loc){s->source, s->line, column, s->line, column + (int)length};
}

bool scan_failed(Scan *s)
{
    s->failed = true;
    return false;
}

void scan_space(Scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\r'))
        s->at++;
    if (s->at < s->end && *s->at == ';')
        while (s->at < s->end && *s->at != '\n')
            s->at++;
}

bool scan_line_end(Scan *s)
{
    scan_space(s);
    return s->at == s->end || *s->at == '\n';
}

void scan_next_line(Scan *s)
{
    while (s->at < s->end && *s->at != '\n')
        s->at++;
    if (s->at < s->end) {
        s->line_start = ++s->at;
        s->line++;
    }
}

void scan_empty_lines(Scan *s)
{
    while (s->at < s->end && scan_line_end(s) && s->at < s->end)
        scan_next_line(s);
}

bool scan_accept(Scan *s, char c)
{
    scan_space(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static bool is_word_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '-';
}

static size_t word_length(const Scan *s)
{
    const char *c = s->at;
    while (c < s->end && is_word_char(*c))
        c++;
    return (size_t)(c - s->at);
}

bool scan_unexpected(Scan *s, const char *expected)
{
    if (scan_line_end(s))
        return SCAN_ERROR(s, s->at, 1, "expected %s, got the end of the line", expected);
    size_t length = word_length(s);
    if (length > 64)
        length = 64;
    if (length > 0)
        return SCAN_ERROR(s, s->at, length, "expected %s, got '%.*s'", expected, (int)length,
                          s->at);
    unsigned char byte = (unsigned char)*s->at;
    if (byte > ' ' && byte < 0x7f)
        return SCAN_ERROR(s, s->at, 1, "expected %s, got '%c'", expected, byte);
    return SCAN_ERROR(s, s->at, 1, "expected %s, got the byte 0x%02x", expected, byte);
}

bool scan_expect(Scan *s, char c)
{
    return scan_accept(s, c) || scan_unexpected(s, (char[]){'\'', c, '\'', '\0'});
}

/* A word as arena text. */
bool scan_word(Scan *s, const char *expected, const char **word)
{
    scan_space(s);
    size_t length = word_length(s);
    if (length == 0)
        return scan_unexpected(s, expected);
    *word = arena_strndup(s->arena, s->at, length);
    s->at += length;
    return true;
}

bool scan_accept_word(Scan *s, const char *word)
{
    scan_space(s);
    size_t length = word_length(s);
    if (length != strlen(word) || memcmp(s->at, word, length) != 0)
        return false;
    s->at += length;
    return true;
}

/* --- attribute values: one function for each kind --- */

bool scan_f64(Scan *s, double *value)
{
    char *end;
    scan_space(s);
    if (s->at == s->end || !(isdigit((unsigned char)*s->at) || strchr("-.in", *s->at)) ||
        *s->at == '\0')
        return scan_unexpected(s, "a number");
    *value = strtod(s->at, &end);
    if (end == s->at || end > s->end)
        return scan_unexpected(s, "a number");
    s->at = end;
    return true;
}

bool scan_int(Scan *s, int64_t *value)
{
    char *end;
    scan_space(s);
    if (s->at == s->end || !(isdigit((unsigned char)*s->at) || *s->at == '-'))
        return scan_unexpected(s, "an integer");
    errno = 0;
    long long number = strtoll(s->at, &end, 10);
    if (end == s->at || end > s->end)
        return scan_unexpected(s, "an integer");
    if (errno)
        return SCAN_ERROR(s, s->at, (size_t)(end - s->at), "the integer is too large");
    s->at = end;
    *value = number;
    return true;
}

bool scan_count(Scan *s, int *value)
{
    int64_t number;
    const char *start = (scan_space(s), s->at);
    if (!scan_int(s, &number))
        return false;
    if (number < 0 || number > INT_MAX / 2)
        return SCAN_ERROR(s, start, (size_t)(s->at - start), "expected a small count, got %lld",
                          (long long)number);
    *value = (int)number;
    return true;
}

bool scan_bool(Scan *s, bool *value)
{
    *value = scan_accept_word(s, "1");
    return *value || scan_accept_word(s, "0") || scan_unexpected(s, "0 or 1");
}

static bool read_dim(Scan *s, int64_t *dim)
{
    for (*dim = DIM_T; *dim >= -DIM_SYMBOLS; --*dim)
        if (scan_accept_word(s, dim_str(s->arena, *dim)))
            return true;
    const char *start = (scan_space(s), s->at);
    if (s->at == s->end || !isdigit((unsigned char)*s->at))
        return scan_unexpected(s, "an extent");
    if (!scan_int(s, dim))
        return false;
    return *dim <= DIM_MAX ||
           SCAN_ERROR(s, start, (size_t)(s->at - start), "the extent is too large");
}

bool scan_dims(Scan *s, Dims *dims)
{
    *dims = (Dims){0};
    if (!scan_expect(s, '['))
        return false;
    if (scan_accept(s, ']'))
        return true;
    do {
        if (dims->count == MAX_RANK)
            return SCAN_ERROR(s, s->at, 1, "more than %d axes", MAX_RANK);
        if (!read_dim(s, &dims->at[dims->count++]))
            return false;
    } while (scan_accept(s, ','));
    return scan_expect(s, ']');
}

static int hex_digit(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that the escape after a backslash means; -1: none. */
static int read_escape(Scan *s)
{
    if (s->at < s->end && (*s->at == '"' || *s->at == '\\'))
        return *s->at++;
    if (s->end - s->at < 3 || *s->at != 'x' || hex_digit(s->at[1]) < 0 ||
        hex_digit(s->at[2]) < 0)
        return -1;
    int byte = hex_digit(s->at[1]) * 16 + hex_digit(s->at[2]);
    s->at += 3;
    return byte ? byte : -1;
}

bool scan_text(Scan *s, const char **value)
{
    Text text = {.arena = s->arena};
    scan_space(s);
    const char *start = s->at;
    if (!scan_accept(s, '"'))
        return scan_unexpected(s, "a string");
    text_addn(&text, "", 0);
    while (s->at < s->end && *s->at != '"' && *s->at != '\n' && *s->at != '\0') {
        int byte = (unsigned char)*s->at++;
        if (byte == '\\')
            byte = read_escape(s);
        if (byte < 0)
            return SCAN_ERROR(s, s->at - 1, 1, "unknown escape in a string");
        text_addn(&text, &(char){(char)byte}, 1);
    }
    if (s->at == s->end || *s->at != '"')
        return SCAN_ERROR(s, start, 1, "the string does not end");
    s->at++;
    *value = text.data;
    return true;
}

bool scan_layer(Scan *s, int *layer)
{
    if (!scan_accept_word(s, "-1"))
        return scan_count(s, layer);
    *layer = LAYER_NONE;
    return true;
}

bool scan_init(Scan *s, Init *init)
{
    for (int i = 0; i < INIT_COUNT; i++)
        if (scan_accept_word(s, init_names[i])) {
            *init = (Init)i;
            return true;
        }
    return scan_unexpected(s, "a kind of initial value");
}
