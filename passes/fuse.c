/* fuse.c - groups nodes into kernels.
 *
 * Products, attention and the like are kernels of their own; a product takes the low-rank product that is added to it, and
 * the chain of element-wise ops behind it, along (its epilogue).  Of the other values only those are put in memory that a kernel
 * needs there, reductions, and what would be dear to compute twice; everything else is computed where it is used.  Values in memory
 * of one width are computed together, one pass per row.
 *
 * requires: expanded graph in topological order; provides: kernels, buffers; keeps: the graph. */
#include <string.h>

#include "passes/passes.h"
#include "passes/schedule_build.h"

enum {
    LOW_RANK_MAX = 64,  /* inner dimension up to which a product rides along with another */
    COST_TWICE = 6,     /* element-wise ops that are computed again rather than stored */
    COST_ONCE = 48,     /* ... even for a single use */
    COST_MOST = 1 << 20, /* shared values count at each use: their costs double along a chain */
    OUTPUTS_MAX = 16,   /* of a kernel that computes rows: keeps its operands few and its code short */
    COST_LOOKUP = 8,
    COST_DROPOUT = 10,
};

/* A parameter whose gradient has a sum as a term. */
typedef struct Claim Claim;
struct Claim {
    Param *param;
    const Claim *next;
};

typedef struct Fuser {
    Schedule *schedule;
    Graph *graph;
    Arena *arena;
    Diag *diag;
    int *use_count;
    const Node **user;      /* the only user of a node that has one */
    const Node **anchor_of; /* root of a product's epilogue -> the product */
    const Node **root_of;   /* product -> root */
    const Node **second_of; /* product -> low-rank product */
    bool *absorbed;         /* computed inside a product's kernel */
    bool *stored;           /* must be in memory */
    const Claim **claims;   /* leaf of a gradient's sum -> whose it is; several weights may have equal gradients */
    int *cost;              /* of computing it in place */
    int *need;              /* the last kernel that computing it in place waits for */
    int *ready;             /* the kernel that puts it in memory */
    int64_t *width;         /* of the rows that computing it in place walks */
    const bool *of_scores;  /* attention's kernel computes it */
    bool failed;
} Fuser;

const Node *node_origin(const Node *node)
{
    while (node->op == OP_SITE || (node->op == OP_RESHAPE && node_columns(node) == node_columns(node->inputs[0]) &&
                                   node_row_dim(node) == node_row_dim(node->inputs[0])))
        node = node->inputs[0];
    return node;
}

static bool is_rows(const Node *node)
{
    return node_row_dim(node) != 0;
}

/* A product of token rows with a parameter. */
static bool is_product(const Node *node)
{
    return op_info[node->op].class == OC_GEMM && !node->attrs.ta && is_rows(node);
}

static int64_t inner_extent(const Node *product)
{
    return node_columns(product->inputs[0]);
}

/* Whether a node reads other rows or columns of an operand than its own. */
static bool reads_elsewhere(const Node *node, int operand)
{
    return (op_info[node->op].traits & TRAIT_MOVES) || (node->op == OP_GATHER && operand == 0);
}

static bool is_map(const Node *node)
{
    return op_info[node->op].class == OC_MAP;
}

static void fail(Fuser *f, const Node *node)
{
    if (!f->failed && node->op == OP_INPUT)
        diag_error(f->diag, node->loc, "programs have no input '%s'; they have tokens, types, and what the loss compares",
                   node->attrs.name);
    else if (!f->failed)
        diag_error(f->diag, node->loc, "'%s' of type %s is used in a form that is not compiled yet",
                   op_info[node->op].text, type_str(f->arena, node->type));
    f->failed = true;
}

/* --- what belongs to a product ------------------------------------------------------------------------------- */

/* `other` may ride along with `product` when both are added: r more columns of the reduction. */
static bool is_low_rank(const Fuser *f, const Node *product, const Node *other)
{
    return is_product(other) && other->inputs[1]->op == OP_PARAM && f->use_count[other->id] == 1 &&
           !f->root_of[other->id] && inner_extent(other) <= LOW_RANK_MAX && inner_extent(other) < inner_extent(product) &&
           f->schedule->stored[other->inputs[1]->param->index].store == 0;
}

/* The input of a two-operand op that is not `node`; NULL when there is none. */
static const Node *other_input(const Node *op, const Node *node)
{
    if (op->input_count != 2 || op->inputs[0] == op->inputs[1])
        return NULL;
    return op->inputs[0] == node ? op->inputs[1] : op->inputs[0];
}

