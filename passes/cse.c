/* cse.c - merges nodes that compute the same: equal op, attributes and operands. */
#include <string.h>

#include "passes/passes.h"

static uint64_t hash_node(const Node *node)
{
    uint64_t hash = attrs_hash(node->op, &node->attrs) ^ ((uint64_t)node->op * 0x9e3779b97f4a7c15u);
    uint64_t inputs = 0;
    for (int i = 0; i < node->input_count; i++) {
        uint64_t id = ((uint64_t)node->inputs[i]->id + 1) * 0xff51afd7ed558ccdu;
        bool swaps = op_info[node->op].traits & TRAIT_COMM;
        inputs = swaps ? inputs + id : (inputs ^ id) * 0x100000001b3u;
    }
    return hash ^ inputs ^ (inputs >> 29);
}

static bool same_inputs(const Node *a, const Node *b)
{
    bool same = a->input_count == b->input_count;
    for (int i = 0; same && i < a->input_count; i++)
        same = a->inputs[i] == b->inputs[i];
    if (same || !(op_info[a->op].traits & TRAIT_COMM))
        return same;
    return a->inputs[0] == b->inputs[1] && a->inputs[1] == b->inputs[0];
}

static bool same_data(const Node *a, const Node *b)
{
    if (!a->data || !b->data)
        return a->data == b->data;
    return !memcmp(a->data, b->data, sizeof *a->data * (size_t)type_elements(a->type, NULL));
}

static bool equal(const Node *a, const Node *b)
{
    return a->op == b->op && a->param == b->param && type_equal(a->type, b->type) &&
           attrs_equal(a->op, &a->attrs, &b->attrs) && same_inputs(a, b) && same_data(a, b);
}

bool pass_cse(Graph *graph, PassContext *context)
{
    int count = graph->node_count, buckets = 16;
    while (buckets < 2 * count)
        buckets *= 2;
    Node **table = ARENA_ARRAY(context->scratch, Node *, buckets);
    Node **map = ARENA_ARRAY(context->scratch, Node *, count + 1);
    for (int i = 0; i < count; i++) {
        Node *node = graph->nodes[i];
        for (int k = 0; k < node->input_count; k++)
            if (map[node->inputs[k]->id])
                node->inputs[k] = map[node->inputs[k]->id];
        uint64_t at = hash_node(node) & (uint64_t)(buckets - 1);
        while (table[at] && !equal(table[at], node))
            at = (at + 1) & (uint64_t)(buckets - 1);
        if (table[at])
            map[i] = table[at];
        else
            table[at] = node;
    }
    graph_replace_all(graph, map, count);
    graph_compact(graph);
    return true;
}
