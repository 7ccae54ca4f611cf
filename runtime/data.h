/* data.h - training data: documents, their targets, and the batches made of them.
 *
 * A document is one sequence of tokens.  For a language model it has one target a position: target[i] is the token that position
 * i has to predict, or -100.  For a classifier it has a label, or a value.
 * Batches are flat: documents one after another, no padding; a segment table says where each begins.  Within a batch
 * documents stand in the order of their numbers, so the flat order does not depend on how they were packed. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/labels.h"
#include "runtime/tokenizer.h"

enum { LRT_NO_TARGET = -100 };

typedef struct LrtDocument {
    const int32_t *tokens, *targets; /* [length]; targets NULL: labelled */
    const int32_t *types;            /* [length]; NULL: the tokenizer has one type */
    int32_t length;
    int32_t target_count;            /* targets other than LRT_NO_TARGET; labelled: 1 */
    int32_t label;                   /* labelled with classes; else -1 */
    float value;                     /* labelled with values; else 0 */
    uint64_t id;                     /* number of the document in the data set: the dropout's sequence id */
} LrtDocument;

typedef struct LrtDataset LrtDataset;

typedef enum LrtLong { LRT_LONG_SPLIT, LRT_LONG_TRUNCATE } LrtLong;

typedef struct LrtDataOptions {
    int32_t length;    /* longest document in tokens */
    LrtLong too_long;  /* split a longer text into documents, or cut it */
    bool append_end;   /* end every text / completion with the tokenizer's end token, if it has one */
} LrtDataOptions;

typedef struct LrtDataCounts {
    int64_t rows, documents, tokens, targets; /* rows of the file; what became of them */
    int64_t split, truncated, skipped;        /* rows longer than `length`; rows without a target */
    bool no_end_token;                        /* append_end was asked and the tokenizer has none */
} LrtDataCounts;

/* Reads FILE by its extension: .jsonl (objects with `text`, or `prompt` + `completion`: loss on the completion only; other keys are
 * ignored), .csv and .tsv (the same under columns that the first line names), .txt (one text, to which no end token is added; its
 * bytes need not be UTF-8).  A bad row is an error that names file, line and what was expected. */
LrtDataset *lrt_dataset_open(const char *path, const LrtTokenizer *tokenizer, const LrtDataOptions *options,
                             LrtError *error);
/* Labelled data from a .jsonl, .csv or .tsv: `label` with one text (`text` or `sentence`) or two (`text` + `text_pair`, `sentence1` +
 * `sentence2`, `premise` + `hypothesis`, `question` + `sentence`, `question1` + `question2`), cut to `length` tokens.  Labels that are
 * not known yet become known here: open the training data first, then the validation data with the same labels.  (Are they those
 * of the model?  lrt_labels_fit.)  Nothing is skipped: row i is document i. */
LrtDataset *lrt_dataset_open_labelled(const char *path, const LrtTokenizer *tokenizer, int32_t length, LrtLabels *labels,
                                      LrtError *error);
void lrt_dataset_close(LrtDataset *dataset);
const LrtDataCounts *lrt_dataset_counts(const LrtDataset *dataset);
int64_t lrt_dataset_size(const LrtDataset *dataset); /* documents */
LrtDocument lrt_dataset_document(const LrtDataset *dataset, int64_t index);
uint64_t lrt_dataset_hash(const LrtDataset *dataset); /* XXH3 of all tokens, and targets or labels */

/* The order of documents in an epoch: a permutation that depends on (seed, epoch) only. */
void lrt_dataset_shuffle(const LrtDataset *dataset, uint64_t seed, uint64_t epoch, int64_t *order);

/* Plans micro-batches: walks order[from...] and takes documents while they fit `capacity` tokens, each with `more` besides its own,
 * and `max_documents`; returns how many were taken (at least 1 if any are left); the caller sorts them by id. */
int64_t lrt_dataset_take(const LrtDataset *dataset, const int64_t *order, int64_t from, int64_t count,
                         int64_t capacity, int64_t max_documents, int64_t more);
