/* emit_kernels.c - from kernels of the schedule to the emitters of products, attention and the loss. */
#include "backend/emit_attention.h"
#include "backend/emit_blas.h"
#include "backend/emit_gemm.h"
#include "backend/emit_rows.h"
#include "ir/diag.h"

int64_t cache_offset(const Schedule *schedule, int64_t slot, int which);

/* --- products ------------------------------------------------------------------------------------------------------- */

typedef struct Product {
    GemmSpec spec;
    Expr *x;
    const Node *root;
    Operand out;
} Product;

/* Whether a product with `node`'s operands reads the stored matrix transposed. */
static bool reads_transposed(const Schedule *s, const Node *node)
{
    return node->attrs.tb != s->stored[node->inputs[1]->param->index].flipped;
}

static void describe_product(Binding *b, const Kernel *kernel, Product *product)
{
    const Schedule *s = b->schedule;
    const Node *node = kernel->anchor, *second = kernel->second;
    GemmSpec *spec = &product->spec;
    spec->row_dim = kernel->row_dim;
    spec->max_rows = schedule_rows(s, kernel->row_dim);
    spec->k = node_columns(node->inputs[0]);
    spec->n = node_columns(node);
    spec->transposed = reads_transposed(s, node);
    spec->store = s->stored[node->inputs[1]->param->index].store;
    bind_note(b, "gemm %lld %lldx%lld %d %d", (long long)spec->row_dim, (long long)spec->k, (long long)spec->n, spec->transposed,
              spec->store);
    spec->a = bind_rows(b, node->inputs[0]);
    spec->w = bind_param(b, node->inputs[1]->param);
    if (second) {
        spec->rank = node_columns(second->inputs[0]);
        spec->l_transposed = reads_transposed(s, second);
        bind_note(b, "+%lld %d", (long long)spec->rank, spec->l_transposed);
        spec->u = bind_rows(b, second->inputs[0]);
        spec->l = bind_param(b, second->inputs[1]->param);
    }
    product->root = kernel->root;
    product->out = bind_buffer(b, s->buffer_of[kernel->root->id]);
    if (kernel->root != node)
        bind_expression(b, kernel->root);
}

static void bind_gemm(Binding *b, const Kernel *kernel)
{
    Product product = {0};
    describe_product(b, kernel, &product);
}

static void finish_tile(Emit *e, void *user, Val accumulated, Val row, Val column)
{
    (void)e;
    Product *product = user;
    Expr *x = product->x;
    vexpr_row(x, row);
    x->accumulated = accumulated;
    vexpr_store(x, product->root, product->out, column);
}

static void emit_gemm_kernel(Emit *e, Binding *b, const Kernel *kernel, const char *name, Val *parts)
{
    Product product = {.x = vexpr_new(e->arena, e, b)};
    describe_product(b, kernel, &product);
    product.x->accumulator = kernel->anchor;
    product.x->absent = kernel->second;
    product.spec.name = name;
    product.spec.epilogue = finish_tile;
    product.spec.user = &product;
    parts[0] = b->openblas ? blas_gemm(e, &product.spec) : emit_gemm(e, &product.spec);
}

static Val gemm_tasks(Emit *e, Binding *b, const Kernel *kernel, Val context, Val rows, int part)
{
    (void)part, (void)context;
    Product product = {0};
    describe_product(b, kernel, &product);
    return b->openblas ? blas_gemm_tasks(e, &product.spec, rows) : emit_gemm_tasks(e, &product.spec, rows);
}

static int64_t gemm_scratch(Binding *b, const Kernel *kernel)
{
    Product product = {0};
    describe_product(b, kernel, &product);
    return b->openblas ? blas_gemm_scratch_bytes(&product.spec) : gemm_scratch_bytes(&product.spec);
}

const KernelCode code_gemm = {bind_gemm, emit_gemm_kernel, gemm_tasks, gemm_scratch};

