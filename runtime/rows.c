/* rows.c - see rows.h. */
#include "runtime/rows.h"

#include <stdio.h>
#include <string.h>

#include "runtime/file.h"

enum { LINE_MAX_BYTES = 64 << 20, COLUMNS_MAX = 4096 };

static bool ends_with(const char *path, const char *end)
{
    size_t p = strlen(path), n = strlen(end);
    return p >= n && !strcmp(path + p - n, end);
}

bool lrt_is_rows_file(const char *path)
{
    return ends_with(path, ".jsonl") || ends_with(path, ".csv") || ends_with(path, ".tsv");
}

/* --- JSON ---------------------------------------------------------------------------------------------------------------- */

static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r", text[i]) || !text[i])
            return false;
    return true;
}

static bool use_line(const char *path, int64_t line, const char *text, size_t length, LrtUseRow *use, void *user, LrtError *error)
{
    json_error_t where;
    if (length > LINE_MAX_BYTES)
        return lrt_fail(error, LRT_INVALID, "%s:%lld: longer than 64 MiB", path, (long long)line);
    json_t *object = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
    if (!object)
        return lrt_fail(error, LRT_INVALID, "%s:%lld:%d: not valid JSON: %s", path, (long long)line, where.column, where.text);
    const LrtRow row = {.path = path, .line = line, .object = object};
    bool ok = json_is_object(object) ? use(user, &row, error)
                                     : lrt_fail(error, LRT_INVALID,
                                                "%s:%lld: not a JSON object; each line is one, e.g. {\"text\": \"...\"}", path,
                                                (long long)line);
    json_decref(object);
    return ok;
}

static bool read_json(const char *path, const char *data, size_t size, LrtUseRow *use, void *user, LrtError *error)
{
    int64_t line = 1;
    for (size_t at = 0; at < size; line++) {
        const char *end = memchr(data + at, '\n', size - at);
        size_t length = end ? (size_t)(end - data) - at : size - at;
        if (!is_blank(data + at, length) && !use_line(path, line, data + at, length, use, user, error))
            return false;
        at += length + 1;
    }
    return true;
}

/* --- separated files --------------------------------------------------------------------------------------------------------- */

static bool check_text(const LrtCsv *c, LrtError *error)
{
    for (size_t i = 0; i < c->count; i++) {
        size_t length;
        const char *text = lrt_csv_field(c, i, &length);
        if (!lrt_is_utf8(text, length))
            return lrt_fail(error, LRT_INVALID, "%s:%lld: not UTF-8; convert the file, e.g. with iconv -t utf-8", c->path,
                            (long long)c->line);
    }
    return true;
}

static bool same_field(const LrtCsv *c, size_t i, const char *name, size_t length)
{
    size_t size;
    const char *text = lrt_csv_field(c, i, &size);
    return size == length && !memcmp(text, name, size);
}

static bool check_names(const LrtCsv *c, LrtError *error)
{
    if (c->count > COLUMNS_MAX)
        return lrt_fail(error, LRT_INVALID, "%s:%lld: more than %d columns", c->path, (long long)c->line, COLUMNS_MAX);
    for (size_t i = 0; i < c->count; i++) {
        size_t length;
        const char *name = lrt_csv_field(c, i, &length);
        for (size_t k = 0; length && k < i; k++)
            if (same_field(c, k, name, length))
                return lrt_fail(error, LRT_INVALID, "%s:%lld: two columns are called '%.*s'", c->path, (long long)c->line,
                                length < 40 ? (int)length : 40, name);
    }
    return check_text(c, error);
}

static bool use_fields(const LrtCsv *names, const LrtCsv *c, LrtUseRow *use, void *user, LrtError *error)
{
    const LrtRow row = {.path = c->path, .line = c->line, .names = names, .csv = c};
    if (c->count != names->count)
        return lrt_fail(error, LRT_INVALID, "%s:%lld: a row of %zu fields, but the first line names %zu columns%s", c->path,
                        (long long)c->line, c->count, names->count, c->tabs ? "" : "; a field with a comma in it is quoted");
    return check_text(c, error) && use(user, &row, error);
}

static bool read_separated(const char *path, const char *data, size_t size, LrtUseRow *use, void *user, LrtError *error)
{
    LrtCsv names, rows;
    const bool tabs = ends_with(path, ".tsv");
    lrt_csv_open(&names, path, data, size, tabs);
    lrt_csv_open(&rows, path, data, size, tabs);
    bool ok = !lrt_csv_next(&names, error) || check_names(&names, error);
    rows.at = names.at;
    rows.next_line = names.next_line;
    while (ok && lrt_csv_next(&rows, error))
        ok = use_fields(&names, &rows, use, user, error);
    lrt_csv_close(&names);
    lrt_csv_close(&rows);
    return ok && error->status == LRT_OK;
}

/* --- either --------------------------------------------------------------------------------------------------------------------- */

bool lrt_rows_each(const char *path, LrtUseRow *use, void *user, LrtError *error)
{
    LrtMap map;
    if (!lrt_map_file(&map, path, error))
        return false;
    const char *data = map.data ? (const char *)map.data : ""; /* an empty file is not mapped */
    const size_t mark = map.size >= 3 && !memcmp(data, "\xef\xbb\xbf", 3) ? 3 : 0;
    bool ok = ends_with(path, ".jsonl") ? read_json(path, data + mark, map.size - mark, use, user, error)
                                        : read_separated(path, data + mark, map.size - mark, use, user, error);
    lrt_unmap(&map);
    return ok;
}

LrtCell lrt_row_cell(const LrtRow *row, const char *name)
{
    LrtCell cell = {.kind = LRT_CELL_NONE};
    const json_t *value = json_object_get(row->object, name);
    if (json_is_string(value))
        cell = (LrtCell){.kind = LRT_CELL_TEXT, .text = json_string_value(value), .length = json_string_length(value)};
    else if (json_is_integer(value))
        cell = (LrtCell){.kind = LRT_CELL_INTEGER, .integer = json_integer_value(value)};
    else if (json_is_real(value))
        cell = (LrtCell){.kind = LRT_CELL_REAL, .real = json_real_value(value)};
    else if (value && !json_is_null(value))
        cell.kind = LRT_CELL_OTHER;
    for (size_t i = 0; row->csv && i < row->names->count; i++)
        if (same_field(row->names, i, name, strlen(name))) {
            cell.kind = LRT_CELL_TEXT;
            cell.text = lrt_csv_field(row->csv, i, &cell.length);
        }
    return cell;
}

bool lrt_row_expected(const LrtRow *row, const char *what, LrtError *error)
{
    char columns[256] = "";
    size_t at = 0;
    if (row->object)
        return lrt_fail(error, LRT_INVALID, "%s:%lld: expected a string %s", row->path, (long long)row->line, what);
    for (size_t i = 0; i < row->names->count && at + 64 < sizeof columns; i++) {
        size_t length;
        const char *name = lrt_csv_field(row->names, i, &length);
        const bool last = i + 1 == row->names->count;
        at += (size_t)snprintf(columns + at, sizeof columns - at, "%s\"%.*s\"%s", i ? ", " : "", length < 30 ? (int)length : 30, name,
                               !last && at + 128 >= sizeof columns ? ", ..." : "");
    }
    return lrt_fail(error, LRT_INVALID, "%s:%lld: expected a column %s; it has %s", row->path, (long long)row->names->line, what, columns);
}
