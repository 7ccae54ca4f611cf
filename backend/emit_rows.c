/* emit_rows.c - one pass per row: any chain of element-wise ops and reductions over the last axis.
 *
 * A value's level is the number of reductions it waits for.  For each level there is one loop over the columns, 16 at a time, that
 * stores the level's values and feeds the next reductions; what comes before is computed again, from the first-level cache.
 * A reduction keeps 16 partial results, of columns i, i + 16, ..., and ends with one fixed tree: the same bits on every tier. */
#include "backend/emit_rows.h"

#include <math.h>
#include <string.h>

#include "ir/diag.h"

enum { REDUCTIONS_MAX = 32, BLOCK_BYTES = 65536 };

Val kernel_rows(Emit *e, const Kernel *kernel, Val context)
{
    return ll_rows(e, context, kernel->row_dim);
}

int64_t block_rows(int64_t width)
{
    int64_t rows = BLOCK_BYTES / (width * 4);
    return rows < 1 ? 1 : rows > 256 ? 256 : rows;
}

Loop begin_row_block(Emit *e, const Kernel *kernel, int64_t block)
{
    Val first = ll_mul(e, emit_param(e, KERNEL_TASK), ll_i64(e, block));
    Val rows = kernel_rows(e, kernel, emit_param(e, KERNEL_CONTEXT));
    Val last = ll_min(e, ll_add(e, first, ll_i64(e, block)), rows);
    return loop_begin(e, first, last, ll_i64(e, 1), NULL, 0, false);
}

Val block_tasks(Emit *e, Val rows, int64_t block)
{
    return ll_ceil_div(e, rows, ll_i64(e, block));
}

static void bind_rows_kernel(Binding *b, const Kernel *kernel)
{
    bind_note(b, "rows %lld %lld", (long long)kernel->row_dim, (long long)kernel->width);
    for (int i = 0; i < kernel->output_count; i++) {
        bind_note(b, ";");
        bind_buffer(b, b->schedule->buffer_of[kernel->outputs[i]->id]);
        bind_expression(b, kernel->outputs[i]);
    }
}

/* --- levels -------------------------------------------------------------------------------------------------------- */

typedef struct Rows {
    Emit *e;
    Expr *x;
    Binding *b;
    const Kernel *kernel;
    int *level, *mark; /* by node id */
    const Node *reductions[REDUCTIONS_MAX];
    int reduction_count;
    Val accumulators[REDUCTIONS_MAX];
} Rows;

static bool is_reduction(const Node *node)
{
    return op_info[node->op].class == OC_REDUCE;
}

/* Also collects the reductions that are computed here. */
static int find_level(Rows *r, const Node *node)
{
    if (r->mark[node->id])
        return r->level[node->id];
    r->mark[node->id] = 1;
    if (r->b->schedule->buffer_of[node->id] && !is_own(r->kernel, node))
        return 0;
    int level = 0;
    if (!(op_info[node->op].traits & TRAIT_MOVES))
        for (int i = 0; i < node->input_count; i++) {
            int below = find_level(r, node->inputs[i]);
            level = below > level ? below : level;
        }
    if (is_reduction(node)) {
        if (r->reduction_count == REDUCTIONS_MAX)
            ice("more than %d reductions in one kernel", REDUCTIONS_MAX);
        r->reductions[r->reduction_count++] = node;
        level++;
    }
    return r->level[node->id] = level;
}

static Val neutral(Emit *e, const Node *reduction)
{
    return ll_vec(e, reduction->op == OP_MAX ? -(double)INFINITY : 0);
}

/* --- one loop over the columns ------------------------------------------------------------------------------------- */

static Val combine(Emit *e, const Node *reduction, Val accumulator, Val value)
{
    return reduction->op == OP_MAX ? ll_fmax(e, value, accumulator) : ll_fadd(e, accumulator, value);
}

static bool stores_columns(const Rows *r, const Node *output, int level)
{
    return node_columns(output) > 1 && r->level[output->id] == level;
}

/* Columns column .. + 15 of everything on this level; `valid` < 16: only the first lanes count in reductions. */
static void emit_chunk(Rows *r, int level, Val column, int valid, Val *accumulators)
{
    Emit *e = r->e;
    vexpr_chunk(r->x);
    Val mask = NULL;
    if (valid < LANES)
        mask = LLVMBuildICmp(e->builder, LLVMIntSLT, ll_lanes(e), ll_ivec(e, valid), "");
    for (int i = 0, k = 0; i < r->reduction_count; i++) {
        const Node *reduction = r->reductions[i];
        if (r->level[reduction->id] != level + 1)
            continue;
        Val value = vexpr_value(r->x, reduction->inputs[0], column);
        if (mask)
            value = ll_select(e, mask, value, neutral(e, reduction));
        accumulators[k] = combine(e, reduction, accumulators[k], value);
        k++;
    }
    for (int i = 0; i < r->kernel->output_count; i++) {
        const Node *output = r->kernel->outputs[i];
        if (!stores_columns(r, output, level))
            continue;
        vexpr_store(r->x, output, bind_buffer(r->b, r->b->schedule->buffer_of[output->id]), column);
    }
}

