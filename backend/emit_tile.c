/* emit_tile.c - see emit_tile.h. */
#include "backend/emit_tile.h"

#include <assert.h>

#include "backend/emit_panel.h"

enum {
    PREFETCH_STEPS = 8, /* rows of a panel: the way from the second-level cache */
    TN_FEW = 8,         /* accumulators, up to which sums over rows are unrolled */
    TN_PREFETCH = 450,  /* multiply-adds: the way from the third-level cache */
};

int tile_panels(const Target *target)
{
    return target->nv * target->width / LANES;
}

/* Enough independent chains to hide the latency of a multiply-add, few enough streams for the
 * hardware's prefetcher. */
int tile_panels_few(const Target *target, int rows)
{
    int vectors = LANES / target->width;
    int panels = target->registers / 2 / (rows * vectors);
    return panels < 1 ? 1 : panels > TILE_PANELS ? TILE_PANELS : panels;
}

/* Without a multiply-add instruction every lane is a call: keep that code short. */
static int unroll(Emit *e)
{
    return e->tier == TARGET_GENERIC ? 1 : TILE_UNROLL;
}

/* --- rows times panels -------------------------------------------------------------------- */

/* What a loop over k carries: the accumulators, then three pointers. */
typedef struct TileState {
    Val v[TILE_ROWS * TILE_PANELS + 3];
    int count; /* accumulators */
} TileState;

enum { STATE_A, STATE_B, STATE_AHEAD };

static Val *pointer_of(TileState *s, int which)
{
    return &s->v[s->count + which];
}

/* Starts a round of a loop over k: the state as the loop carries it. */
static Loop state_loop(Emit *e, TileState *s, int64_t rounds, TileState *next)
{
    int count = s->count + 3;
    Val zero = ll_i64(e, 0), one = ll_i64(e, 1);
    Loop loop = loop_begin(e, zero, ll_i64(e, rounds), one, s->v, count, true);
    next->count = s->count;
    for (int i = 0; i < count; i++)
        next->v[i] = loop.carried[i];
    return loop;
}

static int64_t tile_stride(const Tile *tile)
{
    return tile->stride ? tile->stride : panel_bytes(tile->store, tile->k);
}

/* `steps` steps of k: A from column `a` on, the panels' rows from the first of `block` on. */
static void emit_steps(Emit *e, const Tile *tile, TileState *s, Val a, Val block,
                       const Val *scales, int64_t steps)
{
    int64_t stride = tile_stride(tile);
    for (int64_t step = 0; step < steps; step++) {
        Val b[TILE_PANELS];
        for (int p = 0; p < tile->panels; p++) {
            Val panel = ll_at_const(e, block, p * stride);
            b[p] = panel_row(e, tile->store, panel, scales[p], step);
            /* Tiles that stream weights leave this to the hardware, which does it better. */
            if (tile->store == LRT_STORE_F32 && tile->rows > 4)
                ll_prefetch(e, ll_at_const(e, panel, (step + PREFETCH_STEPS) * PANEL_ROW), 3);
        }
        for (int i = 0; i < tile->rows; i++) {
            Val at = ll_at_const(e, a, i * tile->pitch + 4 * step);
            Val x = ll_splat(e, ll_load(e, e->t_f32, at, 4));
            for (int p = 0; p < tile->panels; p++) {
                Val *sum = &s->v[i * tile->panels + p];
                *sum = ll_fma(e, x, b[p], *sum);
            }
        }
    }
}

/* `rows` rows of k in blocks of `block_rows`, unrolled; moves the pointers past them. */
static void emit_unrolled(Emit *e, const Tile *tile, TileState *s, int64_t rows)
{
    static const Val no_scales[TILE_PANELS];
    int64_t block_rows = panel_block_rows(tile->store);
    for (int64_t row = 0; row < rows; row += block_rows) {
        Val *a = pointer_of(s, STATE_A), *b = pointer_of(s, STATE_B);
        int64_t steps = rows - row < block_rows ? rows - row : block_rows;
        emit_steps(e, tile, s, *a, *b, no_scales, steps);
        *a = ll_at_const(e, *a, 4 * steps);
        *b = ll_at_const(e, *b, panel_block_bytes(tile->store));
    }
}

