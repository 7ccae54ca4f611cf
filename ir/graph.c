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

static Node *add_node(Graph *graph, Op op, const Attrs *attrs, int input_count,
                      Node *const *inputs)
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
    if (!shape_infer(graph->arena, op, attrs, input_count, inputs, &type, &results,
                     &result_count, &reason))
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

/* --- parameters --- */

static uint64_t hash_name(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return hash;
}

/* The slot of that name: taken, or where it belongs. */
static int *find_slot(const Graph *graph, const char *name)
{
    uint64_t mask = (uint64_t)graph->param_slot_count - 1, slot = hash_name(name) & mask;
    while (graph->param_slots[slot] &&
           strcmp(graph->params[graph->param_slots[slot] - 1]->name, name) != 0)
        slot = (slot + 1) & mask;
    return &graph->param_slots[slot];
}

/* Of two params of one name the first is found. */
static void index_params(Graph *graph)
{
    int size = 16;
    while (size < 4 * graph->param_count)
        size *= 2;
    graph->param_slots = ARENA_ARRAY(graph->arena, int, size);
    graph->param_slot_count = size;
    for (int i = 0; i < graph->param_count; i++) {
        int *slot = find_slot(graph, graph->params[i]->name);
        if (!*slot)
            *slot = i + 1;
    }
}

static void add_param(Graph *graph, Param *param)
{
    param->index = graph->param_count;
    ARENA_PUSH(graph->arena, graph->params, graph->param_count, graph->param_capacity, param);
    if (2 * graph->param_count > graph->param_slot_count) {
        index_params(graph);
        return;
    }
    int *slot = find_slot(graph, param->name);
    if (!*slot)
        *slot = graph->param_count;
}

Node *graph_param(Graph *graph, Param *param, Type type)
{
    Node *known = param->node;
    if (known && known->id < graph->node_count && graph->nodes[known->id] == known)
        return known;
    if (param->index >= graph->param_count || graph->params[param->index] != param)
        add_param(graph, param); /* compaction had removed it */
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
    add_param(graph, param);
    return param;
}

Param *graph_find_param(const Graph *graph, const char *name)
{
    int slot = graph->param_slot_count ? *find_slot(graph, name) : 0;
    return slot ? graph->params[slot - 1] : NULL;
}

/* --- outputs and uses --- */

