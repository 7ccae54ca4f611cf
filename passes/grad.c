/* grad.c - the gradient of every op: formulas and nothing else.
 *
 * A rule receives the op's node n and dy, the gradient of its result (of each result, for a tuple), and gives the gradient of each
 * input, in any shape that broadcasting makes of the input's: autodiff.c sums it back, adds up several uses, and throws
 * away what nobody needs. */
#include "passes/grad.h"

#include <math.h>

#include "ir/build.h"

#define GRAD(rule) static void grad_##rule(Graph *g, Node *n, Node **dy, Node **dx)
#define A (n->inputs[0])
#define B (n->inputs[1])
#define DY (dy[0])

/* y = -a                        da = -dy */
GRAD(neg) { dx[0] = b_neg(g, DY); (void)n; }

/* y = e^a                       da = dy y */
GRAD(exp) { dx[0] = b_mul(g, DY, n); }

/* y = log a                     da = dy / a */
GRAD(log) { dx[0] = b_div(g, DY, A); }

/* y = sqrt a                    da = dy / (2 y) */
GRAD(sqrt) { dx[0] = b_div(g, b_scale(g, DY, 0.5), n); }

/* y = a^(-1/2)                  da = -dy y^3 / 2 */
GRAD(rsqrt) { dx[0] = b_mul(g, b_scale(g, DY, -0.5), b_mul(g, n, b_mul(g, n, n))); }

/* y = tanh a                    da = dy (1 - y^2) */
GRAD(tanh) { dx[0] = b_mul(g, DY, b_offset(g, b_neg(g, b_mul(g, n, n)), 1)); }

/* y = erf a                     da = dy 2/sqrt(pi) e^(-a^2) */
GRAD(erf) { dx[0] = b_mul(g, DY, b_scale(g, b_op1(g, OP_EXP, b_neg(g, b_mul(g, A, A))), 2 / sqrt(3.14159265358979323846))); }

/* y = sigmoid a                 da = dy y (1 - y) */
GRAD(sigmoid) { dx[0] = b_mul(g, DY, b_mul(g, n, b_offset(g, b_neg(g, n), 1))); }

/* where(a > 0, x, where(a < 0, y, 0)) */
static Node *by_sign(Graph *g, Node *a, Node *positive, Node *negative)
{
    Node *zero = b_const(g, 0);
    Node *below = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){b_op2(g, OP_LT, a, zero), negative, zero});
    return graph_add(g, OP_WHERE, NULL, 3, (Node *[]){b_op2(g, OP_LT, zero, a), positive, below});
}

/* y = |a|                       da = dy sign(a) */
GRAD(abs) { dx[0] = by_sign(g, A, DY, b_neg(g, DY)); }

/* y = a + b                     da = dy      db = dy */
GRAD(add) { dx[0] = dx[1] = DY; (void)g, (void)n; }

/* y = a - b                     da = dy      db = -dy */
GRAD(sub) { dx[0] = DY, dx[1] = b_neg(g, DY); (void)n; }

/* y = a b                       da = dy b    db = dy a */
GRAD(mul) { dx[0] = b_mul(g, DY, B), dx[1] = b_mul(g, DY, A); }

/* y = a / b                     da = dy / b  db = -dy y / b */
GRAD(div) { dx[0] = b_div(g, DY, B), dx[1] = b_neg(g, b_div(g, b_mul(g, DY, n), B)); }

/* y = max(a, b)                 the larger one's; nobody's where they are equal, as relu has it */
GRAD(maximum)
{
    Node *zero = b_const(g, 0);
    dx[0] = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){b_op2(g, OP_LT, B, A), DY, zero});
    dx[1] = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){b_op2(g, OP_LT, A, B), DY, zero});
}

GRAD(minimum)
{
    Node *zero = b_const(g, 0);
    dx[0] = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){b_op2(g, OP_LT, A, B), DY, zero});
    dx[1] = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){b_op2(g, OP_LT, B, A), DY, zero});
}

/* y = min(max(a, low), high)    that of what it is */
GRAD(clamp)
{
    Node *low = b_op2(g, OP_LT, A, B), *high = b_op2(g, OP_LT, n->inputs[2], b_op2(g, OP_MAX2, A, B)), *zero = b_const(g, 0);
    Node *below = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){high, zero, DY});
    dx[0] = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){low, zero, below});
    dx[1] = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){low, below, zero});
    dx[2] = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){high, DY, zero});
}

/* y = p ? a : b                 da = p ? dy : 0   db = p ? 0 : dy */
GRAD(where)
{
    Node *zero = b_const(g, 0);
    dx[1] = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){A, DY, zero});
    dx[2] = graph_add(g, OP_WHERE, NULL, 3, (Node *[]){A, zero, DY});
}