/* All of k for element types whose blocks are short: whole blocks are unrolled. */
static void emit_short_blocks(Emit *e, const Tile *tile, TileState *s)
{
    int64_t block_rows = panel_block_rows(tile->store);
    int64_t steps = unroll(e) > block_rows ? unroll(e) : block_rows;
    if (tile->k >= steps) {
        TileState next;
        Loop loop = state_loop(e, s, tile->k / steps, &next);
        Val *ahead = pointer_of(&next, STATE_AHEAD);
        for (int line = 0; line < tile->ahead; line++)
            ll_prefetch(e, ll_at_const(e, *ahead, 64 * line), 2);
        *ahead = ll_at_const(e, *ahead, 64 * tile->ahead);
        emit_unrolled(e, tile, &next, steps);
        loop_end(e, &loop, next.v, s->v);
    }
    emit_unrolled(e, tile, s, tile->k % steps);
}

/* `rows` rows of one block with scales; the rows of Q8_0 are 16 bytes each. */
static void emit_block_rows(Emit *e, const Tile *tile, TileState *s, const Val *scales,
                            int64_t rows)
{
    int64_t steps = unroll(e), rest = rows % steps;
    if (rows >= steps) {
        TileState next;
        Loop loop = state_loop(e, s, rows / steps, &next);
        Val *a = pointer_of(&next, STATE_A), *b = pointer_of(&next, STATE_B);
        emit_steps(e, tile, &next, *a, *b, scales, steps);
        *a = ll_at_const(e, *a, 4 * steps);
        *b = ll_at_const(e, *b, LANES * steps);
        loop_end(e, &loop, next.v, s->v);
    }
    emit_steps(e, tile, s, *pointer_of(s, STATE_A), *pointer_of(s, STATE_B), scales, rest);
}

static void load_scales(Emit *e, const Tile *tile, Val block, Val *scales)
{
    for (int p = 0; p < tile->panels; p++)
        scales[p] = panel_scale(e, tile->store,
                                ll_at_const(e, block, p * tile_stride(tile)));
}

/* All of k for element types with a scale a block: a loop over blocks around their rows. */
static void emit_long_blocks(Emit *e, const Tile *tile, TileState *s)
{
    int64_t block_rows = panel_block_rows(tile->store);
    Val scales[TILE_PANELS];
    if (tile->k >= block_rows) {
        TileState next;
        Loop loop = state_loop(e, s, tile->k / block_rows, &next);
        Val b = *pointer_of(&next, STATE_B);
        load_scales(e, tile, b, scales);
        emit_block_rows(e, tile, &next, scales, block_rows);
        *pointer_of(&next, STATE_B) = ll_at_const(e, b, panel_block_bytes(tile->store));
        loop_end(e, &loop, next.v, s->v);
    }
    if (tile->k % block_rows) {
        load_scales(e, tile, *pointer_of(s, STATE_B), scales);
        emit_block_rows(e, tile, s, scales, tile->k % block_rows);
    }
}

Val emit_tile(Emit *e, const Tile *tile)
{
    int64_t pitch_c = tile->pitch_c ? tile->pitch_c : TILE_PITCH;
    const char *name = arena_format(e->arena, "tile%d.%lld.%lld.%lld.%lld.%dx%d%s.%d", tile->store,
                                    (long long)tile->k, (long long)tile_stride(tile), (long long)tile->pitch, (long long)pitch_c,
                                    tile->rows, tile->panels, tile->accumulate ? ".acc" : "",
                                    tile->ahead);
    Val function = emit_find(e, name);
    if (function)
        return function;
    assert(tile->rows <= TILE_ROWS && tile->panels <= TILE_PANELS);
    EmitState state = emit_save(e);
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr, e->t_ptr, e->t_ptr};
    function = emit_function(e, name, e->t_void, params, 4, true);
    TileState s = {.count = tile->rows * tile->panels};
    for (int i = 0; i < s.count; i++) {
        int64_t at = i / tile->panels * pitch_c + i % tile->panels * PANEL_ROW;
        s.v[i] = tile->accumulate
                     ? ll_load(e, e->t_vec, ll_at_const(e, emit_param(e, 2), at), 64)
                     : ll_vec(e, 0);
    }
    *pointer_of(&s, STATE_A) = emit_param(e, 0);
    *pointer_of(&s, STATE_B) = emit_param(e, 1);
    *pointer_of(&s, STATE_AHEAD) = emit_param(e, 3);
    if (tile->store == LRT_STORE_Q8_0)
        emit_long_blocks(e, tile, &s);
    else
        emit_short_blocks(e, tile, &s);
    for (int i = 0; i < s.count; i++) {
        int64_t at = i / tile->panels * pitch_c + i % tile->panels * PANEL_ROW;
        ll_store(e, s.v[i], ll_at_const(e, emit_param(e, 2), at), 64);
    }
    emit_return(e);
    emit_restore(e, state);
    return function;
}

