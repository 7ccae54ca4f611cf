/* initial.h - low-rank pairs that begin as a part of the weight they adapt (PiSSA, OLoRA), carried by a training program.
 *
 * They are its image's weights, f32; its image's settings say which is whose: [{"tensor", "a", "b": names, "rank", "inputs", "scale",
 * "transposed", "out": [start, stop], "offset": of a in floats, b follows}, ...]. */
#pragma once
#include <jansson.h>

#include "runtime/fold.h"
#include "runtime/image.h"

typedef struct LrtInitial {
    LrtImage image;
    json_t *places;  /* owns the names */
    LrtFold *folds;  /* take the pairs out of the base, and name the parameters that begin as they do */
    int count;
} LrtInitial;

/* Of the running program. */
bool lrt_initial_open(LrtInitial *initial, LrtError *error);
void lrt_initial_close(LrtInitial *initial);
/* Appends them to a linked program; `folds` as lrt_initial_open gives them. */
bool lrt_initial_append(const char *program, const LrtFold *folds, int count, LrtError *error);
