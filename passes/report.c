/* report.c - see report.h.  FLOPs are multiplications and additions of products with parameters, for each token. */
#include "passes/report.h"

typedef struct Work {
    int64_t forward, backward, gradients; /* products of the three kinds */
    int64_t all_gradients;                /* a gradient for every matrix, as full fine-tuning needs */
    int64_t pruned_bytes;                 /* memory those gradients would take */
    int attentions, losses;
} Work;

static int64_t product_flops(const Node *node)
{
    const Type *weight = &node->inputs[1]->type;
    return 2 * weight->dim[0] * weight->dim[1];
}

static Work measure(const Graph *graph)
{
    Work work = {0};
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        work.attentions += op_info[node->op].mix == MIX_KEYS;
        work.losses += node->op == OP_LINEAR_CROSS_ENTROPY;
        if (node->op == OP_LINEAR_CROSS_ENTROPY)
            work.forward += product_flops(node), work.backward += product_flops(node),
                work.all_gradients += product_flops(node);
        if (op_info[node->op].class != OC_GEMM)
            continue;
        if (node->attrs.ta) {
            work.gradients += 2 * node->type.dim[0] * node->type.dim[1];
        } else if (node->inputs[1]->op == OP_PARAM) {
            *(node->backward ? &work.backward : &work.forward) += product_flops(node);
            if (!node->backward)
                work.all_gradients += product_flops(node);
        }
    }
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->param && !graph->nodes[i]->param->trained)
            work.pruned_bytes += 4 * type_elements(graph->nodes[i]->type, NULL);
    return work;
}

static double mega(int64_t value)
{
    return (double)value / 1e6;
}

/* Keys that the queries of a sequence look at, all together. */
static double pairs(const Node *attention, double rows)
{
    double window = (double)attention->attrs.window, all = attention->attrs.causal ? rows * (rows + 1) / 2 : rows * rows;
    bool banded = attention->attrs.causal && window > 0 && window < rows;
    return banded ? all - (rows - window) * (rows - window + 1) / 2 : all;
}

double report_flops(const Graph *graph, int64_t tokens)
{
    double flops = 0, rows = (double)tokens;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        if (op_info[node->op].mix == MIX_KEYS)
            flops += 4 * (double)(node->attrs.heads * node->attrs.head_dim) * pairs(node, rows);
        if (op_info[node->op].class != OC_GEMM)
            continue;
        int64_t out = node->type.dim[0];
        flops += (double)product_flops(node) * (dim_is_fixed(out) ? (double)out : out == DIM_Q ? 1 : rows);
    }
    return flops;
}

void report_print(const Graph *graph, const Schedule *schedule, const PeftResult *result, FILE *out, Arena *arena)
{
    Work work = measure(graph);
    (void)arena;
    fprintf(out, "model %s: %d layers\n", graph->name, graph->layer_count);
    if (result->method)
        fprintf(out, "method %s: %lld of %lld parameters trained (%.3f %%)", result->method,
                (long long)result->trained_parameters, (long long)result->total_parameters,
                100 * (double)result->trained_parameters / (double)result->total_parameters);
    if (result->head_parameters)
        fprintf(out, ", %lld of them the head's", (long long)result->head_parameters);
    if (result->method)
        fputc('\n', out);
    fprintf(out, "found: %d attentions, %s\n", work.attentions,
            work.losses ? "loss fused with the head" : "no loss fused with the head");
    fprintf(out, "products per token: forward %.2f MFLOP, backward %.2f, gradients %.2f\n", mega(work.forward),
            mega(work.backward), mega(work.gradients));
    if (schedule->options.training)
        fprintf(out, "pruned: gradients of frozen weights, %.2f MFLOP per token and %.2f MB\n",
                mega(work.all_gradients - work.gradients), mega(work.pruned_bytes));
    fprintf(out, "plan: %d kernels, arena %lld bytes, weights %lld, trained %lld, cache %lld\n", schedule->kernel_count,
            (long long)schedule->arena_bytes, (long long)schedule->weights_bytes, (long long)schedule->params_bytes,
            (long long)schedule->cache_bytes);
    fprintf(out, "bytes of weights read per token: %lld\n", (long long)schedule->bytes_per_token);
}
