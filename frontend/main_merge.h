/* main_merge.h - an adapter on its way into a program's weights: W + s B A, summed in double, rounded once to f32 and then to the
 * storage type. */
#pragma once
#include "frontend/main.h"
#include "runtime/run.h"
#include "runtime/weights.h"

typedef struct Merger Merger;

/* Reads the factors of every fold; NULL with an error. */
Merger *merger_open(const ModelFiles *files, const PeftResult *result, Arena *arena, LrtError *error);
void merger_close(Merger *merger);

/* LrtSources.edit, with the merger as its user. */
bool merger_edit(void *merger, const LrtTensor *tensor, const char *name, int64_t first, int64_t count, float *rows, LrtError *error);

/* For every parameter that changed, JSON objects: tensor, numbers, largest_update, rms_update, largest_error, rms_error (stored value
 * against the exact one) and survives: <stored merged - stored base, update> / <update, update>. */
json_t *merger_report(const Merger *merger, const LrtProgram *program, const char *weights, LrtPool *pool, LrtError *error);
