/* eval_fused.c - the reference meaning of fused and composite ops, written from their formulas
 * and not from their expansions, so that each is an oracle for the other. */
#include <math.h>
#include <string.h>

#include "ir/diag.h"
#include "ir/eval_rules.h"

#define EVAL(rule) void eval_##rule(Eval *e)

/* --- along the last axis --- */

static int64_t last_extent(const Value *value)
{
    return value->type.rank ? value->type.dim[value->type.rank - 1] : 1;
}

static double mean_of(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

EVAL(stop_gradient)
{
    memcpy(e->out->data, e->in[0]->data, sizeof *e->out->data * (size_t)e->out->count);
}

/* sum over the axis / its extent */
EVAL(mean)
{
    const Value *x = e->in[0];
    int axis = eval_axis(e);
    int64_t outer = eval_extent(x, 0, axis), n = x->type.dim[axis];
    int64_t inner = eval_extent(x, axis + 1, x->type.rank);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            double sum = 0;
            for (int64_t a = 0; a < n; a++)
                sum += x->data[(o * n + a) * inner + i];
            e->out->data[o * inner + i] = sum / (double)n;
        }
}

/* The mask's element that broadcasts to the scores' element `at`. */
static bool masked_in(const Value *mask, const Value *x, int64_t at)
{
    int64_t offset = 0, stride = 1;
    for (int i = x->type.rank - 1, k = mask->type.rank - 1; k >= 0; i--, k--) {
        int64_t place = at % x->type.dim[i];
        at /= x->type.dim[i];
        offset += mask->type.dim[k] == 1 ? 0 : place * stride;
        stride *= mask->type.dim[k];
    }
    return mask->data[offset] != 0;
}

/* exp(x - max) / sum, over the elements where the mask is true; the others are 0 */
EVAL(softmax)
{
    const Value *x = e->in[0], *mask = e->in[1];
    int64_t n = last_extent(x);
    for (int64_t r = 0; r < x->count; r += n) {
        double max = -INFINITY, sum = 0;
        for (int64_t i = r; i < r + n; i++)
            if (masked_in(mask, x, i) && x->data[i] > max)
                max = x->data[i];
        for (int64_t i = r; i < r + n; i++)
            if (masked_in(mask, x, i))
                sum += e->out->data[i] = exp(x->data[i] - max);
        for (int64_t i = r; i < r + n && sum > 0; i++)
            e->out->data[i] /= sum;
    }
}

EVAL(concat)
{
    int axis = eval_axis(e);
    int64_t outer = eval_extent(e->out, 0, axis), at = 0;
    for (int64_t o = 0; o < outer; o++)
        for (int i = 0; i < 2; i++) {
            int64_t width = eval_extent(e->in[i], axis, e->in[i]->type.rank);
            memcpy(e->out->data + at, e->in[i]->data + o * width, sizeof *e->out->data * (size_t)width);
            at += width;
        }
}

/* (x - mean) / sqrt(mean((x - mean)^2) + eps) */
EVAL(layernorm)
{
    int64_t n = last_extent(e->in[0]);
    for (int64_t r = 0; r < e->out->count; r += n) {
        const double *x = e->in[0]->data + r;
        double *y = e->out->data + r, mean = mean_of(x, n), variance = 0;
        for (int64_t i = 0; i < n; i++)
            variance += (x[i] - mean) * (x[i] - mean) / (double)n;
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) / sqrt(variance + e->node->attrs.eps);
    }
}

/* x / sqrt(mean(x^2) + eps) */
EVAL(rmsnorm)
{
    int64_t n = last_extent(e->in[0]);
    for (int64_t r = 0; r < e->out->count; r += n) {
        const double *x = e->in[0]->data + r;
        double square = 0;
        for (int64_t i = 0; i < n; i++)
            square += x[i] * x[i] / (double)n;
        for (int64_t i = 0; i < n; i++)
            e->out->data[r + i] = x[i] / sqrt(square + e->node->attrs.eps);
    }
}

/* --- activations --- */

#define ACTIVATION(rule, expression)                                                           \
    EVAL(rule)                                                                                 \
    {                                                                                          \
        for (int64_t i = 0; i < e->out->count; i++) {                                          \
            double x = e->in[0]->data[i];                                                      \
            e->out->data[i] = expression;                                                      \
        }                                                                                      \
    }

static const double sqrt_2_over_pi = 0.79788456080286535588;

ACTIVATION(gelu, 0.5 * x * (1 + erf(x * sqrt(0.5))))
ACTIVATION(gelu_tanh, 0.5 * x * (1 + tanh(sqrt_2_over_pi * (x + 0.044715 * x * x * x))))
ACTIVATION(quick_gelu, x / (1 + exp(-1.702 * x)))
ACTIVATION(silu, x / (1 + exp(-x)))
ACTIVATION(relu, x > 0 ? x : 0)