void emit_tile_call(Emit *e, Val function, Val a, Val panels, Val tile, Val ahead)
{
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr, e->t_ptr, e->t_ptr};
    LLVMTypeRef type = LLVMFunctionType(e->t_void, params, 4, 0);
    Val args[] = {a, panels, tile, ahead};
    LLVMBuildCall2(e->builder, type, function, args, 4, "");
}

/* --- sums over rows ----------------------------------------------------------------------- */

/* What a row far ahead needs.  A is walked down its columns, one or two lines a row, which no
 * hardware prefetcher follows past a page; so is B.  Not so their copies. */
static void prefetch_row(Emit *e, const TileTn *tile, Val a, Val b, int64_t row)
{
    if (tile->pitch_a < PANEL_ROW)
        return;
    Val from = ll_at_const(e, a, row * tile->pitch_a);
    ll_prefetch(e, from, 3);
    if (tile->rows % LANES && tile->pitch_a > PANEL_ROW)
        ll_prefetch(e, ll_at_const(e, from, 4 * tile->rows - 4), 3);
    if (tile->pitch_b <= TILE_PITCH)
        return;
    for (int p = 0; p < tile->panels; p++)
        ll_prefetch(e, ll_at_const(e, b, row * tile->pitch_b + p * PANEL_ROW), 3);
}

static void emit_tn_steps(Emit *e, const TileTn *tile, TileState *s, int steps)
{
    Val *a = pointer_of(s, STATE_A), *b = pointer_of(s, STATE_B);
    for (int step = 0; step < steps; step++) {
        Val row[TILE_PANELS];
        for (int p = 0; p < tile->panels; p++)
            row[p] = ll_load(e, e->t_vec, ll_at_const(e, *b, p * PANEL_ROW), 4);
        prefetch_row(e, tile, *a, *b, TN_PREFETCH / s->count);
        for (int i = 0; i < tile->rows; i++) {
            Val x = ll_splat(e, ll_load(e, e->t_f32, ll_at_const(e, *a, 4 * i), 4));
            for (int p = 0; p < tile->panels; p++) {
                Val *sum = &s->v[i * tile->panels + p];
                *sum = ll_fma(e, x, row[p], *sum);
            }
        }
        *a = ll_at_const(e, *a, tile->pitch_a);
        *b = ll_at_const(e, *b, tile->pitch_b);
    }
}

static void emit_tn_loop(Emit *e, const TileTn *tile, TileState *s, Val rounds, int steps)
{
    Loop loop = loop_begin(e, ll_i64(e, 0), rounds, ll_i64(e, 1), s->v, s->count + 2, false);
    TileState next = {.count = s->count};
    for (int i = 0; i < s->count + 2; i++)
        next.v[i] = loop.carried[i];
    emit_tn_steps(e, tile, &next, steps);
    loop_end(e, &loop, next.v, s->v);
}

Val emit_tile_tn(Emit *e, const TileTn *tile)
{
    const char *name =
        arena_format(e->arena, "tile_tn.%lld.%lld.%dx%d", (long long)tile->pitch_a,
                     (long long)tile->pitch_b, tile->rows, tile->panels);
    Val function = emit_find(e, name);
    if (function)
        return function;
    EmitState state = emit_save(e);
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr, e->t_i64, e->t_ptr};
    function = emit_function(e, name, e->t_void, params, 4, true);
    TileState s = {.count = tile->rows * tile->panels};
    for (int i = 0; i < s.count; i++)
        s.v[i] = ll_vec(e, 0);
    *pointer_of(&s, STATE_A) = emit_param(e, 0);
    *pointer_of(&s, STATE_B) = emit_param(e, 1);
    /* Many accumulators are work enough for one round; with more steps LLVM loads early and runs
     * out of registers. */
    int many = s.count > TN_FEW ? 1 : unroll(e);
    Val steps = emit_param(e, 2);
    emit_tn_loop(e, tile, &s, ll_div(e, steps, ll_i64(e, many)), many);
    if (many > 1)
        emit_tn_loop(e, tile, &s, ll_rem(e, steps, ll_i64(e, many)), 1);
    for (int i = 0; i < s.count; i++)
        ll_store(e, s.v[i], ll_at_const(e, emit_param(e, 3), i * PANEL_ROW), 64);
    emit_return(e);
    emit_restore(e, state);
    return function;
}
