/* incremental.c - the decoding step, from the graph of a whole sequence (inference only).
 *
 * A model whose attention looks both ways, or that has logits for the sequence only, has no such step: it stays as it is, but for the
 * rows that are asked for.
 *
 * Attention gets a cache slot: keys and values of new tokens are appended to it, queries look at all of it.  The logits are computed
 * for the rows somebody asks for: the last product reads selected rows, and what follows it works on those. */
#include "ir/build.h"
#include "passes/passes.h"

typedef struct Selector {
    Graph *graph;
    Node **selected; /* by id */
    int count;
} Selector;

static bool over_tokens(const Node *node)
{
    return node->type.rank >= 1 && node->type.dim[0] == DIM_T;
}

/* The same value for the rows asked for. */
static Node *select_rows(Selector *s, Node *node)
{
    Graph *g = s->graph;
    if (!over_tokens(node))
        return node;
    if (node->id < s->count && s->selected[node->id])
        return s->selected[node->id];
    Node *result;
    graph_stamp(g, node);
    OpClass class = op_info[node->op].class;
    if (class == OC_GEMM && !node->attrs.ta && node->inputs[1]->op == OP_PARAM) {
        Node *rows = b_op1(g, OP_SELECT_ROWS, node->inputs[0]);
        result = b_matmul(g, rows, node->inputs[1], false, node->attrs.tb);
    } else if (class == OC_MAP && node->type.dtype == DT_F32) {
        Node *inputs[4];
        for (int k = 0; k < node->input_count; k++)
            inputs[k] = select_rows(s, node->inputs[k]);
        result = graph_add(g, node->op, &node->attrs, node->input_count, inputs);
    } else {
        result = b_op1(g, OP_SELECT_ROWS, node);
    }
    if (node->id < s->count)
        s->selected[node->id] = result;
    return result;
}

bool pass_incremental(Graph *graph, PassContext *context)
{
    Selector s = {.graph = graph, .count = graph->node_count};
    s.selected = ARENA_ARRAY(context->scratch, Node *, graph->node_count + 1);
    int slots = 0;
    bool incremental = true;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        OpMix mix = op_info[node->op].mix;
        incremental = incremental && mix != MIX_ALL && (mix != MIX_KEYS || node->attrs.causal);
    }
    for (int i = 0; incremental && i < graph->node_count; i++)
        if (op_info[graph->nodes[i]->op].mix == MIX_KEYS)
            graph->nodes[i]->attrs.cache = slots++;
    for (int i = 0; i < graph->output_count; i++)
        graph->outputs[i].node = select_rows(&s, graph->outputs[i].node);
    graph_compact(graph);
    return true;
}
