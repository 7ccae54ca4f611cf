/* tensors.h - batches from a safetensors file (--tensors, --logits): input_ids and what belongs to it. */
#pragma once
#include "runtime/run.h"

typedef struct LrtBatches {
    int64_t steps, rows, length; /* [steps, rows, length]; a file without steps has one */
    int64_t *ids, *labels, *mask, *segments, *positions, *types; /* all but ids may be NULL */
    int64_t *prompts;            /* [steps, rows] length of each prompt; NULL: not known */
    float *values;               /* [steps, rows] numbers to predict; NULL: none */
    bool of_sequences;           /* labels are [steps, rows], one for a row */
    int task;                    /* enum LrtTask of the program they are for */
} LrtBatches;

/* For a program with this task. */
bool lrt_batches_read(LrtBatches *batches, const char *path, int task, LrtError *error);
void lrt_batches_free(LrtBatches *batches);

/* One sequence of a row: its tokens, where they stand in the row, and targets. */
typedef struct LrtPiece {
    int32_t *tokens, *targets, *types;
    int64_t *places;
    int64_t length, first_position;
    int64_t prompt;              /* tokens of it that are the prompt */
    int32_t first_target;        /* label of its first token */
} LrtPiece;

/* Calls `use` for each sequence of a row: runs of one segment id, without masked places. */
bool lrt_batches_pieces(const LrtBatches *batches, int64_t step, int64_t row,
                        bool (*use)(void *user, const LrtPiece *piece, LrtError *error), void *user, LrtError *error);
/* Adds all sequences of a step to the run's batch. */
bool lrt_batches_load(const LrtBatches *batches, int64_t step, LrtRun *run, LrtError *error);
