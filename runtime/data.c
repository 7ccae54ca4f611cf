/* data.c - see data.h: texts for language models, and what all data sets have in common. */
#define XXH_INLINE_ALL
#include "runtime/data.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/dataset.h"
#include "runtime/file.h"
#include "runtime/random.h"

static bool no_memory(LrtError *error)
{
    return lrt_fail(error, LRT_FAILED, "out of memory");
}

/* --- documents ----------------------------------------------------------------------------------------------------------- */

LrtDataset *lrt_dataset_new(const LrtTokenizer *tokenizer, LrtError *error)
{
    LrtDataset *d = calloc(1, sizeof *d);
    if (d)
        d->tokenizer = tokenizer;
    else
        no_memory(error);
    return d;
}

bool lrt_dataset_add(LrtDataset *d, LrtPlace place, LrtError *error)
{
    if (d->count == d->capacity) {
        size_t capacity = d->capacity ? 2 * d->capacity : 1024;
        LrtPlace *more = realloc(d->places, sizeof *more * capacity);
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

/* Tokens [first, last) as a document; those before `loss_from` are not predicted. */
static bool add_document(LrtDataset *d, const int32_t *ids, size_t first, size_t last, size_t loss_from, LrtError *error)
{
    LrtPlace place = {(int64_t)d->tokens.count, (int32_t)(last - first), 0};
    for (size_t i = first; i + 1 < last; i++)
        place.targets += i + 1 >= loss_from;
    if (place.targets == 0)
        return true;
    for (size_t i = first; i < last; i++) {
        bool target = i + 1 < last && i + 1 >= loss_from;
        if (!lrt_ids_push(&d->tokens, ids[i]) || !lrt_ids_push(&d->targets, target ? ids[i + 1] : LRT_NO_TARGET))
            return no_memory(error);
    }
    return lrt_dataset_add(d, place, error);
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

static bool add_completion(LrtDataset *d, const LrtCell *prompt, const LrtCell *completion, LrtError *error)
{
    LrtIds ids = {0};
    bool ok = lrt_tokenizer_encode(d->tokenizer, prompt->text, prompt->length, true, &ids, error);
    size_t loss_from = ids.count;
    ok = ok && lrt_tokenizer_encode(d->tokenizer, completion->text, completion->length, false, &ids, error) &&
         (append_end(d, &ids) || no_memory(error)) && add_row(d, &ids, loss_from, false, error);
    lrt_ids_free(&ids);
    return ok;
}

/* --- files --------------------------------------------------------------------------------------------------------------------- */

static bool use_row(void *user, const LrtRow *row, LrtError *error)
{
    LrtDataset *d = user;
    const LrtCell text = lrt_row_cell(row, "text"), prompt = lrt_row_cell(row, "prompt"), completion = lrt_row_cell(row, "completion");
    if (prompt.kind == LRT_CELL_TEXT && completion.kind == LRT_CELL_TEXT)
        return add_completion(d, &prompt, &completion, error);
    if (text.kind == LRT_CELL_TEXT)
        return add_text(d, text.text, text.length, true, error);
    if (lrt_row_cell(row, "messages").kind != LRT_CELL_NONE)
        return lrt_fail(error, LRT_INVALID, "%s:%lld: \"messages\" are not supported yet; render them to \"prompt\" and \"completion\"",
                        row->path, (long long)row->line);
    return lrt_row_expected(row, "\"text\", or \"prompt\" and \"completion\"", error);
}

static bool read_text(LrtDataset *d, const char *path, LrtError *error)
{
    LrtMap map;
    if (!lrt_map_file(&map, path, error))
        return false;
    const char *data = map.data ? (const char *)map.data : ""; /* an empty file is not mapped */
    size_t mark = map.size >= 3 && !memcmp(data, "\xef\xbb\xbf", 3) ? 3 : 0;
    bool ok = map.size == mark || add_text(d, data + mark, map.size - mark, false, error);
    lrt_unmap(&map);
    return ok;
}

static bool read_file(LrtDataset *d, const char *path, LrtError *error)
{
    const size_t length = strlen(path);
    const bool text = length >= 4 && !strcmp(path + length - 4, ".txt");
    if (!text && !lrt_is_rows_file(path))
        return lrt_fail(error, LRT_INVALID, "%s: data files are .jsonl, .csv, .tsv or .txt", path);
    return (text ? read_text(d, path, error) : lrt_rows_each(path, use_row, d, error)) &&
           (d->count || lrt_fail(error, LRT_INVALID, "%s: nothing to learn in it: %lld rows, none with a target token", path,
                                 (long long)d->counts.rows));
}

LrtDataset *lrt_dataset_open(const char *path, const LrtTokenizer *tokenizer, const LrtDataOptions *options, LrtError *error)
{
    LrtDataset *d = lrt_dataset_new(tokenizer, error);
    if (!d)
        return NULL;
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
    lrt_ids_free(&d->types);
    lrt_ids_free(&d->classes);
    lrt_encoded_free(&d->encoded);
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
    const LrtPlace *p = &d->places[index];
    LrtDocument document = {
        .tokens = d->tokens.data + p->start,
        .targets = d->labelled ? NULL : d->targets.data + p->start,
        .types = d->types.count ? d->types.data + p->start : NULL,
        .length = p->length,
        .target_count = p->targets,
        .label = -1,
        .id = (uint64_t)index,
    };
    if (d->values)
        memcpy(&document.value, &d->classes.data[index], sizeof document.value);
    else if (d->labelled)
        document.label = d->classes.data[index];
    return document;
}

static uint64_t hash_ids(const LrtIds *ids, uint64_t seed)
{
    return XXH3_64bits_withSeed(ids->data, sizeof(int32_t) * ids->count, seed);
}

uint64_t lrt_dataset_hash(const LrtDataset *d)
{
    uint64_t hash = hash_ids(&d->targets, XXH3_64bits(d->tokens.data, sizeof(int32_t) * d->tokens.count) ^ d->count);
    if (d->labelled)
        hash = hash_ids(&d->classes, hash_ids(&d->types, hash));
    for (size_t i = 0; d->labelled && i < d->count; i++) /* targets say where a document ends, labels do not */
        hash = XXH3_64bits_withSeed(&d->places[i].length, sizeof d->places[i].length, hash);
    return hash;
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
