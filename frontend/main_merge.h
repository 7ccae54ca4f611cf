/* main_merge.h - an adapter on its way into a program's weights: W + s B A, summed in double, rounded once to f32 and then to the
 * storage type. */
#pragma once
#include "frontend/main.h"
#include "runtime/run.h"
#include "runtime/weights.h"

typedef struct Merger {
    const ModelFiles *files;
    Arena *arena;
    LrtFold *folds; /* for LrtSources */
    int count;
} Merger;

/* Reads the factors of every fold, and computes those that an initialisation took out of the base.  `beside`: only these, since the
 * adapter itself is kept beside the base. */
bool merger_open(Merger *merger, const ModelFiles *files, const PeftResult *result, bool beside, Arena *arena, LrtError *error);

/* For every parameter that changed, JSON objects: tensor, numbers, largest_update, rms_update, largest_error, rms_error (stored value
 * against the exact one) and survives: <stored merged - stored base, update> / <update, update>. */
json_t *merger_report(const Merger *merger, const LrtProgram *program, const char *weights, LrtPool *pool, LrtError *error);