/* --- gradients of matrices --------------------------------------------------------------------------------------------- */

/* The gradient of a stored transpose is the product with its operands exchanged. */
static GemmTnSpec describe_gradient(Binding *b, const Kernel *kernel)
{
    const Stored *stored = &b->schedule->stored[kernel->gradient->index];
    const Node *left = kernel->anchor->inputs[stored->flipped ? 1 : 0];
    const Node *right = kernel->anchor->inputs[stored->flipped ? 0 : 1];
    GemmTnSpec spec = {
        .row_dim = node_row_dim(left),
        .max_rows = schedule_rows(b->schedule, node_row_dim(left)),
        .k = node_columns(left),
        .n = node_columns(right),
    };
    if (stored->layout != STORED_PANELS)
        ice("gradient of '%s': not stored as panels", kernel->gradient->name);
    bind_note(b, "gemm_tn %lld %lldx%lld", (long long)spec.row_dim, (long long)spec.k, (long long)spec.n);
    spec.a = bind_rows(b, left);
    spec.b = bind_rows(b, right);
    spec.g = bind_gradient(b, kernel->gradient);
    return spec;
}

static void bind_gemm_tn(Binding *b, const Kernel *kernel)
{
    describe_gradient(b, kernel);
}

static void emit_gemm_tn_kernel(Emit *e, Binding *b, const Kernel *kernel, const char *name, Val *parts)
{
    GemmTnSpec spec = describe_gradient(b, kernel);
    spec.name = name;
    parts[0] = b->openblas ? blas_gemm_tn(e, &spec) : emit_gemm_tn(e, &spec);
}

static Val gemm_tn_tasks(Emit *e, Binding *b, const Kernel *kernel, Val context, Val rows, int part)
{
    (void)part, (void)context;
    GemmTnSpec spec = describe_gradient(b, kernel);
    return b->openblas ? blas_gemm_tn_tasks(e, &spec, rows) : emit_gemm_tn_tasks(e, &spec, rows);
}

static int64_t gemm_tn_scratch(Binding *b, const Kernel *kernel)
{
    GemmTnSpec spec = describe_gradient(b, kernel);
    return b->openblas ? blas_gemm_tn_scratch_bytes(&spec) : gemm_tn_scratch_bytes(&spec);
}

const KernelCode code_gemm_tn = {bind_gemm_tn, emit_gemm_tn_kernel, gemm_tn_tasks, gemm_tn_scratch};

/* --- attention --------------------------------------------------------------------------------------------------------- */

/* Which scores count, and what is added to them, as expressions over head, row and col. */
typedef struct Scores {
    Expr *at;
    const Node *where, *bias;
} Scores;

static Val score_value(Scores *scores, const Node *node, const ScorePlace *place)
{
    vexpr_row(scores->at, NULL);
    scores->at->head = place->head;
    scores->at->position = place->position;
    return vexpr_value(scores->at, node, place->key);
}

static Val scores_where(void *user, const ScorePlace *place)
{
    Scores *scores = user;
    return score_value(scores, scores->where, place);
}

static Val scores_bias(void *user, const ScorePlace *place)
{
    Scores *scores = user;
    return score_value(scores, scores->bias, place);
}

static bool is_number(const Node *node, double number)
{
    return node->op == OP_CONST && !(node->attrs.value < number) && !(node->attrs.value > number);
}

static void describe_scores(Binding *b, const Node *node, AttentionSpec *spec)
{
    int own = op_attention_inputs(node->op);
    Scores *scores = ARENA_NEW(b->arena, Scores);
    *scores = (Scores){.where = node->inputs[own], .bias = node->inputs[own + 1]};
    bind_expression(b, scores->where);
    bind_expression(b, scores->bias);
    spec->where = is_number(scores->where, 1) ? NULL : scores_where;
    spec->bias = is_number(scores->bias, 0) ? NULL : scores_bias;
    spec->score_user = scores;
}