/* y = a m                       da = dy m, the mask m drawn again */
GRAD(dropout) { dx[0] = graph_add(g, OP_DROPOUT_GRAD, &n->attrs, 1, &DY); }

/* y = sum over an axis a        da = dy, broadcast */
GRAD(sum) { dx[0] = b_broadcast(g, DY, A->type); }

/* y = a in another shape        da = dy in a's */
GRAD(reshape) { dx[0] = b_reshape(g, DY, A->type.rank, A->type.dim); }

/* y[i..] = a[perm i..]          da by the inverse permutation */
GRAD(permute)
{
    int64_t order[MAX_RANK];
    for (int i = 0; i < n->attrs.dims.count; i++)
        order[n->attrs.dims.at[i]] = i;
    dx[0] = b_permute(g, DY, n->attrs.dims.count, order);
}

/* y = a, broadcast              da = sum of dy */
GRAD(broadcast) { dx[0] = DY; (void)g, (void)n; }

/* y = a[start:stop]             da = dy with zeros around */
GRAD(slice)
{
    Attrs attrs = n->attrs;
    int64_t axis = attrs.axis < 0 ? attrs.axis + A->type.rank : attrs.axis;
    attrs.stop = A->type.dim[axis];
    dx[0] = graph_add(g, OP_PAD, &attrs, 1, &DY);
}

/* y = 0..0 a 0..0               da = that part of dy */
GRAD(pad)
{
    int64_t axis = n->attrs.axis < 0 ? n->attrs.axis + A->type.rank : n->attrs.axis;
    dx[0] = b_slice(g, DY, (int)axis, n->attrs.start, n->attrs.start + A->type.dim[axis]);
}

GRAD(split_heads) { dx[0] = b_op1(g, OP_MERGE_HEADS, DY); (void)n; }

GRAD(merge_heads)
{
    Attrs attrs = attrs_default();
    attrs.heads = A->type.dim[0];
    dx[0] = graph_add(g, OP_SPLIT_HEADS, &attrs, 1, &DY);
}

/* y[h g + i] = a[h]             da[h] = sum over i of dy[h g + i] */
GRAD(repeat_heads)
{
    int64_t heads = A->type.dim[0], group = n->attrs.heads / heads;
    Node *apart = b_reshape(g, DY, 4, (int64_t[]){heads, group, DY->type.dim[1], DY->type.dim[2]});
    dx[0] = b_reshape(g, b_sum(g, apart, 1), 3, A->type.dim);
}

GRAD(site) { dx[0] = DY; (void)g, (void)n; }

GRAD(result) { dx[0] = DY; (void)g, (void)n; } /* autodiff.c hands it to the tuple */

/* y = a[i]                      da = dy added up by index */
GRAD(gather)
{
    Attrs attrs = attrs_default();
    attrs.dims.count = A->type.rank;
    for (int i = 0; i < A->type.rank; i++)
        attrs.dims.at[i] = A->type.dim[i];
    dx[0] = graph_add(g, OP_SCATTER, &attrs, 2, (Node *[]){DY, B});
}

/* y = op(a) op(b)               da = dy op(b)'   db = op(a)' dy, transposed back where op transposes */
GRAD(matmul)
{
    bool ta = n->attrs.ta, tb = n->attrs.tb;
    dx[0] = ta ? b_matmul(g, B, DY, tb, true) : b_matmul(g, DY, B, false, !tb);
    dx[1] = tb ? b_matmul(g, DY, A, true, ta) : b_matmul(g, A, DY, !ta, false);
}

/* y = R a, R a rotation         da = R' dy */
GRAD(rope)
{
    Attrs attrs = n->attrs;
    attrs.inverse = !attrs.inverse;
    dx[0] = graph_add(g, OP_ROPE, &attrs, 3, (Node *[]){DY, B, n->inputs[2]});
}

/* y = a's first (last) row       da = dy there, zeros elsewhere */
GRAD(token_row) { dx[0] = graph_add(g, OP_TOKEN_ROW_GRAD, &n->attrs, 1, &DY); }

/* y = a, a constant to whoever differentiates */
GRAD(stop_gradient) { (void)g, (void)n, (void)dy, (void)dx; }

/* y = softmax a where p         da = y (dy - sum of dy y) */
GRAD(softmax)
{
    Node *weighted = b_mul(g, DY, n);
    dx[0] = b_sub(g, weighted, b_mul(g, n, b_sum(g, weighted, -1)));
}

