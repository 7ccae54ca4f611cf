/* optim.c - see optim.h. */
#include "runtime/optim.h"

#include <math.h>
#include <stdlib.h>

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

/* The sum of one parameter's squares, in the order of memory: padding is zero. */
typedef struct Norm {
    const LrtProgram *program;
    const char *grads;
    double *sums;
} Norm;

static void norm_task(void *user, int64_t task)
{
    Norm *norm = user;
    const LrtParam *p = &norm->program->params[task];
    double sum = 0;
    if (p->trained) {
        const float *g = (const float *)(norm->grads + p->offset);
        for (int64_t i = 0; i < p->bytes / 4; i++)
            sum += (double)g[i] * (double)g[i];
    }
    norm->sums[task] = sum;
}

double lrt_gradient_norm(const LrtProgram *program, const char *grads, LrtPool *pool)
{
    double sum = 0;
    Norm norm = {program, grads, calloc((size_t)program->param_count + 1, sizeof(double))};
    if (!norm.sums)
        return NAN;
    lrt_pool_run(pool, norm_task, &norm, program->param_count);
    for (int64_t i = 0; i < program->param_count; i++)
        sum += norm.sums[i];
    free(norm.sums);
    return sqrt(sum);
}

typedef struct Step {
    const LrtProgram *program;
    const LrtOptimizer *o;
    double rate, factor, correction1, correction2;
    char *params, *m, *v;
    const char *grads;
} Step;

static void adamw_task(void *user, int64_t task)
{
    const Step *s = user;
    const LrtParam *param = &s->program->params[task];
    if (!param->trained)
        return;
    const LrtOptimizer *o = s->o;
    float *p = (float *)(s->params + param->offset), *m = (float *)(s->m + param->offset);
    float *v = (float *)(s->v + param->offset);
    const float *g = (const float *)(s->grads + param->offset);
    double rate = s->rate * (param->fast ? o->lr_ratio : 1);
    for (int64_t i = 0; i < param->bytes / 4; i++) {
        double gradient = (double)g[i] * s->factor;
        double m1 = o->beta1 * (double)m[i] + (1 - o->beta1) * gradient;
        double v1 = o->beta2 * (double)v[i] + (1 - o->beta2) * gradient * gradient;
        double value = (double)p[i] * (1 - rate * o->weight_decay);
        value -= rate * (m1 / s->correction1) / (sqrt(v1 / s->correction2) + o->epsilon);
        m[i] = (float)m1;
        v[i] = (float)v1;
        p[i] = (float)value;
    }
}

void lrt_adamw(const LrtProgram *program, const LrtOptimizer *o, double rate, int64_t step, double factor, char *params,
               const char *grads, char *m, char *v, LrtPool *pool)
{
    Step s = {program, o, rate, factor, 1 - pow(o->beta1, (double)step), 1 - pow(o->beta2, (double)step), params, m, v, grads};
    lrt_pool_run(pool, adamw_task, &s, program->param_count);
}
