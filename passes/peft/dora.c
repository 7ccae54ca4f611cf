/* dora.c - see dora.h. */
#include "passes/peft/dora.h"

/* Rows 0 .. n - 1 of a table. */
static Node *all_rows(Graph *g, Node *table, int64_t n)
{
    Node *index = graph_leaf(g, OP_POSITIONS, type_of(DT_I32, 1, &n), NULL);
    return b_op2(g, OP_GATHER, table, index);
}

/* Begins as the norms of the output axis of the weight's tensor: (sum of squares)^power. */
static void begin_as_norms(Param *param, const Param *weight, double power)
{
    param->base = weight->tensor;
    param->init = weight->transposed ? INIT_ROW_NORMS : INIT_COLUMN_NORMS;
    param->init_scale = power;
}

/* Sums of squares of the weight as it is: a constant [1, n]. */
static Node *squares(PeftRewrite *r, const Param *weight, FileSlice part)
{
    Graph *g = r->graph;
    Param *param = graph_new_param(g, arena_format(g->arena, "%s.squares", weight->name));
    param->tensor = weight->tensor;
    param->layer = g->layer;
    param->file_rank = 1;
    param->slices[0] = part;
    begin_as_norms(param, weight, 1);
    return graph_param(g, param, type_of(DT_F32, 2, (int64_t[]){1, part.stop - part.start}));
}

/* |w|^2 + 2 s sum_k B_kj (A W)_kj + s^2 sum_k B_kj (A A' B)_kj for each output j: |W + s B A|^2 without that matrix. */
static Node *squared_norms(PeftRewrite *r, const DoraSite *d)
{
    Graph *g = r->graph;
    Node *a = all_rows(g, d->a, d->site->rank), *b = all_rows(g, d->b, d->site->rank);
    Node *aw = b_matmul(g, a, d->site->node->inputs[1], false, d->site->node->attrs.tb);
    Node *aab = b_matmul(g, b_matmul(g, a, d->a, false, true), d->b, false, false);
    Node *terms = b_mul(g, b, b_add(g, b_scale(g, aw, 2 * d->scale), b_scale(g, aab, d->scale * d->scale)));
    Node *sum = b_sum_to(g, terms, type_of(DT_F32, 2, (int64_t[]){1, d->part.stop - d->part.start}));
    return b_add(g, sum, squares(r, d->site->param, d->part));
}

Node *dora_scaled(PeftRewrite *r, const DoraSite *d, Node *y)
{
    Graph *g = r->graph;
    Node *magnitude = rewrite_part(r, (PeftPart){.tensor = d->magnitude, .rank = 1, .slices = {d->part}});
    if (!magnitude)
        return NULL;
    begin_as_norms(magnitude->param, d->site->param, 0.5);
    Node *inverse = b_op1(g, OP_RSQRT, b_op1(g, OP_STOP_GRADIENT, squared_norms(r, d)));
    return b_mul(g, magnitude, b_mul(g, inverse, y));
}
