/* emit_small.c - rotary embedding, the key/value cache, gradients of tables, dropout. */
#include "backend/emit_block.h"
#include "backend/emit_rows.h"

#include <math.h>

#include "ir/diag.h"
#include "ir/dropout.h"

/* --- rotary position embedding (Su et al., 2021) ------------------------------------------------------------------------- */

/* y[a] = x[a] cos - x[b] sin;  y[b] = x[b] cos + x[a] sin  for the f frequencies of each head; (a, b) is (i, i + f), or interleaved
 * (2 i, 2 i + 1); what is left of a head is copied.  Angles come from a table by position. */
typedef struct Rope {
    int64_t heads, head_dim, frequencies, table_pitch;
    bool inverse, interleaved;
    Operand x, y, table;
} Rope;

static Rope rope_of(Binding *b, const Kernel *kernel)
{
    const Node *node = kernel->anchor;
    Rope rope = {.heads = node->attrs.heads, .inverse = node->attrs.inverse, .interleaved = node->attrs.interleaved};
    rope.head_dim = node_columns(node) / rope.heads;
    rope.frequencies = node->inputs[2]->type.dim[0];
    bind_note(b, "rope %lld %lld %d %d", (long long)rope.heads, (long long)rope.head_dim, rope.inverse, rope.interleaved);
    rope.x = bind_rows(b, node->inputs[0]);
    rope.y = bind_buffer(b, b->schedule->buffer_of[node->id]);
    rope.table = bind_rotary(b, node->inputs[2], &rope.table_pitch);
    return rope;
}

static void bind_rope(Binding *b, const Kernel *kernel)
{
    rope_of(b, kernel);
}

/* The pairs of frequencies i .. i + 15: apart, the first elements of the pairs and the second ones are two vectors; interleaved they are
 * in turn in two vectors, the second of which may be empty. */
static void rotate_chunk(Emit *e, const Rope *rope, Val in, Val out, Val angles, int64_t i)
{
    int64_t pairs = rope->frequencies - i < LANES ? rope->frequencies - i : LANES;
    int64_t from[2] = {i, i + rope->frequencies}, count[2] = {pairs, pairs};
    int even[LANES], odd[LANES], low[LANES], high[LANES];
    for (int lane = 0; lane < LANES; lane++) {
        even[lane] = 2 * lane, odd[lane] = 2 * lane + 1;
        low[lane] = lane / 2 + lane % 2 * LANES, high[lane] = low[lane] + LANES / 2;
    }
    if (rope->interleaved) {
        from[0] = 2 * i, from[1] = 2 * i + LANES;
        count[0] = 2 * pairs < LANES ? 2 * pairs : LANES, count[1] = 2 * pairs - count[0];
    }
    Val cosine = ll_load(e, e->t_vec, ll_at_const(e, angles, i * 4), 4);
    Val sine = ll_load(e, e->t_vec, ll_at_const(e, angles, rope->table_pitch / 2 + i * 4), 4);
    if (rope->inverse)
        sine = LLVMBuildFNeg(e->builder, sine, "");
    Val x[2];
    for (int k = 0; k < 2; k++)
        x[k] = count[k] ? emit_load_lanes(e, ll_at_const(e, in, from[k] * 4), count[k]) : ll_vec(e, 0);
    Val a = rope->interleaved ? ll_shuffle(e, x[0], x[1], even) : x[0];
    Val b = rope->interleaved ? ll_shuffle(e, x[0], x[1], odd) : x[1];
    Val first = ll_fma(e, a, cosine, LLVMBuildFNeg(e->builder, ll_fmul(e, b, sine), ""));
    Val second = ll_fma(e, b, cosine, ll_fmul(e, a, sine));
    x[0] = rope->interleaved ? ll_shuffle(e, first, second, low) : first;
    x[1] = rope->interleaved ? ll_shuffle(e, first, second, high) : second;
    for (int k = 0; k < 2; k++)
        if (count[k])
            emit_store_lanes(e, x[k], ll_at_const(e, out, from[k] * 4), count[k]);
}

