/* eval_attention.c - attention, plain and with relative positions, and their gradients, from the formulas. */
#include <math.h>

#include "ir/eval_rules.h"

#define EVAL(rule) void eval_##rule(Eval *e)

/* The heads side by side: q [T, heads * size], k and v [S, kv_heads * size]. */
typedef struct Heads {
    const Attrs *attrs;
    int64_t queries, keys, width, kv_width, group;
    double *scores; /* of one row: [S] */
    const double *kr, *qr, *buckets; /* relative terms, or NULL */
    int64_t reach;  /* distances -reach .. reach have a bucket */
    const Value *where, *bias; /* of all scores, or what broadcasts to them; NULL: none */
} Heads;

static Heads heads_new(const Eval *e)
{
    const Attrs *a = &e->node->attrs;
    Heads h = {.attrs = a, .queries = e->in[0]->type.dim[0], .keys = e->in[1]->type.dim[0]};
    h.width = a->heads * a->head_dim;
    h.kv_width = a->kv_heads * a->head_dim;
    h.group = a->heads / a->kv_heads;
    h.scores = ARENA_ARRAY(e->arena, double, h.keys);
    int first = op_attention_inputs(e->node->op);
    if (e->node->input_count > first)
        h.where = e->in[first], h.bias = e->in[first + 1];
    return h;
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* q Kr[c] + k Qr[c], c the bucket of the distance. */
static int64_t bucket_at(const Heads *h, int64_t distance)
{
    int64_t d = distance < -h->reach ? -h->reach : distance > h->reach ? h->reach : distance;
    return (int64_t)h->buckets[d + h->reach];
}

static double relative_score(const Heads *h, const double *q, const double *k, int64_t distance, int64_t head)
{
    int64_t size = h->attrs->head_dim, at = bucket_at(h, distance) * h->width + head * size;
    return (h->kr ? dot(q, h->kr + at, size) : 0) + (h->qr ? dot(k, h->qr + at, size) : 0);
}

/* Element [head, t, j] of a value that broadcasts to [heads, T, S]. */
static double of_score(const Value *value, int64_t head, int64_t t, int64_t j)
{
    const int64_t at[] = {head, t, j};
    int64_t offset = 0;
    for (int i = 0; i < value->type.rank; i++) {
        int64_t extent = value->type.dim[i];
        offset = offset * extent + (extent == 1 ? 0 : at[3 - value->type.rank + i]);
    }
    return value->data[offset];
}

/* Key `col` is looked at from position `row`. */
static bool is_seen(const Attrs *attrs, int64_t row, int64_t col)
{
    return (!attrs->causal || col <= row) && (attrs->window == 0 || row - attrs->window < col);
}

static double capped(const Attrs *attrs, double score)
{
    return attrs->cap > 0 ? attrs->cap * tanh(score / attrs->cap) : score;
}

/* Scaled scores of query t of head h, -inf where it does not look; their log-sum-exp. */
static double score_row(const Eval *e, Heads *h, int64_t t, int64_t head)
{
    const Attrs *a = h->attrs;
    const double *q = e->in[0]->data + t * h->width + head * a->head_dim;
    const double *k = e->in[1]->data + head / h->group * a->head_dim;
    int64_t row = eval_position(e, e->node->type.dim[0], t);
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < h->keys; j++) {
        bool seen = is_seen(a, row, j) && (!h->where || of_score(h->where, head, t, j) != 0);
        double score = dot(q, k + j * h->kv_width, a->head_dim);
        if (h->buckets)
            score += relative_score(h, q, k + j * h->kv_width, row - j, head);
        score = a->scale * score + (h->bias ? of_score(h->bias, head, t, j) : 0);
        h->scores[j] = seen ? capped(a, score) : -INFINITY;
        max = h->scores[j] > max ? h->scores[j] : max;
    }
    for (int64_t j = 0; j < h->keys; j++)
        sum += h->scores[j] > -INFINITY ? exp(h->scores[j] - max) : 0;
    return sum > 0 ? max + log(sum) : -INFINITY;
}

/* o = softmax(scale q k', where seen) v; lse = log sum exp of the scores; a query that sees
 * nothing gives 0 and -inf */
