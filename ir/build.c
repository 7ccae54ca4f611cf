/* build.c - see build.h. */
#include "ir/build.h"

#include <string.h>

Node *b_const(Graph *g, double value)
{
    Attrs attrs = attrs_default();
    attrs.value = value;
    return graph_leaf(g, OP_CONST, type_scalar(DT_F32), &attrs);
}

Node *b_true(Graph *g)
{
    Attrs attrs = attrs_default();
    attrs.value = 1;
    return graph_leaf(g, OP_CONST, type_scalar(DT_BOOL), &attrs);
}

Node *b_scale(Graph *g, Node *a, double factor)
{
    return b_mul(g, a, b_const(g, factor));
}

Node *b_offset(Graph *g, Node *a, double term)
{
    return b_add(g, a, b_const(g, term));
}

Node *b_matmul(Graph *g, Node *a, Node *b, bool ta, bool tb)
{
    Attrs attrs = attrs_default();
    attrs.ta = ta;
    attrs.tb = tb;
    return graph_add(g, OP_MATMUL, &attrs, 2, (Node *[]){a, b});
}

Node *b_sum(Graph *g, Node *a, int axis)
{
    Attrs attrs = attrs_default();
    attrs.axis = axis;
    return graph_add(g, OP_SUM, &attrs, 1, &a);
}

static Dims dims_of(Type shape)
{
    Dims dims = {.count = shape.rank};
    for (int i = 0; i < shape.rank; i++)
        dims.at[i] = shape.dim[i];
    return dims;
}

static bool same_shape(Type a, Type b)
{
    a.dtype = b.dtype;
    return type_equal(a, b);
}

Node *b_sum_to(Graph *g, Node *a, Type shape)
{
    if (same_shape(a->type, shape))
        return a;
    Attrs attrs = attrs_default();
    attrs.dims = dims_of(shape);
    return graph_add(g, OP_SUM_TO, &attrs, 1, &a);
}

Node *b_broadcast(Graph *g, Node *a, Type shape)
{
    if (same_shape(a->type, shape))
        return a;
    Attrs attrs = attrs_default();
    attrs.dims = dims_of(shape);
    return graph_add(g, OP_BROADCAST, &attrs, 1, &a);
}

Node *b_reshape(Graph *g, Node *a, int rank, const int64_t *dims)
{
    Type shape = type_of(a->type.dtype, rank, dims);
    if (type_equal(a->type, shape))
        return a;
    Attrs attrs = attrs_default();
    attrs.dims = dims_of(shape);
    return graph_add(g, OP_RESHAPE, &attrs, 1, &a);
}

Node *b_permute(Graph *g, Node *a, int rank, const int64_t *order)
{
    Attrs attrs = attrs_default();
    attrs.dims.count = rank;
    for (int i = 0; i < rank; i++)
        attrs.dims.at[i] = order[i];
    return graph_add(g, OP_PERMUTE, &attrs, 1, &a);
}

Node *b_slice(Graph *g, Node *a, int axis, int64_t start, int64_t stop)
{
    Attrs attrs = attrs_default();
    attrs.axis = axis;
    attrs.start = start;
    attrs.stop = stop;
    return graph_add(g, OP_SLICE, &attrs, 1, &a);
}

Node *b_result(Graph *g, Node *tuple, int index)
{
    Attrs attrs = attrs_default();
    attrs.index = index;
    return graph_add(g, OP_RESULT, &attrs, 1, &tuple);
}

Node *b_input(Graph *g, const char *name, Type type)
{
    for (int i = 0; i < g->node_count; i++)
        if (g->nodes[i]->op == OP_INPUT && g->nodes[i]->attrs.name &&
            !strcmp(g->nodes[i]->attrs.name, name))
            return g->nodes[i];
    Attrs attrs = attrs_default();
    attrs.name = name;
    return graph_leaf(g, OP_INPUT, type, &attrs);
}
