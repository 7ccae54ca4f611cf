/* train.h - what the files of the training program share. */
#pragma once
#include <stdio.h>

#include "runtime/args.h"
#include "runtime/optim.h"
#include "runtime/run.h"
#include "runtime/state.h"
#include "runtime/tensors.h"

enum TrainOption {
    WEIGHTS, DATA, VALIDATION, TENSORS, OUT, STEPS, EPOCHS, BATCH, LENGTH, ACCUMULATE, LONG, LR, LR_RATIO, SCHEDULE, WARMUP,
    WEIGHT_DECAY, CLIP, BETA1, BETA2, EPSILON, SEED, EVAL_EVERY, SAVE_EVERY, RESUME, INIT, ANY_BASE, METRICS, GRADIENTS, CHECK, THREADS,
    TIER, INFO, JSON, HELP, OPTIONS
};

extern const LrtOption lrt_train_options[OPTIONS];

typedef struct Train {
    LrtArgs args;
    LrtRun run;
    LrtCheckpoint *checkpoint;
    LrtTokenizer *tokenizer;
    LrtDataset *data, *validation;
    LrtLabels *labels;     /* of labelled data */
    json_t *names;         /* {"id2label": ...} of the adapter that is trained on; NULL: it names no classes */
    int32_t mask;          /* token that hides others; -1: none */
    int32_t *hidden;       /* tokens of a document with some hidden, and its targets: [2 * length] */
    LrtBatches batches;
    LrtOptimizer optimizer;
    LrtPieces pieces;
    LrtScheduleKind schedule;
    int64_t steps, warmup, accumulate, batch, length, eval_every, save_every, epochs;
    uint64_t seed;
    LrtState state;
    char *m, *v;
    int64_t *order;
    int64_t ordered_epoch; /* the epoch `order` is of */
    FILE *metrics;
    double started, last_shown;
    int64_t tokens_done, steps_done;
    LrtError *error;
} Train;

const LrtTierCode *lrt_train_code(const Train *t);
/* Sum of the batch's token losses, in the order of rows. */
double lrt_sum_losses(const Train *t);
/* --data, --validation or --tensors: opens them, and lets go of what was opened. */
bool lrt_open_data(Train *t);
void lrt_close_data(Train *t);
/* Micro-batch `index` (from 0) of the run into the context. */
bool lrt_next_batch(Train *t, int64_t index);
/* The validation documents from *place on, as many as fit; *place goes on. */
bool lrt_validation_batch(Train *t, int64_t *place);
/* Optimizer steps of the asked epochs: batches are counted by walking through them. */
int64_t lrt_count_steps(Train *t);
/* Targets of the batches of an optimizer step: each token weighs 1 / all of them. */
bool lrt_count_targets(Train *t, int64_t step, int64_t *targets);
/* Gradients of one optimizer step, and the mean loss. */
bool lrt_compute_gradients(Train *t, int64_t step, double *loss, int64_t *targets);

/* --gradients and --check. */
bool lrt_write_gradients(Train *t);
bool lrt_check_gradients(Train *t);
