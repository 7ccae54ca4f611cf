/* optim.h - AdamW (Loshchilov and Hutter, 2019, as torch.optim.AdamW computes it), clipping, schedules. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/lrt_abi.h"
#include "runtime/thread.h"

typedef enum LrtScheduleKind { LRT_CONSTANT, LRT_LINEAR, LRT_COSINE } LrtScheduleKind;

typedef struct LrtOptimizer {
    double lr, lr_ratio; /* lr_ratio: factor of the parameters marked fast (LoRA+) */
    double beta1, beta2, epsilon, weight_decay;
    double clip;         /* largest norm; 0: none */
} LrtOptimizer;

/* The factor of the learning rate at step `step` (from 0) of `steps`; Hugging Face's formulas. */
double lrt_schedule(LrtScheduleKind kind, int64_t step, int64_t steps, int64_t warmup);
/* What is trained, cut into pieces of one size, so that one large parameter occupies all threads. */
typedef struct LrtPieces {
    struct LrtPiece *list;
    double *sums; /* room for one of each */
    int64_t count;
} LrtPieces;

bool lrt_pieces_open(LrtPieces *pieces, const LrtProgram *program, LrtError *error);
void lrt_pieces_close(LrtPieces *pieces);
/* Zeros for all that is trained, its padding included. */
void lrt_clear_gradients(const LrtPieces *pieces, char *grads, LrtPool *pool);
/* Total norm of all gradients, summed in a fixed order in double. */
double lrt_gradient_norm(const LrtPieces *pieces, const char *grads, LrtPool *pool);
/* One step: `step` counts from 1; moments have the layout of the parameters.
 *   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p *= 1 - lr wd;  p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
 * `tier`: enum LrtTier, which changes no bit. */
void lrt_adamw(const LrtPieces *pieces, const LrtOptimizer *o, double rate, int64_t step, double factor, char *params,
               const char *grads, char *m, char *v, int tier, LrtPool *pool);
