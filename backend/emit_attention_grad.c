/* emit_attention_grad.c - the backward kernels.
 *
 *   P = exp(s q k' - lse)   dP = do v'   dS = s P (dP - delta)   delta = rowsum(P dP) = rowsum(do o)
 *   dv = P' do              dk = dS' q   dq = dS k
 *
 * Queries whose keys lie in one block take delta from P and dP, the others from o, before they have seen all keys.
 * Task = (segment, head): blocks of keys outside, blocks of queries inside, both from the segment's first row, so the order of every
 * sum is fixed.  dq is summed in scratch; dk and dv of a head go to working memory when heads share keys, and a second kernel
 * adds them up in the order of heads. */
#include "backend/attention.h"
#include <float.h>
#include "backend/emit_math.h"
#include "backend/relative.h"

/* Offsets in the thread's scratch. */
typedef struct Places {
    int64_t q, k, kt, v, vt, d_o, s, d_p, d_k, d_v, delta, d_q, bytes;
    RelativePlaces relative;
} Places;

static Places places_of(const AttentionSpec *spec)
{
    int64_t row = attention_width(spec) * 4, block = ATTENTION_BLOCK * row;
    int64_t scores = ATTENTION_BLOCK * ATTENTION_PITCH, turned = attention_width(spec) * ATTENTION_PITCH;
    int64_t length = (spec->max_keys + ATTENTION_BLOCK - 1) / ATTENTION_BLOCK * ATTENTION_BLOCK;
    Places p;
    p.q = 0;
    p.k = p.q + block;
    p.kt = p.k + block;
    p.v = p.kt + turned;
    p.vt = p.v + block;
    p.d_o = p.vt + turned;
    p.s = p.d_o + block;
    p.d_p = p.s + scores;
    p.d_k = p.d_p + scores;
    p.d_v = p.d_k + block;
    p.delta = p.d_v + block;
    p.d_q = p.delta + length * 4;
    p.relative = relative_places(spec, p.d_q + length * row, true);
    p.bytes = p.relative.bytes;
    return p;
}

int64_t attention_grad_scratch_bytes(const AttentionSpec *spec)
{
    return places_of(spec).bytes;
}

static bool shares_keys(const AttentionSpec *spec)
{
    return spec->heads != spec->kv_heads;
}

/* Working memory: dk, then dv, [row][head][width]. */
static int64_t work_pitch(const AttentionSpec *spec)
{
    return spec->heads * attention_width(spec) * 4;
}

int64_t attention_work_bytes(const AttentionSpec *spec)
{
    return shares_keys(spec) ? 2 * spec->max_tokens * work_pitch(spec) : 0;
}

typedef struct Backward {
    Emit *e;
    const AttentionSpec *spec;
    AttentionTask t;
    Places p;
    int64_t row; /* bytes of a head's row in scratch */
    RelativeBlock relative;
} Backward;

static Val scratch_at(Backward *b, int64_t offset)
{
    return ll_at_const(b->e, emit_param(b->e, KERNEL_SCRATCH), offset);
}

static Val head_rows(Backward *b, Operand operand, Val first, Val head)
{
    return attention_rows(b->e, operand, ll_add(b->e, b->t.start, first), head, b->spec->head_dim);
}

static bool has_several_blocks(const AttentionSpec *spec)
{
    return spec->max_keys > ATTENTION_BLOCK;
}

/* rowsum(do o) of all rows. */
static void find_deltas(Backward *b)
{
    Emit *e = b->e;
    const AttentionSpec *spec = b->spec;
    Loop rows = loop_begin(e, ll_i64(e, 0), b->t.length, ll_i64(e, 1), NULL, 0, false);
    Val o = head_rows(b, spec->o, rows.index, b->t.head), d_o = head_rows(b, spec->d_o, rows.index, b->t.head);
    Val sum = ll_vec(e, 0);
    for (int64_t c = 0; c < spec->head_dim; c += LANES) {
        Val x = emit_load_lanes(e, ll_at_const(e, o, c * 4), spec->head_dim - c);
        Val y = emit_load_lanes(e, ll_at_const(e, d_o, c * 4), spec->head_dim - c);
        sum = ll_fma(e, x, y, sum);
    }
    ll_store(e, ll_reduce_add(e, sum), ll_at(e, scratch_at(b, b->p.delta), ll_mul(e, rows.index, ll_i64(e, 4))), 4);
    loop_end(e, &rows, NULL, NULL);
}

