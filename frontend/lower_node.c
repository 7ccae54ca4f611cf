/* lower_node.c - nodes: values become inputs, types are checked, and what does not fit is said
 * in the user's words. */
#include <string.h>

#include "frontend/lower.h"
#include "ir/shape.h"

/* --- shapes as the user knows them --- */

/* The name of a size that only one `dim` has, else NULL. */
static const char *dim_name(const Lower *l, int64_t extent)
{
    const char *name = NULL;
    for (int i = 0; i < l->dim_count; i++)
        if (l->dims[i].value == extent) {
            if (name)
                return NULL;
            name = l->dims[i].name;
        }
    return name;
}

/* How axis `axis` of a weight was declared: the text of its extent, else NULL. */
static const char *declared_extent(Lower *l, const Node *node, int axis)
{
    const Node *inner = transposed_of(node);
    if (inner) {
        axis = axis == node->type.rank - 1   ? node->type.rank - 2
               : axis == node->type.rank - 2 ? node->type.rank - 1
                                             : axis;
        node = inner;
    }
    const Stmt *weight = node->op == OP_PARAM ? node->note : NULL;
    const Arg *arg = weight ? weight->args : NULL;
    for (int i = 0; arg && i < axis; i++)
        arg = arg->next;
    return arg && arg->value->kind != EXPR_NUMBER ? expr_str(arg->value, l->arena) : NULL;
}

/* "d = 768", "T", "3" */
static const char *extent_str(Lower *l, const Node *node, int axis)
{
    const int64_t extent = node->type.dim[axis];
    if (!dim_is_fixed(extent))
        return dim_str(l->arena, extent);
    const char *name = declared_extent(l, node, axis);
    name = name ? name : dim_name(l, extent);
    return arena_format(l->arena, name ? "%s = %lld" : "%s%lld", name ? name : "",
                        (long long)extent);
}

const char *shape_str(Lower *l, const Node *node)
{
    Text text = {.arena = l->arena};
    text_add(&text, "[");
    for (int i = 0; i < node->type.rank; i++)
        text_format(&text, "%s%s", i ? ", " : "", extent_str(l, node, i));
    text_add(&text, "]");
    return text.data;
}

/* --- errors --- */

static void note_weights(Lower *l, int count, Node *const *inputs)
{
    for (int i = 0; i < count; i++) {
        const Node *node = transposed_of(inputs[i]) ? transposed_of(inputs[i]) : inputs[i];
        const Stmt *weight = node->op == OP_PARAM ? node->note : NULL;
        if (weight)
            lower_note(l, weight->loc, "'%s' is declared here as %s", weight->name.symbol->name,
                       shape_str(l, node));
    }
}

/* Inner dimensions of a product that differ are its usual mistake: these two are named. */
static bool product_error(Lower *l, Loc loc, const Attrs *attrs, Node *const *inputs)
{
    const Type a = inputs[0]->type, b = inputs[1]->type;
    if (a.rank < 2 || b.rank < 2)
        return false;
    const int ka = attrs->ta ? a.rank - 2 : a.rank - 1,
              kb = attrs->tb ? b.rank - 1 : b.rank - 2;
    if (a.dim[ka] == b.dim[kb])
        return false;
    lower_error(l, loc, "'@' needs equal inner dimensions: %s and %s",
                extent_str(l, inputs[0], ka), extent_str(l, inputs[1], kb));
    return true;
}

static Val type_error(Lower *l, Use use, Op op, const Attrs *attrs, int count,
                      Node *const *inputs)
{
    if (op != OP_MATMUL || !product_error(l, use.loc, attrs, inputs)) {
        Text text = {.arena = l->arena};
        for (int i = 0; i < count; i++)
            text_format(&text, "%s%s%s", i ? " and " : "", dtype_text(inputs[i]->type.dtype),
                        shape_str(l, inputs[i]));
        lower_error(l, use.loc, "'%s' does not take %s: %s", use.what,
                    text.length ? text.data : "nothing", l->reason);
    }
    note_weights(l, count, inputs);
    return value_error();
}

/* --- nodes --- */

/* Sums and products of extents must stay far from overflow, whatever a description multiplies.
 */
static bool is_huge(Type type)
{
    double elements = 1;
    for (int i = 0; i < type.rank; i++)
        elements *= dim_is_fixed(type.dim[i]) ? (double)type.dim[i] : 1;
    return elements > 1e15;
}

Val lower_add(Lower *l, Use use, Op op, const Attrs *attrs, int count, Node *const *inputs)
{
    Type type, *results = NULL;
    int result_count = 0;
    const Attrs none = attrs_default();
    attrs = attrs ? attrs : &none;
    if (!shape_infer(l->arena, op, attrs, count, inputs, &type, &results, &result_count,
                     &l->reason))
        return type_error(l, use, op, attrs, count, inputs);
    if (is_huge(type))
        return lower_error(l, use.loc, "the result of '%s' has more than 10^15 elements",
                           use.what);
    l->graph->loc = use.loc;
    return value_node(graph_add(l->graph, op, attrs, count, inputs));
}

