/* data.c - see data.h.  All documents lie in one array of tokens and one of targets; a table says where each begins. */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include "runtime/data.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/file.h"
#include "runtime/random.h"

enum { LINE_MAX_BYTES = 64 << 20 };

typedef struct Place {
    int64_t start;
    int32_t length, targets;
} Place;

struct LrtDataset {
    const LrtTokenizer *tokenizer;
    LrtDataOptions options;
    LrtDataCounts counts;
    LrtIds tokens, targets;
    Place *places;
    size_t count, capacity;
};

static bool no_memory(LrtError *error)
{
    return lrt_fail(error, LRT_FAILED, "out of memory");
}

/* --- documents ----------------------------------------------------------------------------------------------------------- */

/* Tokens [first, last) as a document; those before `loss_from` are not predicted. */
static bool add_document(LrtDataset *d, const int32_t *ids, size_t first, size_t last, size_t loss_from, LrtError *error)
{
    Place place = {(int64_t)d->tokens.count, (int32_t)(last - first), 0};
    for (size_t i = first; i + 1 < last; i++)
        place.targets += i + 1 >= loss_from;
    if (place.targets == 0)
        return true;
    for (size_t i = first; i < last; i++) {
        bool target = i + 1 < last && i + 1 >= loss_from;
        if (!lrt_ids_push(&d->tokens, ids[i]) || !lrt_ids_push(&d->targets, target ? ids[i + 1] : LRT_NO_TARGET))
            return no_memory(error);
    }
    if (d->count == d->capacity) {
        size_t capacity = d->capacity ? 2 * d->capacity : 1024;
        Place *more = realloc(d->places, sizeof *more * capacity);
        if (!more)
            return no_memory(error);
        d->places = more;
        d->capacity = capacity;
    }
    d->places[d->count++] = place;
    d->counts.documents++;
    d->counts.tokens += place.length;
    d->counts.targets += place.targets;
    return true;
}

/* A row of the file: cut or split to the length. */
static bool add_row(LrtDataset *d, const LrtIds *ids, size_t loss_from, bool may_split, LrtError *error)
{
    size_t length = (size_t)d->options.length, before = d->count;
    bool longer = ids->count > length, split = longer && may_split && d->options.too_long == LRT_LONG_SPLIT;
    d->counts.rows++;
    d->counts.split += split;
    d->counts.truncated += longer && !split;
    for (size_t first = 0; first < ids->count && (first == 0 || split); first += length) {
        size_t last = ids->count - first < length ? ids->count : first + length;
        if (!add_document(d, ids->data, first, last, loss_from, error))
            return false;
    }
    d->counts.skipped += d->count == before;
    return true;
}

static bool append_end(LrtDataset *d, LrtIds *ids)
{
    int32_t end = lrt_tokenizer_end(d->tokenizer);
    if (!d->options.append_end)
        return true;
    d->counts.no_end_token = end < 0;
    return end < 0 || lrt_ids_push(ids, end);
}

static bool add_text(LrtDataset *d, const char *text, size_t length, bool end, LrtError *error)
{
    LrtIds ids = {0};
    bool ok = lrt_tokenizer_encode(d->tokenizer, text, length, true, &ids, error) &&
              ((!end || append_end(d, &ids)) || no_memory(error)) && add_row(d, &ids, 0, true, error);
    lrt_ids_free(&ids);
    return ok;
}

static bool add_completion(LrtDataset *d, const json_t *prompt, const json_t *completion, LrtError *error)
{
    LrtIds ids = {0};
    bool ok = lrt_tokenizer_encode(d->tokenizer, json_string_value(prompt), json_string_length(prompt), true, &ids, error);
    size_t loss_from = ids.count;
    ok = ok && lrt_tokenizer_encode(d->tokenizer, json_string_value(completion), json_string_length(completion), false, &ids, error) &&
         (append_end(d, &ids) || no_memory(error)) && add_row(d, &ids, loss_from, false, error);
    lrt_ids_free(&ids);
    return ok;
}

/* --- files --------------------------------------------------------------------------------------------------------------------- */

static bool add_object(LrtDataset *d, const json_t *row, const char *path, int64_t line, LrtError *error)
{
    const json_t *text = json_object_get(row, "text");
    const json_t *prompt = json_object_get(row, "prompt"), *completion = json_object_get(row, "completion");
    if (!json_is_object(row))
        return lrt_fail(error, LRT_INVALID, "%s:%lld: not a JSON object; each line is one, e.g. {\"text\": \"...\"}", path, (long long)line);
    if (json_is_string(prompt) && json_is_string(completion))
        return add_completion(d, prompt, completion, error);
    if (json_is_string(text))
        return add_text(d, json_string_value(text), json_string_length(text), true, error);
    if (json_object_get(row, "messages"))
        return lrt_fail(error, LRT_INVALID, "%s:%lld: \"messages\" are not supported yet; render them to \"prompt\" and \"completion\"",
                        path, (long long)line);
    return lrt_fail(error, LRT_INVALID, "%s:%lld: expected a string \"text\", or strings \"prompt\" and \"completion\"", path, (long long)line);
}

