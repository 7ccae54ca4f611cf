/* run.h - the memory that generated code works on, and the batches it is given. */
#pragma once
#include <jansson.h>

#include "runtime/checkpoint.h"
#include "runtime/data.h"
#include "runtime/lrt_abi.h"
#include "runtime/thread.h"

/* A program that is set up to run. */
typedef struct LrtRun {
    const LrtProgram *program;
    LrtContext context;
    LrtPool *pool;
    int tier;
    json_t *settings;        /* program->settings */
    char base[LRT_HASH_TEXT]; /* identity of the checkpoint that is trained; "": not known */
    char *class_names;       /* JSON {"0": "no", ...} of a classifier, for the adapter; NULL: none */
    char *weights;           /* frozen image; mapped by whoever made the run, or owned */
    bool owns_weights;
    /* Arrays of the context, at capacity. */
    int32_t *tokens, *targets, *positions, *types, *virtual_tokens, *segment_of, *labels, *target_rows, *rows;
    float *values;
    uint64_t *sequences;
    LrtSegment *segments;
    int64_t segment_capacity;
} LrtRun;

/* Allocates everything the program plans; weights are allocated only when `weights` is NULL.  Refuses when the machine has too
 * little memory. */
bool lrt_run_open(LrtRun *run, const LrtProgram *program, const char *tier, int threads, char *weights, LrtError *error);
void lrt_run_close(LrtRun *run);

/* Memory the compiler planned, and what the runtime adds. */
int64_t lrt_planned_bytes(const LrtProgram *program, int threads, int64_t *arena, int64_t *weights, int64_t *runtime);
int64_t lrt_resident_bytes(void); /* of this process now; 0: not known */
int64_t lrt_peak_bytes(void);

/* --- batches: sequences one after another, no padding -------------------------------------------------------------- */

void lrt_batch_clear(LrtRun *run);
/* One sequence: what it is made of, and what is to be learned from it. */
typedef struct LrtSequence {
    const int32_t *tokens;   /* [length] */
    const int32_t *targets;  /* [length]; NULL: none */
    const int32_t *types;    /* [length]; NULL: all 0 */
    int64_t length, first_position;
    uint64_t number;         /* dropout draws from it */
    int64_t prompt;          /* the infix comes behind so many tokens; 0: nowhere */
    int32_t first_target;    /* label of the first token itself; negative: none */
    int32_t label;           /* class; negative: none */
    float value;             /* number to predict; NaN: none */
} LrtSequence;

/* Adds it to the batch, with the program's learned tokens; false with an error when it does not fit the capacity or the model.
 * A sequence that goes on (first_position > 0) has had its prefix; its position counts the learned tokens. */
bool lrt_batch_add(LrtRun *run, const LrtSequence *sequence, LrtError *error);
/* How many targets there are: tokens, or sequences that have a label; to be called when all sequences are in. */
int64_t lrt_batch_finish(LrtRun *run);
/* Whether targets belong to sequences, not to tokens. */
bool lrt_is_sequence_task(const LrtProgram *program);

/* Allocates zeroed, page-aligned memory; NULL with an error. */
char *lrt_pages(int64_t bytes, const char *what, LrtError *error);
void lrt_free_pages(char *pages, int64_t bytes);
