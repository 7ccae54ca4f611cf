/* sample.c - see sample.h.  Order: temperature, top-k, top-p, min-p; then one draw. */
#include "runtime/sample.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/random.h"

typedef struct Candidate {
    int32_t id;
    double p;
} Candidate;

static int32_t most_likely(const float *logits, int64_t count)
{
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        if (logits[i] > logits[best])
            best = i;
    return (int32_t)best;
}

/* Descending; equal ones by id, so that the order is the same everywhere. */
static int by_probability(const void *a, const void *b)
{
    const Candidate *x = a, *y = b;
    if (x->p > y->p || x->p < y->p)
        return x->p > y->p ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

int32_t lrt_sample(const LrtSampling *s, const float *logits, int64_t count, uint64_t step)
{
    int32_t best = most_likely(logits, count);
    if (!(s->temperature > 0))
        return best;
    Candidate *c = malloc(sizeof *c * (size_t)count);
    if (!c)
        return -1;
    for (int64_t i = 0; i < count; i++)
        c[i] = (Candidate){(int32_t)i, exp(((double)logits[i] - (double)logits[best]) / s->temperature)};
    qsort(c, (size_t)count, sizeof *c, by_probability);
    int64_t kept = s->top_k > 0 && s->top_k < count ? s->top_k : count;
    double total = 0, sum = 0; /* top-p is of what top-k leaves */
    for (int64_t i = 0; i < kept; i++)
        total += c[i].p;
    for (int64_t i = 0; i < kept; i++) {
        if (i > 0 && (sum >= s->top_p * total || c[i].p < s->min_p * c[0].p))
            kept = i;
        else
            sum += c[i].p;
    }
    double draw = lrt_uniform(s->seed, lrt_stream("sample"), step) * sum;
    int64_t chosen = 0;
    for (double reached = c[0].p; chosen + 1 < kept && reached <= draw; reached += c[chosen].p)
        chosen++;
    int32_t id = c[chosen].id;
    free(c);
    return id;
}