static void load_rows(Backward *b, Operand operand, Val first, Val count, Val head, int64_t to)
{
    emit_block_load(b->e, head_rows(b, operand, first, head), operand.pitch, count, ATTENTION_BLOCK, b->spec->head_dim,
                    scratch_at(b, to), b->row, 1);
}

static void turn(Backward *b, int64_t from, int64_t to)
{
    emit_block_transpose(b->e, scratch_at(b, from), b->row, ATTENTION_BLOCK, (int)(b->row / (LANES * 4)), scratch_at(b, to),
                         ATTENTION_PITCH);
}

enum { ROW_VECTORS = ATTENTION_BLOCK / LANES };

/* A row of a block: which keys it sees, P, dP, and the slope of its scores in q k'. */
typedef struct GradRow {
    Val mask[ROW_VECTORS], p[ROW_VECTORS], d_p[ROW_VECTORS], slope[ROW_VECTORS];
} GradRow;

static GradRow grad_row(Backward *b, Val position, Val r, Val key, Val s, Val d_p)
{
    Emit *e = b->e;
    const AttentionSpec *spec = b->spec;
    GradRow row;
    Val lse_at = attention_rows(e, spec->lse, ll_add(e, b->t.start, position), b->t.head, 1);
    Val lse = ll_splat(e, ll_load(e, e->t_f32, lse_at, 4)), scale = ll_vec(e, spec->scale), zero = ll_vec(e, 0);
    for (int v = 0; v < ROW_VECTORS; v++) {
        ScorePlace place = {b->t.head, position, ll_add(e, key, ll_i64(e, v * LANES)), b->t.length};
        row.mask[v] = attention_mask(e, spec, &place);
        Val score = ll_load(e, e->t_vec, ll_at_const(e, s, v * LANES * 4), 4);
        if (spec->relative)
            score = ll_fadd(e, score, relative_scores(&b->relative, r, v * LANES));
        score = attention_biased(e, spec, &place, ll_fmul(e, score, scale));
        row.slope[v] = scale;
        if (spec->cap > 0) {
            Val cap = ll_vec(e, spec->cap), t = math_tanh(e, ll_fdiv(e, score, cap));
            score = ll_fmul(e, t, cap);
            row.slope[v] = ll_fmul(e, scale, ll_fma(e, LLVMBuildFNeg(e->builder, t, ""), t, ll_vec(e, 1)));
        }
        row.p[v] = ll_select(e, row.mask[v], math_exp(e, ll_fsub(e, score, lse)), zero);
        row.d_p[v] = ll_select(e, row.mask[v], ll_load(e, e->t_vec, ll_at_const(e, d_p, v * LANES * 4), 4), zero);
    }
    return row;
}

/* dP - rowsum(P dP) in place of dP, where the row sees no other keys.  In peaked attention dP and its mean agree but for their last bits:
 * a mean of the very numbers it is taken from, and once more of what that leaves, keeps the precision that rowsum(do o) would lose.  P is
 * divided by its sum, which the rounding of lse has moved off 1. */
static void center(Emit *e, GradRow *row)
{
    Val sum = ll_vec(e, 0);
    for (int v = 0; v < ROW_VECTORS; v++)
        sum = ll_fadd(e, sum, row->p[v]);
    Val inverse = ll_fdiv(e, ll_vec(e, 1), ll_fmax(e, ll_splat(e, ll_reduce_add(e, sum)), ll_vec(e, FLT_MIN)));
    for (int v = 0; v < ROW_VECTORS; v++)
        row->p[v] = ll_fmul(e, row->p[v], inverse);
    for (int round = 0; round < 2; round++) {
        Val mean = ll_vec(e, 0);
        for (int v = 0; v < ROW_VECTORS; v++)
            mean = ll_fma(e, row->p[v], row->d_p[v], mean);
        mean = ll_splat(e, ll_reduce_add(e, mean));
        for (int v = 0; v < ROW_VECTORS; v++)
            row->d_p[v] = ll_fsub(e, row->d_p[v], mean);
    }
}

static void subtract_delta(Backward *b, Val position, GradRow *row)
{
    Emit *e = b->e;
    Val at = ll_at(e, scratch_at(b, b->p.delta), ll_mul(e, position, ll_i64(e, 4)));
    Val delta = ll_splat(e, ll_load(e, e->t_f32, at, 4));
    for (int v = 0; v < ROW_VECTORS; v++)
        row->d_p[v] = ll_fsub(e, row->d_p[v], delta);
}