static void attend(Eval *e, Heads *h)
{
    int64_t size = h->attrs->head_dim;
    for (int64_t t = 0; t < h->queries; t++)
        for (int64_t head = 0; head < h->attrs->heads; head++) {
            double lse = e->out[1].data[t * h->attrs->heads + head] = score_row(e, h, t, head);
            double *o = e->out[0].data + t * h->width + head * size;
            const double *v = e->in[2]->data + head / h->group * size;
            for (int64_t j = 0; j < h->keys; j++) {
                double p = h->scores[j] > -INFINITY ? exp(h->scores[j] - lse) : 0;
                for (int64_t i = 0; i < size && p > 0; i++)
                    o[i] += p * v[j * h->kv_width + i];
            }
        }
}

EVAL(attention)
{
    Heads h = heads_new(e);
    attend(e, &h);
}

/* s = q Kr[c] + k Qr[c]: dq += ds Kr[c]  dKr[c] += ds q  dk += ds Qr[c]  dQr[c] += ds k;  at: of q, k, and the bucket's row */
static void relative_grad(Eval *e, const Heads *h, const int64_t *at, double ds)
{
    for (int64_t i = 0; i < h->attrs->head_dim; i++) {
        int64_t q = at[0] + i, k = at[1] + i, c = at[2] + i;
        if (h->kr) {
            e->out[0].data[q] += ds * h->kr[c];
            e->out[3].data[c] += ds * e->in[0]->data[q];
        }
        if (h->qr) {
            e->out[1].data[k] += ds * h->qr[c];
            e->out[4].data[c] += ds * e->in[1]->data[k];
        }
    }
}

/* One query of one head:  p = exp(s - lse)  ds = p (do v - do o)  dq += scale ds k  dk += scale
 * ds q  dv += p do */
static void attention_grad_row(Eval *e, Heads *h, int64_t t, int64_t head)
{
    int64_t size = h->attrs->head_dim, at = t * h->width + head * size,
            kv = head / h->group * size;
    int first = h->buckets ? 6 : 3; /* o, lse, do */
    const double *q = e->in[0]->data + at, *o = e->in[first]->data + at, *d_o = e->in[first + 2]->data + at;
    double lse = e->in[first + 1]->data[t * h->attrs->heads + head], d_lse = dot(d_o, o, size);
    score_row(e, h, t, head);
    for (int64_t j = 0; j < h->keys; j++) {
        if (!(h->scores[j] > -INFINITY))
            continue;
        int64_t key = j * h->kv_width + kv;
        const double *k = e->in[1]->data + key, *v = e->in[2]->data + key;
        double p = exp(h->scores[j] - lse);
        double cap = h->attrs->cap, share = cap > 0 ? h->scores[j] / cap : 0; /* tanh' = 1 - tanh^2 */
        double ds = h->attrs->scale * p * (dot(d_o, v, size) - d_lse) * (1 - share * share);
        for (int64_t i = 0; i < size; i++) {
            e->out[0].data[at + i] += ds * k[i];
            e->out[1].data[key + i] += ds * q[i];
            e->out[2].data[key + i] += p * d_o[i];
        }
        if (h->buckets)
            relative_grad(e, h, (int64_t[]){at, key, bucket_at(h, eval_position(e, e->node->type.dim[0], t) - j) * h->width + head * size},
                          ds);
    }
}

EVAL(attention_grad)
{
    Heads h = heads_new(e);
    for (int64_t t = 0; t < h.queries; t++)
        for (int64_t head = 0; head < h.attrs->heads; head++)
            attention_grad_row(e, &h, t, head);
}

static Heads relative_heads(const Eval *e)
{
    Heads h = heads_new(e);
    int64_t terms = h.attrs->index;
    h.kr = terms & 1 ? e->in[3]->data : NULL;
    h.qr = terms & 2 ? e->in[4]->data : NULL;
    h.buckets = e->in[5]->data;
    h.reach = e->in[5]->count / 2;
    return h;
}

EVAL(relative_attention)
{
    Heads h = relative_heads(e);
    attend(e, &h);
}

EVAL(relative_attention_grad)
{
    Heads h = relative_heads(e);
    for (int64_t t = 0; t < h.queries; t++)
        for (int64_t head = 0; head < h.attrs->heads; head++)
            attention_grad_row(e, &h, t, head);
}