static bool has_work(const Rows *r, int level)
{
    for (int i = 0; i < r->reduction_count; i++)
        if (r->level[r->reductions[i]->id] == level + 1)
            return true;
    for (int i = 0; i < r->kernel->output_count; i++)
        if (stores_columns(r, r->kernel->outputs[i], level))
            return true;
    return false;
}

static void hoist_level(Rows *r, int level)
{
    for (int i = 0; i < r->reduction_count; i++)
        if (r->level[r->reductions[i]->id] == level + 1)
            vexpr_hoist(r->x, r->reductions[i]->inputs[0]);
    for (int i = 0; i < r->kernel->output_count; i++)
        if (stores_columns(r, r->kernel->outputs[i], level))
            for (int k = 0; k < r->kernel->outputs[i]->input_count; k++)
                vexpr_hoist(r->x, r->kernel->outputs[i]->inputs[k]);
}

static void emit_level(Rows *r, int level)
{
    Emit *e = r->e;
    Val initial[REDUCTIONS_MAX], accumulators[REDUCTIONS_MAX];
    int count = 0;
    hoist_level(r, level);
    for (int i = 0; i < r->reduction_count; i++)
        if (r->level[r->reductions[i]->id] == level + 1)
            initial[count++] = neutral(e, r->reductions[i]);
    int64_t full = r->kernel->width / LANES * LANES;
    memcpy(accumulators, initial, sizeof(Val) * (size_t)count);
    if (full) {
        Loop loop = loop_begin(e, ll_i64(e, 0), ll_i64(e, full), ll_i64(e, LANES), initial, count, true);
        memcpy(accumulators, loop.carried, sizeof(Val) * (size_t)count);
        emit_chunk(r, level, loop.index, LANES, accumulators);
        loop_end(e, &loop, accumulators, accumulators);
    }
    if (r->kernel->width > full)
        emit_chunk(r, level, ll_i64(e, full), (int)(r->kernel->width - full), accumulators);
    for (int i = 0, k = 0; i < r->reduction_count; i++) {
        const Node *reduction = r->reductions[i];
        if (r->level[reduction->id] != level + 1)
            continue;
        Val total = reduction->op == OP_MAX ? ll_reduce_max(e, accumulators[k]) : ll_reduce_add(e, accumulators[k]);
        vexpr_set_row(r->x, reduction, ll_splat(e, total));
        k++;
    }
}

/* Values of one column an output has, once all reductions are done. */
static void store_scalars(Rows *r)
{
    Emit *e = r->e;
    for (int i = 0; i < r->kernel->output_count; i++) {
        const Node *output = r->kernel->outputs[i];
        if (node_columns(output) > 1)
            continue;
        vexpr_hoist(r->x, output);
        vexpr_store(r->x, output, bind_buffer(r->b, r->b->schedule->buffer_of[output->id]), ll_i64(e, 0));
    }
}

static void emit_rows_kernel(Emit *e, Binding *b, const Kernel *kernel, const char *name, Val *parts)
{
    int nodes = b->schedule->graph->node_count;
    Rows r = {.e = e, .b = b, .kernel = kernel, .x = vexpr_new(e->arena, e, b)};
    r.level = ARENA_ARRAY(e->arena, int, nodes);
    r.mark = ARENA_ARRAY(e->arena, int, nodes);
    int levels = 0;
    for (int i = 0; i < kernel->output_count; i++) {
        int level = find_level(&r, kernel->outputs[i]);
        levels = level > levels ? level : levels;
    }
    parts[0] = emit_kernel(e, name);
    Loop rows = begin_row_block(e, kernel, block_rows(kernel->width));
    vexpr_row(r.x, rows.index);
    for (int level = 0; level <= levels; level++)
        if (has_work(&r, level))
            emit_level(&r, level);
    store_scalars(&r);
    loop_end(e, &rows, NULL, NULL);
    emit_return(e);
}

static Val rows_tasks(Emit *e, Binding *b, const Kernel *kernel, Val context, Val rows, int part)
{
    (void)part, (void)b, (void)context;
    return block_tasks(e, rows, block_rows(kernel->width));
}

const KernelCode code_rows = {bind_rows_kernel, emit_rows_kernel, rows_tasks, NULL};

/* --- sums over tokens ------------------------------------------------------------------------------------------------ */

/* Gradient of a vector: chunks of 256 rows, each summed in order, combined by a binary tree over the global row index: a
 * stack holds the partial sums of complete subtrees, as a binary counter does. */
enum { SUM_ROWS = 256, SUM_LEVELS = 40 };

