/* labels.c - see labels.h. */
#define _GNU_SOURCE
#include "runtime/labels.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABELS_MAX = 10000, NUMBER_BYTES = 64 };

typedef enum Kind { UNKNOWN, NUMBERS, NAMES, VALUES } Kind;

struct LrtLabels {
    Kind kind;
    bool known;         /* nothing new is taken */
    int32_t count;
    char **names;       /* NAMES: [count] */
    int32_t *order;     /* NAMES: classes by name */
};

static bool no_memory(LrtError *error)
{
    return lrt_fail(error, LRT_FAILED, "out of memory");
}

/* --- names --------------------------------------------------------------------------------------------------------------- */

/* Compares a name with text that is not terminated, bytewise as strcmp does. */
static int compare(const char *name, const char *text, size_t length)
{
    const size_t size = strlen(name), common = size < length ? size : length;
    const int order = memcmp(name, text, common);
    return order ? order : (size > length) - (size < length);
}

/* Place in the order where this name is, or would be. */
static int32_t place_of(const LrtLabels *l, const char *text, size_t length, bool *found)
{
    int32_t low = 0, high = l->count;
    *found = false;
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        const int order = compare(l->names[l->order[middle]], text, length);
        if (order == 0)
            *found = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The class of a name; -1: none. */
static int32_t find_name(const LrtLabels *l, const char *text, size_t length)
{
    bool found;
    const int32_t place = l->kind == NAMES ? place_of(l, text, length, &found) : 0;
    return l->kind == NAMES && found ? l->order[place] : -1;
}

static bool add_name(LrtLabels *l, const char *text, size_t length, LrtError *error)
{
    bool found;
    l->kind = NAMES;
    const int32_t place = place_of(l, text, length, &found);
    if ((l->count & (l->count - 1)) == 0) { /* full: room doubles at powers of two */
        const size_t room = l->count ? 2 * (size_t)l->count : 1;
        char **names = realloc(l->names, sizeof *names * room);
        l->names = names ? names : l->names;
        int32_t *order = realloc(l->order, sizeof *order * room);
        l->order = order ? order : l->order;
        if (!names || !order)
            return no_memory(error);
    }
    char *name = strndup(text, length);
    if (!name)
        return no_memory(error);
    memmove(l->order + place + 1, l->order + place, sizeof *l->order * (size_t)(l->count - place));
    l->order[place] = l->count;
    l->names[l->count++] = name;
    return true;
}

enum { NUMBER_MAX = 1000000000 };

/* "0", "1", "10", not "01" or "+1", and NUMBER_MAX for more than that; -1: something else. */
static int64_t number_of(const char *text, size_t length)
{
    int64_t number = 0;
    if (length == 0 || (text[0] == '0' && length > 1))
        return -1;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        number = number < NUMBER_MAX ? 10 * number + (text[i] - '0') : number;
    }
    return number < NUMBER_MAX ? number : NUMBER_MAX;
}

/* --- config.json ------------------------------------------------------------------------------------------------------------- */

static bool bad_map(const char *source, const char *key, LrtError *error)
{
    return lrt_fail(error, LRT_INVALID, "%s: \"%s\" does not give each of the classes 0, 1, ... one name", source, key);
}

/* Names by class, from id2label {"0": "no"} or label2id {"no": 0}. */
static bool collect_names(const json_t *map, bool inverse, const char **names)
{
    const size_t count = json_object_size(map);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, key, value) {
        const int64_t label = inverse ? (json_is_integer(value) ? json_integer_value(value) : -1) : number_of(key, strlen(key));
        const char *name = inverse ? key : json_string_value(value);
        if (label < 0 || (uint64_t)label >= count || !name || names[label])
            return false;
        names[label] = name;
    }
    return true;
}

static bool are_placeholders(const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char usual[NUMBER_BYTES];
        snprintf(usual, sizeof usual, "LABEL_%zu", i);
        if (strcmp(names[i], usual) != 0)
            return false;
    }
    return true;
}

static bool read_map(LrtLabels *l, const json_t *config, const char *key, const char *source, LrtError *error)
{
    const json_t *map = json_object_get(config, key);
    const size_t count = json_object_size(map);
    if (!map || json_is_null(map) || (json_is_object(map) && count == 0))
        return true;
    if (!json_is_object(map) || count > LABELS_MAX)
        return bad_map(source, key, error);
    const char **names = calloc(count, sizeof *names);
    if (!names)
        return no_memory(error);
    bool ok = collect_names(map, !strcmp(key, "label2id"), names) || bad_map(source, key, error);
    const bool given = ok && !are_placeholders(names, count);
    for (size_t i = 0; ok && given && i < count; i++)
        ok = find_name(l, names[i], strlen(names[i])) < 0 ? add_name(l, names[i], strlen(names[i]), error) : bad_map(source, key, error);
    l->known = given;
    free(names);
    return ok;
}

