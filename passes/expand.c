/* expand.c - composite ops to primitives, one rule each; gradients and code follow from the expansion. */
#include <math.h>

#include "ir/build.h"
#include "passes/grad.h"
#include "passes/passes.h"

#define EXPAND(rule) static Node *expand_##rule(Graph *g, Node *n)
#define X (n->inputs[0])

static double extent(const Node *n)
{
    return (double)n->type.dim[n->type.rank - 1];
}

/* sum over the last axis / its extent */
static Node *mean_of(Graph *g, Node *x)
{
    return b_scale(g, b_sum(g, x, -1), 1 / extent(x));
}

EXPAND(mean)
{
    int64_t axis = n->attrs.axis < 0 ? n->attrs.axis + X->type.rank : n->attrs.axis;
    return b_scale(g, b_sum(g, X, (int)axis), 1 / (double)X->type.dim[axis]);
}

/* Only autodiff cares. */
EXPAND(stop_gradient)
{
    (void)g;
    return X;
}

/* each with zeros where the other stands, added */
EXPAND(concat)
{
    Attrs attrs = n->attrs;
    int64_t axis = attrs.axis < 0 ? attrs.axis + X->type.rank : attrs.axis;
    attrs.stop = n->type.dim[axis];
    Node *first = graph_add(g, OP_PAD, &attrs, 1, &X);
    attrs.start = X->type.dim[axis];
    return b_add(g, first, graph_add(g, OP_PAD, &attrs, 1, &n->inputs[1]));
}

/* exp(x - max) / sum exp(x - max), where the mask says so; the sum is at least 1, and a row without any gives zeros */
EXPAND(softmax)
{
    Node *mask = n->inputs[1];
    Node *masked = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){mask, X, b_const(g, -1e30)});
    Attrs last = attrs_default();
    Node *max = graph_add(g, OP_MAX, &last, 1, &masked);
    Node *e = b_op1(g, OP_EXP, b_sub(g, masked, max));
    e = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){mask, e, b_const(g, 0)});
    return b_div(g, e, b_op2(g, OP_MAX2, b_sum(g, e, -1), b_const(g, 1)));
}

/* (x - mean) / sqrt(var + eps) */
EXPAND(layernorm)
{
    Node *c = b_sub(g, X, mean_of(g, X));
    Node *var = mean_of(g, b_mul(g, c, c));
    return b_mul(g, c, b_op1(g, OP_RSQRT, b_offset(g, var, n->attrs.eps)));
}

/* x / sqrt(mean(x^2) + eps) */
EXPAND(rmsnorm)
{
    Node *square = mean_of(g, b_mul(g, X, X));
    return b_mul(g, X, b_op1(g, OP_RSQRT, b_offset(g, square, n->attrs.eps)));
}

/* x (1 + erf(x / sqrt 2)) / 2 */
EXPAND(gelu)
{
    Node *e = b_op1(g, OP_ERF, b_scale(g, X, sqrt(0.5)));
    return b_mul(g, b_scale(g, X, 0.5), b_offset(g, e, 1));
}

/* x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3): the same as x (1 + tanh u) / 2 */
EXPAND(gelu_tanh)
{
    double c = 2 * 0.79788456080286535588;
    Node *square = b_mul(g, X, X);
    Node *u = b_mul(g, X, b_offset(g, b_scale(g, square, c * 0.044715), c));
    return b_mul(g, X, b_op1(g, OP_SIGMOID, u));
}

EXPAND(quick_gelu)
{
    return b_mul(g, X, b_op1(g, OP_SIGMOID, b_scale(g, X, 1.702)));
}

EXPAND(silu)
{
    return b_mul(g, X, b_op1(g, OP_SIGMOID, X));
}

EXPAND(relu)
{
    return b_op2(g, OP_MAX2, X, b_const(g, 0));
}