void graph_output(Graph *graph, const char *name, Node *node)
{
    Output output = {name, node};
    ARENA_PUSH(graph->arena, graph->outputs, graph->output_count, graph->output_capacity,
               output);
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

/* Where the chain of replacements from `node` ends; all links on the way are shortened to it.
 */
static Node *follow(Node *node, Node **map, int map_count)
{
    Node *end = node;
    int steps = 0;
    while (end->id < map_count && map[end->id]) {
        end = map[end->id];
        if (++steps > map_count)
            ice("'%s' is replaced by itself", op_info[node->op].text);
    }
    while (node != end) {
        Node *next = map[node->id];
        map[node->id] = end;
        node = next;
    }
    return end;
}

void graph_replace_all(Graph *graph, Node *const *map, int map_count)
{
    Node **links = arena_copy(graph->arena, map, sizeof *map * (size_t)map_count);
    for (int i = 0; i < map_count; i++)
        for (int k = 0; k < graph->nodes[i]->input_count; k++)
            graph->nodes[i]->inputs[k] = follow(graph->nodes[i]->inputs[k], links, map_count);
    for (int i = 0; i < graph->output_count; i++)
        graph->outputs[i].node = follow(graph->outputs[i].node, links, map_count);
}

/* --- compaction --- */

typedef struct Sort {
    Node **stack, **sorted;
    int *next; /* by id: the operand to visit next */
    bool *live, *open, *done;
    int depth, count;
} Sort;

/* Depth-first without recursion: models have thousands of layers. */
static void mark_live(Sort *s, Node *root)
{
    if (s->live[root->id])
        return;
    s->live[root->id] = true;
    s->stack[s->depth++] = root;
    while (s->depth) {
        const Node *node = s->stack[--s->depth];
        for (int k = 0; k < node->input_count; k++)
            if (!s->live[node->inputs[k]->id]) {
                s->live[node->inputs[k]->id] = true;
                s->stack[s->depth++] = node->inputs[k];
            }
    }
}

/* Appends what `root` needs and is not there yet, then `root`. */
static void sort_from(Sort *s, Node *root)
{
    s->stack[s->depth++] = root;
    s->open[root->id] = true;
    while (s->depth) {
        Node *node = s->stack[s->depth - 1];
        if (s->next[node->id] == node->input_count) {
            s->done[node->id] = true;
            s->sorted[s->count++] = node;
            s->depth--;
            continue;
        }
        Node *input = node->inputs[s->next[node->id]++];
        if (s->done[input->id])
            continue;
        if (s->open[input->id])
            ice("the graph has a cycle through '%s'", op_info[input->op].text);
        s->open[input->id] = true;
        s->stack[s->depth++] = input;
    }
}

/* What the forward run needs belongs to it, whoever made it: it runs before the backward one, or without it. */
static void claim_forward(Sort *s)
{
    for (int i = s->count - 1; i >= 0; i--) {
        Node *node = s->sorted[i];
        for (int k = 0; k < node->input_count && !node->backward; k++)
            node->inputs[k]->backward = false;
    }
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
    if (count == graph->param_count)
        return;
    graph->param_count = count;
    index_params(graph);
}

void graph_compact(Graph *graph)
{
    int n = graph->node_count;
    Arena *arena = graph->arena;
    Sort s = {.stack = ARENA_ARRAY(arena, Node *, n + 1),
              .sorted = ARENA_ARRAY(arena, Node *, n + 1)};
    s.next = ARENA_ARRAY(arena, int, n + 1);
    s.live = ARENA_ARRAY(arena, bool, 3 * (n + 1));
    s.open = s.live + n + 1;
    s.done = s.open + n + 1;
    for (int i = 0; i < n; i++)
        graph->nodes[i]->id = i;
    for (int i = 0; i < graph->output_count; i++)
        mark_live(&s, graph->outputs[i].node);
    for (int i = 0; i < n; i++)
        if (s.live[i] && !s.done[i])
            sort_from(&s, graph->nodes[i]);
    graph->node_count = 0;
    claim_forward(&s);
    for (int backward = 0; backward < 2; backward++)
        for (int i = 0; i < s.count; i++)
            if (s.sorted[i]->backward == backward) {
                s.sorted[i]->id = graph->node_count;
                graph->nodes[graph->node_count++] = s.sorted[i];
            }
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

/* --- copies --- */

static const char *copy_text(Arena *arena, const char *text)
{
    return text ? arena_strdup(arena, text) : NULL;
}

static void clone_params(const Graph *graph, Graph *copy)
{
    Arena *arena = copy->arena;
    for (int i = 0; i < graph->param_count; i++) {
        Param *param = arena_copy(arena, graph->params[i], sizeof *param);
        param->name = copy_text(arena, param->name);
        param->tensor = copy_text(arena, param->tensor);
        param->file_name = copy_text(arena, param->file_name);
        param->module = copy_text(arena, param->module);
        param->role = copy_text(arena, param->role);
        param->site = copy_text(arena, param->site);
        param->base = copy_text(arena, param->base);
        param->node = NULL;
        add_param(copy, param);
    }
}

static Node *clone_node(const Node *from, Graph *copy)
{
    Arena *arena = copy->arena;
    Node *node = arena_copy(arena, from, sizeof *from);
    node->note = NULL;
    node->attrs.name = copy_text(arena, from->attrs.name);
    if (from->data)
        node->data = arena_copy(arena, from->data,
                                sizeof *from->data * (size_t)type_elements(from->type, NULL));
    if (from->results)
        node->results = arena_copy(arena, from->results,
                                   sizeof *from->results * (size_t)from->result_count);
    if (from->param) {
        node->param = copy->params[from->param->index];
        node->param->node = node;
        node->attrs.name = node->param->name;
    }
    return node;
}

Graph *graph_clone(const Graph *graph, Arena *arena)
{
    Graph *copy = graph_new(arena, graph->name);
    clone_params(graph, copy);
    for (int i = 0; i < graph->node_count; i++)
        ARENA_PUSH(arena, copy->nodes, copy->node_count, copy->node_capacity,
                   clone_node(graph->nodes[i], copy));
    for (int i = 0; i < graph->node_count; i++) {
        const Node *from = graph->nodes[i];
        copy->nodes[i]->inputs = ARENA_ARRAY(arena, Node *, from->input_count);
        for (int k = 0; k < from->input_count; k++)
            copy->nodes[i]->inputs[k] = copy->nodes[from->inputs[k]->id];
    }
    for (int i = 0; i < graph->output_count; i++)
        graph_output(copy, copy_text(arena, graph->outputs[i].name),
                     copy->nodes[graph->outputs[i].node->id]);
    copy->layer_count = graph->layer_count;
    copy->context = graph->context;
    return copy;
}
