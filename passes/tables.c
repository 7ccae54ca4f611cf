/* tables.c - a parameter, or a const matrix, that is a value of its own (not a product's right operand, not looked up) becomes a lookup
 * of all its rows: kernels compute rows, and so the rows of a table are computed, and differentiated, as those of tokens are. */
#include "ir/build.h"
#include "passes/passes.h"

/* Whether operand `k` of `node` is read as rows. */
static bool reads_rows(const Node *node, int k)
{
    OpClass class = op_info[node->op].class;
    if (class == OC_GEMM || node->op == OP_LINEAR_CROSS_ENTROPY)
        return k == 0 && !node->attrs.ta;
    return node->op == OP_SPLIT_HEADS || class == OC_MAP || class == OC_REDUCE || class == OC_EXPAND;
}

int64_t positions_of_tables(const Graph *graph, int64_t upto)
{
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        if (node->op != OP_GATHER || node->inputs[1]->type.dim[0] != DIM_T || !dim_is_fixed(node->inputs[0]->type.dim[0]))
            continue;
        IndexCode *code = index_code(graph->arena, node->inputs[1]);
        for (int64_t p = 0; code && p < upto; p++) {
            double index = index_at(code, (double)p, 0);
            if (index < 0 || index >= (double)node->inputs[0]->type.dim[0])
                upto = p;
        }
    }
    return upto;
}

bool pass_tables(Graph *graph, PassContext *context)
{
    int count = graph->node_count;
    Node **rows = ARENA_ARRAY(context->scratch, Node *, count + 1);
    for (int i = 0; i < count; i++) {
        Node *node = graph->nodes[i];
        for (int k = 0; k < node->input_count; k++) {
            Node *table = node->inputs[k];
            if ((table->op != OP_PARAM && table->op != OP_TABLE) || table->type.rank != 2 || table->type.dim[0] < 2 || !reads_rows(node, k))
                continue;
            if (!rows[table->id]) {
                graph_stamp(graph, table);
                Node *all = graph_leaf(graph, OP_POSITIONS, type_of(DT_I32, 1, table->type.dim), NULL);
                rows[table->id] = b_op2(graph, OP_GATHER, table, all);
            }
            node->inputs[k] = rows[table->id];
        }
    }
    graph_compact(graph);
    return true;
}
