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
    char *weights;           /* frozen image; mapped by whoever made the run, or owned */
    bool owns_weights;
    /* Arrays of the context, at capacity. */
    int32_t *tokens, *targets, *positions, *target_rows, *rows;
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
/* Adds a sequence of its own; targets NULL: none.  false with an error when it does not fit the capacity. */
bool lrt_batch_add(LrtRun *run, const int32_t *tokens, const int32_t *targets, int64_t length, int64_t first_position,
                   uint64_t sequence, LrtError *error);
/* Rows with a target; to be called when all sequences are in. */
int64_t lrt_batch_finish(LrtRun *run);

/* Allocates zeroed, page-aligned memory; NULL with an error. */
char *lrt_pages(int64_t bytes, const char *what, LrtError *error);
void lrt_free_pages(char *pages, int64_t bytes);
