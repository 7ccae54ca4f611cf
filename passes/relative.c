/* relative.c - see relative.h. */
#include "passes/relative.h"

#include "ir/build.h"

static bool differs(double a, double b)
{
    return a < b || a > b;
}

/* Positions farther apart than the table reaches have the bucket of its ends, unless the model has no such positions. */
static bool ends_in_reach(const Graph *graph, IndexCode *index, double first, double last)
{
    if (graph->context && graph->context <= RELATIVE_REACH)
        return true;
    for (double far = (double)RELATIVE_REACH; far <= 64 * (double)RELATIVE_REACH; far *= 2)
        if (differs(index_at(index, far, 0), last) || differs(index_at(index, 0, far), first))
            return false;
    return true;
}

/* The bucket of each distance; NULL when the expression has another form. */
static Node *tabulate(Graph *graph, const Node *expression, int64_t buckets)
{
    static const double places[] = {0, 3, 1000};
    IndexCode *index = index_code(graph->arena, expression);
    if (!index)
        return NULL;
    int64_t count = 2 * RELATIVE_REACH + 1;
    double *data = ARENA_ARRAY(graph->arena, double, count);
    for (int64_t i = 0; i < count; i++) {
        double distance = (double)(i - RELATIVE_REACH), first = distance < 0 ? -distance : 0;
        for (int k = 0; k < 3; k++) {
            double col = first + places[k], value = index_at(index, col + distance, col);
            if (k && differs(value, data[i]))
                return NULL;
            data[i] = value;
        }
        bool climbs = i == 0 || (data[i] >= data[i - 1] && data[i] <= data[i - 1] + 1);
        if (data[i] < 0 || data[i] >= (double)buckets || !climbs)
            return NULL;
    }
    if (!ends_in_reach(graph, index, data[0], data[count - 1]))
        return NULL;
    Attrs attrs = attrs_default();
    attrs.name = "buckets";
    Node *table = graph_leaf(graph, OP_TABLE, type_of(DT_F32, 1, &count), &attrs);
    table->data = data;
    return table;
}

static bool swaps(const Node *node)
{
    int rank = node->attrs.dims.count;
    return node->op == OP_PERMUTE && rank >= 2 && node->attrs.dims.at[rank - 1] == rank - 2 && node->attrs.dims.at[rank - 2] == rank - 1;
}

/* x @ table' with x as given: the table, else NULL. */
static Node *table_of(Node *product, const Node *x, double *scale)
{
    Node *matmul = strip_scale(product, scale);
    if (matmul->op != OP_MATMUL || matmul->attrs.ta || !matmul->attrs.tb)
        return NULL;
    Node *left = strip_scale(matmul->inputs[0], scale), *right = strip_scale(matmul->inputs[1], scale);
    return left == x && right->type.rank == 3 && dim_is_fixed(right->type.dim[1]) ? right : NULL;
}

bool match_relative(Graph *graph, Node *term, const Node *q, const Node *k, Relative *r, double *scale)
{
    Node *take = strip_scale(term, scale);
    bool of_keys = swaps(take);
    take = of_keys ? strip_scale(take->inputs[0], scale) : take;
    if (take->op != OP_TAKE)
        return false;
    Node *index = take->inputs[1], **table = of_keys ? &r->qr : &r->kr;
    if (of_keys && !swaps(index))
        return false;
    index = of_keys ? index->inputs[0] : index;
    if (*table || (r->index && r->index != index) || !(*table = table_of(take->inputs[0], of_keys ? k : q, scale)))
        return false;
    int64_t buckets = (*table)->type.dim[1];
    if (r->index)
        return true;
    r->index = index;
    if (index->note)
        r->buckets = index->note; /* made for another layer */
    else
        index->note = r->buckets = tabulate(graph, index, buckets);
    return r->buckets != NULL;
}
