/* graph.c - see graph.h. */
#include "ir/graph.h"

#include <string.h>

#include "ir/diag.h"
#include "ir/shape.h"

Graph *graph_new(Arena *arena, const char *name)
{
    Graph *graph = ARENA_NEW(arena, Graph);
    graph->arena = arena;
    graph->name = arena_strdup(arena, name);
    graph->layer = LAYER_NONE;
    return graph;
}

static Node *add_node(Graph *graph, Op op, const Attrs *attrs, int input_count, Node *const *inputs)
{
    Node *node = ARENA_NEW(graph->arena, Node);
    node->op = op;
    node->id = graph->node_count;
    node->layer = graph->layer;
    node->backward = graph->backward;
    node->loc = graph->loc;
    node->attrs = attrs ? *attrs : attrs_default();
    node->input_count = input_count;
    node->inputs = arena_copy(graph->arena, inputs, sizeof *inputs * (size_t)input_count);
    node->result_count = 1;
    ARENA_PUSH(graph->arena, graph->nodes, graph->node_count, graph->node_capacity, node);
    return node;
}

Node *graph_add(Graph *graph, Op op, const Attrs *attrs, int input_count, Node *const *inputs)
{
    Type type, *results;
    int result_count;
    const char *reason;
    if (!shape_infer(graph->arena, op, attrs, input_count, inputs, &type, &results, &result_count, &reason))
        ice("'%s': %s", op_info[op].text, reason);
    Node *node = add_node(graph, op, attrs, input_count, inputs);
    node->type = type;
    node->results = results;
    node->result_count = result_count;
    return node;
}

Node *graph_leaf(Graph *graph, Op op, Type type, const Attrs *attrs)
{
    Node *node = add_node(graph, op, attrs, 0, NULL);
    node->type = type;
    return node;
}

Node *graph_param(Graph *graph, Param *param, Type type)
{
    Node *known = param->node;
    if (known && known->id < graph->node_count && graph->nodes[known->id] == known)
        return known;
    Node *node = add_node(graph, OP_PARAM, NULL, 0, NULL);
    node->type = type;
    node->param = param;
    param->node = node;
    node->attrs.name = param->name;
    node->backward = false;
    return node;
}

Param *graph_new_param(Graph *graph, const char *name)
{
    Param *param = ARENA_NEW(graph->arena, Param);
    param->name = name;
    param->layer = LAYER_NONE;
    param->index = graph->param_count;
    ARENA_PUSH(graph->arena, graph->params, graph->param_count, graph->param_capacity, param);
    return param;
}

Param *graph_find_param(const Graph *graph, const char *name)
{
    for (int i = 0; i < graph->param_count; i++)
        if (!strcmp(graph->params[i]->name, name))
            return graph->params[i];
    return NULL;
}

void graph_output(Graph *graph, const char *name, Node *node)
{
    Output output = {name, node};
    ARENA_PUSH(graph->arena, graph->outputs, graph->output_count, graph->output_capacity, output);
}

Node *graph_find_output(const Graph *graph, const char *name)
{
    for (int i = 0; i < graph->output_count; i++)
        if (!strcmp(graph->outputs[i].name, name))
            return graph->outputs[i].node;
    return NULL;
}

void graph_stamp(Graph *graph, const Node *like)
{
    graph->layer = like->layer;
    graph->backward = like->backward;
    graph->loc = like->loc;
}

void graph_replace(Graph *graph, Node *old, Node *new_node, const Node *keep)
{
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (node == new_node || node == keep)
            continue;
        for (int k = 0; k < node->input_count; k++)
            if (node->inputs[k] == old)
                node->inputs[k] = new_node;
    }
    for (int i = 0; i < graph->output_count; i++)
        if (graph->outputs[i].node == old)
            graph->outputs[i].node = new_node;
}

static Node *follow(Node *node, Node *const *map, int map_count)
{
    while (node->id < map_count && map[node->id])
        node = map[node->id];
    return node;
}

void graph_replace_all(Graph *graph, Node *const *map, int map_count)
{
    for (int i = 0; i < map_count; i++)
        for (int k = 0; k < graph->nodes[i]->input_count; k++)
            graph->nodes[i]->inputs[k] = follow(graph->nodes[i]->inputs[k], map, map_count);
    for (int i = 0; i < graph->output_count; i++)
        graph->outputs[i].node = follow(graph->outputs[i].node, map, map_count);
}

