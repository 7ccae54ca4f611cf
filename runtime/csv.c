/* csv.c - see csv.h. */
#include "runtime/csv.h"

#include <stdlib.h>
#include <string.h>

void lrt_csv_open(LrtCsv *c, const char *path, const char *data, size_t size, bool tabs)
{
    *c = (LrtCsv){.path = path, .data = data, .size = size, .tabs = tabs, .next_line = 1};
}

void lrt_csv_close(LrtCsv *c)
{
    lrt_text_free(&c->text);
    free(c->fields);
    *c = (LrtCsv){0};
}

const char *lrt_csv_field(const LrtCsv *c, size_t index, size_t *length)
{
    *length = c->fields[index].length;
    return *length ? (const char *)c->text.data + c->fields[index].start : "";
}

static bool is_line_end(char c)
{
    return c == '\n' || c == '\r';
}

/* Past the end of a line, if there is one here; true: there was. */
static bool skip_line_end(LrtCsv *c)
{
    if (c->at == c->size || !is_line_end(c->data[c->at]))
        return false;
    c->at += c->data[c->at] == '\r' && c->at + 1 < c->size && c->data[c->at + 1] == '\n' ? 2 : 1;
    c->next_line++;
    return true;
}

static bool add_text(LrtCsv *c, size_t start, size_t end, LrtError *error)
{
    return lrt_text_append(&c->text, c->data + start, end - start) || lrt_fail(error, LRT_FAILED, "out of memory");
}

/* Up to a separator or a line end. */
static bool read_plain(LrtCsv *c, LrtError *error)
{
    const char separator = c->tabs ? '\t' : ',';
    size_t start = c->at;
    while (c->at < c->size && c->data[c->at] != separator && !is_line_end(c->data[c->at]))
        c->at++;
    return add_text(c, start, c->at, error);
}

/* `at` is behind the opening quote. */
static bool read_quoted(LrtCsv *c, LrtError *error)
{
    const int64_t line = c->next_line;
    for (size_t start = c->at;;) {
        if (c->at == c->size)
            return lrt_fail(error, LRT_INVALID, "%s:%lld: a quoted field begins here and does not end; a quote inside a field is "
                            "written twice", c->path, (long long)line);
        if (skip_line_end(c))
            continue;
        if (c->data[c->at++] != '"')
            continue;
        if (!add_text(c, start, c->at - 1, error))
            return false;
        if (c->at == c->size || c->data[c->at] != '"')
            break;
        start = c->at++; /* the second of two quotes */
    }
    if (c->at == c->size || c->data[c->at] == ',' || is_line_end(c->data[c->at]))
        return true;
    return lrt_fail(error, LRT_INVALID, "%s:%lld: text behind the closing quote of a field; a quote inside a field is written twice",
                    c->path, (long long)c->next_line);
}

static bool read_field(LrtCsv *c, LrtError *error)
{
    const size_t start = c->text.length;
    const bool quoted = !c->tabs && c->at < c->size && c->data[c->at] == '"';
    c->at += quoted;
    if (quoted ? !read_quoted(c, error) : !read_plain(c, error))
        return false;
    if (c->count == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 16;
        LrtField *more = realloc(c->fields, sizeof *more * capacity);
        if (!more)
            return lrt_fail(error, LRT_FAILED, "out of memory");
        c->fields = more;
        c->capacity = capacity;
    }
    c->fields[c->count++] = (LrtField){start, c->text.length - start};
    return true;
}

bool lrt_csv_next(LrtCsv *c, LrtError *error)
{
    c->text.length = c->count = 0;
    while (skip_line_end(c))
        ;
    c->line = c->next_line;
    if (c->at == c->size)
        return false;
    while (read_field(c, error)) {
        if (c->at == c->size || skip_line_end(c))
            return true;
        c->at++; /* the separator */
    }
    return false;
}
