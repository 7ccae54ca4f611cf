/* lower_index.c - subscripts: elements of lists, rows of tables, slices of tensors. */
#include "frontend/lower.h"

bool lower_range(Lower *l, const Arg *arg, int64_t extent, int64_t *start, int64_t *stop)
{
    *start = 0;
    *stop = extent;
    if (arg->value &&
        !lower_whole(l, arg->value, arg->is_range ? "the start of a slice" : "a subscript",
                     start))
        return false;
    if (arg->stop && !lower_whole(l, arg->stop, "the end of a slice", stop))
        return false;
    if (!arg->is_range)
        *stop = *start + 1;
    const bool bounded = dim_is_fixed(extent);
    if (*start >= 0 && *stop > *start && (!bounded || *stop <= extent))
        return true;
    if (!bounded && *stop == extent && *start == 0) /* x[:] along T */
        return true;
    if (!bounded && *stop == extent)
        lower_error(l, arg->loc, "a slice of an axis known at run time needs an end");
    else if (arg->is_range)
        lower_error(l, arg->loc, "slice %lld:%lld is empty or leaves the axis of %s",
                    (long long)*start, (long long)*stop, dim_str(l->arena, extent));
    else
        lower_error(l, arg->loc, "subscript %lld is outside of %s elements", (long long)*start,
                    dim_str(l->arena, extent));
    return false;
}

static Val index_list(Lower *l, const Expr *expr, List *list)
{
    Val value = value_list(list);
    for (const Arg *arg = expr->args; arg; arg = arg->next) {
        int64_t start, stop;
        if (value.kind != VAL_LIST)
            return lower_error(l, arg->loc, "this list has fewer levels");
        if (!lower_range(l, arg, value.list->count, &start, &stop))
            return value_error();
        if (!arg->is_range) {
            value = value.list->items[start];
            continue;
        }
        List *part = ARENA_NEW(l->arena, List);
        part->items = value.list->items + start;
        part->count = (int)(stop - start);
        value = value_list(part);
    }
    return value;
}

static Val slice_axis(Lower *l, Loc loc, Node *node, int axis, int64_t start, int64_t stop)
{
    if (start == 0 && stop == node->type.dim[axis])
        return value_node(node);
    Attrs attrs = attrs_default();
    attrs.axis = axis;
    attrs.start = start;
    attrs.stop = stop;
    return lower_add(l, (Use){loc, "[]"}, OP_SLICE, &attrs, 1, &node);
}

/* x[0] and x[-1] along T: the first or last token, a row for the sequence (axis Q). */
static bool is_token(const Arg *arg, const Node *node, int axis)
{
    return axis == 0 && node->type.dim[0] == DIM_T && !arg->is_range && arg->value;
}

static Val take_token(Lower *l, const Expr *expr, const Arg *arg, Node *node)
{
    Attrs attrs = attrs_default();
    if (!lower_whole(l, arg->value, "a subscript", &attrs.index))
        return value_error();
    return lower_add(l, (Use){expr->loc, "[]"}, OP_TOKEN_ROW, &attrs, 1, &node);
}

/* x[a:b, :, 3]: slices; an axis with a number disappears. */
static Val index_tensor(Lower *l, const Expr *expr, Node *node)
{
    const int rank = node->type.rank;
    bool dropped[MAX_RANK] = {0};
    int axis = 0, drops = 0;
    for (const Arg *arg = expr->args; arg; arg = arg->next, axis++) {
        int64_t start, stop;
        if (axis == rank)
            return lower_error(l, arg->loc, "%s has only %d axes", shape_str(l, node), rank);
        if (is_token(arg, node, axis)) {
            const Val row = take_token(l, expr, arg, node);
            if (row.kind != VAL_NODE)
                return row;
            node = row.node;
            continue;
        }
        if (!lower_range(l, arg, node->type.dim[axis], &start, &stop))
            return value_error();
        dropped[axis] = !arg->is_range;
        drops += dropped[axis];
        const Val slice = slice_axis(l, expr->loc, node, axis, start, stop);
        if (slice.kind != VAL_NODE)
            return slice;
        node = slice.node;
    }
    if (!drops)
        return value_node(node);
    Attrs attrs = attrs_default();
    for (int i = 0; i < rank; i++)
        if (!dropped[i])
            attrs.dims.at[attrs.dims.count++] = node->type.dim[i];
    return lower_add(l, (Use){expr->loc, "[]"}, OP_RESHAPE, &attrs, 1, &node);
}

Val lower_index(Lower *l, const Expr *expr)
{
    const Val base = lower_eval(l, expr->a);
    if (base.kind == VAL_ERROR)
        return base;
    if (base.kind == VAL_ABSENT || (base.kind != VAL_LIST && base.kind != VAL_NODE)) {
        Node *none;
        if (base.kind == VAL_ABSENT)
            lower_inputs(l, 1, &base, &expr->a->loc, &none);
        return lower_error(l, expr->loc, "%s has no elements", value_kind_text(base));
    }
    const Arg *arg = expr->args;
    if (!arg->next && !arg->is_range) { /* table[ids], unless the subscript is a number */
        const Val index = lower_eval(l, arg->value);
        Node *nodes[2];
        if (index.kind == VAL_ERROR)
            return index;
        if (index.kind == VAL_NODE) {
            const Val values[2] = {base, index};
            const Loc locs[2] = {expr->a->loc, arg->loc};
            if (!lower_inputs(l, 2, values, locs, nodes))
                return value_error();
            return lower_add(l, (Use){expr->loc, "[]"}, OP_GATHER, NULL, 2, nodes);
        }
    }
    return base.kind == VAL_LIST ? index_list(l, expr, base.list)
                                 : index_tensor(l, expr, base.node);
}
