/* scores.c - what a graph holds for the scores of attention alone: their kernel computes it, nothing else needs it. */
#include "passes/passes.h"

bool *scores_only(const Graph *graph, Arena *arena)
{
    bool *only = ARENA_ARRAY(arena, bool, graph->node_count + 1);
    for (int i = 0; i < graph->node_count; i++)
        only[i] = true;
    for (int i = 0; i < graph->output_count; i++)
        only[graph->outputs[i].node->id] = false;
    for (int i = graph->node_count - 1; i >= 0; i--) {
        const Node *node = graph->nodes[i];
        int own = op_attention_inputs(node->op);
        for (int k = 0; !only[i] && k < (own ? own : node->input_count); k++)
            only[node->inputs[k]->id] = false;
    }
    return only;
}
