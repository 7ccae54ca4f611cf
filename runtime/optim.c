/* optim.c - see optim.h. */
#include "runtime/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 13, LANES = 8 };

double lrt_schedule(LrtScheduleKind kind, int64_t step, int64_t steps, int64_t warmup)
{
    if (step < warmup)
        return (double)step / (double)warmup;
    if (kind == LRT_CONSTANT)
        return 1;
    double rest = (double)(steps - warmup > 1 ? steps - warmup : 1);
    double done = (double)(step - warmup) / rest;
    if (kind == LRT_LINEAR)
        return step < steps ? (double)(steps - step) / rest : 0;
    double factor = 0.5 * (1 + cos(3.14159265358979323846 * done));
    return factor > 0 ? factor : 0;
}

/* At most PIECE elements of a trained parameter: a task. */
typedef struct LrtPiece {
    int64_t first, count; /* elements, from the start of the memory of what is trained */
    bool fast;
} Piece;

/* In the order of the parameters; only counted while there is no list. */
static void cut(LrtPieces *pieces, const LrtProgram *program)
{
    pieces->count = 0;
    for (const LrtParam *p = program->params; p < program->params + program->param_count; p++) {
        int64_t size = p->trained ? p->bytes / 4 : 0;
        for (int64_t at = 0; at < size; at += PIECE, pieces->count++)
            if (pieces->list)
                pieces->list[pieces->count] = (Piece){p->offset / 4 + at, size - at < PIECE ? size - at : PIECE, p->fast};
    }
}

bool lrt_pieces_open(LrtPieces *pieces, const LrtProgram *program, LrtError *error)
{
    *pieces = (LrtPieces){0};
    cut(pieces, program);
    pieces->list = malloc(sizeof *pieces->list * (size_t)(pieces->count + 1));
    pieces->sums = malloc(sizeof *pieces->sums * (size_t)(pieces->count + 1));
    if (!pieces->list || !pieces->sums) {
        lrt_pieces_close(pieces);
        return lrt_fail(error, LRT_FAILED, "out of memory");
    }
    cut(pieces, program);
    return true;
}

void lrt_pieces_close(LrtPieces *pieces)
{
    free(pieces->list), free(pieces->sums);
    *pieces = (LrtPieces){0};
}

/* --- clearing -------------------------------------------------------------------------------------------------------------- */

typedef struct Clear {
    const Piece *pieces;
    float *grads;
} Clear;

static void clear_task(void *user, int64_t task)
{
    const Clear *clear = user;
    const Piece *piece = &clear->pieces[task];
    memset(clear->grads + piece->first, 0, (size_t)piece->count * sizeof *clear->grads);
}

void lrt_clear_gradients(const LrtPieces *pieces, char *grads, LrtPool *pool)
{
    lrt_pool_run(pool, clear_task, &(Clear){pieces->list, (float *)grads}, pieces->count);
}

/* --- norm ------------------------------------------------------------------------------------------------------------------ */

typedef struct Norm {
    const Piece *pieces;
    const float *grads;
    double *sums;
} Norm;

/* Eight sums side by side, then their sum: padding is zero. */
static void norm_task(void *user, int64_t task)
{
    Norm *norm = user;
    const Piece *piece = &norm->pieces[task];
    const float *g = norm->grads + piece->first;
    double sums[LANES] = {0}, sum = 0;
    int64_t whole = piece->count / LANES * LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int k = 0; k < LANES; k++)
            sums[k] += (double)g[i + k] * (double)g[i + k];
    for (int64_t i = whole; i < piece->count; i++)
        sums[i - whole] += (double)g[i] * (double)g[i];
    for (int k = 0; k < LANES; k++)
        sum += sums[k];
    norm->sums[task] = sum;
}

double lrt_gradient_norm(const LrtPieces *pieces, const char *grads, LrtPool *pool)
{
    double sum = 0;
    lrt_pool_run(pool, norm_task, &(Norm){pieces->list, (const float *)grads, pieces->sums}, pieces->count);
    for (int64_t i = 0; i < pieces->count; i++)
        sum += pieces->sums[i];
    return sqrt(sum);
}

/* --- step ------------------------------------------------------------------------------------------------------------------ */

typedef struct Step {
    const Piece *pieces;
    const LrtOptimizer *o;
    double rate, factor, correction1, correction2;
    float *params, *m, *v;
    const float *grads;
} Step;

static inline __attribute__((always_inline)) void adamw_piece(const Step *s, int64_t task)
{
    const LrtOptimizer *o = s->o;
    const Piece *piece = &s->pieces[task];
    float *restrict p = s->params + piece->first, *restrict m = s->m + piece->first, *restrict v = s->v + piece->first;
    const float *restrict g = s->grads + piece->first;
    const double rate = s->rate * (piece->fast ? o->lr_ratio : 1), keep = 1 - rate * o->weight_decay, factor = s->factor;
    const double beta1 = o->beta1, beta2 = o->beta2, epsilon = o->epsilon, size = rate / s->correction1, scale = 1 / s->correction2;
    for (int64_t i = 0; i < piece->count; i++) {
        double gradient = (double)g[i] * factor;
        double m1 = beta1 * (double)m[i] + (1 - beta1) * gradient;
        double v1 = beta2 * (double)v[i] + (1 - beta2) * gradient * gradient;
        m[i] = (float)m1;
        v[i] = (float)v1;
        p[i] = (float)((double)p[i] * keep - size * m1 / (sqrt(v1 * scale) + epsilon));
    }
}

/* The same operations in wider vectors, so the same bits: nothing is contracted (CMakeLists.txt). */
static void adamw_task(void *user, int64_t task)
{
    adamw_piece(user, task);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void adamw_avx2(void *user, int64_t task)
{
    adamw_piece(user, task);
}

__attribute__((target("avx512f"))) static void adamw_avx512(void *user, int64_t task)
{
    adamw_piece(user, task);
}
#else
#define adamw_avx2 adamw_task
#define adamw_avx512 adamw_task
#endif
static void (*const adamw_tasks[LRT_TIER_COUNT])(void *, int64_t) = {adamw_task, adamw_avx2, adamw_avx512};

void lrt_adamw(const LrtPieces *pieces, const LrtOptimizer *o, double rate, int64_t step, double factor, char *params,
               const char *grads, char *m, char *v, int tier, LrtPool *pool)
{
    Step s = {.pieces = pieces->list, .o = o, .rate = rate, .factor = factor, .correction1 = 1 - pow(o->beta1, (double)step),
              .correction2 = 1 - pow(o->beta2, (double)step), .params = (float *)params, .m = (float *)m, .v = (float *)v,
              .grads = (const float *)grads};
    lrt_pool_run(pool, adamw_tasks[tier], &s, pieces->count);
}