static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r", text[i]) || !text[i])
            return false;
    return true;
}

static bool read_jsonl(LrtDataset *d, const char *path, const char *data, size_t size, LrtError *error)
{
    int64_t line = 1;
    for (size_t at = 0; at < size; line++) {
        const char *end = memchr(data + at, '\n', size - at);
        size_t length = end ? (size_t)(end - data) - at : size - at;
        json_error_t where;
        if (length > LINE_MAX_BYTES)
            return lrt_fail(error, LRT_INVALID, "%s:%lld: longer than 64 MiB", path, (long long)line);
        if (!is_blank(data + at, length)) {
            json_t *row = json_loadb(data + at, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
            if (!row)
                return lrt_fail(error, LRT_INVALID, "%s:%lld:%d: not valid JSON: %s", path, (long long)line, where.column, where.text);
            bool ok = add_object(d, row, path, line, error);
            json_decref(row);
            if (!ok)
                return false;
        }
        at += length + 1;
    }
    return true;
}

static bool ends_with(const char *path, const char *end)
{
    size_t p = strlen(path), n = strlen(end);
    return p >= n && !strcmp(path + p - n, end);
}

static bool read_file(LrtDataset *d, const char *path, LrtError *error)
{
    LrtMap map;
    bool lines = ends_with(path, ".jsonl");
    if (!lines && !ends_with(path, ".txt"))
        return lrt_fail(error, LRT_INVALID, "%s: data files are .jsonl or .txt", path);
    if (!lrt_map_file(&map, path, error))
        return false;
    const char *data = map.data ? (const char *)map.data : ""; /* an empty file is not mapped */
    size_t mark = map.size >= 3 && !memcmp(data, "\xef\xbb\xbf", 3) ? 3 : 0;
    bool ok = lines ? read_jsonl(d, path, data + mark, map.size - mark, error)
                    : map.size == mark || add_text(d, data + mark, map.size - mark, false, error);
    lrt_unmap(&map);
    if (ok && d->count == 0)
        ok = lrt_fail(error, LRT_INVALID, "%s: nothing to learn in it: %lld rows, none with a target token", path,
                      (long long)d->counts.rows);
    return ok;
}

LrtDataset *lrt_dataset_open(const char *path, const LrtTokenizer *tokenizer, const LrtDataOptions *options, LrtError *error)
{
    LrtDataset *d = calloc(1, sizeof *d);
    if (!d) {
        lrt_report(error, LRT_FAILED, "out of memory");
        return NULL;
    }
    d->tokenizer = tokenizer;
    d->options = *options;
    if (read_file(d, path, error))
        return d;
    lrt_dataset_close(d);
    return NULL;
}

void lrt_dataset_close(LrtDataset *d)
{
    if (!d)
        return;
    lrt_ids_free(&d->tokens);
    lrt_ids_free(&d->targets);
    free(d->places);
    free(d);
}

/* --- access ------------------------------------------------------------------------------------------------------------------------ */

const LrtDataCounts *lrt_dataset_counts(const LrtDataset *d)
{
    return &d->counts;
}

int64_t lrt_dataset_size(const LrtDataset *d)
{
    return (int64_t)d->count;
}

LrtDocument lrt_dataset_document(const LrtDataset *d, int64_t index)
{
    const Place *p = &d->places[index];
    return (LrtDocument){d->tokens.data + p->start, d->targets.data + p->start, p->length, p->targets, (uint64_t)index};
}

uint64_t lrt_dataset_hash(const LrtDataset *d)
{
    uint64_t tokens = XXH3_64bits(d->tokens.data, sizeof(int32_t) * d->tokens.count);
    return XXH3_64bits_withSeed(d->targets.data, sizeof(int32_t) * d->targets.count, tokens ^ d->count);
}

/* Fisher and Yates, from the back. */
void lrt_dataset_shuffle(const LrtDataset *d, uint64_t seed, uint64_t epoch, int64_t *order)
{
    uint64_t stream = lrt_stream("shuffle") ^ epoch;
    for (size_t i = 0; i < d->count; i++)
        order[i] = (int64_t)i;
    for (size_t i = d->count; i > 1; i--) {
        size_t k = (size_t)(lrt_random(seed, stream, i) % i);
        int64_t kept = order[i - 1];
        order[i - 1] = order[k];
        order[k] = kept;
    }
}

int64_t lrt_dataset_take(const LrtDataset *d, const int64_t *order, int64_t from, int64_t count, int64_t capacity,
                         int64_t max_documents, int64_t more)
{
    int64_t taken = 0, tokens = 0;
    while (from + taken < count && taken < max_documents) {
        int64_t length = d->places[order[from + taken]].length + more;
        if (taken && tokens + length > capacity)
            break;
        tokens += length;
        taken++;
    }
    return taken;
}