static void start_scores(Emit *e, Binding *b, const AttentionSpec *spec)
{
    if (spec->score_user)
        ((Scores *)spec->score_user)->at = vexpr_new(b->arena, e, b);
}

/* A result that is left out where no node takes it. */
static Operand bind_optional(Binding *b, const Kernel *kernel, int index)
{
    if (kernel->used >> index & 1)
        return bind_buffer(b, kernel->results[index]);
    bind_note(b, "without %d", index);
    return (Operand){.slot = -1};
}

static AttentionSpec describe_attention(Binding *b, const Kernel *kernel)
{
    const Schedule *s = b->schedule;
    const Node *node = kernel->anchor;
    const Attrs *attrs = &node->attrs;
    AttentionSpec spec = {
        .heads = attrs->heads,
        .kv_heads = attrs->kv_heads,
        .head_dim = attrs->head_dim,
        .scale = attrs->scale,
        .cap = attrs->cap,
        .causal = attrs->causal,
        .window = attrs->window,
        .max_tokens = s->options.max_tokens,
        .max_keys = s->options.max_length,
        .openblas = b->openblas,
    };
    bind_note(b, "%s %lld %lld %lld %.17g %.17g %d %lld", op_info[node->op].text, (long long)spec.heads,
              (long long)spec.kv_heads, (long long)spec.head_dim, spec.scale, spec.cap, spec.causal, (long long)spec.window);
    int first = 3; /* operand behind those of the forward kernel */
    spec.q = bind_rows(b, node->inputs[0]);
    if (op_info[node->op].attrs & A_INDEX) {
        first = 6;
        spec.relative = (int)attrs->index;
        spec.buckets = node->inputs[3]->type.dim[0];
        spec.reach = node->inputs[5]->type.dim[0] / 2;
        bind_note(b, "relative %d %lld %lld", spec.relative, (long long)spec.buckets, (long long)spec.reach);
        spec.kr = bind_rows(b, node->inputs[3]);
        spec.qr = bind_rows(b, node->inputs[4]);
        spec.table = bind_table(b, node->inputs[5]);
    }
    if (node->input_count > op_attention_inputs(node->op))
        describe_scores(b, node, &spec);
    if (attrs->cache >= 0) {
        spec.k = bind_operand(b, LRT_BASE_CACHE, (uint64_t)cache_offset(s, attrs->cache, 0), s->cache_pitch);
        spec.v = bind_operand(b, LRT_BASE_CACHE, (uint64_t)cache_offset(s, attrs->cache, 1), s->cache_pitch);
    } else {
        spec.k = bind_rows(b, node->inputs[1]);
        spec.v = bind_rows(b, node->inputs[2]);
    }
    if (kernel->kind == KERNEL_ATTENTION) {
        spec.o = bind_buffer(b, kernel->results[0]);
        spec.lse = bind_optional(b, kernel, 1);
        return spec;
    }
    spec.o = bind_rows(b, node->inputs[first]);
    spec.lse = bind_rows(b, node->inputs[first + 1]);
    spec.d_o = bind_rows(b, node->inputs[first + 2]);
    spec.d_q = bind_buffer(b, kernel->results[0]);
    spec.d_k = bind_buffer(b, kernel->results[1]);
    spec.d_v = bind_buffer(b, kernel->results[2]);
    spec.work = bind_buffer(b, kernel->work);
    if (spec.relative) {
        spec.d_kr = bind_optional(b, kernel, 3);
        spec.d_qr = bind_optional(b, kernel, 4);
    }
    return spec;
}

static void bind_attention(Binding *b, const Kernel *kernel)
{
    describe_attention(b, kernel);
}

static void emit_attention_kernel(Emit *e, Binding *b, const Kernel *kernel, const char *name, Val *parts)
{
    AttentionSpec spec = describe_attention(b, kernel);
    spec.name = name;
    start_scores(e, b, &spec);
    parts[0] = emit_attention(e, &spec);
}

