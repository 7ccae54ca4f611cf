/* simplify.c - algebraic rules until nothing changes.
 *
 * Each rule looks at one node and gives what may stand for it, or NULL.  Sweeps go from the leaves up, and on to the nodes that rules
 * add, so most chains are done in one. */
#include "ir/build.h"
#include "ir/eval.h"
#include "passes/passes.h"

enum { SWEEPS_MAX = 16 };

typedef Node *Rule(Graph *g, Node *n);
#define RULE(name) static Node *rule_##name(Graph *g, Node *n)
#define A (n->inputs[0])
#define B (n->inputs[1])

bool const_value(const Node *node, double *value)
{
    if (node->op != OP_CONST)
        return false;
    *value = node->attrs.value;
    return true;
}

static bool is_value(const Node *node, double wanted)
{
    double value;
    return const_value(node, &value) && !(value < wanted) && !(value > wanted);
}

static bool swaps_last_two(const Node *n)
{
    int rank = n->attrs.dims.count;
    if (n->op != OP_PERMUTE || rank < 2)
        return false;
    for (int i = 0; i < rank - 2; i++)
        if (n->attrs.dims.at[i] != i)
            return false;
    return n->attrs.dims.at[rank - 2] == rank - 1;
}

static bool is_last_axis(const Node *n)
{
    return n->attrs.axis == -1 || n->attrs.axis == n->type.rank - 1;
}

/* split_heads(merge_heads(x)) = x, for the same heads */
RULE(split_merge)
{
    (void)g;
    bool same = n->op == OP_SPLIT_HEADS && A->op == OP_MERGE_HEADS && A->inputs[0]->type.dim[0] == n->attrs.heads;
    return same ? A->inputs[0] : NULL;
}

/* merge_heads or head_tile of x: made once in a sweep, so that what moves down to shared values does not double at each. */
static Node *of_heads(Graph *g, Op op, const Attrs *attrs, Node *x)
{
    Node *made = x->note;
    if (made && made->op == op && attrs_equal(op, attrs, &made->attrs))
        return made;
    return x->note = graph_add(g, op, attrs, 1, &x);
}

static Node *merge(Graph *g, Node *x)
{
    Attrs attrs = attrs_default();
    return of_heads(g, OP_MERGE_HEADS, &attrs, x);
}

/* merge_heads(rope(x)) = rope(merge_heads(x)), head by head */
RULE(merge_rope)
{
    if (n->op != OP_MERGE_HEADS || A->op != OP_ROPE)
        return NULL;
    Attrs attrs = A->attrs;
    attrs.heads = A->type.dim[0];
    Node *merged = merge(g, A->inputs[0]);
    return graph_add(g, OP_ROPE, &attrs, 3, (Node *[]){merged, A->inputs[1], A->inputs[2]});
}

/* An operand of something [heads, T, size] that the heads side by side have one for, too: of the same shape, [heads, T, 1], a vector
 * [size], a number. */
static bool goes_beside(const Node *x, const Type *whole)
{
    const Type *type = &x->type;
    if (type->rank != 3)
        return type->rank == 0 || (type->rank == 1 && (type->dim[0] == 1 || type->dim[0] == whole->dim[2]));
    return type->dtype == DT_F32 && type->dim[0] == whole->dim[0] && type->dim[1] == whole->dim[1] &&
           (type->dim[2] == whole->dim[2] || type->dim[2] == 1);
}

/* That operand, [T, heads * size] or what broadcasts to it. */
static Node *beside(Graph *g, Node *x, const Type *whole)
{
    Attrs attrs = attrs_default();
    if (x->type.rank == 0 || (x->type.rank == 1 && x->type.dim[0] == 1))
        return x;
    if (x->type.rank == 1) {
        attrs.heads = whole->dim[0];
        return of_heads(g, OP_HEAD_TILE, &attrs, x);
    }
    Node *merged = merge(g, x);
    if (x->type.dim[2] == whole->dim[2])
        return merged;
    attrs.stop = whole->dim[2];
    return graph_add(g, OP_HEAD_SPREAD, &attrs, 1, &merged);
}

/* merge_heads(f(a, b)) = f of the merged operands, for an element-wise f */
RULE(merge_map)
{
    if (n->op != OP_MERGE_HEADS || op_info[A->op].class != OC_MAP || A->op == OP_DROPOUT || A->type.rank != 3)
        return NULL;
    Node *inputs[4];
    for (int i = 0; i < A->input_count; i++)
        if (!goes_beside(A->inputs[i], &A->type))
            return NULL;
    for (int i = 0; i < A->input_count; i++)
        inputs[i] = beside(g, A->inputs[i], &A->type);
    return graph_add(g, A->op, &A->attrs, A->input_count, inputs);
}

/* merge_heads of the sums of heads' rows */
RULE(merge_sum)
{
    if (n->op != OP_MERGE_HEADS || A->op != OP_SUM || A->type.rank != 3 || !is_last_axis(A))
        return NULL;
    Attrs attrs = attrs_default();
    attrs.heads = A->type.dim[0];
    Node *merged = merge(g, A->inputs[0]);
    return graph_add(g, OP_HEAD_SUM, &attrs, 1, &merged);
}

