/* emit_attention.c - the forward kernel.
 *
 * Task = (segment, head, block of 64 queries).  Keys come in blocks of 64, counted from the sequence's first key: scores of a block,
 * its maximum and exponentials, then the product with the values on top of the rescaled sum so far (online softmax).  A row's
 * arithmetic depends on its own keys only: a masked key adds an exact zero, so results do not depend on what else is in the block. */
#include "backend/emit_attention.h"

#include <float.h>

#include "backend/attention.h"
#include "backend/emit_math.h"
#include "backend/relative.h"

static const double nothing = -1e30; /* a score that no key has */

Val attention_field(Emit *e, Val segment, size_t offset)
{
    return LLVMBuildSExt(e->builder, ll_load(e, e->t_i32, ll_at_const(e, segment, (int64_t)offset), 4), e->t_i64, "");
}

int64_t attention_width(const AttentionSpec *spec)
{
    return (spec->head_dim + LANES - 1) / LANES * LANES;
}

static Val segment_at(Emit *e, Val segments, Val index)
{
    return ll_at(e, segments, ll_mul(e, index, ll_i64(e, (int64_t)sizeof(LrtSegment))));
}

/* Tasks of a segment: its blocks of queries, each for every head. */
static Val segment_tasks(Emit *e, const AttentionSpec *spec, Val segment, int64_t block)
{
    Val length = attention_field(e, segment, offsetof(LrtSegment, length));
    Val blocks = block ? ll_ceil_div(e, length, ll_i64(e, block)) : ll_i64(e, 1);
    return ll_mul(e, blocks, ll_i64(e, spec->heads));
}

Val attention_count_tasks(Emit *e, const AttentionSpec *spec, Val context, int64_t block)
{
    Val zero = ll_i64(e, 0), total;
    Loop loop = loop_begin(e, zero, CONTEXT_I64(e, context, n_segments), ll_i64(e, 1), &zero, 1, false);
    Val segment = segment_at(e, CONTEXT_PTR(e, context, segments), loop.index);
    Val next = ll_add(e, loop.carried[0], segment_tasks(e, spec, segment, block));
    loop_end(e, &loop, &next, &total);
    return total;
}

/* Walks the segments to the one the task belongs to. */
AttentionTask attention_find_task(Emit *e, const AttentionSpec *spec, int64_t block)
{
    Val context = emit_param(e, KERNEL_CONTEXT), task = emit_param(e, KERNEL_TASK);
    Val segments = CONTEXT_PTR(e, context, segments);
    Val start[] = {ll_i64(e, 0), task, ll_i64(e, 0)}, found[3];
    /* carried: segment, task within what is left, whether it is found (then nothing moves any more) */
    Loop loop = loop_begin(e, ll_i64(e, 0), CONTEXT_I64(e, context, n_segments), ll_i64(e, 1), start, 3, true);
    Val here = segment_tasks(e, spec, segment_at(e, segments, loop.index), block);
    Val inside = LLVMBuildICmp(e->builder, LLVMIntSLT, loop.carried[1], here, "");
    Val was = LLVMBuildICmp(e->builder, LLVMIntNE, loop.carried[2], ll_i64(e, 0), "");
    Val stop = LLVMBuildOr(e->builder, was, inside, "");
    Val next[] = {
        ll_select(e, was, loop.carried[0], loop.index),
        ll_select(e, stop, loop.carried[1], ll_sub(e, loop.carried[1], here)),
        ll_select(e, stop, ll_i64(e, 1), ll_i64(e, 0)),
    };
    loop_end(e, &loop, next, found);
    AttentionTask t;
    Val segment = segment_at(e, segments, found[0]);
    t.start = attention_field(e, segment, offsetof(LrtSegment, start));
    t.length = attention_field(e, segment, offsetof(LrtSegment, length));
    t.key_start = attention_field(e, segment, offsetof(LrtSegment, key_start));
    t.past = attention_field(e, segment, offsetof(LrtSegment, past));
    t.head = ll_rem(e, found[1], ll_i64(e, spec->heads));
    t.block = ll_div(e, found[1], ll_i64(e, spec->heads));
    t.kv_head = ll_div(e, t.head, ll_i64(e, spec->heads / spec->kv_heads));
    return t;
}

Val attention_rows(Emit *e, Operand operand, Val row, Val head, int64_t head_dim)
{
    Val at = ll_at(e, operand_pointer(e, operand), ll_mul(e, row, ll_i64(e, operand.pitch)));
    return ll_at(e, at, ll_mul(e, head, ll_i64(e, head_dim * 4)));
}