LrtLabels *lrt_labels_new(const json_t *config, const char *source, bool values, LrtError *error)
{
    LrtLabels *l = calloc(1, sizeof *l);
    if (!l) {
        no_memory(error);
        return NULL;
    }
    l->kind = values ? VALUES : UNKNOWN;
    l->known = values;
    l->count = values;
    if (values || (read_map(l, config, "id2label", source, error) && (l->known || read_map(l, config, "label2id", source, error))))
        return l;
    lrt_labels_free(l);
    return NULL;
}

void lrt_labels_free(LrtLabels *l)
{
    if (!l)
        return;
    for (int32_t i = 0; l->names && i < l->count; i++)
        free(l->names[i]);
    free(l->names);
    free(l->order);
    free(l);
}

/* --- access -------------------------------------------------------------------------------------------------------------------- */

bool lrt_labels_are_values(const LrtLabels *l)
{
    return l->kind == VALUES;
}

int32_t lrt_labels_count(const LrtLabels *l)
{
    return l->known ? l->count : 0;
}

const char *lrt_labels_name(const LrtLabels *l, int32_t label)
{
    return l->kind == NAMES && label >= 0 && label < l->count ? l->names[label] : NULL;
}

json_t *lrt_labels_json(const LrtLabels *l)
{
    json_t *map = json_object();
    for (int32_t i = 0; map && l->kind != VALUES && i < l->count; i++) {
        char key[NUMBER_BYTES], usual[NUMBER_BYTES];
        snprintf(key, sizeof key, "%d", (int)i);
        snprintf(usual, sizeof usual, "LABEL_%d", (int)i);
        const char *name = lrt_labels_name(l, i);
        if (json_object_set_new(map, key, json_string(name ? name : usual)) != 0) {
            json_decref(map);
            return NULL;
        }
    }
    return map;
}

/* "a, b, c", as far as there is room. */
static void list_names(const LrtLabels *l, char *out, size_t size)
{
    size_t at = 0;
    *out = '\0';
    if (l->kind != NAMES) {
        snprintf(out, size, l->count > 1 ? "0 to %d" : "0", (int)l->count - 1);
        return;
    }
    for (int32_t i = 0; i < l->count; i++) {
        if (at + 48 > size) {
            snprintf(out + at, size - at, ", ...");
            return;
        }
        at += (size_t)snprintf(out + at, size - at, "%s%.30s", i ? ", " : "", l->names[i]);
    }
}

bool lrt_labels_fit(LrtLabels *l, const char *path, int64_t outputs, LrtError *error)
{
    char names[256];
    if (l->kind == VALUES)
        return outputs == 1 || lrt_fail(error, LRT_INVALID,
                                        "%s: real numbers need a head of 1 output, the model's has %lld; compile with --set num_labels=1",
                                        path, (long long)outputs);
    if (l->kind == NUMBERS && l->count < outputs && outputs <= LABELS_MAX)
        l->count = (int32_t)outputs;
    if (l->count == outputs)
        return true;
    list_names(l, names, sizeof names);
    return lrt_fail(error, LRT_INVALID, "%s has %d labels (%s), the model's head %lld; compile with --set num_labels=%d", path,
                    (int)l->count, names, (long long)outputs, (int)l->count);
}

/* --- rows ------------------------------------------------------------------------------------------------------------------------ */

/* A label as text; numbers are written out. */
static bool label_text(const LrtRow *row, char number[NUMBER_BYTES], const char **text, size_t *length, LrtError *error)
{
    const LrtCell cell = lrt_row_cell(row, "label");
    *text = number;
    *length = 0;
    if (cell.kind == LRT_CELL_TEXT)
        *text = cell.text, *length = cell.length;
    else if (cell.kind == LRT_CELL_INTEGER)
        *length = (size_t)snprintf(number, NUMBER_BYTES, "%lld", (long long)cell.integer);
    else if (cell.kind == LRT_CELL_REAL)
        *length = (size_t)snprintf(number, NUMBER_BYTES, "%.17g", cell.real);
    else if (cell.kind == LRT_CELL_OTHER)
        return lrt_fail(error, LRT_INVALID, "%s:%lld: \"label\" is neither a name nor a number", row->path, (long long)row->line);
    else
        return row->object ? lrt_fail(error, LRT_INVALID, "%s:%lld: no \"label\"; it is a name or a number", row->path,
                                      (long long)row->line)
                           : lrt_row_expected(row, "\"label\"", error);
    if (*length && !memchr(*text, '\0', *length))
        return true;
    return lrt_fail(error, LRT_INVALID, "%s:%lld: the label is %s", row->path, (long long)row->line, *length ? "no text" : "empty");
}

