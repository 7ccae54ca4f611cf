/* verify.c - see verify.h. */
#include "ir/verify.h"

#include "ir/shape.h"
#include "ir/text.h"

/* --- leaves: their types are given, so what they may be is said here --- */

/* i32 that counts along one axis, the first or the last; the others are 1. */
static bool counts_along(Type type, int axis)
{
    for (int i = 0; i < type.rank; i++)
        if (i != axis && type.dim[i] != 1)
            return false;
    return type.dtype == DT_I32 && type.rank >= 1;
}

static const char *check_param(const Graph *graph, const Node *node, Arena *arena)
{
    const Param *param = node->param;
    if (!param || param->index < 0 || param->index >= graph->param_count ||
        graph->params[param->index] != param)
        return "its parameter is not in the graph";
    if (param->node && param->node != node)
        return "its parameter names another node";
    if (type_elements(node->type, NULL) > DIM_MAX || node->type.dtype != DT_F32)
        return "a parameter is f32";
    for (int i = 0; i < node->type.rank; i++)
        if (!dim_is_fixed(node->type.dim[i]))
            return "a parameter has fixed extents";
    if (param->file_rank < 0 || param->file_rank > MAX_RANK)
        return "its tensor has too many axes";
    int64_t elements = 1;
    for (int i = 0; i < param->file_rank; i++) {
        FileSlice slice = param->slices[i];
        if (slice.start < 0 || slice.stop <= slice.start || slice.stop > slice.extent ||
            slice.extent > DIM_MAX)
            return arena_format(arena, "[%lld:%lld] is not inside an axis of %lld",
                                (long long)slice.start, (long long)slice.stop,
                                (long long)slice.extent);
        int64_t extent = slice.stop - slice.start;
        elements = elements > DIM_MAX / extent ? DIM_MAX + 1 : elements * extent;
    }
    if (param->file_rank > 0 && elements != type_elements(node->type, NULL))
        return "its part of the file has another number of elements";
    return NULL;
}

static const char *check_table(const Node *node)
{
    int symbolic;
    type_elements(node->type, &symbolic);
    return symbolic     ? "a table has fixed extents"
           : node->data ? NULL
                        : "a table needs its numbers";
}

static const char *check_leaf(const Graph *graph, const Node *node, Arena *arena)
{
    if (node->input_count)
        return "a leaf has operands";
    if (node->result_count != 1)
        return "a leaf has one result";
    switch (node->op) {
    case OP_INPUT:
        return node->attrs.name ? NULL : "an input needs a name";
    case OP_PARAM:
        return check_param(graph, node, arena);
    case OP_CONST:
        return node->type.rank == 0 ? NULL : "a constant is one number";
    case OP_TABLE:
        return check_table(node);
    case OP_ROW:
    case OP_POSITIONS:
        return counts_along(node->type, 0) ? NULL : "its type should be i32[T, 1]";
    case OP_COL:
        return counts_along(node->type, node->type.rank - 1) ? NULL
                                                             : "its type should be i32[S]";
    default:
        return "it is not known as a leaf";
    }
}

/* --- all nodes --- */

static const char *check_attrs(const Node *node)
{
    unsigned has = op_info[node->op].attrs;
    const Attrs *attrs = &node->attrs;
    if ((has & A_RATE) && !(attrs->rate >= 0 && attrs->rate < 1))
        return "a rate of dropout is at least 0 and less than 1";
    if ((has & A_RATE) && !attrs->name)
        return "dropout needs the name of its site";
    if ((has & A_EPS) && !(attrs->eps >= 0))
        return "eps is not negative";
    if ((has & A_HEADS) && attrs->heads < 1)
        return "there is at least one head";
    return NULL;
}

static const char *check_types(const Node *node, Arena *arena)
{
    Type type, *results;
    int count;
    const char *reason;
    if (!shape_infer(arena, node->op, &node->attrs, node->input_count, node->inputs, &type,
                     &results, &count, &reason))
        return reason;
    if (!type_equal(type, node->type))
        return arena_format(arena, "its type should be %s", type_str(arena, type));
    if (count != node->result_count || !results != !node->results)
        return arena_format(arena, "it should have %d results", count);
    for (int i = 0; results && i < count; i++)
        if (!type_equal(results[i], node->results[i]))
            return arena_format(arena, "the type of result %d should be %s", i,
                                type_str(arena, results[i]));
    return NULL;
}

const char *node_verify(const Graph *graph, const Node *node, Arena *arena)
{
    if ((unsigned)node->op >= OP_COUNT)
        return "there is no such op";
    for (int i = 0; i < node->input_count; i++) {
        const Node *input = node->inputs[i];
        if (!input || input->id < 0 || input->id >= graph->node_count ||
            graph->nodes[input->id] != input)
            return "an operand is not in the graph";
        if (input->id >= node->id)
            return "an operand comes after it";
        if (input->backward && !node->backward)
            return "it belongs to the forward run and an operand to the backward run";
        if ((op_info[input->op].traits & TRAIT_TUPLE) && node->op != OP_RESULT)
            return "it uses a tuple without taking a result of it";
    }
    if (!type_is_valid(node->type))
        return "its type is impossible";
    if (node->layer < LAYER_NONE)
        return "its layer is negative";
    if (op_info[node->op].traits & TRAIT_LEAF)
        return check_leaf(graph, node, arena);
    const char *reason = check_attrs(node);
    return reason ? reason : check_types(node, arena);
}

const char *graph_verify(const Graph *graph, Arena *arena)
{
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        const char *reason =
            node->id == i ? node_verify(graph, node, arena) : "its number is not its place";
        if (reason)
            return arena_format(arena, "%s\n    %s", reason, node_str(node, arena));
    }
    for (int i = 0; i < graph->param_count; i++)
        if (graph->params[i]->index != i)
            return arena_format(arena, "param '%s': its number is not its place",
                                graph->params[i]->name);
    for (int i = 0; i < graph->output_count; i++) {
        const Node *node = graph->outputs[i].node;
        if (!node || node->id < 0 || node->id >= graph->node_count ||
            graph->nodes[node->id] != node)
            return arena_format(arena, "output '%s' is not in the graph",
                                graph->outputs[i].name);
        if (op_info[node->op].traits & TRAIT_TUPLE)
            return arena_format(arena, "output '%s' is a tuple", graph->outputs[i].name);
    }
    return NULL;
}
