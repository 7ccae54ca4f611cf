/* reach.c - tables of relative positions have rows for sequences as long as the model allows: those that no two positions of this
 * program's sequences are apart are left out, with all that is computed from them. */
#include <string.h>

#include "ir/build.h"
#include "passes/passes.h"

typedef struct Reach {
    Graph *graph;
    int count;
    Node **narrow;                 /* by id: the same value for the rows in reach */
    const Node *buckets;           /* of the attention seen last */
    int64_t rows, first, in_reach; /* of its table: all; in reach first .. first + in_reach - 1 */
    Node *near_buckets;            /* the same, counted from `first` */
} Reach;

static Node *narrow(Reach *r, Node *node);

/* Of a lookup of all rows. */
static Node *narrow_lookup(Reach *r, const Node *node)
{
    Graph *g = r->graph;
    if (node->inputs[1]->op != OP_POSITIONS)
        return NULL;
    Node *places = graph_leaf(g, OP_POSITIONS, type_of(DT_I32, 1, &r->in_reach), NULL);
    if (r->first) {
        Attrs attrs = attrs_default();
        attrs.value = (double)r->first;
        places = b_add(g, places, graph_leaf(g, OP_CONST, type_scalar(DT_I32), &attrs));
    }
    return b_op2(g, OP_GATHER, node->inputs[0], places);
}

/* Whether each row of the value is made from the same row of its first `count` operands. */
static bool is_row_wise(const Node *node, int *count)
{
    OpClass class = op_info[node->op].class;
    *count = node->op == OP_MATMUL ? 1 : node->input_count;
    if (node->type.rank != 2 || (op_info[node->op].attrs & A_AXIS && node->attrs.axis != -1 && node->attrs.axis != 1))
        return false;
    return class == OC_MAP || class == OC_EXPAND || node->op == OP_SLICE || (node->op == OP_MATMUL && !node->attrs.ta);
}

/* NULL: it has a form that cannot be narrowed. */
static Node *narrow_new(Reach *r, Node *node)
{
    int count;
    Node *inputs[4];
    graph_stamp(r->graph, node);
    if (node->op == OP_GATHER)
        return narrow_lookup(r, node);
    if (!is_row_wise(node, &count) || node->input_count > 4)
        return NULL;
    for (int k = 0; k < node->input_count; k++) {
        inputs[k] = node->inputs[k];
        if (k < count && inputs[k]->type.rank == 2 && inputs[k]->type.dim[0] == r->rows && !(inputs[k] = narrow(r, inputs[k])))
            return NULL;
    }
    return graph_add(r->graph, node->op, &node->attrs, node->input_count, inputs);
}

static Node *narrow(Reach *r, Node *node)
{
    if (node->id >= r->count)
        return NULL;
    if (!r->narrow[node->id])
        r->narrow[node->id] = narrow_new(r, node);
    return r->narrow[node->id];
}

/* Distances out of reach have the bucket of the nearest in reach. */
static Node *narrow_buckets(const Reach *r)
{
    const Node *buckets = r->buckets;
    Node *table = graph_leaf(r->graph, OP_TABLE, buckets->type, &buckets->attrs);
    int64_t count = buckets->type.dim[0];
    double *data = ARENA_ARRAY(r->graph->arena, double, count), last = (double)(r->in_reach - 1);
    for (int64_t i = 0; i < count; i++) {
        double place = buckets->data[i] - (double)r->first;
        data[i] = place < 0 ? 0 : place > last ? last : place;
    }
    table->data = data;
    return table;
}

static void narrow_attention(Reach *r, Node *attention, int64_t longest)
{
    const Node *buckets = attention->inputs[5];
    int64_t middle = buckets->type.dim[0] / 2, farthest = longest - 1 < middle ? longest - 1 : middle;
    int64_t first = (int64_t)buckets->data[middle - farthest], last = (int64_t)buckets->data[middle + farthest];
    int64_t rows = attention->inputs[3]->type.dim[0];
    if (last - first + 1 == rows)
        return;
    if (buckets != r->buckets || rows != r->rows) {
        r->buckets = buckets;
        r->rows = rows;
        r->first = first;
        r->in_reach = last - first + 1;
        memset(r->narrow, 0, sizeof *r->narrow * (size_t)r->count);
        r->near_buckets = narrow_buckets(r);
    }
    Node *of_keys = narrow(r, attention->inputs[3]), *of_queries = narrow(r, attention->inputs[4]);
    if (!of_keys || !of_queries)
        return;
    attention->inputs[3] = of_keys;
    attention->inputs[4] = of_queries;
    attention->inputs[5] = r->near_buckets;
}

bool pass_reach(Graph *graph, PassContext *context)
{
    Reach r = {.graph = graph, .count = graph->node_count};
    int64_t learned = context->peft_result ? context->peft_result->prefix + context->peft_result->infix : 0;
    int64_t longest = context->length + learned;
    if (graph->context && longest > graph->context)
        longest = graph->context;
    r.narrow = ARENA_ARRAY(context->scratch, Node *, r.count + 1);
    for (int i = 0; i < r.count && context->length; i++)
        if (graph->nodes[i]->op == OP_RELATIVE_ATTENTION)
            narrow_attention(&r, graph->nodes[i], longest);
    graph_compact(graph);
    return true;
}