/* Follows the chain of only users from a product: low-rank term, bias, activation, residual.  The low-rank term is part of the reduction,
 * so nothing but sums may come before it. */
static void claim_epilogue(Fuser *f, const Node *product)
{
    const Node *root = product;
    bool sums = true;
    while (f->use_count[root->id] == 1 && f->user[root->id]) {
        const Node *next = f->user[root->id];
        if (!is_map(next) || !type_equal(next->type, root->type) || f->anchor_of[next->id])
            break;
        const Node *other = other_input(next, root);
        if (other && next->op == OP_ADD && is_product(other)) {
            if (sums && is_low_rank(f, product, other) && !f->second_of[product->id]) {
                f->second_of[product->id] = other;
                f->absorbed[other->id] = true;
            } else if (f->use_count[other->id] == 1 && !f->root_of[other->id] && is_low_rank(f, other, product)) {
                break; /* the other one takes this one along */
            }
        }
        sums = sums && next->op == OP_ADD;
        root = next;
        f->anchor_of[root->id] = product;
    }
    for (const Node *n = product; n != root; n = f->user[n->id])
        f->absorbed[n->id] = true; /* on the way: never in memory */
    f->root_of[product->id] = root;
    f->anchor_of[root->id] = product;
}

static void claim_products(Fuser *f)
{
    for (int i = 0; i < f->graph->node_count; i++) {
        const Node *node = f->graph->nodes[i];
        if (!is_product(node) || f->absorbed[node->id])
            continue;
        if (node->inputs[1]->op != OP_PARAM)
            fail(f, node);
        /* Low-rank products wait: a larger one may take them along. */
        if (inner_extent(node) > LOW_RANK_MAX)
            claim_epilogue(f, node);
    }
    for (int i = 0; i < f->graph->node_count; i++) {
        const Node *node = f->graph->nodes[i];
        if (is_product(node) && !f->absorbed[node->id] && !f->root_of[node->id])
            claim_epilogue(f, node);
    }
}

/* --- gradients of parameters ----------------------------------------------------------------------------------- */

/* A gradient is a sum of terms, each of which is a sum over tokens that a kernel adds to the gradient's buffer. */
static void claim_gradient(Fuser *f, Node *node, Param *param)
{
    if (node->op == OP_ADD && !is_rows(node)) {
        claim_gradient(f, node->inputs[0], param);
        claim_gradient(f, node->inputs[1], param);
        return;
    }
    bool sums_tokens = (op_info[node->op].class == OC_GEMM && node->attrs.ta) || node->op == OP_SCATTER ||
                       (node->op == OP_SUM_TO && is_rows(node->inputs[0]) && !is_rows(node));
    if (!sums_tokens)
        fail(f, node);
    Claim *claim = ARENA_NEW(f->arena, Claim);
    *claim = (Claim){param, f->claims[node->id]};
    f->claims[node->id] = claim;
}

static void claim_gradients(Fuser *f)
{
    for (int i = 0; i < f->graph->output_count; i++) {
        const Output *output = &f->graph->outputs[i];
        if (strncmp(output->name, "grad.", 5) != 0)
            continue;
        Param *param = graph_find_param(f->graph, output->name + 5);
        if (!param)
            ice("output '%s' is the gradient of no parameter", output->name);
        claim_gradient(f, output->node, param);
    }
}

/* --- what must be in memory -------------------------------------------------------------------------------------- */

static void store(Fuser *f, const Node *node)
{
    const Node *origin = node_origin(node);
    if (is_rows(origin) && origin->type.dtype == DT_F32)
        f->stored[origin->id] = true;
}

/* The same for who can read a part of it where it lies. */
static void store_operand(Fuser *f, const Node *node)
{
    const Node *origin = node_origin(node);
    store(f, origin->op == OP_SLICE ? origin->inputs[0] : origin);
}

static int op_cost(const Node *node)
{
    if (op_info[node->op].class == OC_GATHER)
        return COST_LOOKUP;
    if (node->op == OP_DROPOUT || node->op == OP_DROPOUT_GRAD)
        return COST_DROPOUT;
    return is_map(node) ? 1 : 0;
}

