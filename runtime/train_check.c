/* train_check.c - looking at gradients: written to a file, or compared with finite differences. */
#include <math.h>
#include <stdlib.h>

#include "runtime/train.h"
#include "runtime/weights.h"

bool lrt_write_gradients(Train *t)
{
    double loss;
    int64_t targets;
    int count;
    LrtTensor *tensors;
    if (!lrt_compute_gradients(t, 0, &loss, &targets) ||
        !lrt_adapter_tensors(t->run.program, t->run.weights, t->run.context.base[LRT_BASE_GRADS], true, &tensors, &count, t->error))
        return false;
    float value = (float)loss;
    LrtTensor *more = realloc(tensors, sizeof *more * (size_t)(count + 1));
    if (!more) {
        lrt_free_tensors(tensors, count);
        return lrt_fail(t->error, LRT_FAILED, "out of memory");
    }
    more[count] = (LrtTensor){.name = "loss", .dtype = LRT_F32, .data = (const uint8_t *)&value};
    bool ok = lrt_safetensors_write(t->args.value[GRADIENTS], more, count + 1, NULL, t->error);
    lrt_free_tensors(more, count);
    return ok;
}

/* Loss of the first batch with element `i` of a parameter moved. */
static bool moved_loss(Train *t, float *element, float value, double *loss)
{
    float kept = *element;
    int64_t targets;
    *element = value;
    t->run.context.want_gradients = 0;
    bool ok = lrt_count_targets(t, 0, &targets) && lrt_next_batch(t, 0);
    lrt_batch_finish(&t->run);
    if (ok)
        lrt_train_code(t)->forward(&t->run.context);
    *loss = targets ? lrt_sum_losses(t) / (double)targets : 0;
    *element = kept;
    return ok;
}

/* (L(p + h) - L(p - h)) / 2h for one element */
static bool difference(Train *t, float *element, double step, double *found)
{
    double up, down;
    if (!moved_loss(t, element, (float)((double)*element + step), &up) || !moved_loss(t, element, (float)((double)*element - step), &down))
        return false;
    *found = (up - down) / (2 * step);
    return true;
}

/* The largest element of each parameter's gradient against differences of the loss, in units of the loss's rounding.  Those of two steps
 * are extrapolated (Richardson, 1911): what is left of the loss's curvature is of fourth order. */
bool lrt_check_gradients(Train *t)
{
    double loss, worst = 0;
    int64_t targets, checked = 0;
    bool right = true;
    LrtContext *c = &t->run.context;
    t->accumulate = 1;
    if (!lrt_compute_gradients(t, 0, &loss, &targets))
        return false;
    c->training = 0;
    if (!lrt_compute_gradients(t, 0, &loss, &targets))
        return false;
    for (int64_t i = 0; i < t->run.program->param_count; i++) {
        const LrtParam *p = &t->run.program->params[i];
        const float *g = (const float *)(c->base[LRT_BASE_GRADS] + p->offset);
        float *values = (float *)(c->base[LRT_BASE_PARAMS] + p->offset);
        int64_t largest = 0;
        if (!p->trained)
            continue;
        for (int64_t k = 0; k < p->bytes / 4; k++)
            largest = fabsf(g[k]) > fabsf(g[largest]) ? k : largest;
        /* A step that moves the loss by a hundredth keeps rounding far below the difference. */
        double gradient = (double)g[largest], step = fabs(gradient) > 0 ? 0.01 / fabs(gradient) : 0.1, whole, half;
        step = step > 0.1 ? 0.1 : step;
        if (!difference(t, &values[largest], step, &whole) || !difference(t, &values[largest], step / 2, &half))
            return false;
        double found = (4 * half - whole) / 3, off = fabs(found - gradient), allowed = 0.02 * fabs(gradient) + 6e-6 / step;
        printf("%-70s %12.5e %12.5e%s\n", p->name, gradient, found, off <= allowed ? "" : "  OFF");
        worst = off / allowed > worst ? off / allowed : worst;
        right = right && off <= allowed; /* not what is no number */
        checked++;
    }
    printf("%lld tensors checked, worst difference %.2f of what rounding allows\n", (long long)checked, worst);
    return right || lrt_fail(t->error, LRT_FAILED, "gradients differ from finite differences");
}