static void emit_rope(Emit *e, Binding *b, const Kernel *kernel, const char *name, Val *parts)
{
    Rope rope = rope_of(b, kernel);
    parts[0] = emit_kernel(e, name);
    Loop rows = begin_row_block(e, kernel, block_rows(kernel->width));
    Val positions = CONTEXT_PTR(e, emit_param(e, KERNEL_CONTEXT), positions);
    Val position = ll_load(e, e->t_i32, ll_at(e, positions, ll_mul(e, rows.index, ll_i64(e, 4))), 4);
    position = LLVMBuildSExt(e->builder, position, e->t_i64, "");
    Val angles = ll_at(e, operand_pointer(e, rope.table), ll_mul(e, position, ll_i64(e, rope.table_pitch)));
    Val x = ll_at(e, operand_pointer(e, rope.x), ll_mul(e, rows.index, ll_i64(e, rope.x.pitch)));
    Val y = ll_at(e, operand_pointer(e, rope.y), ll_mul(e, rows.index, ll_i64(e, rope.y.pitch)));
    Loop heads = loop_begin(e, ll_i64(e, 0), ll_i64(e, rope.heads), ll_i64(e, 1), NULL, 0, true);
    Val head = ll_mul(e, heads.index, ll_i64(e, rope.head_dim * 4));
    Val in = ll_at(e, x, head), out = ll_at(e, y, head);
    for (int64_t i = 0; i < rope.frequencies; i += LANES)
        rotate_chunk(e, &rope, in, out, angles, i);
    for (int64_t i = 2 * rope.frequencies; i < rope.head_dim; i += LANES) {
        Val rest = emit_load_lanes(e, ll_at_const(e, in, i * 4), rope.head_dim - i);
        emit_store_lanes(e, rest, ll_at_const(e, out, i * 4), rope.head_dim - i);
    }
    loop_end(e, &heads, NULL, NULL);
    loop_end(e, &rows, NULL, NULL);
    emit_return(e);
}

static Val row_block_tasks(Emit *e, Binding *b, const Kernel *kernel, Val context, Val rows, int part)
{
    (void)part, (void)b, (void)context;
    return block_tasks(e, rows, block_rows(kernel->width));
}

const KernelCode code_rope = {bind_rope, emit_rope, row_block_tasks, NULL};

/* --- the cache ------------------------------------------------------------------------------------------------------------ */

int64_t cache_offset(const Schedule *schedule, int64_t slot, int which)
{
    return (2 * slot + which) * schedule->options.max_length * schedule->cache_pitch;
}

static void append_operands(Binding *b, const Kernel *kernel, Operand from[2], Operand to[2])
{
    const Node *node = kernel->anchor;
    bind_note(b, "append %lld", (long long)(node->attrs.kv_heads * node->attrs.head_dim));
    for (int i = 0; i < 2; i++) {
        from[i] = bind_rows(b, node->inputs[1 + i]);
        uint64_t offset = (uint64_t)cache_offset(b->schedule, node->attrs.cache, i);
        to[i] = bind_operand(b, LRT_BASE_CACHE, offset, b->schedule->cache_pitch);
    }
}

static void bind_append(Binding *b, const Kernel *kernel)
{
    Operand from[2], to[2];
    append_operands(b, kernel, from, to);
}

static Val segment_field(Emit *e, Val segment, size_t offset)
{
    return LLVMBuildSExt(e->builder, ll_load(e, e->t_i32, ll_at_const(e, segment, (int64_t)offset), 4), e->t_i64, "");
}