static bool not_a_label(const LrtLabels *l, const LrtRow *row, const char *text, size_t length, LrtError *error)
{
    char names[256];
    list_names(l, names, sizeof names);
    return lrt_fail(error, LRT_INVALID, "%s:%lld: label '%.*s' is none of the %d there are: %s", row->path, (long long)row->line,
                    length < 40 ? (int)length : 40, text, (int)l->count, names);
}

/* A label while the classes are collected. */
static bool take_label(LrtLabels *l, const LrtRow *row, const char *text, size_t length, int32_t *label, LrtError *error)
{
    const int64_t number = number_of(text, length);
    const bool negative = text[0] == '-' && number_of(text + 1, length - 1) > 0;
    if (l->kind == UNKNOWN)
        l->kind = number >= 0 ? NUMBERS : NAMES;
    if (negative || lrt_row_cell(row, "label").kind == LRT_CELL_REAL)
        return lrt_fail(error, LRT_INVALID, "%s:%lld: label %.*s is no class: those are names, or integers of 0 and more", row->path,
                        (long long)row->line, (int)length, text);
    if ((l->kind == NUMBERS) != (number >= 0))
        return lrt_fail(error, LRT_INVALID, "%s:%lld: label '%.*s' is a %s, but those before it are %s", row->path, (long long)row->line,
                        length < 40 ? (int)length : 40, text, number >= 0 ? "number" : "name", number >= 0 ? "names" : "numbers");
    *label = l->kind == NUMBERS ? (int32_t)number : find_name(l, text, length);
    if (l->kind == NUMBERS)
        l->count = number >= l->count ? (int32_t)number + 1 : l->count;
    else if (*label < 0) {
        *label = l->count;
        if (!add_name(l, text, length, error))
            return false;
    }
    return l->count <= LABELS_MAX ||
           lrt_fail(error, LRT_INVALID, "%s:%lld: more than %d labels; for real numbers compile a head of 1 output", row->path,
                    (long long)row->line, LABELS_MAX);
}

bool lrt_labels_class(LrtLabels *l, const LrtRow *row, int32_t *label, LrtError *error)
{
    char number[NUMBER_BYTES];
    const char *text;
    size_t length;
    if (!label_text(row, number, &text, &length, error))
        return false;
    if (!l->known)
        return take_label(l, row, text, length, label, error);
    const int64_t index = number_of(text, length);
    *label = find_name(l, text, length);
    if (*label < 0 && index >= 0 && index < l->count)
        *label = (int32_t)index;
    return *label >= 0 || not_a_label(l, row, text, length, error);
}

/* All of the text as a number; NAN: it is none. */
static double real_of(const char *text, size_t length)
{
    char copy[NUMBER_BYTES], *end;
    if (length >= sizeof copy)
        return NAN;
    memcpy(copy, text, length);
    copy[length] = '\0';
    const double real = strspn(copy, "+-.0123456789eE") == length ? strtod(copy, &end) : NAN;
    return !isnan(real) && end == copy + length ? real : NAN;
}

bool lrt_labels_value(const LrtRow *row, float *value, LrtError *error)
{
    char number[NUMBER_BYTES];
    const char *text;
    size_t length;
    if (!label_text(row, number, &text, &length, error))
        return false;
    const double real = real_of(text, length);
    if (!(fabs(real) <= FLT_MAX))
        return lrt_fail(error, LRT_INVALID, "%s:%lld: label '%.*s' is not a number", row->path, (long long)row->line,
                        length < 40 ? (int)length : 40, text);
    *value = (float)real;
    return true;
}

bool lrt_labels_close(LrtLabels *l, int32_t **classes, LrtError *error)
{
    *classes = NULL;
    if (l->known)
        return true;
    l->known = l->kind != UNKNOWN;
    if (l->kind != NAMES)
        return true;
    int32_t *became = malloc(sizeof *became * (size_t)l->count);
    char **names = malloc(sizeof *names * (size_t)l->count);
    if (!became || !names) {
        free(became);
        free(names);
        return no_memory(error);
    }
    for (int32_t i = 0; i < l->count; i++) {
        names[i] = l->names[l->order[i]];
        became[l->order[i]] = i;
        l->order[i] = i;
    }
    memcpy(l->names, names, sizeof *names * (size_t)l->count);
    free(names);
    *classes = became;
    return true;
}