/* merge_heads of a norm of heads, of an activation: of what stands for them */
RULE(merge_composite)
{
    Node *expanded = n->op == OP_MERGE_HEADS && op_info[A->op].class == OC_EXPAND ? expand_node(g, A) : NULL;
    return expanded ? merge(g, expanded) : NULL;
}

/* a vector f(a, b) for each head = f of the vectors for each head */
RULE(tile_map)
{
    if (n->op != OP_HEAD_TILE || op_info[A->op].class != OC_MAP)
        return NULL;
    Node *inputs[4];
    for (int i = 0; i < A->input_count; i++) {
        Node *x = A->inputs[i];
        bool whole = x->type.rank == 1 && x->type.dim[0] == A->type.dim[0];
        inputs[i] = whole ? of_heads(g, OP_HEAD_TILE, &n->attrs, x) : x;
    }
    return graph_add(g, A->op, &A->attrs, A->input_count, inputs);
}

/* merge_heads(where(m, a, b)) = where(m, merge_heads(a), merge_heads(b)) for a mask [T, 1] */
RULE(merge_where)
{
    if (n->op != OP_MERGE_HEADS || A->op != OP_WHERE || A->inputs[0]->type.rank != 2 || A->inputs[0]->type.dim[1] != 1 ||
        !type_equal(A->inputs[1]->type, A->type) || !type_equal(A->inputs[2]->type, A->type))
        return NULL;
    Node *a = merge(g, A->inputs[1]), *b = merge(g, A->inputs[2]);
    return graph_add(g, OP_WHERE, NULL, 3, (Node *[]){A->inputs[0], a, b});
}

/* x [T, heads * size] that a value [heads, T, size] is the heads of; NULL if it is something else */
static Node *heads_of(const Node *n)
{
    if (n->op == OP_SPLIT_HEADS)
        return n->inputs[0];
    const Dims *axes = &n->attrs.dims;
    bool turned = n->op == OP_PERMUTE && axes->count == 3 && axes->at[0] == 1 && axes->at[1] == 0;
    const Node *folded = turned ? n->inputs[0] : NULL;
    return folded && folded->op == OP_RESHAPE && folded->inputs[0]->type.rank == 2 ? folded->inputs[0] : NULL;
}

RULE(merge_split)
{
    (void)g;
    return n->op == OP_MERGE_HEADS ? heads_of(A) : NULL;
}

/* merge_heads of a part of each head is a selection of columns, that of heads with zeros around them has these columns, too */
RULE(merge_part)
{
    if (n->op != OP_MERGE_HEADS || (A->op != OP_SLICE && A->op != OP_PAD) || A->type.rank != 3 || !is_last_axis(A))
        return NULL;
    Attrs attrs = A->attrs;
    attrs.heads = A->type.dim[0];
    Node *whole = merge(g, A->inputs[0]);
    return graph_add(g, A->op == OP_SLICE ? OP_HEAD_SLICE : OP_HEAD_PAD, &attrs, 1, &whole);
}

/* columns with zeros around them: those of one head */
RULE(pad_columns)
{
    if (n->op != OP_PAD || n->type.rank != 2 || !is_last_axis(n))
        return NULL;
    Attrs attrs = n->attrs;
    attrs.heads = 1;
    return graph_add(g, OP_HEAD_PAD, &attrs, 1, &A);
}

/* a @ b' and a' @ b are products that read an operand transposed */
RULE(transposed_operand)
{
    if (n->op != OP_MATMUL || !(swaps_last_two(A) || swaps_last_two(B)))
        return NULL;
    bool ta = swaps_last_two(A), tb = swaps_last_two(B);
    return b_matmul(g, ta ? A->inputs[0] : A, tb ? B->inputs[0] : B, ta != n->attrs.ta, tb != n->attrs.tb);
}

/* two transpositions cancel */
RULE(permute_twice)
{
    (void)g;
    return swaps_last_two(n) && swaps_last_two(A) ? A->inputs[0] : NULL;
}

/* f(sum over tokens of a) = sum over tokens of f(a), for f = v x, x / v, -x, where(p, x, 0): a gradient is a sum over tokens */
RULE(linear_sum)
{
    if ((n->op != OP_MUL && n->op != OP_DIV && n->op != OP_NEG && n->op != OP_WHERE) || n->type.rank != 1)
        return NULL;
    Node *inputs[4], *sum = NULL;
    for (int i = 0; i < n->input_count; i++) {
        Node *x = n->inputs[i];
        double value;
        bool zero = n->op == OP_WHERE && const_value(x, &value) && !(value < 0) && !(value > 0);
        bool sums = x->op == OP_SUM_TO && x->type.rank == 1 && type_equal(x->type, n->type) && x->inputs[0]->type.rank == 2;
        if (sums && (sum || (n->op == OP_DIV && i == 1)))
            return NULL;
        if (n->op == OP_WHERE && i > 0 && !zero && !sums)
            return NULL;
        sum = sums ? x : sum;
        inputs[i] = sums ? x->inputs[0] : x;
    }
    if (!sum || sum->inputs[0]->type.dim[0] >= 0)
        return NULL;
    Node *all = graph_add(g, n->op, &n->attrs, n->input_count, inputs);
    return type_equal(all->type, sum->inputs[0]->type) ? b_sum_to(g, all, n->type) : NULL;
}