static void bind_column_sum(Binding *b, const Kernel *kernel)
{
    bind_note(b, "column_sum %lld %lld", (long long)kernel->row_dim, (long long)kernel->width);
    if (kernel->gradient)
        bind_gradient(b, kernel->gradient);
    else
        bind_buffer(b, b->schedule->buffer_of[kernel->anchor->id]);
    bind_expression(b, kernel->anchor->inputs[0]);
}

static Val stack_at(Emit *e, Val level)
{
    return ll_at(e, emit_param(e, KERNEL_SCRATCH), ll_mul(e, level, ll_i64(e, LANES * 4)));
}

/* Adds a finished chunk to the stack: as many merges as the chunk's number has trailing ones. */
static void push_chunk(Emit *e, Val number, Val sum)
{
    Val inverted = LLVMBuildNot(e->builder, number, "");
    Val ones = ll_intrinsic(e, "llvm.cttz", &e->t_i64, 1, (Val[]){inverted, LLVMConstInt(e->t_i1, 1, 0)}, 2);
    Loop loop = loop_begin(e, ll_i64(e, 0), ones, ll_i64(e, 1), &sum, 1, false);
    Val merged = ll_fadd(e, ll_load(e, e->t_vec, stack_at(e, loop.index), 64), loop.carried[0]), out;
    loop_end(e, &loop, &merged, &out);
    ll_store(e, out, stack_at(e, ones), 64);
}

/* The total of `chunks` chunks: the subtrees that are left, from the smallest up. */
static Val fold_stack(Emit *e, Val chunks)
{
    Val zero = ll_vec(e, 0);
    Loop loop = loop_begin(e, ll_i64(e, 0), ll_i64(e, SUM_LEVELS), ll_i64(e, 1), &zero, 1, true);
    Val bit = LLVMBuildAnd(e->builder, LLVMBuildLShr(e->builder, chunks, loop.index, ""), ll_i64(e, 1), "");
    Val part = ll_load(e, e->t_vec, stack_at(e, loop.index), 64);
    Val present = LLVMBuildICmp(e->builder, LLVMIntNE, bit, ll_i64(e, 0), "");
    Val next = ll_select(e, present, ll_fadd(e, part, loop.carried[0]), loop.carried[0]), out;
    loop_end(e, &loop, &next, &out);
    return out;
}

static void emit_column_sum(Emit *e, Binding *b, const Kernel *kernel, const char *name, Val *parts)
{
    Expr *x = vexpr_new(e->arena, e, b);
    parts[0] = emit_kernel(e, name);
    Val column = ll_mul(e, emit_param(e, KERNEL_TASK), ll_i64(e, LANES));
    Val rows = kernel_rows(e, kernel, emit_param(e, KERNEL_CONTEXT));
    Val chunks = ll_ceil_div(e, rows, ll_i64(e, SUM_ROWS));
    Loop outer = loop_begin(e, ll_i64(e, 0), chunks, ll_i64(e, 1), NULL, 0, false);
    Val first = ll_mul(e, outer.index, ll_i64(e, SUM_ROWS));
    Val last = ll_min(e, ll_add(e, first, ll_i64(e, SUM_ROWS)), rows);
    Val zero = ll_vec(e, 0), sum;
    Loop inner = loop_begin(e, first, last, ll_i64(e, 1), &zero, 1, true);
    vexpr_row(x, inner.index);
    Val next = ll_fadd(e, inner.carried[0], vexpr_value(x, kernel->anchor->inputs[0], column));
    loop_end(e, &inner, &next, &sum);
    push_chunk(e, outer.index, sum);
    loop_end(e, &outer, NULL, NULL);
    Val total = fold_stack(e, chunks);
    /* Padding columns of a gradient stay zero. */
    Val left = LLVMBuildTrunc(e->builder, ll_sub(e, ll_i64(e, kernel->width), column), e->t_i32, "");
    Val mask = LLVMBuildICmp(e->builder, LLVMIntSLT, ll_lanes(e), ll_splat(e, left), "");
    total = ll_select(e, mask, total, ll_vec(e, 0));
    Operand to = kernel->gradient ? bind_gradient(b, kernel->gradient) : bind_buffer(b, b->schedule->buffer_of[kernel->anchor->id]);
    Val at = ll_at(e, operand_pointer(e, to), ll_mul(e, column, ll_i64(e, 4)));
    ll_store(e, kernel->gradient ? ll_fadd(e, ll_load(e, e->t_vec, at, 64), total) : total, at, 64);
    emit_return(e);
}

static Val column_sum_tasks(Emit *e, Binding *b, const Kernel *kernel, Val context, Val rows, int part)
{
    (void)part, (void)b, (void)context, (void)rows;
    return ll_i64(e, (kernel->width + LANES - 1) / LANES);
}

static int64_t column_sum_scratch(Binding *b, const Kernel *kernel)
{
    (void)b, (void)kernel;
    return SUM_LEVELS * LANES * 4;
}

const KernelCode code_column_sum = {bind_column_sum, emit_column_sum, column_sum_tasks, column_sum_scratch};
