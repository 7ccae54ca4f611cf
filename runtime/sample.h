/* sample.h - choosing the next token from logits. */
#pragma once
#include <stdint.h>

#include "runtime/error.h"

typedef struct LrtSampling {
    double temperature; /* 0: the most likely */
    int64_t top_k;      /* 0: all */
    double top_p, min_p;
    uint64_t seed;
} LrtSampling;

/* `step` numbers the choices: with the seed it decides the draw.  -1: out of memory. */
int32_t lrt_sample(const LrtSampling *sampling, const float *logits, int64_t count, uint64_t step);