static Val narrow(Emit *e, Val position)
{
    return LLVMBuildTrunc(e->builder, position, e->t_i32, "");
}

Val attention_mask(Emit *e, const AttentionSpec *spec, const ScorePlace *place)
{
    Val lanes = ll_add(e, ll_splat(e, narrow(e, place->key)), ll_lanes(e));
    Val last = spec->causal ? ll_min(e, ll_add(e, place->position, ll_i64(e, 1)), place->keys) : place->keys;
    Val mask = LLVMBuildICmp(e->builder, LLVMIntSLT, lanes, ll_splat(e, narrow(e, last)), "");
    if (spec->window) {
        Val first = narrow(e, ll_sub(e, place->position, ll_i64(e, spec->window)));
        mask = LLVMBuildAnd(e->builder, mask, LLVMBuildICmp(e->builder, LLVMIntSGT, lanes, ll_splat(e, first), ""), "");
    }
    return spec->where ? LLVMBuildAnd(e->builder, mask, spec->where(spec->score_user, place), "") : mask;
}

Val attention_biased(Emit *e, const AttentionSpec *spec, const ScorePlace *place, Val scores)
{
    return spec->bias ? ll_fadd(e, scores, spec->bias(spec->score_user, place)) : scores;
}

/* --- scratch ------------------------------------------------------------------------------------------------------------ */

/* Offsets in the thread's scratch. */
typedef struct Places {
    int64_t q, k, kt, s, o, max, sum, bytes;
    RelativePlaces relative;
} Places;

static Places places_of(const AttentionSpec *spec)
{
    int64_t row = attention_width(spec) * 4;
    Places p;
    p.q = 0;
    p.k = p.q + ATTENTION_BLOCK * row;
    p.kt = p.k + ATTENTION_BLOCK * row;
    p.s = p.kt + attention_width(spec) * ATTENTION_PITCH;
    p.o = p.s + ATTENTION_BLOCK * ATTENTION_PITCH;
    p.max = p.o + ATTENTION_BLOCK * row;
    p.sum = p.max + ATTENTION_BLOCK * 4;
    p.relative = relative_places(spec, p.sum + ATTENTION_BLOCK * 4, false);
    p.bytes = p.relative.bytes;
    return p;
}

int64_t attention_scratch_bytes(const AttentionSpec *spec)
{
    return places_of(spec).bytes;
}

static Val scratch_at(Emit *e, int64_t offset)
{
    return ll_at_const(e, emit_param(e, KERNEL_SCRATCH), offset);
}

/* --- one block of keys ------------------------------------------------------------------------------------------------------ */

typedef struct Forward {
    Emit *e;
    const AttentionSpec *spec;
    AttentionTask t;
    Places p;
    int64_t row; /* bytes of a head's row in scratch */
    Val first, count; /* queries of the block: first within the segment, how many */
    Val keys;         /* of the sequence so far */
    RelativeBlock relative;
} Forward;