/* P in place of the scores and dS in place of dP, for `count` rows.  `whole`: they see no keys of other blocks. */
static void softmax_grad_rows(Backward *b, Val query, Val count, Val key, bool whole)
{
    Emit *e = b->e;
    Loop rows = loop_begin(e, ll_i64(e, 0), count, ll_i64(e, 1), NULL, 0, true);
    Val position = ll_add(e, query, rows.index), at = ll_mul(e, rows.index, ll_i64(e, ATTENTION_PITCH));
    Val s = ll_at(e, scratch_at(b, b->p.s), at), d_p = ll_at(e, scratch_at(b, b->p.d_p), at);
    GradRow row = grad_row(b, position, rows.index, key, s, d_p);
    if (whole)
        center(e, &row);
    else
        subtract_delta(b, position, &row);
    for (int v = 0; v < ROW_VECTORS; v++) {
        ll_store(e, row.p[v], ll_at_const(e, s, v * LANES * 4), 4);
        Val d_s = ll_fmul(e, ll_fmul(e, row.p[v], row.d_p[v]), row.slope[v]);
        ll_store(e, ll_select(e, row.mask[v], d_s, ll_vec(e, 0)), ll_at_const(e, d_p, v * LANES * 4), 4);
    }
    loop_end(e, &rows, NULL, NULL);
}

static void softmax_grad(Backward *b, Val query, Val count, Val key)
{
    Emit *e = b->e;
    if (!has_several_blocks(b->spec)) {
        softmax_grad_rows(b, query, count, key, true);
        return;
    }
    Val last = b->spec->causal ? query : ll_sub(e, b->t.length, ll_i64(e, 1));
    Val whole = LLVMBuildICmp(e->builder, LLVMIntSLT, last, ll_i64(e, ATTENTION_BLOCK), "");
    If one = if_begin(e, whole);
    softmax_grad_rows(b, query, count, key, true);
    if_end(e, &one);
    If more = if_begin(e, LLVMBuildNot(e->builder, whole, ""));
    softmax_grad_rows(b, query, count, key, false);
    if_end(e, &more);
}

/* One block of queries against the loaded block of keys. */
static void query_block(Backward *b, Val query, Val key, Val key_count)
{
    Emit *e = b->e;
    int vectors = (int)(b->row / (LANES * 4));
    bool openblas = b->spec->openblas;
    Val size = ll_i64(e, b->spec->head_dim);
    Val count = ll_min(e, ll_sub(e, b->t.length, query), ll_i64(e, ATTENTION_BLOCK));
    load_rows(b, b->spec->q, query, count, b->t.head, b->p.q);
    load_rows(b, b->spec->d_o, query, count, b->t.head, b->p.d_o);
    Block scores = {b->row, ATTENTION_PITCH, LANES * 4, ATTENTION_PITCH, ATTENTION_BLOCK / LANES, false, false, openblas};
    emit_block(e, &scores, scratch_at(b, b->p.q), scratch_at(b, b->p.kt), scratch_at(b, b->p.s), count, size, NULL);
    emit_block(e, &scores, scratch_at(b, b->p.d_o), scratch_at(b, b->p.vt), scratch_at(b, b->p.d_p), count, size, NULL);
    if (b->spec->relative) {
        b->relative = (RelativeBlock){e, b->spec, b->p.relative, b->row, b->t.head, query, key, NULL, NULL};
        relative_load(&b->relative, scratch_at(b, b->p.q), scratch_at(b, b->p.kt), 1);
    }
    softmax_grad(b, query, count, key);
    Block over_queries = {ATTENTION_PITCH, b->row, LANES * 4, b->row, vectors, true, true, openblas};
    emit_block(e, &over_queries, scratch_at(b, b->p.s), scratch_at(b, b->p.d_o), scratch_at(b, b->p.d_v), key_count, count,
               NULL);
    emit_block(e, &over_queries, scratch_at(b, b->p.d_p), scratch_at(b, b->p.q), scratch_at(b, b->p.d_k), key_count, count,
               NULL);
    Block over_keys = {ATTENTION_PITCH, b->row, LANES * 4, b->row, vectors, false, true, openblas};
    Val d_q = ll_at(e, scratch_at(b, b->p.d_q), ll_mul(e, query, ll_i64(e, b->row)));
    emit_block(e, &over_keys, scratch_at(b, b->p.d_p), scratch_at(b, b->p.k), d_q, count, key_count, NULL);
    if (b->spec->relative)
        relative_gradients(&b->relative, scratch_at(b, b->p.d_p), scratch_at(b, b->p.q), scratch_at(b, b->p.k), d_q,
                           scratch_at(b, b->p.d_k), count, key_count);
}