static Val attention_tasks(Emit *e, Binding *b, const Kernel *kernel, Val context, Val rows, int part)
{
    (void)part, (void)rows;
    AttentionSpec spec = describe_attention(b, kernel);
    return emit_attention_tasks(e, &spec, context);
}

static int64_t attention_scratch(Binding *b, const Kernel *kernel)
{
    AttentionSpec spec = describe_attention(b, kernel);
    return attention_scratch_bytes(&spec);
}

const KernelCode code_attention = {bind_attention, emit_attention_kernel, attention_tasks, attention_scratch};

static int64_t attention_grad_scratch(Binding *b, const Kernel *kernel)
{
    AttentionSpec spec = describe_attention(b, kernel);
    return attention_grad_scratch_bytes(&spec);
}

static void emit_attention_grad_kernel(Emit *e, Binding *b, const Kernel *kernel, const char *name, Val *parts)
{
    AttentionSpec spec = describe_attention(b, kernel);
    spec.name = name;
    start_scores(e, b, &spec);
    emit_attention_grad(e, &spec, parts);
}

static Val attention_grad_tasks(Emit *e, Binding *b, const Kernel *kernel, Val context, Val rows, int part)
{
    (void)rows;
    AttentionSpec spec = describe_attention(b, kernel);
    return emit_attention_grad_tasks(e, &spec, context, part);
}

const KernelCode code_attention_grad = {bind_attention, emit_attention_grad_kernel, attention_grad_tasks,
                                        attention_grad_scratch};

/* --- loss over the vocabulary --------------------------------------------------------------------------------------------- */

static CrossEntropySpec describe_loss(Binding *b, const Kernel *kernel)
{
    const Node *node = kernel->anchor;
    const Stored *stored = &b->schedule->stored[node->inputs[1]->param->index];
    if (node->attrs.tb != stored->flipped)
        ice("the head's panels are stored the other way round");
    CrossEntropySpec spec = {
        .k = stored->rows,
        .vocabulary = stored->columns,
        .max_rows = b->schedule->options.max_tokens,
        .store = stored->store,
        .openblas = b->openblas,
    };
    bind_note(b, "cross_entropy %lldx%lld %d %d", (long long)spec.k, (long long)spec.vocabulary, spec.store, node->input_count);
    spec.x = bind_rows(b, node->inputs[0]);
    spec.w = bind_param(b, node->inputs[1]->param);
    spec.biased = node->input_count > 3;
    if (spec.biased)
        spec.bias = bind_param(b, node->inputs[3]->param);
    spec.loss = bind_buffer(b, kernel->results[0]);
    spec.dx = bind_buffer(b, kernel->results[1]);
    return spec;
}

static void bind_cross_entropy(Binding *b, const Kernel *kernel)
{
    describe_loss(b, kernel);
}

static void emit_cross_entropy_kernel(Emit *e, Binding *b, const Kernel *kernel, const char *name, Val *parts)
{
    CrossEntropySpec spec = describe_loss(b, kernel);
    spec.name = name;
    parts[0] = emit_cross_entropy(e, &spec);
}

static Val cross_entropy_tasks(Emit *e, Binding *b, const Kernel *kernel, Val context, Val rows, int part)
{
    (void)part, (void)rows;
    CrossEntropySpec spec = describe_loss(b, kernel);
    return emit_cross_entropy_tasks(e, &spec, context);
}

static int64_t cross_entropy_scratch(Binding *b, const Kernel *kernel)
{
    CrossEntropySpec spec = describe_loss(b, kernel);
    return cross_entropy_scratch_bytes(&spec);
}

const KernelCode code_cross_entropy = {bind_cross_entropy, emit_cross_entropy_kernel, cross_entropy_tasks,
                                       cross_entropy_scratch};