/* --- compaction --------------------------------------------------------------------------------------------------- */

/* Depth-first from the outputs without recursion: models have thousands of layers. */
static void sort_from(Graph *graph, Node *root, Node **stack, int *next, bool *done, bool *open, Node **sorted, int *count)
{
    int depth = 0;
    stack[depth++] = root;
    open[root->id] = true;
    while (depth) {
        Node *node = stack[depth - 1];
        if (next[node->id] < node->input_count) {
            Node *input = node->inputs[next[node->id]++];
            if (done[input->id])
                continue;
            if (open[input->id])
                ice("the graph has a cycle through '%s'", op_info[input->op].text);
            open[input->id] = true;
            stack[depth++] = input;
        } else {
            done[node->id] = true;
            sorted[(*count)++] = node;
            depth--;
        }
    }
    (void)graph;
}

static bool in_order(const Graph *graph, const bool *live)
{
    for (int i = 0; i < graph->node_count; i++)
        for (int k = 0; live[i] && k < graph->nodes[i]->input_count; k++)
            if (graph->nodes[i]->inputs[k]->id >= i)
                return false;
    return true;
}

static void compact_params(Graph *graph)
{
    bool *used = ARENA_ARRAY(graph->arena, bool, graph->param_count + 1);
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->param)
            used[graph->nodes[i]->param->index] = true;
    int count = 0;
    for (int i = 0; i < graph->param_count; i++) {
        Param *param = graph->params[i];
        if (!used[i])
            continue;
        param->index = count;
        graph->params[count++] = param;
    }
    graph->param_count = count;
}

void graph_compact(Graph *graph)
{
    int n = graph->node_count, count = 0;
    Node **sorted = ARENA_ARRAY(graph->arena, Node *, n + 1);
    Node **stack = ARENA_ARRAY(graph->arena, Node *, n + 1);
    int *next = ARENA_ARRAY(graph->arena, int, n + 1);
    bool *done = ARENA_ARRAY(graph->arena, bool, n + 1), *open = ARENA_ARRAY(graph->arena, bool, n + 1);
    for (int i = 0; i < n; i++)
        graph->nodes[i]->id = i;
    for (int i = 0; i < graph->output_count; i++)
        if (!done[graph->outputs[i].node->id])
            sort_from(graph, graph->outputs[i].node, stack, next, done, open, sorted, &count);
    if (in_order(graph, done)) {
        count = 0;
        for (int i = 0; i < n; i++)
            if (done[i])
                sorted[count++] = graph->nodes[i];
    }
    for (int i = 0; i < count; i++) {
        sorted[i]->id = i;
        graph->nodes[i] = sorted[i];
    }
    graph->node_count = count;
    compact_params(graph);
}

int *graph_use_counts(const Graph *graph, Arena *arena)
{
    int *uses = ARENA_ARRAY(arena, int, graph->node_count + 1);
    for (int i = 0; i < graph->node_count; i++)
        for (int k = 0; k < graph->nodes[i]->input_count; k++)
            uses[graph->nodes[i]->inputs[k]->id]++;
    for (int i = 0; i < graph->output_count; i++)
        uses[graph->outputs[i].node->id]++;
    return uses;
}

Graph *graph_clone(const Graph *graph, Arena *arena)
{
    Graph *copy = graph_new(arena, graph->name);
    int capacity = copy->param_capacity;
    for (int i = 0; i < graph->param_count; i++) {
        Param *param = arena_copy(arena, graph->params[i], sizeof *param);
        ARENA_PUSH(arena, copy->params, copy->param_count, capacity, param);
    }
    copy->param_capacity = capacity;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *from = graph->nodes[i];
        Node *node = arena_copy(arena, from, sizeof *from);
        node->note = NULL;
        node->inputs = ARENA_ARRAY(arena, Node *, from->input_count);
        for (int k = 0; k < from->input_count; k++)
            node->inputs[k] = copy->nodes[from->inputs[k]->id];
        if (from->param)
            node->param = copy->params[from->param->index], node->param->node = node;
        ARENA_PUSH(arena, copy->nodes, copy->node_count, copy->node_capacity, node);
    }
    for (int i = 0; i < graph->output_count; i++)
        graph_output(copy, graph->outputs[i].name, copy->nodes[graph->outputs[i].node->id]);
    copy->layer_count = graph->layer_count;
    copy->context = graph->context;
    return copy;
}