static void mark_stored(Fuser *f)
{
    for (int i = 0; i < f->graph->output_count; i++)
        store_operand(f, f->graph->outputs[i].node);
    for (int i = 0; i < f->graph->node_count; i++) {
        const Node *node = f->graph->nodes[i];
        OpClass class = op_info[node->op].class;
        if (f->of_scores[node->id])
            continue;
        int own = op_attention_inputs(node->op);
        if (class == OC_GEMM || class == OC_FUSED || node->op == OP_SCATTER)
            for (int k = 0; k < (own ? own : node->input_count); k++)
                if (class != OC_GEMM || k == 0 || node->attrs.ta)
                    store_operand(f, node->inputs[k]);
        if (node->op == OP_SLICE && is_rows(node))
            store_operand(f, node->inputs[0]);
        for (int k = 0; k < node->input_count; k++)
            if (reads_elsewhere(node, k))
                store(f, node->inputs[k]);
        if (node->op == OP_RESULT)
            f->stored[node->id] = true;
        if (class == OC_REDUCE && is_rows(node))
            f->stored[node->id] = true;
        for (int k = 0; k < node->input_count; k++) /* one row for all rows: computed once */
            if (node_row_dim(node->inputs[k]) == 1 && node_row_dim(node) != 1)
                store_operand(f, node->inputs[k]);
        if ((f->anchor_of[node->id] && !f->absorbed[node->id]) || (class == OC_FUSED && op_info[node->op].traits == 0))
            f->stored[node->id] = true;
    }
    /* Costs from the leaves up: a value that would be dear to compute again goes to memory too. */
    for (int i = 0; i < f->graph->node_count; i++) {
        const Node *node = f->graph->nodes[i];
        if (f->absorbed[node->id] || f->of_scores[node->id] || !is_rows(node) || node->type.dtype != DT_F32)
            continue;
        int cost = op_cost(node);
        for (int k = 0; k < node->input_count; k++) {
            const Node *input = node_origin(node->inputs[k]);
            cost += f->stored[input->id] ? 0 : f->cost[input->id];
        }
        f->cost[node->id] = cost < COST_MOST ? cost : COST_MOST;
        bool wide = node_columns(node) > 1;
        bool computed = is_map(node) || op_info[node->op].class == OC_GATHER;
        if (computed && wide && cost > (f->use_count[node->id] > 1 ? COST_TWICE : COST_ONCE))
            f->stored[node->id] = true;
    }
}

/* --- kernels --------------------------------------------------------------------------------------------------------- */

static Kernel *add_kernel(Fuser *f, KernelKind kind, const Node *node)
{
    Schedule *s = f->schedule;
    Kernel *kernel = ARENA_NEW(f->arena, Kernel);
    kernel->kind = kind;
    kernel->anchor = kernel->root = node;
    kernel->row_dim = node_row_dim(node) ? node_row_dim(node) : DIM_T;
    kernel->width = node_columns(node);
    kernel->layer = node->layer;
    kernel->backward = node->backward;
    ARENA_PUSH(f->arena, s->kernels, s->kernel_count, s->kernel_capacity, kernel);
    return kernel;
}

static Buffer *add_buffer(Fuser *f, const Node *node, int64_t row_dim, int64_t columns)
{
    Schedule *s = f->schedule;
    Buffer *buffer = ARENA_NEW(f->arena, Buffer);
    buffer->node = node;
    buffer->row_dim = row_dim;
    buffer->columns = columns;
    buffer->pitch = row_pitch(columns);
    buffer->bytes = (schedule_rows(s, row_dim) * buffer->pitch + 127) / 64 * 64; /* room to read a vector past the last scalar */
    buffer->first = s->kernel_count - 1;
    ARENA_PUSH(f->arena, s->buffers, s->buffer_count, s->buffer_capacity, buffer);
    return buffer;
}

static void put_in_memory(Fuser *f, const Node *node)
{
    f->schedule->buffer_of[node->id] = add_buffer(f, node, node_row_dim(node), node_columns(node));
    f->ready[node->id] = f->schedule->kernel_count - 1;
}

/* The last kernel that computing `node` in place waits for; -1: none. */
static int wait_for(const Fuser *f, const Node *node)
{
    node = node_origin(node);
    return f->schedule->buffer_of[node->id] ? f->ready[node->id] : f->need[node->id];
}

static void note_need(Fuser *f, const Node *node)
{
    int need = -1;
    for (int k = 0; k < node->input_count; k++) {
        int wait = wait_for(f, node->inputs[k]);
        wait += reads_elsewhere(node, k); /* what is there when that kernel has ended, not before */
        need = wait > need ? wait : need;
    }
    f->need[node->id] = need;
}

/* Width of the rows that computing `node` walks: its own, or for a value of one column that of what it reduces. */
static void note_width(Fuser *f, const Node *node)
{
    int64_t width = node_columns(node);
    if (op_info[node->op].class == OC_REDUCE)
        width = node_columns(node->inputs[0]);
    else
        for (int k = 0; width == 1 && k < node->input_count; k++) {
            const Node *input = node_origin(node->inputs[k]);
            if (is_rows(input) && !f->schedule->buffer_of[input->id])
                width = f->width[input->id];
        }
    f->width[node->id] = width;
}

