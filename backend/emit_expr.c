/* emit_expr.c - see emit_expr.h. */
#include "backend/emit_expr.h"

#include <math.h>
#include <string.h>

#include "backend/emit_block.h"
#include "backend/emit_panel.h"
#include "ir/diag.h"

Expr *vexpr_new(Arena *arena, Emit *e, Binding *binding)
{
    int nodes = binding->schedule->graph->node_count;
    Expr *x = ARENA_NEW(arena, Expr);
    x->e = e;
    x->binding = binding;
    x->row_value = ARENA_ARRAY(arena, Val, nodes);
    x->chunk_value = ARENA_ARRAY(arena, Val, nodes);
    x->chunk_column = ARENA_ARRAY(arena, Val, nodes);
    x->row_mark = ARENA_ARRAY(arena, int, nodes);
    x->chunk_mark = ARENA_ARRAY(arena, int, nodes);
    x->hoist_mark = ARENA_ARRAY(arena, int, nodes);
    return x;
}

void vexpr_row(Expr *x, Val row)
{
    x->row = row;
    x->row_generation++;
    x->chunk_generation++;
}

void vexpr_chunk(Expr *x)
{
    x->chunk_generation++;
}

void vexpr_set_row(Expr *x, const Node *node, Val value)
{
    x->row_value[node->id] = value;
    x->row_mark[node->id] = x->row_generation;
}

static Val context_row(Expr *x, size_t field)
{
    Emit *e = x->e;
    Val array = context_load(e, emit_param(e, KERNEL_CONTEXT), field, e->t_ptr);
    Val at = ll_at(e, array, ll_mul(e, x->row, ll_i64(e, 4)));
    return ll_load(e, e->t_i32, at, 4);
}