/* Task = segment: its rows go behind the keys and values that its sequence has already. */
static void emit_append(Emit *e, Binding *b, const Kernel *kernel, const char *name, Val *parts)
{
    Operand from[2], to[2];
    append_operands(b, kernel, from, to);
    parts[0] = emit_kernel(e, name);
    Val segments = CONTEXT_PTR(e, emit_param(e, KERNEL_CONTEXT), segments);
    Val segment = ll_at(e, segments, ll_mul(e, emit_param(e, KERNEL_TASK), ll_i64(e, (int64_t)sizeof(LrtSegment))));
    Val start = segment_field(e, segment, offsetof(LrtSegment, start));
    Val length = segment_field(e, segment, offsetof(LrtSegment, length));
    Val first = ll_add(e, segment_field(e, segment, offsetof(LrtSegment, key_start)),
                       segment_field(e, segment, offsetof(LrtSegment, past)));
    Loop rows = loop_begin(e, ll_i64(e, 0), length, ll_i64(e, 1), NULL, 0, false);
    for (int i = 0; i < 2; i++) {
        Val source = ll_at(e, operand_pointer(e, from[i]),
                           ll_mul(e, ll_add(e, start, rows.index), ll_i64(e, from[i].pitch)));
        Val target = ll_at(e, operand_pointer(e, to[i]), ll_mul(e, ll_add(e, first, rows.index), ll_i64(e, to[i].pitch)));
        Loop columns = loop_begin(e, ll_i64(e, 0), ll_i64(e, node_columns(kernel->anchor->inputs[1 + i]) * 4),
                                  ll_i64(e, LANES * 4), NULL, 0, true);
        ll_store(e, ll_load(e, e->t_vec, ll_at(e, source, columns.index), 4), ll_at(e, target, columns.index), 4);
        loop_end(e, &columns, NULL, NULL);
    }
    loop_end(e, &rows, NULL, NULL);
    emit_return(e);
}

static Val append_tasks(Emit *e, Binding *b, const Kernel *kernel, Val context, Val rows, int part)
{
    (void)part, (void)b, (void)kernel, (void)rows;
    return CONTEXT_I64(e, context, n_segments);
}

const KernelCode code_append = {bind_append, emit_append, append_tasks, NULL};

/* --- gradient of a table ----------------------------------------------------------------------------------------------------- */

/* Into a parameter's gradient, or the gradient of a table that is computed. */
static Operand scatter_target(Binding *b, const Kernel *kernel)
{
    return kernel->gradient ? bind_gradient(b, kernel->gradient) : bind_buffer(b, b->schedule->buffer_of[kernel->anchor->id]);
}

/* Task = 16 columns of the table: all tokens in order, so the sum's order does not depend on threads. */
static void bind_scatter(Binding *b, const Kernel *kernel)
{
    const Node *node = kernel->anchor;
    bind_note(b, "scatter %lld %s %lld", (long long)kernel->width, op_info[node->inputs[1]->op].text,
              kernel->gradient ? 0LL : (long long)node->type.dim[0]);
    bind_rows(b, node->inputs[0]);
    bind_expression(b, node->inputs[1]);
    scatter_target(b, kernel);
}

/* The columns of all rows of a table that is computed, before anything is added. */
static void clear_columns(Emit *e, Operand to, int64_t rows, Val column)
{
    Loop loop = loop_begin(e, ll_i64(e, 0), ll_i64(e, rows), ll_i64(e, 1), NULL, 0, false);
    Val at = ll_at(e, operand_pointer(e, to), ll_mul(e, loop.index, ll_i64(e, to.pitch)));
    ll_store(e, ll_vec(e, 0), ll_at(e, at, ll_mul(e, column, ll_i64(e, 4))), 4);
    loop_end(e, &loop, NULL, NULL);
}