/* Joins the last kernel of the same width if all it needs is there by then, else starts one. */
static void add_rows(Fuser *f, const Node *node)
{
    Schedule *s = f->schedule;
    int64_t width = f->width[node->id];
    Kernel *kernel = NULL;
    for (int i = s->kernel_count - 1; i >= 0 && i >= f->need[node->id] && !kernel; i--) {
        Kernel *k = s->kernels[i];
        if (k->layer != node->layer || k->backward != node->backward)
            break;
        if (k->kind == KERNEL_ROWS && k->width == width && k->row_dim == node_row_dim(node) && k->output_count < OUTPUTS_MAX) {
            kernel = k;
            put_in_memory(f, node);
            f->ready[node->id] = s->buffer_of[node->id]->first = i;
        }
    }
    if (!kernel) {
        kernel = add_kernel(f, KERNEL_ROWS, node);
        kernel->width = width;
        put_in_memory(f, node);
    }
    ARENA_PUSH(f->arena, kernel->outputs, kernel->output_count, kernel->output_capacity, node);
}

static void add_tuple(Fuser *f, Kernel *kernel, const Node *tuple)
{
    for (int k = 0; k < tuple->result_count; k++) {
        Type *type = &tuple->results[k];
        kernel->results[k] = add_buffer(f, tuple, type->dim[0] == DIM_S ? DIM_T : type->dim[0],
                                        type->rank >= 2 ? type->dim[type->rank - 1] : 1);
    }
    /* Result nodes come after the tuple: they find its buffers here. */
    f->ready[tuple->id] = f->schedule->kernel_count - 1;
    ((Node *)tuple)->note = kernel;
}

static void add_attention(Fuser *f, const Node *node)
{
    Schedule *s = f->schedule;
    if (node->attrs.cache >= 0) {
        add_kernel(f, KERNEL_APPEND, node);
        int64_t pitch = row_pitch(node->attrs.kv_heads * node->attrs.head_dim);
        if (pitch > s->cache_pitch)
            s->cache_pitch = pitch;
        if (node->attrs.cache + 1 > s->cache_slots)
            s->cache_slots = (int)node->attrs.cache + 1;
    }
    add_tuple(f, add_kernel(f, KERNEL_ATTENTION, node), node);
}

static void add_attention_grad(Fuser *f, const Node *node, AttentionWork *work)
{
    Kernel *kernel = add_kernel(f, KERNEL_ATTENTION_GRAD, node);
    add_tuple(f, kernel, node);
    int64_t bytes = work ? work(node, f->schedule->options.max_tokens) : 0;
    kernel->work = add_buffer(f, node, 0, 1);
    kernel->work->bytes = (bytes + 63) / 64 * 64;
}

static void add_gradient(Fuser *f, const Node *node, Param *param)
{
    OpClass class = op_info[node->op].class;
    KernelKind kind = class == OC_GEMM ? KERNEL_GEMM_TN : node->op == OP_SCATTER ? KERNEL_SCATTER : KERNEL_COLUMN_SUM;
    Kernel *kernel = add_kernel(f, kind, node);
    kernel->gradient = param;
    kernel->row_dim = node_row_dim(node->inputs[0]);
    kernel->width = node_columns(node->inputs[0]);
}

/* A sum over the rows of a table that is a value, not a gradient. */
static bool sums_rows(const Node *node)
{
    return node->op == OP_SUM_TO && node_row_dim(node) == 1 && node_row_dim(node->inputs[0]) != 1;
}