/* The backward node of attention: its own operands, o, lse, do, and which scores count and what is added to them. */
static Node *attention_grad(Graph *g, Node *n, Op op, Node *dy)
{
    Node *inputs[OP_MAX_INPUTS];
    int own = op_attention_inputs(n->op), count = 0;
    for (int i = 0; i < own; i++)
        inputs[count++] = n->inputs[i];
    inputs[count++] = b_result(g, n, 0), inputs[count++] = b_result(g, n, 1), inputs[count++] = dy;
    for (int i = own; i < n->input_count; i++)
        inputs[count++] = n->inputs[i];
    return graph_add(g, op, &n->attrs, count, inputs);
}

/* o = P v, P = softmax(s q k' + b): dv = P' do, dP = do v', dS = P (dP - rowsum(do o)), dq = s dS k, dk = s dS' q */
GRAD(attention)
{
    Node *all = attention_grad(g, n, OP_ATTENTION_GRAD, DY);
    for (int i = 0; i < 3; i++)
        dx[i] = b_result(g, all, i);
}

/* the same with s + q Kr[c] + k Qr[c] for the scores: dKr and dQr are sums over all pairs of a distance in bucket c */
GRAD(relative_attention)
{
    Node *all = attention_grad(g, n, OP_RELATIVE_ATTENTION_GRAD, DY);
    for (int i = 0; i < 3; i++)
        dx[i] = b_result(g, all, i);
    if (n->attrs.index & 1)
        dx[3] = b_result(g, all, 3);
    if (n->attrs.index & 2)
        dx[4] = b_result(g, all, 4);
}

/* y = a[start:stop] of each head  da = dy with zeros around, in each head */
GRAD(head_slice)
{
    Attrs attrs = n->attrs;
    attrs.stop = A->type.dim[1] / attrs.heads;
    dx[0] = graph_add(g, OP_HEAD_PAD, &attrs, 1, &DY);
}

GRAD(head_pad)
{
    Attrs attrs = n->attrs;
    attrs.stop = attrs.start + A->type.dim[1] / attrs.heads;
    dx[0] = graph_add(g, OP_HEAD_SLICE, &attrs, 1, &DY);
}

/* y = sum of each head of a       da = dy, spread over each head, and the other way round */
GRAD(head_sum)
{
    Attrs attrs = attrs_default();
    attrs.stop = A->type.dim[1] / n->attrs.heads;
    dx[0] = graph_add(g, OP_HEAD_SPREAD, &attrs, 1, &DY);
}

GRAD(head_spread)
{
    Attrs attrs = attrs_default();
    attrs.heads = A->type.dim[1];
    dx[0] = graph_add(g, OP_HEAD_SUM, &attrs, 1, &DY);
}

/* The sum over heads of a sum over tokens, as a sum over tokens: a kernel adds those to a gradient. */
static Node *fold_heads(Graph *g, Node *sum, Node *n)
{
    if (sum->op == OP_ADD)
        return b_add(g, fold_heads(g, sum->inputs[0], n), fold_heads(g, sum->inputs[1], n));
    Node *rows = sum->op == OP_SUM_TO ? sum->inputs[0] : b_broadcast(g, sum, type_of(DT_F32, 2, (int64_t[]){1, sum->type.dim[0]}));
    return b_sum_to(g, graph_add(g, OP_HEAD_FOLD, &n->attrs, 1, &rows), A->type);
}

/* y = a, once for each head       da = sum over heads of dy */
GRAD(head_tile) { dx[0] = fold_heads(g, DY, n); }

/* y = a, shifted                da = dy, shifted back */
GRAD(shift)
{
    Attrs attrs = n->attrs;
    attrs.index = -attrs.index;
    dx[0] = graph_add(g, OP_SHIFT, &attrs, 1, &DY);
}

/* y = sums of a up to a token     da = sums of dy from it on */
GRAD(cumsum)
{
    Attrs attrs = n->attrs;
    attrs.inverse = !attrs.inverse;
    dx[0] = graph_add(g, OP_CUMSUM, &attrs, 1, &DY);
}

/* result 1 is the gradient of the sum of the losses with respect to x */
GRAD(linear_cross_entropy) { dx[0] = b_mul(g, b_result(g, n, 1), DY); }

/* dlogits = (softmax - one hot) dloss */
GRAD(cross_entropy) { dx[0] = graph_add(g, OP_CROSS_ENTROPY_GRAD, NULL, 3, (Node *[]){A, B, DY}); }

#define grad_none NULL
#define grad_expand NULL

GradRule *const grad_rules[OP_COUNT] = {
#define OP(id, text, in, attrs, traits, shape, grad, class, emit, mix) [OP_##id] = grad_##grad,
#include "ir/ops.def"
};
