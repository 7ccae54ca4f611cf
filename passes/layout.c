/* layout.c - how every parameter is stored, from how the graph uses it.
 *
 * A matrix that is the right operand of a product is stored as the panels that the forward product reads; the backward product
 * transposes panels on the fly.  A table that is only looked up is stored by rows.  A table that is both (a tied
 * embedding) is stored as the product wants it, and looked up there. */
#include <string.h>

#include "passes/schedule_build.h"

enum { VECTOR_FLOATS = 16, PANEL = 16, ALIGN = 64 };

static int64_t round_up(int64_t value, int64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

int64_t row_pitch(int64_t columns)
{
    if (columns == 1)
        return 4;
    int64_t bytes = round_up(columns, VECTOR_FLOATS) * 4;
    return bytes % 2048 == 0 ? bytes + 64 : bytes;
}

int64_t node_row_dim(const Node *node)
{
    return node->row_dim;
}

bool runs_whole(const Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++) {
        OpMix mix = op_info[graph->nodes[i]->op].mix;
        if (mix == MIX_ALL || (mix == MIX_KEYS && graph->nodes[i]->attrs.cache < 0))
            return true;
    }
    return false;
}

int64_t schedule_rows(const Schedule *schedule, int64_t row_dim)
{
    const ScheduleOptions *o = &schedule->options;
    return row_dim == DIM_R ? o->max_rows : row_dim == DIM_Q ? o->max_sequences : row_dim > 0 ? row_dim : o->max_tokens;
}

/* Rows of fixed number come from lookups at fixed indices, and from sums into the rows of a table that is computed; a product's left
 * operand and what is element-wise hand them on.  Sums over rows, and gradients, which are such sums, have none. */
static int64_t find_row_dim(const Node *node, const bool *gradient)
{
    int64_t dim = node->type.rank >= 1 ? node->type.dim[0] : 0;
    OpClass class = op_info[node->op].class;
    if (dim < 0)
        return dim == DIM_S ? DIM_T : dim;
    if (gradient[node->id] || (class == OC_GEMM && node->attrs.ta))
        return 0;
    if (node->op == OP_GATHER || node->op == OP_SCATTER || node->op == OP_POSITIONS || (node->op == OP_RESULT && node->type.rank == 2))
        return dim;
    if (node->op == OP_SUM_TO) /* over the rows of a table: one row is left */
        return dim == 1 && node->type.rank == 2 && node->inputs[0]->row_dim ? 1 : 0;
    int count = class == OC_GEMM ? 1 : node->input_count;
    for (int i = 0; node->type.rank == 2 && i < count; i++)
        if (node->inputs[i]->row_dim == dim)
            return dim;
    return 0;
}

/* The sums that make up the gradients of parameters are no values of their own. */
static void mark_gradient(const Node *node, bool *gradient)
{
    gradient[node->id] = true;
    if (node->op == OP_ADD)
        for (int i = 0; i < 2; i++)
            mark_gradient(node->inputs[i], gradient);
}

static void find_rows(Graph *graph, Arena *arena)
{
    bool *gradient = ARENA_ARRAY(arena, bool, graph->node_count + 1);
    for (int i = 0; i < graph->output_count; i++)
        if (!strncmp(graph->outputs[i].name, "grad.", 5))
            mark_gradient(graph->outputs[i].node, gradient);
    for (int i = 0; i < graph->node_count; i++)
        graph->nodes[i]->row_dim = find_row_dim(graph->nodes[i], gradient);
}

int64_t node_columns(const Node *node)
{
    return node->type.rank >= 2 ? node->type.dim[node->type.rank - 1] : 1;
}

/* Which operand shapes a parameter has been seen in. */
typedef struct ParamUse {
    bool product, product_backward; /* right operand of a product in the forward / backward graph */
    bool flip, flip_backward;       /* ... with the parameter transposed */
    bool lookup;
} ParamUse;

static void note_uses(const Graph *graph, ParamUse *uses)
{
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        if (node->op == OP_GATHER && node->inputs[0]->op == OP_PARAM)
            uses[node->inputs[0]->param->index].lookup = true;
        if (op_info[node->op].class != OC_GEMM && node->op != OP_LINEAR_CROSS_ENTROPY)
            continue;
        const Node *right = node->inputs[1];
        if (right->op != OP_PARAM)
            continue;
        ParamUse *use = &uses[right->param->index];
        if (node->backward)
            use->product_backward = true, use->flip_backward = node->attrs.tb;
        else
            use->product = true, use->flip = node->attrs.tb;
    }
}

static int64_t matrix_bytes(int64_t rows, int64_t columns, int store)
{
    int64_t panels = (columns + PANEL - 1) / PANEL;
    switch (store) {
    case 1: return panels * ((rows + 1) / 2) * PANEL * 2 * 2;
    case 2: return panels * ((rows + 31) / 32) * (PANEL * 2 + 32 * PANEL);
    default: return panels * rows * PANEL * 4;
    }
}

static void choose(const Node *node, const ParamUse *use, int store, Stored *stored)
{
    const Type *type = &node->type;
    bool product = use->product || use->product_backward;
    if (type->rank <= 1 || (type->rank == 2 && type->dim[0] == 1 && !product && !use->lookup)) {
        stored->layout = STORED_VECTOR;
        stored->rows = 1;
        stored->columns = type->rank ? type->dim[type->rank - 1] : 1;
        stored->bytes = round_up(stored->columns, VECTOR_FLOATS) * 4;
        stored->streamed = true;
        return;
    }
    /* A backward-only product multiplies by the transpose of what the forward one would. */
    stored->flipped = use->product ? use->flip : use->product_backward && !use->flip_backward;
    stored->rows = type->dim[stored->flipped ? 1 : 0];
    stored->columns = type->dim[stored->flipped ? 0 : 1];
    if (product) {
        stored->layout = STORED_PANELS;
        bool rows_read = use->lookup && !stored->flipped; /* their kernel knows f32 only */
        stored->store = node->param->trained || node->param->adapter || rows_read ? 0 : store;
        stored->bytes = matrix_bytes(stored->rows, stored->columns, stored->store);
        stored->streamed = true;
    } else {
        stored->layout = STORED_ROWS;
        stored->flipped = false;
        stored->rows = type->dim[0], stored->columns = type->dim[1];
        stored->pitch = row_pitch(stored->columns);
        if (stored->columns == 1)
            stored->pitch = 64;
        stored->bytes = stored->rows * stored->pitch;
    }
}

void layout(Schedule *schedule, Arena *arena)
{
    Graph *graph = schedule->graph;
    find_rows(graph, arena);
    schedule->whole = runs_whole(graph);
    schedule->stored = ARENA_ARRAY(arena, Stored, graph->param_count);
    ParamUse *uses = ARENA_ARRAY(arena, ParamUse, graph->param_count);
    note_uses(graph, uses);
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        if (node->op != OP_PARAM)
            continue;
        Stored *stored = &schedule->stored[node->param->index];
        choose(node, &uses[node->param->index], schedule->options.store, stored);
        int64_t *total = node->param->trained ? &schedule->params_bytes : &schedule->weights_bytes;
        stored->bytes = round_up(stored->bytes, ALIGN);
        stored->offset = *total;
        *total += stored->bytes;
        if (stored->streamed)
            schedule->bytes_per_token += stored->bytes;
    }
}