Val lower_leaf(Lower *l, Loc loc, Op op, Type type, const Attrs *attrs)
{
    const Attrs none = attrs_default();
    const int layer = l->graph->layer;
    if (op !=
        OP_CONST) /* inputs, index values and tables belong to no layer: they are shared */
        l->graph->layer = LAYER_NONE;
    l->graph->loc = loc;
    Node *node = graph_leaf(l->graph, op, type, attrs ? attrs : &none);
    l->graph->layer = layer;
    return value_node(node);
}

/* Extents of a list of lists; false when it is ragged or holds something else than numbers. */
static bool list_shape(const List *list, Type *type)
{
    if (type->rank == MAX_RANK || list->count == 0)
        return false;
    type->dim[type->rank++] = list->count;
    Type first = {0};
    for (int i = 0; i < list->count; i++) {
        const Val item = list->items[i];
        Type inner = *type;
        if (item.kind == VAL_LIST ? !list_shape(item.list, &inner) : item.kind != VAL_NUMBER)
            return false;
        if (i && !type_equal(first, inner))
            return false;
        first = inner;
    }
    *type = first;
    return true;
}

static double *list_numbers(const List *list, double *out)
{
    for (int i = 0; i < list->count; i++)
        if (list->items[i].kind == VAL_LIST)
            out = list_numbers(list->items[i].list, out);
        else
            *out++ = list->items[i].number;
    return out;
}

/* A list of numbers as a table, made once. */
static Node *table_node(Lower *l, Loc loc, List *list)
{
    if (list->table)
        return list->table;
    Type type = {.dtype = DT_F32};
    if (!list_shape(list, &type)) {
        lower_error(l, loc, "only lists of numbers, all of one length, can be used as tensors");
        return NULL;
    }
    int symbolic;
    double *data = ARENA_ARRAY(l->arena, double, type_elements(type, &symbolic));
    list_numbers(list, data);
    Attrs attrs = attrs_default();
    attrs.name = list->name ? list->name : "list";
    list->table = lower_leaf(l, loc, OP_TABLE, type, &attrs).node;
    list->table->data = data;
    return list->table;
}

static Node *number_node(Lower *l, Loc loc, Val value, DType dtype)
{
    int64_t whole;
    Attrs attrs = attrs_default();
    attrs.value = value.number;
    if (value.kind == VAL_BOOL)
        dtype = DT_BOOL;
    if (dtype == DT_I32 &&
        (!number_is_whole(value.number, &whole) || whole > INT32_MAX || whole < INT32_MIN)) {
        lower_error(l, loc, "%s beside an integer tensor; 'to_f32' makes it real",
                    value_str(l->arena, value));
        return NULL;
    }
    return lower_leaf(l, loc, OP_CONST, type_scalar(dtype), &attrs).node;
}

bool lower_inputs(Lower *l, int count, const Val *values, const Loc *locs, Node **nodes)
{
    DType dtype = DT_COUNT;
    for (int i = 0; i < count; i++) {
        const DType own = values[i].kind == VAL_NODE ? values[i].node->type.dtype : DT_COUNT;
        if (own == DT_F32 || values[i].kind == VAL_LIST)
            dtype = DT_F32;
        else if (own == DT_I32 && dtype == DT_COUNT)
            dtype = DT_I32;
    }
    for (int i = 0; i < count; i++) {
        const Val value = values[i];
        nodes[i] = NULL;
        if (value.kind == VAL_NODE)
            nodes[i] = value.node;
        else if (value.kind == VAL_LIST)
            nodes[i] = table_node(l, locs[i], value.list);
        else if (value.kind == VAL_NUMBER || value.kind == VAL_BOOL)
            nodes[i] = number_node(l, locs[i], value, dtype == DT_COUNT ? DT_F32 : dtype);
        else if (value.kind == VAL_ABSENT)
            lower_error(l, locs[i],
                        "weight '%s' is optional and absent here; ask with 'if has(%s)'",
                        value.text, value.text);
        else if (value.kind != VAL_ERROR)
            lower_error(l, locs[i], "expected a tensor, got %s", value_str(l->arena, value));
        if (!nodes[i])
            return false;
    }
    return true;
}

Node *transposed_of(const Node *node)
{
    const Dims order = node->attrs.dims;
    if (node->op != OP_PERMUTE || order.count < 2)
        return NULL;
    for (int i = 0; i < order.count; i++) {
        const int swapped = i == order.count - 1 ? i - 1 : i == order.count - 2 ? i + 1 : i;
        if (order.at[i] != swapped)
            return NULL;
    }
    return node->inputs[0];
}

Val lower_transpose(Lower *l, Loc loc, Node *node)
{
    Node *inner = transposed_of(node);
    if (inner)
        return value_node(inner);
    const int rank = node->type.rank;
    if (rank < 2)
        return lower_error(l, loc, "' needs at least two axes, got %s", shape_str(l, node));
    Attrs attrs = attrs_default();
    attrs.dims.count = rank;
    for (int i = 0; i < rank; i++)
        attrs.dims.at[i] = i;
    attrs.dims.at[rank - 1] = rank - 2;
    attrs.dims.at[rank - 2] = rank - 1;
    return lower_add(l, (Use){loc, "'"}, OP_PERMUTE, &attrs, 1, &node);
}
