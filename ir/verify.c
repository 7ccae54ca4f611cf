/* verify.c - see verify.h. */
#include "ir/verify.h"

#include "ir/shape.h"
#include "ir/text.h"

static const char *check_types(const Node *node, Arena *arena)
{
    Type type, *results;
    int count;
    const char *reason;
    if (op_info[node->op].traits & TRAIT_LEAF)
        return node->input_count ? "a leaf has operands" : NULL;
    if (!shape_infer(arena, node->op, &node->attrs, node->input_count, node->inputs, &type, &results, &count, &reason))
        return reason;
    if (!type_equal(type, node->type) || count != node->result_count)
        return arena_format(arena, "its type should be %s", type_str(arena, type));
    return NULL;
}

static const char *check_node(const Graph *graph, const Node *node, int index, Arena *arena)
{
    if (node->id != index)
        return "its number is not its place";
    for (int i = 0; i < node->input_count; i++) {
        const Node *input = node->inputs[i];
        if (!input || input->id < 0 || input->id >= graph->node_count || graph->nodes[input->id] != input)
            return "an operand is not in the graph";
        if (input->id >= index)
            return "an operand comes after it";
        if ((op_info[input->op].traits & TRAIT_TUPLE) && node->op != OP_RESULT)
            return "it uses a tuple without taking a result of it";
    }
    if (node->op == OP_PARAM && (!node->param || node->param->index >= graph->param_count ||
                                 graph->params[node->param->index] != node->param))
        return "its parameter is not in the graph";
    return check_types(node, arena);
}

const char *graph_verify(const Graph *graph, Arena *arena)
{
    for (int i = 0; i < graph->node_count; i++) {
        const char *reason = check_node(graph, graph->nodes[i], i, arena);
        if (reason)
            return arena_format(arena, "%s\n    %s", reason, node_str(graph->nodes[i], arena));
    }
    for (int i = 0; i < graph->output_count; i++) {
        const Node *node = graph->outputs[i].node;
        if (node->id < 0 || node->id >= graph->node_count || graph->nodes[node->id] != node)
            return arena_format(arena, "output '%s' is not in the graph", graph->outputs[i].name);
    }
    return NULL;
}