/* Loss of a row: log(sum exp(l - max)) + max - l[target], 0 without a target.  What is fused with its product never comes here. */
EXPAND(cross_entropy)
{
    Node *logits = n->inputs[0];
    Node *target = b_reshape(g, n->inputs[1], 2, (int64_t[]){n->inputs[1]->type.dim[0], 1});
    Attrs last = attrs_default();
    Node *max = graph_add(g, OP_MAX, &last, 1, &logits);
    Node *sum = b_sum(g, b_op1(g, OP_EXP, b_sub(g, logits, max)), -1);
    Node *lse = b_add(g, b_op1(g, OP_LOG, sum), max);
    Node *column = graph_leaf(g, OP_COL, type_of(DT_I32, 1, &logits->type.dim[1]), NULL);
    Node *hit = b_op2(g, OP_EQ, column, target);
    Node *zero = b_const(g, 0);
    Node *chosen = b_sum(g, graph_add(g, OP_WHERE, NULL, 3, (Node *[]){hit, logits, zero}), -1);
    Node *has = b_op2(g, OP_LE, zero, b_op1(g, OP_TO_F32, target));
    return graph_add(g, OP_WHERE, NULL, 3, (Node *[]){has, b_sub(g, lse, chosen), zero});
}

/* ((softmax - one hot) dloss, 0 without a target */
EXPAND(cross_entropy_grad)
{
    Node *logits = n->inputs[0];
    Node *target = b_reshape(g, n->inputs[1], 2, (int64_t[]){n->inputs[1]->type.dim[0], 1});
    Attrs last = attrs_default();
    Node *max = graph_add(g, OP_MAX, &last, 1, &logits);
    Node *e = b_op1(g, OP_EXP, b_sub(g, logits, max));
    Node *p = b_div(g, e, b_sum(g, e, -1));
    Node *column = graph_leaf(g, OP_COL, type_of(DT_I32, 1, &logits->type.dim[1]), NULL);
    Node *hit = b_op1(g, OP_TO_F32, b_op2(g, OP_EQ, column, target));
    Node *zero = b_const(g, 0);
    Node *has = b_op2(g, OP_LE, zero, b_op1(g, OP_TO_F32, target));
    Node *scale = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){has, n->inputs[2], zero});
    return b_mul(g, b_sub(g, p, hit), scale);
}

#define ROW_LEAF(rule) NULL
#define ROW_MAP(rule) NULL
#define ROW_REDUCE(rule) NULL
#define ROW_VIEW(rule) NULL
#define ROW_GATHER(rule) NULL
#define ROW_GEMM(rule) NULL
#define ROW_FUSED(rule) NULL
#define ROW_EXPAND(rule) expand_##rule

static Node *(*const rules[OP_COUNT])(Graph *, Node *) = {
#define OP(id, text, in, attrs, traits, shape, grad, class, emit, mix) [OP_##id] = ROW_##class(emit),
#include "ir/ops.def"
};

Node *expand_node(Graph *graph, Node *node)
{
    return rules[node->op] ? rules[node->op](graph, node) : NULL;
}

/* own_rules: also those ops that have a gradient rule. */
static bool expand_all(Graph *graph, Arena *arena, bool own_rules)
{
    int count = graph->node_count;
    Node **map = ARENA_ARRAY(arena, Node *, count + 1);
    for (int i = 0; i < count; i++) {
        Node *node = graph->nodes[i];
        for (int k = 0; k < node->input_count; k++)
            if (node->inputs[k]->id < count && map[node->inputs[k]->id])
                node->inputs[k] = map[node->inputs[k]->id];
        graph_stamp(graph, node);
        if (rules[node->op] && (own_rules || !grad_rules[node->op]))
            map[i] = rules[node->op](graph, node);
    }
    graph_replace_all(graph, map, count);
    graph_compact(graph);
    return true;
}

bool pass_expand(Graph *graph, PassContext *context)
{
    return expand_all(graph, context->scratch, false);
}

bool pass_expand_rest(Graph *graph, PassContext *context)
{
    return expand_all(graph, context->scratch, true);
}