static void add_to_panels(Emit *e, const Stored *stored, Val gradient, Val index, Val column, Val value)
{
    Val panel = ll_div(e, index, ll_i64(e, LANES)), lane = ll_rem(e, index, ll_i64(e, LANES));
    Val at = ll_at(e, gradient, ll_mul(e, panel, ll_i64(e, stored->rows * LANES * 4)));
    at = ll_at(e, at, ll_mul(e, lane, ll_i64(e, 4)));
    for (int i = 0; i < LANES; i++) {
        Val k = ll_add(e, column, ll_i64(e, i));
        If inside = if_begin(e, LLVMBuildICmp(e->builder, LLVMIntSLT, k, ll_i64(e, stored->rows), ""));
        Val place = ll_at(e, at, ll_mul(e, k, ll_i64(e, LANES * 4)));
        Val element = LLVMBuildExtractElement(e->builder, value, ll_i32(e, i), "");
        ll_store(e, ll_fadd(e, ll_load(e, e->t_f32, place, 4), element), place, 4);
        if_end(e, &inside);
    }
}

static void emit_scatter(Emit *e, Binding *b, const Kernel *kernel, const char *name, Val *parts)
{
    const Stored *stored = kernel->gradient ? &b->schedule->stored[kernel->gradient->index] : NULL;
    Operand from = bind_rows(b, kernel->anchor->inputs[0]), to = scatter_target(b, kernel);
    Expr *x = vexpr_new(e->arena, e, b);
    parts[0] = emit_kernel(e, name);
    Val column = ll_mul(e, emit_param(e, KERNEL_TASK), ll_i64(e, LANES));
    Val gradient = operand_pointer(e, to);
    Val left = LLVMBuildTrunc(e->builder, ll_sub(e, ll_i64(e, kernel->width), column), e->t_i32, "");
    Val mask = LLVMBuildICmp(e->builder, LLVMIntSLT, ll_lanes(e), ll_splat(e, left), "");
    if (!stored)
        clear_columns(e, to, kernel->anchor->type.dim[0], column);
    Loop rows = loop_begin(e, ll_i64(e, 0), kernel_rows(e, kernel, emit_param(e, KERNEL_CONTEXT)), ll_i64(e, 1), NULL,
                           0, false);
    vexpr_row(x, rows.index);
    Val index = LLVMBuildExtractElement(e->builder, vexpr_value(x, kernel->anchor->inputs[1], column), ll_i32(e, 0), "");
    index = LLVMBuildSExt(e->builder, index, e->t_i64, "");
    Val source = ll_at(e, operand_pointer(e, from), ll_mul(e, rows.index, ll_i64(e, from.pitch)));
    Val value = ll_load(e, e->t_vec, ll_at(e, source, ll_mul(e, column, ll_i64(e, 4))), 4);
    value = ll_select(e, mask, value, ll_vec(e, 0));
    If known = if_begin(e, ll_is_row(e, index, kernel->anchor->type.dim[0]));
    if (kernel->anchor->type.rank == 1) {
        Val at = ll_at(e, gradient, ll_mul(e, index, ll_i64(e, 4))), one = LLVMBuildExtractElement(e->builder, value, ll_i32(e, 0), "");
        ll_store(e, ll_fadd(e, ll_load(e, e->t_f32, at, 4), one), at, 4);
    } else if (!stored || stored->layout == STORED_ROWS) {
        Val at = ll_at(e, gradient, ll_mul(e, index, ll_i64(e, to.pitch)));
        at = ll_at(e, at, ll_mul(e, column, ll_i64(e, 4)));
        ll_store(e, ll_fadd(e, ll_load(e, e->t_vec, at, 4), value), at, 4);
    } else {
        add_to_panels(e, stored, gradient, index, column, value);
    }
    if_end(e, &known);
    loop_end(e, &rows, NULL, NULL);
    emit_return(e);
}

static Val scatter_tasks(Emit *e, Binding *b, const Kernel *kernel, Val context, Val rows, int part)
{
    (void)part, (void)b, (void)context, (void)rows;
    return ll_i64(e, (kernel->width + LANES - 1) / LANES);
}

const KernelCode code_scatter = {bind_scatter, emit_scatter, scatter_tasks, NULL};