/* Copies rows from scratch to the head's columns of an operand. */
static void store_rows(Backward *b, Val from, Operand to, Val first, Val count)
{
    Emit *e = b->e;
    int64_t size = b->spec->head_dim;
    Loop rows = loop_begin(e, ll_i64(e, 0), count, ll_i64(e, 1), NULL, 0, false);
    Val source = ll_at(e, from, ll_mul(e, rows.index, ll_i64(e, b->row)));
    Val target = head_rows(b, to, ll_add(e, first, rows.index), b->t.head);
    for (int64_t c = 0; c < size; c += LANES)
        emit_store_lanes(e, ll_load(e, e->t_vec, ll_at_const(e, source, c * 4), 4), ll_at_const(e, target, c * 4), size - c);
    loop_end(e, &rows, NULL, NULL);
}

static void store_partial(Backward *b, int64_t from, int which, Val first, Val count)
{
    Emit *e = b->e;
    int64_t pitch = work_pitch(b->spec);
    Val base = ll_at_const(e, operand_pointer(e, b->spec->work), which * b->spec->max_tokens * pitch);
    Loop rows = loop_begin(e, ll_i64(e, 0), count, ll_i64(e, 1), NULL, 0, false);
    Val source = ll_at(e, scratch_at(b, from), ll_mul(e, rows.index, ll_i64(e, b->row)));
    Val row = ll_add(e, b->t.start, ll_add(e, first, rows.index));
    Val target = ll_at(e, base, ll_mul(e, row, ll_i64(e, pitch)));
    target = ll_at(e, target, ll_mul(e, b->t.head, ll_i64(e, b->row)));
    for (int64_t c = 0; c < b->row; c += LANES * 4)
        ll_store(e, ll_load(e, e->t_vec, ll_at_const(e, source, c), 4), ll_at_const(e, target, c), 4);
    loop_end(e, &rows, NULL, NULL);
}

static void key_block(Backward *b, Val key)
{
    Emit *e = b->e;
    const AttentionSpec *spec = b->spec;
    Val count = ll_min(e, ll_sub(e, b->t.length, key), ll_i64(e, ATTENTION_BLOCK));
    load_rows(b, spec->k, key, count, b->t.kv_head, b->p.k);
    load_rows(b, spec->v, key, count, b->t.kv_head, b->p.v);
    turn(b, b->p.k, b->p.kt);
    turn(b, b->p.v, b->p.vt);
    emit_block_clear(e, scratch_at(b, b->p.d_k), ll_i64(e, 2 * ATTENTION_BLOCK * b->row)); /* d_v follows d_k */
    /* Queries before the block do not see it; with a window, neither do those far behind. */
    Val first = spec->causal ? key : ll_i64(e, 0), end = b->t.length;
    if (spec->window && spec->causal)
        end = ll_min(e, end, ll_add(e, ll_add(e, key, count), ll_i64(e, spec->window - 1)));
    Loop queries = loop_begin(e, first, end, ll_i64(e, ATTENTION_BLOCK), NULL, 0, false);
    query_block(b, queries.index, key, count);
    loop_end(e, &queries, NULL, NULL);
    if (shares_keys(spec)) {
        store_partial(b, b->p.d_k, 0, key, count);
        store_partial(b, b->p.d_v, 1, key, count);
    } else {
        store_rows(b, scratch_at(b, b->p.d_k), spec->d_k, key, count);
        store_rows(b, scratch_at(b, b->p.d_v), spec->d_v, key, count);
    }
}

/* One segment of one head. */
static void segment_grad(Backward *b)
{
    Emit *e = b->e;
    emit_block_clear(e, scratch_at(b, b->p.d_q), ll_mul(e, b->t.length, ll_i64(e, b->row)));
    if (has_several_blocks(b->spec))
        find_deltas(b);
    Loop keys = loop_begin(e, ll_i64(e, 0), b->t.length, ll_i64(e, ATTENTION_BLOCK), NULL, 0, false);
    key_block(b, keys.index);
    loop_end(e, &keys, NULL, NULL);
    store_rows(b, scratch_at(b, b->p.d_q), b->spec->d_q, ll_i64(e, 0), b->t.length);
}

static bool wants_tables(const AttentionSpec *spec)
{
    return spec->relative && (spec->d_kr.slot >= 0 || spec->d_qr.slot >= 0);
}

