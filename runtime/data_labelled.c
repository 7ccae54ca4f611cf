/* data_labelled.c - data for classifiers: rows of one text or two with a label. */
#include <stdlib.h>
#include <string.h>

#include "runtime/dataset.h"

/* What the texts of a row are called; the first that a row has. */
static const struct Names {
    const char *first, *second;
} names[] = {
    {"text", "text_pair"},     {"sentence1", "sentence2"}, {"premise", "hypothesis"}, {"question", "sentence"},
    {"question1", "question2"}, {"text", NULL},             {"sentence", NULL},
};

static const char expected[] =
    "\"text\" or \"sentence\" with \"label\", or two: \"text\" and \"text_pair\", \"sentence1\" and \"sentence2\", "
    "\"premise\" and \"hypothesis\", \"question\" and \"sentence\", \"question1\" and \"question2\"";

static bool find_texts(const LrtRow *row, LrtPair *pair)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const LrtCell first = lrt_row_cell(row, names[i].first);
        const LrtCell second = names[i].second ? lrt_row_cell(row, names[i].second) : (LrtCell){.text = NULL};
        if (first.kind != LRT_CELL_TEXT || (names[i].second && second.kind != LRT_CELL_TEXT))
            continue;
        *pair = (LrtPair){first.text, second.text, first.length, second.length};
        return true;
    }
    return false;
}

static bool add_label(LrtDataset *d, const LrtRow *row, LrtError *error)
{
    int32_t label = 0;
    float value;
    if (!d->values) {
        if (!lrt_labels_class(d->labels, row, &label, error))
            return false;
    } else {
        if (!lrt_labels_value(row, &value, error))
            return false;
        memcpy(&label, &value, sizeof label);
    }
    return lrt_ids_push(&d->classes, label) || lrt_fail(error, LRT_FAILED, "out of memory");
}

static bool append(LrtIds *to, const LrtIds *from, LrtError *error)
{
    for (size_t i = 0; i < from->count; i++)
        if (!lrt_ids_push(to, from->data[i]))
            return lrt_fail(error, LRT_FAILED, "out of memory");
    return true;
}

static bool use_row(void *user, const LrtRow *row, LrtError *error)
{
    LrtDataset *d = user;
    LrtEncoded *e = &d->encoded;
    LrtPair pair;
    if (!find_texts(row, &pair))
        return lrt_row_expected(row, expected, error);
    const size_t length = (size_t)d->options.length, specials = lrt_tokenizer_specials(d->tokenizer, pair.second);
    if (length <= specials)
        return lrt_fail(error, LRT_INVALID, "%s:%lld: a length of %zu has no room for %s beside %zu special tokens; give a larger --length",
                        row->path, (long long)row->line, length, pair.second ? "two texts" : "a text", specials);
    if (!add_label(d, row, error) || !lrt_tokenizer_encode_pair(d->tokenizer, &pair, length, e, error))
        return false;
    if (e->ids.count == 0)
        return lrt_fail(error, LRT_INVALID, "%s:%lld: the text has no tokens", row->path, (long long)row->line);
    const LrtPlace place = {(int64_t)d->tokens.count, (int32_t)e->ids.count, 1};
    d->counts.rows++;
    d->counts.truncated += e->removed > 0;
    return append(&d->tokens, &e->ids, error) && (lrt_tokenizer_types(d->tokenizer) == 1 || append(&d->types, &e->types, error)) &&
           lrt_dataset_add(d, place, error);
}

static bool read_file(LrtDataset *d, const char *path, LrtError *error)
{
    int32_t *became;
    if (!lrt_is_rows_file(path))
        return lrt_fail(error, LRT_INVALID, "%s: labelled data files are .jsonl, .csv or .tsv", path);
    if (!lrt_rows_each(path, use_row, d, error))
        return false;
    if (d->count == 0)
        return lrt_fail(error, LRT_INVALID, "%s: nothing to learn in it: no rows", path);
    if (!lrt_labels_close(d->labels, &became, error))
        return false;
    for (size_t i = 0; became && i < d->count; i++)
        d->classes.data[i] = became[d->classes.data[i]];
    free(became);
    return true;
}

LrtDataset *lrt_dataset_open_labelled(const char *path, const LrtTokenizer *tokenizer, int32_t length, LrtLabels *labels,
                                      LrtError *error)
{
    LrtDataset *d = lrt_dataset_new(tokenizer, error);
    if (!d)
        return NULL;
    d->options.length = length;
    d->labels = labels;
    d->labelled = true;
    d->values = lrt_labels_are_values(labels);
    if (read_file(d, path, error))
        return d;
    lrt_dataset_close(d);
    return NULL;
}