static Val input_value(Expr *x, const Node *node)
{
    Emit *e = x->e;
    const char *name = node->attrs.name;
    if (node->op == OP_POSITIONS && dim_is_fixed(node->type.dim[0]))
        return ll_splat(e, LLVMBuildTrunc(e->builder, x->row, e->t_i32, ""));
    if (node->op == OP_ROW && x->position)
        return ll_splat(e, LLVMBuildTrunc(e->builder, x->position, e->t_i32, ""));
    if (node->op == OP_POSITIONS || node->op == OP_ROW)
        return ll_splat(e, context_row(x, offsetof(LrtContext, positions)));
    static const struct {
        const char *name;
        size_t field;
    } arrays[] = {{"tokens", offsetof(LrtContext, tokens)}, {"targets", offsetof(LrtContext, targets)},
                  {"types", offsetof(LrtContext, types)}, {"virtual", offsetof(LrtContext, virtual_tokens)}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (!strcmp(name, arrays[i].name))
            return ll_splat(e, context_row(x, arrays[i].field));
    if (!strcmp(name, "labels") && node->type.dtype == DT_F32)
        return ll_splat(e, LLVMBuildBitCast(e->builder, context_row(x, offsetof(LrtContext, values)), e->t_f32, ""));
    if (!strcmp(name, "labels"))
        return ll_splat(e, context_row(x, node->type.dim[0] == DIM_Q ? offsetof(LrtContext, labels) : offsetof(LrtContext, targets)));
    if (!strcmp(name, "loss_scale"))
        return ll_splat(e, CONTEXT_F32(e, emit_param(e, KERNEL_CONTEXT), loss_scale));
    ice("no kernel knows the input '%s'", name);
}

/* Row `index` (i64) of what lies at an operand, from `column`. */
static Val load_columns(Expr *x, Operand operand, Val index, Val column, bool one_column)
{
    Emit *e = x->e;
    Val row = ll_at(e, operand_pointer(e, operand), ll_mul(e, index, ll_i64(e, operand.pitch)));
    if (one_column)
        return ll_splat(e, ll_load(e, e->t_f32, row, 4));
    return ll_load(e, e->t_vec, ll_at(e, row, ll_mul(e, column, ll_i64(e, 4))), 4);
}

static const Node *skip_views(const Node *node)
{
    while (node->op == OP_SITE || node->op == OP_RESHAPE)
        node = node->inputs[0];
    return node;
}

/* Where an operand lies that is read at other places than the value's own. */
static Operand memory_of(Expr *x, const Node *node)
{
    node = skip_views(node);
    if (node->op != OP_PARAM && node->op != OP_TABLE && !x->binding->schedule->buffer_of[node->id])
        ice("'%s' is not in memory", op_info[node->op].text);
    return x->binding->operand[node->id];
}

/* 16 elements from `column` of row `index` of a table that is stored as panels of its transpose. */
static Val lookup_panels(Expr *x, Operand operand, const Stored *stored, Val index, Val column)
{
    Emit *e = x->e;
    Val number = ll_div(e, index, ll_i64(e, LANES)), lane = ll_rem(e, index, ll_i64(e, LANES));
    Val panel = ll_at(e, operand_pointer(e, operand), ll_mul(e, number, ll_i64(e, panel_bytes(stored->store, stored->rows))));
    return panel_column(e, stored->store, stored->rows, panel, lane, column);
}

/* 16 elements of a row that there is. */
static Val lookup_row(Expr *x, const Node *node, Val index, Val column)
{
    Emit *e = x->e;
    const Node *table = skip_views(node->inputs[0]);
    Operand operand = memory_of(x, table);
    const Stored *stored = table->op == OP_PARAM ? &x->binding->schedule->stored[table->param->index] : NULL;
    if (table->type.rank == 1) {
        Val at = ll_at(e, operand_pointer(e, operand), ll_mul(e, index, ll_i64(e, 4)));
        return ll_splat(e, ll_load(e, e->t_f32, at, 4));
    }
    if (!stored || stored->layout == STORED_ROWS)
        return load_columns(x, operand, index, column, node_columns(node) == 1);
    if (!stored->flipped && stored->store != LRT_STORE_F32)
        ice("lookup in the rows of panels that are not f32");
    if (!stored->flipped) {
        Val panel = ll_mul(e, ll_div(e, column, ll_i64(e, LANES)), ll_i64(e, panel_bytes(stored->store, stored->rows)));
        Val at = ll_at(e, ll_at(e, operand_pointer(e, operand), panel), ll_mul(e, index, ll_i64(e, LANES * 4)));
        return ll_load(e, e->t_vec, at, 64);
    }
    return lookup_panels(x, operand, stored, index, column);
}

/* NaN where there is no such row. */
static Val lookup(Expr *x, const Node *node, Val column)
{
    Emit *e = x->e;
    Val index = LLVMBuildExtractElement(e->builder, vexpr_value(x, node->inputs[1], column), ll_i32(e, 0), "");
    index = LLVMBuildSExt(e->builder, index, e->t_i64, "");
    Val known = ll_is_row(e, index, node->inputs[0]->type.dim[0]);
    Val row = lookup_row(x, node, ll_select(e, known, index, ll_i64(e, 0)), column);
    return ll_select(e, ll_splat(e, known), row, ll_vec(e, NAN));
}

static Val vector_param(Expr *x, const Node *node, Val column)
{
    Emit *e = x->e;
    const Stored *stored = &x->binding->schedule->stored[node->param->index];
    Val at = operand_pointer(e, x->binding->operand[node->id]);
    if (stored->layout != STORED_VECTOR)
        ice("matrix '%s' used element by element", node->param->name);
    if (stored->columns == 1)
        return ll_splat(e, ll_load(e, e->t_f32, at, 4));
    return ll_load(e, e->t_vec, ll_at(e, at, ll_mul(e, column, ll_i64(e, 4))), 4);
}

/* A vector of numbers; among the scores of attention one number, that of the head. */
static Val vector_table(Expr *x, const Node *node, Val column)
{
    Emit *e = x->e;
    const Type *type = &node->type;
    if (!x->head && type->rank == 2 && type->dim[0] > 1)
        ice("matrix of numbers used element by element");
    bool one = x->head || type->dim[type->rank - 1] == 1;
    Val number = x->head ? x->head : one ? ll_i64(e, 0) : column;
    Val at = ll_at(e, operand_pointer(e, x->binding->operand[node->id]), ll_mul(e, number, ll_i64(e, 4)));
    return one ? ll_splat(e, ll_load(e, e->t_f32, at, 4)) : ll_load(e, e->t_vec, at, 4);
}

/* The row of a sequence's first (last) token; of a gradient: what stands at that token, zero at the others. */
static Val token_row(Expr *x, const Node *node, Val column)
{
    Emit *e = x->e;
    const Node *source = skip_views(node->inputs[0]);
    bool gradient = node->op == OP_TOKEN_ROW_GRAD;
    Val sequence = gradient ? LLVMBuildSExt(e->builder, context_row(x, offsetof(LrtContext, segment_of)), e->t_i64, "") : x->row;
    Val segment = ll_at(e, CONTEXT_PTR(e, emit_param(e, KERNEL_CONTEXT), segments), ll_mul(e, sequence, ll_i64(e, sizeof(LrtSegment))));
    Val token = ll_load(e, e->t_i32, ll_at_const(e, segment, offsetof(LrtSegment, start)), 4);
    if (node->attrs.index < 0) {
        Val length = ll_load(e, e->t_i32, ll_at_const(e, segment, offsetof(LrtSegment, length)), 4);
        token = ll_sub(e, ll_add(e, token, length), ll_i32(e, 1));
    }
    token = LLVMBuildSExt(e->builder, token, e->t_i64, "");
    bool one_column = node_columns(node) == 1;
    Val value = load_columns(x, memory_of(x, source), gradient ? sequence : token, column, one_column);
    if (!gradient)
        return value;
    Val here = ll_splat(e, LLVMBuildICmp(e->builder, LLVMIntEQ, token, x->row, ""));
    return ll_select(e, here, value, ll_vec(e, 0));
}

static Val row_at(Expr *x, Operand operand)
{
    return ll_at(x->e, operand_pointer(x->e, operand), ll_mul(x->e, x->row, ll_i64(x->e, operand.pitch)));
}

/* 16 floats of a row at these columns (i32 lanes); zero where the mask is not. */
static Val load_at_columns(Expr *x, Val row, Val columns, Val mask)
{
    Emit *e = x->e;
    Val pointers = LLVMBuildGEP2(e->builder, e->t_f32, row, &columns, 1, "");
    LLVMTypeRef overloads[] = {e->t_vec, LLVMVectorType(e->t_ptr, LANES)};
    return ll_intrinsic(e, "llvm.masked.gather", overloads, 2, (Val[]){pointers, ll_i32(e, 4), mask, ll_vec(e, 0)}, 4);
}

/* The columns column .. + 15 as i32 lanes, and which of them are below `columns`. */
static Val lanes_at(Emit *e, Val column, int64_t columns, Val *real)
{
    Val lanes = ll_add(e, ll_splat(e, LLVMBuildTrunc(e->builder, column, e->t_i32, "")), ll_lanes(e));
    *real = LLVMBuildICmp(e->builder, LLVMIntSLT, lanes, ll_ivec(e, columns), "");
    return lanes;
}

/* Columns of each head: a part of them (slice), or the operand's with zeros around (pad).  Whole vectors where heads allow it. */
static Val head_columns(Expr *x, const Node *node, Val column)
{
    Emit *e = x->e;
    const Node *source = skip_views(node->inputs[0]);
    Operand operand = memory_of(x, source);
    bool slice = node->op == OP_HEAD_SLICE;
    int64_t heads = node->attrs.heads, start = node->attrs.start, out = node->type.dim[1] / heads, in = source->type.dim[1] / heads;
    bool whole = out % LANES == 0 && in % LANES == 0 && start % LANES == 0;
    Val real, lanes = lanes_at(e, column, node->type.dim[1], &real);
    Val c = whole ? column : lanes;
    Val size = whole ? ll_i64(e, out) : ll_ivec(e, out), width = whole ? ll_i64(e, in) : ll_ivec(e, in);
    Val first = whole ? ll_i64(e, start) : ll_ivec(e, start);
    Val head = ll_div(e, c, size), place = ll_rem(e, c, size);
    place = slice ? ll_add(e, place, first) : ll_sub(e, place, first);
    Val inside = LLVMBuildAnd(e->builder, LLVMBuildICmp(e->builder, LLVMIntSLT, place, width, ""),
                              LLVMBuildICmp(e->builder, LLVMIntSGE, place, whole ? ll_i64(e, 0) : ll_ivec(e, 0), ""), "");
    Val from = ll_add(e, ll_mul(e, head, width), place);
    if (!whole)
        return load_at_columns(x, row_at(x, operand), from, LLVMBuildAnd(e->builder, inside, real, ""));
    Val value = load_columns(x, operand, x->row, ll_select(e, inside, from, ll_i64(e, 0)), false);
    return slice ? value : ll_select(e, ll_splat(e, inside), value, ll_vec(e, 0));
}

/* A number for each head, the same for all of its columns; a vector [size], the same for all heads. */
static Val for_each_head(Expr *x, const Node *node, Val column)
{
    Emit *e = x->e;
    const Node *source = skip_views(node->inputs[0]);
    bool tile = node->op == OP_HEAD_TILE;
    int64_t size = tile ? source->type.dim[0] : node->attrs.stop, columns = node->type.dim[node->type.rank - 1];
    Operand operand = memory_of(x, source);
    Val row = tile ? operand_pointer(e, operand) : row_at(x, operand), real;
    if (size % LANES == 0) {
        Val at = tile ? ll_rem(e, column, ll_i64(e, size)) : ll_div(e, column, ll_i64(e, size));
        at = ll_at(e, row, ll_mul(e, at, ll_i64(e, 4)));
        return tile ? ll_load(e, e->t_vec, at, 4) : ll_splat(e, ll_load(e, e->t_f32, at, 4));
    }
    Val lanes = lanes_at(e, column, columns, &real);
    Val from = tile ? ll_rem(e, lanes, ll_ivec(e, size)) : ll_div(e, lanes, ll_ivec(e, size));
    return load_at_columns(x, row, from, real);
}

/* Sums of the columns of heads column .. + 15: of each, 16 partial sums, then the one tree. */
static Val sum_of_head(Expr *x, const Node *node, Val column)
{
    Emit *e = x->e;
    const Node *source = skip_views(node->inputs[0]);
    int64_t heads = node->attrs.heads, size = source->type.dim[1] / heads;
    Val row = row_at(x, memory_of(x, source)), sums = ll_vec(e, 0);
    for (int lane = 0; lane < LANES && lane < heads; lane++) {
        Val head = ll_min(e, ll_add(e, column, ll_i64(e, lane)), ll_i64(e, heads - 1));
        Val at = ll_at(e, row, ll_mul(e, head, ll_i64(e, size * 4))), sum = ll_vec(e, 0);
        for (int64_t c = 0; c < size; c += LANES)
            sum = ll_fadd(e, sum, emit_load_lanes(e, ll_at_const(e, at, c * 4), size - c));
        sums = LLVMBuildInsertElement(e->builder, sums, ll_reduce_add(e, sum), ll_i32(e, lane), "");
    }
    return sums;
}

/* Sums over heads, first to last, of their columns column .. + 15. */
static Val sum_over_heads(Expr *x, const Node *node, Val column)
{
    Emit *e = x->e;
    Operand operand = memory_of(x, node->inputs[0]);
    Val sum = ll_vec(e, 0);
    for (int64_t head = 0; head < node->attrs.heads; head++) {
        Val at = ll_add(e, column, ll_i64(e, head * node->type.dim[1]));
        sum = ll_fadd(e, sum, load_columns(x, operand, x->row, at, false));
    }
    return sum;
}

/* The first row of the row's sequence, and how many there are. */
static void sequence_of_row(Expr *x, Val *start, Val *length)
{
    Emit *e = x->e;
    Val sequence = LLVMBuildSExt(e->builder, context_row(x, offsetof(LrtContext, segment_of)), e->t_i64, "");
    Val segment = ll_at(e, CONTEXT_PTR(e, emit_param(e, KERNEL_CONTEXT), segments), ll_mul(e, sequence, ll_i64(e, sizeof(LrtSegment))));
    *start = LLVMBuildSExt(e->builder, ll_load(e, e->t_i32, ll_at_const(e, segment, offsetof(LrtSegment, start)), 4), e->t_i64, "");
    *length = LLVMBuildSExt(e->builder, ll_load(e, e->t_i32, ll_at_const(e, segment, offsetof(LrtSegment, length)), 4), e->t_i64, "");
}

/* Row t of a shifted value is row t - index of its sequence, zero where that is outside. */
static Val shifted_row(Expr *x, const Node *node, Val column)
{
    Emit *e = x->e;
    const Node *source = skip_views(node->inputs[0]);
    Val start, length;
    sequence_of_row(x, &start, &length);
    Val row = ll_sub(e, x->row, ll_i64(e, node->attrs.index));
    Val inside = LLVMBuildAnd(e->builder, LLVMBuildICmp(e->builder, LLVMIntSGE, row, start, ""),
                              LLVMBuildICmp(e->builder, LLVMIntSLT, row, ll_add(e, start, length), ""), "");
    Val value = load_columns(x, memory_of(x, source), ll_select(e, inside, row, x->row), column, node_columns(node) == 1);
    return ll_select(e, ll_splat(e, inside), value, ll_vec(e, 0));
}

/* The sum of the rows of its sequence up to this one, first to last; with `inverse` of those from it on. */
static Val sum_of_rows(Expr *x, const Node *node, Val column)
{
    Emit *e = x->e;
    Operand operand = memory_of(x, node->inputs[0]);
    Val start, length, one = ll_i64(e, 1), zero = ll_vec(e, 0), sum;
    sequence_of_row(x, &start, &length);
    Val from = node->attrs.inverse ? x->row : start, end = node->attrs.inverse ? ll_add(e, start, length) : ll_add(e, x->row, one);
    Loop rows = loop_begin(e, from, end, one, &zero, 1, true);
    Val next = ll_fadd(e, rows.carried[0], load_columns(x, operand, rows.index, column, node_columns(node) == 1));
    loop_end(e, &rows, &next, &sum);
    return sum;
}

static bool has_columns(const Node *node)
{
    if (node->type.rank == 0)
        return false;
    return node_row_dim(node) ? node_columns(node) > 1 : node->type.dim[node->type.rank - 1] != 1;
}

static Val sliced(Expr *x, const Node *node, Val column)
{
    Emit *e = x->e;
    Val start = ll_i64(e, node->attrs.start);
    if (has_columns(node))
        return vexpr_value(x, node->inputs[0], ll_add(e, column, start));
    return ll_splat(e, LLVMBuildExtractElement(e->builder, vexpr_value(x, node->inputs[0], start), ll_i32(e, 0), ""));
}

static Val constant(Emit *e, const Node *node)
{
    if (node->type.dtype == DT_F32)
        return ll_vec(e, node->attrs.value);
    Val whole = ll_ivec(e, (int64_t)node->attrs.value);
    return node->type.dtype == DT_I32 ? whole : LLVMBuildICmp(e->builder, LLVMIntNE, whole, ll_ivec(e, 0), "");
}

static Val compute(Expr *x, const Node *node, Val column)
{
    Emit *e = x->e;
    const Kernel *kernel = x->binding->kernel;
    const Buffer *buffer = x->binding->schedule->buffer_of[node->id];
    if (buffer && !is_own(kernel, node))
        return load_columns(x, x->binding->operand[node->id], buffer->row_dim == 1 ? ll_i64(e, 0) : x->row, column, buffer->columns == 1);
    if (op_info[node->op].class == OC_MAP) {
        Val inputs[4];
        if (node->op == OP_ADD && x->absent) {
            if (node->inputs[0] == x->absent)
                return vexpr_value(x, node->inputs[1], column);
            if (node->inputs[1] == x->absent)
                return vexpr_value(x, node->inputs[0], column);
        }
        for (int i = 0; i < node->input_count; i++)
            inputs[i] = vexpr_value(x, node->inputs[i], column);
        return emit_map(x, node, inputs, column);
    }
    switch (node->op) {
    case OP_CONST:
        return constant(e, node);
    case OP_COL:
        return ll_add(e, ll_splat(e, LLVMBuildTrunc(e->builder, column, e->t_i32, "")), ll_lanes(e));
    case OP_INPUT:
    case OP_ROW:
    case OP_POSITIONS:
        return input_value(x, node);
    case OP_PARAM:
        return vector_param(x, node, column);
    case OP_TABLE:
        return vector_table(x, node, column);
    case OP_BROADCAST:
        return vexpr_value(x, node->inputs[0], column);
    case OP_SLICE:
        return sliced(x, node, column);
    case OP_GATHER:
        return lookup(x, node, column);
    case OP_SELECT_ROWS: {
        Val index = LLVMBuildSExt(e->builder, context_row(x, offsetof(LrtContext, rows)), e->t_i64, "");
        return load_columns(x, memory_of(x, node->inputs[0]), index, column, node_columns(node) == 1);
    }
    case OP_HEAD_SLICE:
    case OP_HEAD_PAD:
        return head_columns(x, node, column);
    case OP_HEAD_TILE:
    case OP_HEAD_SPREAD:
        return for_each_head(x, node, column);
    case OP_HEAD_SUM:
        return sum_of_head(x, node, column);
    case OP_HEAD_FOLD:
        return sum_over_heads(x, node, column);
    case OP_CUMSUM:
        return sum_of_rows(x, node, column);
    case OP_SHIFT:
        return shifted_row(x, node, column);
    case OP_TOKEN_ROW:
    case OP_TOKEN_ROW_GRAD:
        return token_row(x, node, column);
    default:
        ice("'%s' cannot be computed in place", op_info[node->op].text);
    }
}

Val vexpr_value(Expr *x, const Node *node, Val column)
{
    node = skip_views(node);
    if (node == x->accumulator)
        return x->accumulated;
    if (x->row_mark[node->id] == x->row_generation)
        return x->row_value[node->id];
    if (x->chunk_mark[node->id] == x->chunk_generation && x->chunk_column[node->id] == column)
        return x->chunk_value[node->id];
    Val value = compute(x, node, column); /* below a slice the columns are others */
    x->chunk_value[node->id] = value;
    x->chunk_column[node->id] = column;
    x->chunk_mark[node->id] = x->chunk_generation;
    return value;
}

void vexpr_store(Expr *x, const Node *node, Operand to, Val column)
{
    Emit *e = x->e;
    Val value = vexpr_value(x, node, column);
    Val at = ll_at(e, operand_pointer(e, to), ll_mul(e, x->row, ll_i64(e, to.pitch)));
    if (node_columns(node) == 1)
        value = LLVMBuildExtractElement(e->builder, value, ll_i32(e, 0), "");
    ll_store(e, value, ll_at(e, at, ll_mul(e, column, ll_i64(e, 4))), 4);
}

void vexpr_hoist(Expr *x, const Node *node)
{
    node = skip_views(node);
    if (node == x->accumulator || node == x->absent || x->row_mark[node->id] == x->row_generation)
        return;
    if (!has_columns(node)) {
        Val value = vexpr_value(x, node, ll_i64(x->e, 0));
        vexpr_set_row(x, node, value);
        return;
    }
    if (x->hoist_mark[node->id] == x->row_generation || (x->binding->schedule->buffer_of[node->id] && !is_own(x->binding->kernel, node)))
        return;
    x->hoist_mark[node->id] = x->row_generation;
    for (int i = 0; i < node->input_count; i++)
        vexpr_hoist(x, node->inputs[i]);
}