/* Row r of the block: maximum, exponentials in place, rescaled sum. */
static void softmax_row(Forward *f, Val r, Val key, Val *vectors)
{
    Emit *e = f->e;
    Val position = ll_add(e, f->t.past, ll_add(e, f->first, r));
    Val at = ll_at(e, scratch_at(e, f->p.s), ll_mul(e, r, ll_i64(e, ATTENTION_PITCH)));
    Val slot = ll_mul(e, r, ll_i64(e, 4));
    Val max_at = ll_at(e, scratch_at(e, f->p.max), slot), sum_at = ll_at(e, scratch_at(e, f->p.sum), slot);
    Val masks[ATTENTION_BLOCK / LANES], largest = ll_vec(e, nothing);
    for (int v = 0; v < ATTENTION_BLOCK / LANES; v++) {
        ScorePlace place = {f->t.head, position, ll_add(e, key, ll_i64(e, v * LANES)), f->keys};
        masks[v] = attention_mask(e, f->spec, &place);
        vectors[v] = ll_load(e, e->t_vec, ll_at_const(e, at, v * LANES * 4), 4);
        if (f->spec->relative)
            vectors[v] = ll_fadd(e, vectors[v], relative_scores(&f->relative, r, v * LANES));
        vectors[v] = attention_biased(e, f->spec, &place, vectors[v]);
        if (f->spec->cap > 0) {
            Val cap = ll_vec(e, f->spec->cap);
            vectors[v] = ll_fmul(e, math_tanh(e, ll_fdiv(e, vectors[v], cap)), cap);
        }
        vectors[v] = ll_select(e, masks[v], vectors[v], ll_vec(e, nothing));
        largest = ll_fmax(e, vectors[v], largest);
    }
    Val old = ll_load(e, e->t_f32, max_at, 4);
    Val now = ll_fmax(e, ll_reduce_max(e, largest), old), shift = ll_splat(e, now), total = ll_vec(e, 0);
    for (int v = 0; v < ATTENTION_BLOCK / LANES; v++) {
        Val p = ll_select(e, masks[v], math_exp(e, ll_fsub(e, vectors[v], shift)), ll_vec(e, 0));
        total = ll_fadd(e, total, p);
        ll_store(e, p, ll_at_const(e, at, v * LANES * 4), 4);
    }
    Val factor = math_exp(e, ll_splat(e, ll_fsub(e, old, now)));
    Val first_lane = LLVMBuildExtractElement(e->builder, factor, ll_i32(e, 0), "");
    Val sum = ll_fma(e, ll_load(e, e->t_f32, sum_at, 4), first_lane, ll_reduce_add(e, total));
    ll_store(e, now, max_at, 4);
    ll_store(e, sum, sum_at, 4);
    Val o = ll_at(e, scratch_at(e, f->p.o), ll_mul(e, r, ll_i64(e, f->row)));
    for (int64_t c = 0; c < f->row; c += LANES * 4)
        ll_store(e, ll_fmul(e, ll_load(e, e->t_vec, ll_at_const(e, o, c), 4), factor), ll_at_const(e, o, c), 4);
}

static void key_block(Forward *f, Val key)
{
    Emit *e = f->e;
    const AttentionSpec *spec = f->spec;
    int vectors = (int)(f->row / (LANES * 4));
    Val count = ll_min(e, ll_sub(e, f->keys, key), ll_i64(e, ATTENTION_BLOCK));
    Val k_row = ll_add(e, f->t.key_start, key);
    Val k = attention_rows(e, spec->k, k_row, f->t.kv_head, spec->head_dim);
    emit_block_load(e, k, spec->k.pitch, count, ATTENTION_BLOCK, spec->head_dim, scratch_at(e, f->p.k), f->row, 1);
    emit_block_transpose(e, scratch_at(e, f->p.k), f->row, ATTENTION_BLOCK, vectors, scratch_at(e, f->p.kt),
                         ATTENTION_PITCH);
    Block scores = {f->row, ATTENTION_PITCH, LANES * 4, ATTENTION_PITCH, ATTENTION_BLOCK / LANES, false, false,
                    spec->openblas};
    emit_block(e, &scores, scratch_at(e, f->p.q), scratch_at(e, f->p.kt), scratch_at(e, f->p.s), f->count,
               ll_i64(e, spec->head_dim), NULL);
    if (spec->relative) {
        f->relative = (RelativeBlock){e, spec, f->p.relative, f->row, f->t.head, ll_add(e, f->t.past, f->first), key, NULL, NULL};
        relative_load(&f->relative, scratch_at(e, f->p.q), scratch_at(e, f->p.kt), spec->scale);
    }
    Loop rows = loop_begin(e, ll_i64(e, 0), f->count, ll_i64(e, 1), NULL, 0, true);
    Val vectors_of_row[ATTENTION_BLOCK / LANES];
    softmax_row(f, rows.index, key, vectors_of_row);
    loop_end(e, &rows, NULL, NULL);
    Val v = attention_rows(e, spec->v, k_row, f->t.kv_head, spec->head_dim);
    int64_t v_pitch = spec->v.pitch;
    if (spec->head_dim % LANES) { /* whole vectors would reach past the row's end; k is not needed any more */
        emit_block_load(e, v, v_pitch, count, ATTENTION_BLOCK, spec->head_dim, scratch_at(e, f->p.k), f->row, 1);
        v = scratch_at(e, f->p.k);
        v_pitch = f->row;
    }
    Block values = {ATTENTION_PITCH, v_pitch, LANES * 4, f->row, vectors, false, true, spec->openblas};
    emit_block(e, &values, scratch_at(e, f->p.s), v, scratch_at(e, f->p.o), f->count, count, NULL);
}

