/* dora.c - see dora.h. */
#include "passes/peft/dora.h"

/* Rows 0 .. n - 1 of a table. */
static Node *all_rows(Graph *g, Node *table, int64_t n)
{
    Node *index = graph_leaf(g, OP_POSITIONS, type_of(DT_I32, 1, &n), NULL);
    return b_op2(g, OP_GATHER, table, index);
}

/* A vector made from the norms of the output axis of the weight's tensor: (sum of squares)^power. */
static Param *norms(PeftRewrite *r, const Param *weight, const char *name, FileSlice part, double power)
{
    Param *param = graph_new_param(r->graph, name);
    param->base = weight->tensor;
    param->layer = r->graph->layer;
    param->file_rank = 1;
    param->slices[0] = part;
    param->init = weight->transposed ? INIT_ROW_NORMS : INIT_COLUMN_NORMS;
    param->init_scale = power;
    return param;
}

static Node *vector(Graph *g, Param *param, FileSlice part)
{
    return graph_param(g, param, type_of(DT_F32, 2, (int64_t[]){1, part.stop - part.start}));
}

/* |w|^2 + 2 s sum_k B_kj (A W)_kj + s^2 sum_k B_kj (A A' B)_kj for each output j: |W + s B A|^2 without that matrix. */
static Node *squared_norms(PeftRewrite *r, const DoraSite *d)
{
    Graph *g = r->graph;
    const Param *weight = d->site->param;
    Param *squares = norms(r, weight, arena_format(g->arena, "%s.squares", weight->name), d->part, 1);
    squares->tensor = weight->tensor;
    Node *a = all_rows(g, d->a, d->site->rank), *b = all_rows(g, d->b, d->site->rank);
    Node *aw = b_matmul(g, a, d->site->node->inputs[1], false, d->site->node->attrs.tb);
    Node *aab = b_matmul(g, b_matmul(g, a, d->a, false, true), d->b, false, false);
    Node *terms = b_mul(g, b, b_add(g, b_scale(g, aw, 2 * d->scale), b_scale(g, aab, d->scale * d->scale)));
    Node *sum = b_sum_to(g, terms, type_of(DT_F32, 2, (int64_t[]){1, d->part.stop - d->part.start}));
    return b_add(g, sum, vector(g, squares, d->part));
}

Node *dora_scaled(PeftRewrite *r, const DoraSite *d, Node *y)
{
    Graph *g = r->graph;
    const Param *weight = d->site->param;
    int64_t n = d->part.stop - d->part.start;
    if (!rewrite_fit(r, d->magnitude, 1, &d->part.extent))
        return NULL;
    const char *name = n == d->part.extent ? d->magnitude : arena_format(g->arena, "%s[%lld:%lld]", d->magnitude,
                                                                          (long long)d->part.start, (long long)d->part.stop);
    Param *magnitude = norms(r, weight, name, d->part, 0.5);
    magnitude->tensor = d->magnitude;
    magnitude->adapter = true;
    magnitude->trained = !r->spec->infer;
    Node *inverse = b_op1(g, OP_RSQRT, b_op1(g, OP_STOP_GRADIENT, squared_norms(r, d)));
    return b_mul(g, vector(g, magnitude, d->part), b_mul(g, inverse, y));
}