/* --- positions --- */

/* Turns pairs of a head's elements by position * frequency[i], for the first 2 F elements (Su et al., 2021): (x[i], x[i + F]) as in
 * Hugging Face's rotate_half; interleaved, (x[2 i], x[2 i + 1]) as in the paper. */
static void rotate(const Eval *e, const double *x, double *y, double position)
{
    int64_t f = e->in[2]->count;
    for (int64_t i = 0; i < f; i++) {
        double angle = position * e->in[2]->data[i], c = cos(angle);
        double s = e->node->attrs.inverse ? -sin(angle) : sin(angle);
        int64_t a = e->node->attrs.interleaved ? 2 * i : i, b = e->node->attrs.interleaved ? a + 1 : i + f;
        y[a] = x[a] * c - x[b] * s;
        y[b] = x[b] * c + x[a] * s;
    }
}

EVAL(rope)
{
    const Value *x = e->in[0], *positions = e->in[1];
    memcpy(e->out->data, x->data, sizeof *x->data * (size_t)x->count);
    int64_t rows = positions->count;
    int64_t outer = x->type.rank == 3 ? x->type.dim[0] : 1; /* [heads, T, size] */
    int64_t inner = x->type.rank == 3 ? 1 : e->node->attrs.heads,
            size = x->count / (outer * rows * inner);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t t = 0; t < rows; t++)
            for (int64_t h = 0; h < inner; h++) {
                int64_t at = ((o * rows + t) * inner + h) * size;
                rotate(e, x->data + at, e->out->data + at, positions->data[t]);
            }
}

/* --- losses --- */

/* The target of a row, -1 when it has none (-100 by convention; anything negative). */
static int64_t target_of(const Value *targets, int64_t row, int64_t classes)
{
    double target = targets->data[row];
    if (target >= (double)classes)
        ice("target %g of %lld classes", target, (long long)classes);
    return target >= 0 ? (int64_t)target : -1;
}

static double log_sum_exp(const double *x, int64_t n)
{
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < n; i++)
        sum += exp(x[i] - max);
    return max + log(sum);
}

/* logsumexp(logits) - logits[target], 0 without a target */
EVAL(cross_entropy)
{
    int64_t rows = e->in[0]->type.dim[0], n = last_extent(e->in[0]);
    for (int64_t t = 0; t < rows; t++) {
        const double *x = e->in[0]->data + t * n;
        int64_t target = target_of(e->in[1], t, n);
        e->out->data[t] = target < 0 ? 0 : log_sum_exp(x, n) - x[target];
    }
}

/* (softmax(logits) - one hot) dloss, 0 without a target */
EVAL(cross_entropy_grad)
{
    int64_t rows = e->in[0]->type.dim[0], n = last_extent(e->in[0]);
    for (int64_t t = 0; t < rows; t++) {
        const double *x = e->in[0]->data + t * n;
        int64_t target = target_of(e->in[1], t, n);
        double lse = log_sum_exp(x, n);
        for (int64_t i = 0; i < n && target >= 0; i++)
            e->out->data[t * n + i] = (exp(x[i] - lse) - (i == target)) * e->in[2]->data[t];
    }
}

/* logits = x W + bias, never stored whole;  loss as cross_entropy;  dx = (softmax(logits) - one hot)
 * W' */
EVAL(linear_cross_entropy)
{
    const double *w = e->in[1]->data, *bias = e->node->input_count > 3 ? e->in[3]->data : NULL;
    bool tb = e->node->attrs.tb;
    int64_t rows = e->in[0]->type.dim[0], k = e->in[0]->type.dim[1],
            n = e->in[1]->type.dim[tb ? 0 : 1];
    int64_t w_k = tb ? 1 : n, w_n = tb ? k : 1;
    double *logits = ARENA_ARRAY(e->arena, double, n);
    for (int64_t t = 0; t < rows; t++) {
        const double *x = e->in[0]->data + t * k;
        int64_t target = target_of(e->in[2], t, n);
        if (target < 0)
            continue;
        for (int64_t j = 0; j < n; j++)
            logits[j] = bias ? bias[j] : 0;
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < n; j++)
                logits[j] += x[i] * w[i * w_k + j * w_n];
        double lse = log_sum_exp(logits, n);
        e->out[0].data[t] = lse - logits[target];
        for (int64_t j = 0; j < n; j++)
            logits[j] = exp(logits[j] - lse) - (j == target);
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < n; j++)
                e->out[1].data[t * k + i] += logits[j] * w[i * w_k + j * w_n];
    }
}