/* Where tables of relative positions are trained a task is a head with all its segments: their gradients are sums over all of them. */
static void head_grad(Backward *b)
{
    Emit *e = b->e;
    const AttentionSpec *spec = b->spec;
    Val context = emit_param(e, KERNEL_CONTEXT), all = ll_i64(e, spec->buckets);
    b->t.head = b->t.kv_head = emit_param(e, KERNEL_TASK);
    const RelativePlaces *tables = &b->p.relative; /* d_qr follows d_kr */
    emit_block_clear(e, scratch_at(b, tables->d_kr), ll_i64(e, tables->bytes - tables->d_kr));
    Loop segments = loop_begin(e, ll_i64(e, 0), CONTEXT_I64(e, context, n_segments), ll_i64(e, 1), NULL, 0, false);
    Val segment = ll_at(e, CONTEXT_PTR(e, context, segments), ll_mul(e, segments.index, ll_i64(e, (int64_t)sizeof(LrtSegment))));
    b->t.start = attention_field(e, segment, offsetof(LrtSegment, start));
    b->t.length = attention_field(e, segment, offsetof(LrtSegment, length));
    segment_grad(b);
    loop_end(e, &segments, NULL, NULL);
    b->t.start = ll_i64(e, 0);
    if (spec->d_kr.slot >= 0)
        store_rows(b, scratch_at(b, tables->d_kr), spec->d_kr, ll_i64(e, 0), all);
    if (spec->d_qr.slot >= 0)
        store_rows(b, scratch_at(b, tables->d_qr), spec->d_qr, ll_i64(e, 0), all);
}

static Val emit_main(Emit *e, const AttentionSpec *spec)
{
    Val function = emit_kernel(e, spec->name);
    Backward b = {.e = e, .spec = spec, .p = places_of(spec), .row = attention_width(spec) * 4};
    if (wants_tables(spec)) {
        head_grad(&b);
    } else {
        b.t = attention_find_task(e, spec, 0);
        segment_grad(&b);
    }
    emit_return(e);
    return function;
}

/* --- sums over the heads of a group ------------------------------------------------------------------------------------------ */

enum { SUM_ROWS = 32 };

static void sum_group(Emit *e, const AttentionSpec *spec, Val row, Val kv_head, int which, Operand to)
{
    int64_t pitch = work_pitch(spec), width = attention_width(spec) * 4, group = spec->heads / spec->kv_heads;
    Val from = ll_at_const(e, operand_pointer(e, spec->work), which * spec->max_tokens * pitch);
    from = ll_at(e, from, ll_mul(e, row, ll_i64(e, pitch)));
    from = ll_at(e, from, ll_mul(e, kv_head, ll_i64(e, group * width)));
    Val target = attention_rows(e, to, row, kv_head, spec->head_dim);
    for (int64_t c = 0; c < spec->head_dim; c += LANES) {
        Val sum = ll_load(e, e->t_vec, ll_at_const(e, from, c * 4), 4);
        for (int64_t h = 1; h < group; h++)
            sum = ll_fadd(e, sum, ll_load(e, e->t_vec, ll_at_const(e, from, h * width + c * 4), 4));
        emit_store_lanes(e, sum, ll_at_const(e, target, c * 4), spec->head_dim - c);
    }
}

static Val emit_sums(Emit *e, const AttentionSpec *spec)
{
    Val function = emit_kernel(e, arena_format(e->arena, "%s.sum", spec->name));
    Val first = ll_mul(e, emit_param(e, KERNEL_TASK), ll_i64(e, SUM_ROWS));
    Val last = ll_min(e, ll_add(e, first, ll_i64(e, SUM_ROWS)), CONTEXT_I64(e, emit_param(e, KERNEL_CONTEXT), n_tokens));
    Loop rows = loop_begin(e, first, last, ll_i64(e, 1), NULL, 0, false);
    Loop heads = loop_begin(e, ll_i64(e, 0), ll_i64(e, spec->kv_heads), ll_i64(e, 1), NULL, 0, true);
    sum_group(e, spec, rows.index, heads.index, 0, spec->d_k);
    sum_group(e, spec, rows.index, heads.index, 1, spec->d_v);
    loop_end(e, &heads, NULL, NULL);
    loop_end(e, &rows, NULL, NULL);
    emit_return(e);
    return function;
}

void emit_attention_grad(Emit *e, const AttentionSpec *spec, Val kernels[2])
{
    kernels[0] = emit_main(e, spec);
    kernels[1] = shares_keys(spec) ? emit_sums(e, spec) : NULL;
}

Val emit_attention_grad_tasks(Emit *e, const AttentionSpec *spec, Val context, int which)
{
    if (which == 0)
        return wants_tables(spec) ? ll_i64(e, spec->heads) : attention_count_tasks(e, spec, context, 0);
    return ll_ceil_div(e, CONTEXT_I64(e, context, n_tokens), ll_i64(e, SUM_ROWS));
}