/* --- dropout ------------------------------------------------------------------------------------------------------------------- */

static Val xor_shift(Emit *e, Val x, Val shift)
{
    return LLVMBuildXor(e->builder, x, LLVMBuildLShr(e->builder, x, shift, ""), "");
}

static Val mix64(Emit *e, Val x)
{
    x = ll_mul(e, xor_shift(e, x, ll_i64(e, 30)), ll_i64(e, (int64_t)0xbf58476d1ce4e5b9u));
    x = ll_mul(e, xor_shift(e, x, ll_i64(e, 27)), ll_i64(e, (int64_t)0x94d049bb133111ebu));
    return xor_shift(e, x, ll_i64(e, 31));
}

static Val mix32(Emit *e, Val x)
{
    x = ll_mul(e, xor_shift(e, x, ll_ivec(e, DROPOUT_SHIFT_1)), ll_ivec(e, (int32_t)DROPOUT_MUL_1));
    x = ll_mul(e, xor_shift(e, x, ll_ivec(e, DROPOUT_SHIFT_2)), ll_ivec(e, (int32_t)DROPOUT_MUL_2));
    return xor_shift(e, x, ll_ivec(e, DROPOUT_SHIFT_3));
}

/* The key of ir/dropout.h for the current row. */
static Val dropout_row_key(Expr *x, const Node *node)
{
    Emit *e = x->e;
    Val context = emit_param(e, KERNEL_CONTEXT);
    Val at = ll_mul(e, x->row, ll_i64(e, 8));
    Val sequence = ll_load(e, e->t_i64, ll_at(e, CONTEXT_PTR(e, context, sequences), at), 8);
    at = ll_mul(e, x->row, ll_i64(e, 4));
    Val position = ll_load(e, e->t_i32, ll_at(e, CONTEXT_PTR(e, context, positions), at), 4);
    position = LLVMBuildSExt(e->builder, position, e->t_i64, "");
    Val site = record_word(e, x->binding->operand[node->id]);
    Val words[] = {CONTEXT_I64(e, context, step), sequence, site, position};
    Val key = mix64(e, ll_add(e, CONTEXT_I64(e, context, seed), ll_i64(e, (int64_t)0x9e3779b97f4a7c15u)));
    for (int i = 0; i < 4; i++)
        key = mix64(e, LLVMBuildXor(e->builder, key, words[i], ""));
    return key;
}

Val emit_dropout(Expr *x, const Node *node, Val value, Val column)
{
    Emit *e = x->e;
    Val key = dropout_row_key(x, node);
    Val low = ll_splat(e, LLVMBuildTrunc(e->builder, key, e->t_i32, ""));
    Val high = LLVMBuildLShr(e->builder, key, ll_i64(e, 32), "");
    high = ll_splat(e, LLVMBuildTrunc(e->builder, high, e->t_i32, ""));
    Val feature = ll_add(e, ll_splat(e, LLVMBuildTrunc(e->builder, column, e->t_i32, "")), ll_lanes(e));
    Val number = mix32(e, LLVMBuildXor(e->builder, feature, low, ""));
    number = mix32(e, LLVMBuildXor(e->builder, number, high, ""));
    int64_t threshold = (int64_t)ceil(node->attrs.rate * 4294967296.0);
    Val keep = LLVMBuildICmp(e->builder, LLVMIntUGE, number, ll_ivec(e, (int32_t)(uint32_t)threshold), "");
    Val scaled = ll_fmul(e, value, ll_vec(e, 1 / (1 - node->attrs.rate)));
    Val training = CONTEXT_I32(e, emit_param(e, KERNEL_CONTEXT), training);
    Val off = ll_splat(e, LLVMBuildICmp(e->builder, LLVMIntEQ, training, ll_i32(e, 0), ""));
    return ll_select(e, off, value, ll_select(e, keep, scaled, ll_vec(e, 0)));
}