static void add_node(Fuser *f, const Node *node, AttentionWork *work)
{
    OpClass class = op_info[node->op].class;
    note_need(f, node);
    note_width(f, node);
    if (f->claims[node->id]) {
        for (const Claim *claim = f->claims[node->id]; claim; claim = claim->next)
            add_gradient(f, node, claim->param);
    } else if (f->absorbed[node->id] || f->of_scores[node->id]) {
        return;
    } else if (f->anchor_of[node->id]) {
        const Node *product = f->anchor_of[node->id];
        Kernel *kernel = add_kernel(f, KERNEL_GEMM, node);
        kernel->anchor = product;
        kernel->second = f->second_of[product->id];
        put_in_memory(f, node);
    } else if (sums_rows(node) || node->op == OP_SCATTER) {
        Kernel *kernel = add_kernel(f, node->op == OP_SCATTER ? KERNEL_SCATTER : KERNEL_COLUMN_SUM, node);
        kernel->row_dim = node_row_dim(node->inputs[0]);
        put_in_memory(f, node);
    } else if (node->op == OP_ATTENTION || node->op == OP_RELATIVE_ATTENTION) {
        add_attention(f, node);
    } else if (node->op == OP_ATTENTION_GRAD || node->op == OP_RELATIVE_ATTENTION_GRAD) {
        add_attention_grad(f, node, work);
    } else if (node->op == OP_LINEAR_CROSS_ENTROPY) {
        add_tuple(f, add_kernel(f, KERNEL_CROSS_ENTROPY, node), node);
    } else if (node->op == OP_RESULT) {
        Kernel *kernel = node->inputs[0]->note;
        kernel->used |= 1u << node->attrs.index;
        f->schedule->buffer_of[node->id] = kernel->results[node->attrs.index];
        f->ready[node->id] = f->ready[node->inputs[0]->id];
    } else if (node->op == OP_ROPE) {
        add_kernel(f, KERNEL_ROPE, node);
        put_in_memory(f, node);
    } else if (class == OC_FUSED) {
        fail(f, node);
    } else if (f->stored[node->id] && class != OC_LEAF && node_origin(node) == node) {
        add_rows(f, node);
    }
}

/* --- forms that no kernel computes ------------------------------------------------------------------------------------- */

/* What a program is given (emit_expr.c). */
static bool is_given(const Node *input)
{
    static const char *const names[] = {"tokens", "targets", "labels", "types", "virtual", "loss_scale"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(input->attrs.name, names[i]))
            return true;
    return false;
}

/* Whether it lies in memory from the start. */
static bool is_stored_leaf(const Node *node)
{
    return node->op == OP_PARAM || node->op == OP_TABLE;
}

static bool can_compile(const Node *node)
{
    OpClass class = op_info[node->op].class;
    if (node->op == OP_HEAD_TILE && !is_stored_leaf(node->inputs[0]))
        return false;
    if (class == OC_EXPAND || (node->op == OP_GATHER && !is_stored_leaf(node->inputs[0]) && node_row_dim(node->inputs[0]) <= 0))
        return false;
    if (node->op == OP_INPUT && !is_given(node))
        return false;
    if (node->type.rank > 2 && node->op != OP_TABLE)
        return false;
    if (node->type.rank == 2 && node->type.dim[1] < 0 && is_rows(node))
        return false;
    if (class == OC_VIEW && is_rows(node))
        return node->op == OP_RESULT || node->op == OP_SITE || node->op == OP_BROADCAST ||
               (node->op == OP_SLICE && (node->attrs.axis == 1 || node->attrs.axis == -1)) || node_origin(node) != node;
    return true;
}

bool fuse(Schedule *schedule, AttentionWork *attention_work, Arena *arena, Diag *diag)
{
    Graph *graph = schedule->graph;
    int n = graph->node_count;
    Fuser f = {.schedule = schedule, .graph = graph, .arena = arena, .diag = diag};
    f.use_count = graph_use_counts(graph, arena);
    f.user = ARENA_ARRAY(arena, const Node *, n);
    f.anchor_of = ARENA_ARRAY(arena, const Node *, n);
    f.root_of = ARENA_ARRAY(arena, const Node *, n);
    f.second_of = ARENA_ARRAY(arena, const Node *, n);
    f.absorbed = ARENA_ARRAY(arena, bool, n);
    f.stored = ARENA_ARRAY(arena, bool, n);
    f.claims = ARENA_ARRAY(arena, const Claim *, n);
    f.cost = ARENA_ARRAY(arena, int, n);
    f.need = ARENA_ARRAY(arena, int, n);
    f.ready = ARENA_ARRAY(arena, int, n);
    f.width = ARENA_ARRAY(arena, int64_t, n);
    f.of_scores = scores_only(graph, arena);
    schedule->buffer_of = ARENA_ARRAY(arena, Buffer *, n);
    for (int i = 0; i < n; i++) {
        Node *node = graph->nodes[i];
        if (!f.of_scores[i] && !can_compile(node))
            fail(&f, node);
        for (int k = 0; k < node->input_count; k++)
            f.user[node->inputs[k]->id] = node;
    }
    for (int i = 0; i < graph->output_count; i++)
        f.user[graph->outputs[i].node->id] = NULL; /* outputs do not disappear in an epilogue */
    claim_gradients(&f);
    claim_products(&f);
    if (f.failed)
        return false;
    mark_stored(&f);
    for (int i = 0; i < n && !f.failed; i++)
        add_node(&f, graph->nodes[i], attention_work);
    return !f.failed;
}