RULE(neg_twice) { (void)g; return n->op == OP_NEG && A->op == OP_NEG ? A->inputs[0] : NULL; }

/* x * 1 = x / 1 = x + 0 = x - 0 = x */
RULE(neutral)
{
    (void)g;
    bool right = ((n->op == OP_MUL || n->op == OP_DIV) && is_value(B, 1)) ||
                 ((n->op == OP_ADD || n->op == OP_SUB) && is_value(B, 0));
    bool left = (n->op == OP_MUL && is_value(A, 1)) || (n->op == OP_ADD && is_value(A, 0));
    Node *kept = right ? A : left ? B : NULL;
    return kept && type_equal(kept->type, n->type) ? kept : NULL;
}

RULE(reshape_twice)
{
    return n->op == OP_RESHAPE && A->op == OP_RESHAPE ? b_reshape(g, A->inputs[0], n->type.rank, n->type.dim) : NULL;
}

RULE(same_shape)
{
    (void)g;
    bool shapes = n->op == OP_RESHAPE || n->op == OP_BROADCAST || n->op == OP_SUM_TO;
    return shapes && type_equal(n->type, A->type) ? A : NULL;
}

/* Element-wise ops broadcast by themselves. */
RULE(broadcast_operand)
{
    if (op_info[n->op].class != OC_MAP || n->input_count != 2)
        return NULL;
    for (int i = 0; i < 2; i++) {
        Node *operand = n->inputs[i], *other = n->inputs[1 - i];
        Type type;
        if (operand->op != OP_BROADCAST || !type_broadcast(operand->inputs[0]->type, other->type, &type))
            continue;
        type.dtype = n->type.dtype;
        if (!type_equal(type, n->type))
            continue;
        Node *inputs[2] = {n->inputs[0], n->inputs[1]};
        inputs[i] = operand->inputs[0];
        return graph_add(g, n->op, &n->attrs, 2, inputs);
    }
    return NULL;
}

/* Numbers known at compile time have the shape that is asked for. */
RULE(reshape_table)
{
    if (n->op != OP_RESHAPE || A->op != OP_TABLE)
        return NULL;
    Node *table = graph_leaf(g, OP_TABLE, n->type, &A->attrs);
    table->data = A->data;
    return table;
}

/* Numbers only: compute it now. */
RULE(fold)
{
    double inputs[4];
    if (!eval_is_map(n->op) || n->type.rank != 0 || n->type.dtype != DT_F32 || n->op == OP_DROPOUT || n->input_count > 3)
        return NULL;
    for (int i = 0; i < n->input_count; i++)
        if (!const_value(n->inputs[i], &inputs[i]))
            return NULL;
    return b_const(g, eval_map(n->op, inputs));
}

static Rule *const rules[] = {
    rule_merge_split,  rule_merge_part,         rule_merge_rope,     rule_merge_map,  rule_merge_sum,     rule_merge_where,
    rule_split_merge,  rule_merge_composite,    rule_tile_map,       rule_pad_columns, rule_linear_sum,   rule_permute_twice,
    rule_neg_twice,    rule_transposed_operand, rule_neutral,        rule_reshape_twice, rule_same_shape, rule_broadcast_operand,
    rule_reshape_table, rule_fold,
};

static Node *apply(Graph *graph, Node *node)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        Node *better = rules[i](graph, node);
        if (better)
            return better;
    }
    return NULL;
}

bool simplify_graph(Graph *graph, Arena *scratch)
{
    for (int sweep = 0; sweep < SWEEPS_MAX; sweep++) {
        bool changed = false;
        Node **map = NULL;
        int count = 0, capacity = 0;
        for (int i = 0; i < graph->node_count; i++)
            graph->nodes[i]->note = NULL;
        while (count < graph->node_count) {
            Node *node = graph->nodes[count];
            for (int k = 0; k < node->input_count; k++)
                while (node->inputs[k]->id < count && map[node->inputs[k]->id])
                    node->inputs[k] = map[node->inputs[k]->id];
            graph_stamp(graph, node);
            Node *better = apply(graph, node);
            changed = changed || better;
            ARENA_PUSH(scratch, map, count, capacity, better);
        }
        graph_replace_all(graph, map, count);
        graph_compact(graph);
        if (!changed)
            break;
    }
    return true;
}

bool pass_simplify(Graph *graph, PassContext *context)
{
    return simplify_graph(graph, context->scratch);
}

bool pass_resimplify(Graph *graph, PassContext *context)
{
    return simplify_graph(graph, context->scratch);
}