static void finish_rows(Forward *f)
{
    Emit *e = f->e;
    const AttentionSpec *spec = f->spec;
    Loop rows = loop_begin(e, ll_i64(e, 0), f->count, ll_i64(e, 1), NULL, 0, true);
    Val slot = ll_mul(e, rows.index, ll_i64(e, 4));
    Val sum = ll_splat(e, ll_load(e, e->t_f32, ll_at(e, scratch_at(e, f->p.sum), slot), 4));
    if (spec->where) /* a query may see nothing: its sums are zero, and so is its result */
        sum = ll_fmax(e, sum, ll_vec(e, FLT_MIN));
    Val row = ll_add(e, f->t.start, ll_add(e, f->first, rows.index));
    Val from = ll_at(e, scratch_at(e, f->p.o), ll_mul(e, rows.index, ll_i64(e, f->row)));
    Val to = attention_rows(e, spec->o, row, f->t.head, spec->head_dim);
    for (int64_t c = 0; c < spec->head_dim; c += LANES) {
        Val value = ll_fdiv(e, ll_load(e, e->t_vec, ll_at_const(e, from, c * 4), 4), sum);
        emit_store_lanes(e, value, ll_at_const(e, to, c * 4), spec->head_dim - c);
    }
    if (spec->lse.slot >= 0) {
        Val max = ll_splat(e, ll_load(e, e->t_f32, ll_at(e, scratch_at(e, f->p.max), slot), 4));
        Val lse = ll_fadd(e, max, math_log(e, sum));
        Val at = attention_rows(e, spec->lse, row, f->t.head, 1);
        ll_store(e, LLVMBuildExtractElement(e->builder, lse, ll_i32(e, 0), ""), at, 4);
    }
    loop_end(e, &rows, NULL, NULL);
}

static void clear_state(Forward *f)
{
    Emit *e = f->e;
    Loop rows = loop_begin(e, ll_i64(e, 0), f->count, ll_i64(e, 1), NULL, 0, true);
    Val slot = ll_mul(e, rows.index, ll_i64(e, 4));
    ll_store(e, ll_f32(e, nothing), ll_at(e, scratch_at(e, f->p.max), slot), 4);
    ll_store(e, ll_f32(e, 0), ll_at(e, scratch_at(e, f->p.sum), slot), 4);
    Val o = ll_at(e, scratch_at(e, f->p.o), ll_mul(e, rows.index, ll_i64(e, f->row)));
    for (int64_t c = 0; c < f->row; c += LANES * 4)
        ll_store(e, ll_vec(e, 0), ll_at_const(e, o, c), 4);
    loop_end(e, &rows, NULL, NULL);
}

/* The first key block that any query of the block sees. */
static Val first_key(Forward *f)
{
    Emit *e = f->e;
    if (!f->spec->window)
        return ll_i64(e, 0);
    Val key = ll_sub(e, ll_add(e, f->t.past, f->first), ll_i64(e, f->spec->window - 1));
    key = ll_max(e, key, ll_i64(e, 0));
    return ll_mul(e, ll_div(e, key, ll_i64(e, ATTENTION_BLOCK)), ll_i64(e, ATTENTION_BLOCK));
}

Val emit_attention(Emit *e, const AttentionSpec *spec)
{
    Val function = emit_kernel(e, spec->name);
    Forward f = {.e = e, .spec = spec, .p = places_of(spec), .row = attention_width(spec) * 4};
    f.t = attention_find_task(e, spec, ATTENTION_BLOCK);
    f.first = ll_mul(e, f.t.block, ll_i64(e, ATTENTION_BLOCK));
    f.count = ll_min(e, ll_sub(e, f.t.length, f.first), ll_i64(e, ATTENTION_BLOCK));
    f.keys = ll_add(e, f.t.past, f.t.length);
    Val q = attention_rows(e, spec->q, ll_add(e, f.t.start, f.first), f.t.head, spec->head_dim);
    emit_block_load(e, q, spec->q.pitch, f.count, ATTENTION_BLOCK, spec->head_dim, scratch_at(e, f.p.q), f.row, spec->scale);
    clear_state(&f);
    Val end = spec->causal ? ll_add(e, f.t.past, ll_add(e, f.first, f.count)) : f.keys;
    Loop keys = loop_begin(e, first_key(&f), end, ll_i64(e, ATTENTION_BLOCK), NULL, 0, false);
    key_block(&f, keys.index);
    loop_end(e, &keys, NULL, NULL);
    finish_rows(&f);
    emit_return(e);
    return function;
}

Val emit_attention_tasks(Emit *e, const AttentionSpec *spec, Val context)
{
    return attention_count_tasks(e, spec, context, ATTENTION_BLOCK);
}
