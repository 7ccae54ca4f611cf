/* sites.c - the peft pass: runs the chosen method, then drops the sites, which nobody needs any more. */
#include "passes/passes.h"

#include "ir/diag.h"
#include "ir/shape.h"

Node *skip_sites(Node *node)
{
    while (node->op == OP_SITE)
        node = node->inputs[0];
    return node;
}

/* Without `at keys` the keys are the sequence itself: S becomes T everywhere. */
static void retype(Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        for (int k = 0; k < node->attrs.dims.count; k++)
            if (node->attrs.dims.at[k] == DIM_S && op_info[node->op].attrs & A_DIMS && node->op != OP_PERMUTE)
                node->attrs.dims.at[k] = DIM_T;
        if (op_info[node->op].traits & TRAIT_LEAF) {
            for (int k = 0; k < node->type.rank; k++)
                if (node->type.dim[k] == DIM_S)
                    node->type.dim[k] = DIM_T;
            continue;
        }
        const char *reason;
        if (!shape_infer(graph->arena, node->op, &node->attrs, node->input_count, node->inputs, &node->type, &node->results,
                         &node->result_count, &reason))
            ice("after dropping sites, '%s': %s", op_info[node->op].text, reason);
    }
}

/* The model's own dropout, where it is not wanted.  A method adds its own afterwards. */
static void drop_dropout(Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++)
        for (int k = 0; k < graph->nodes[i]->input_count; k++)
            while (graph->nodes[i]->inputs[k]->op == OP_DROPOUT)
                graph->nodes[i]->inputs[k] = graph->nodes[i]->inputs[k]->inputs[0];
}

bool pass_peft(Graph *graph, PassContext *context)
{
    if (!context->training || context->no_dropout)
        drop_dropout(graph);
    if (context->peft && !peft(graph, context->peft, context->peft_result, context->diag))
        return false;
    for (int i = 0; i < graph->node_count; i++)
        for (int k = 0; k < graph->nodes[i]->input_count; k++)
            graph->nodes[i]->inputs[k] = skip_sites(graph->nodes[i]->inputs[k]);
    for (int i = 0; i < graph->output_count; i++)
        graph->outputs[i].node = skip_sites(graph->outputs[i].node);
    graph_compact(graph);
    retype(graph);
    return true;
}
