/* emit_tile.c - see emit_tile.h. */
#include "backend/emit_tile.h"

#include <assert.h>

#include "backend/emit_panel.h"

/* Panels are read this many steps (rows of a panel) before they are used. */
enum {
    PREFETCH_STEPS = 8,
    TN_PREFETCH = 900, /* multiply-adds from a row's prefetch to its use: the way from the
                          third-level cache */
};

int tile_panels(const Target *target)
{
    return target->nv * target->width / LANES;
}

/* Enough independent chains to hide the latency of an addition, few enough streams for the
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

/* --- rows times panels
 * ------------------------------------------------------------------------- */

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

/* `steps` steps of k; `a` points at the first one's column, `block` at the block of rows `row`
 * is in. */
static void emit_steps(Emit *e, const Tile *tile, TileState *s, Val a, Val block,
                       const Val *scales, int64_t row, int64_t steps)
{
    int64_t stride = panel_bytes(tile->store, tile->k);
    for (int64_t step = 0; step < steps; step++) {
        Val b[TILE_PANELS];
        for (int p = 0; p < tile->panels; p++)
            b[p] = panel_row(e, tile->store, ll_at_const(e, block, p * stride), scales[p],
                             row + step);
        if (tile->store == LRT_STORE_F32 && tile->rows > 4)
            for (int p = 0; p < tile->panels; p++)
                ll_prefetch(e,
                            ll_at_const(e, block,
                                        p * stride + (row + step + PREFETCH_STEPS) * PANEL_ROW),
                            3);
        for (int i = 0; i < tile->rows; i++) {
            Val x = ll_splat(
                e, ll_load(e, e->t_f32, ll_at_const(e, a, i * tile->pitch + 4 * step), 4));
            for (int p = 0; p < tile->panels; p++) {
                Val *sum = &s->v[i * tile->panels + p];
                *sum = ll_fma(e, x, b[p], *sum);
            }
        }
    }
}

/* Steps of element types whose blocks are short: whole blocks are unrolled. */
static void emit_short_blocks(Emit *e, const Tile *tile, TileState *s)
{
    static const Val no_scales[TILE_PANELS];
    int64_t block_rows = panel_block_rows(tile->store),
            block_bytes = panel_block_bytes(tile->store);
    int64_t steps = unroll(e) > block_rows ? unroll(e) : block_rows;
    int64_t rounds = tile->k / steps;
    if (rounds) {
        Loop loop = loop_begin(e, ll_i64(e, 0), ll_i64(e, rounds), ll_i64(e, 1), s->v,
                               s->count + 3, true);
        TileState next = {.count = s->count};
        for (int i = 0; i < s->count + 3; i++)
            next.v[i] = loop.carried[i];
        Val a = *pointer_of(&next, STATE_A), b = *pointer_of(&next, STATE_B);
        Val ahead = *pointer_of(&next, STATE_AHEAD);
        for (int line = 0; line < tile->ahead; line++)
            ll_prefetch(e, ll_at_const(e, ahead, 64 * line), 2);
        for (int64_t row = 0; row < steps; row += block_rows)
            emit_steps(e, tile, &next, ll_at_const(e, a, 4 * row),
                       ll_at_const(e, b, row / block_rows * block_bytes), no_scales, 0,
                       block_rows);
        *pointer_of(&next, STATE_A) = ll_at_const(e, a, 4 * steps);
        *pointer_of(&next, STATE_B) = ll_at_const(e, b, steps / block_rows * block_bytes);
        *pointer_of(&next, STATE_AHEAD) = ll_at_const(e, ahead, 64 * tile->ahead);
        loop_end(e, &loop, next.v, s->v);
    }
    Val a = *pointer_of(s, STATE_A), b = *pointer_of(s, STATE_B);
    int64_t rest = tile->k % steps;
    for (int64_t row = 0; row < rest; row += block_rows)
        emit_steps(e, tile, s, ll_at_const(e, a, 4 * row),
                   ll_at_const(e, b, row / block_rows * block_bytes), no_scales, 0,
                   rest - row < block_rows ? rest - row : block_rows);
}

/* Val `index` of a block as a run-time number: rows of Q8_0 blocks are 16 bytes after the
 * scales. */
static void emit_block_rows(Emit *e, const Tile *tile, TileState *s, const Val *scales,
                            int64_t rows)
{
    int64_t steps = unroll(e), rounds = rows / steps;
    if (rounds) {
        Loop loop = loop_begin(e, ll_i64(e, 0), ll_i64(e, rounds), ll_i64(e, 1), s->v,
                               s->count + 2, true);
        TileState next = {.count = s->count};
        for (int i = 0; i < s->count + 2; i++)
            next.v[i] = loop.carried[i];
        Val a = *pointer_of(&next, STATE_A), b = *pointer_of(&next, STATE_B);
        emit_steps(e, tile, &next, a, b, scales, 0, steps);
        *pointer_of(&next, STATE_A) = ll_at_const(e, a, 4 * steps);
        *pointer_of(&next, STATE_B) = ll_at_const(e, b, LANES * steps);
        loop_end(e, &loop, next.v, s->v);
    }
    emit_steps(e, tile, s, *pointer_of(s, STATE_A), *pointer_of(s, STATE_B), scales, 0,
               rows % steps);
    *pointer_of(s, STATE_A) = ll_at_const(e, *pointer_of(s, STATE_A), 4 * (rows % steps));
}

static void load_scales(Emit *e, const Tile *tile, Val block, Val *scales)
{
    for (int p = 0; p < tile->panels; p++)
        scales[p] = panel_scale(e, tile->store,
                                ll_at_const(e, block, p * panel_bytes(tile->store, tile->k)));
}

/* Steps of element types with scales for a block: a loop over blocks around a loop over their
 * rows. */
static void emit_long_blocks(Emit *e, const Tile *tile, TileState *s)
{
    int64_t block_rows = panel_block_rows(tile->store),
            block_bytes = panel_block_bytes(tile->store);
    int64_t blocks = tile->k / block_rows;
    Val scales[TILE_PANELS];
    if (blocks) {
        Loop loop = loop_begin(e, ll_i64(e, 0), ll_i64(e, blocks), ll_i64(e, 1), s->v,
                               s->count + 2, true);
        TileState next = {.count = s->count};
        for (int i = 0; i < s->count + 2; i++)
            next.v[i] = loop.carried[i];
        Val b = *pointer_of(&next, STATE_B);
        load_scales(e, tile, b, scales);
        emit_block_rows(e, tile, &next, scales, block_rows);
        *pointer_of(&next, STATE_B) = ll_at_const(e, b, block_bytes);
        loop_end(e, &loop, next.v, s->v);
    }
    if (tile->k % block_rows) {
        load_scales(e, tile, *pointer_of(s, STATE_B), scales);
        emit_block_rows(e, tile, s, scales, tile->k % block_rows);
    }
}

Val emit_tile(Emit *e, const Tile *tile)
{
    const char *name = arena_format(e->arena, "tile%d.%lld.%lld.%dx%d%s.%d", tile->store,
                                    (long long)tile->k, (long long)tile->pitch, tile->rows,
                                    tile->panels, tile->accumulate ? ".acc" : "", tile->ahead);
    Val function = emit_find(e, name);
    if (function)
        return function;
    assert(tile->rows <= TILE_ROWS && tile->panels <= TILE_PANELS);
    EmitState state = emit_save(e);
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr, e->t_ptr, e->t_ptr};
    function = emit_function(e, name, e->t_void, params, 4, true);
    TileState s = {.count = tile->rows * tile->panels};
    for (int i = 0; i < s.count; i++) {
        int64_t at = i / tile->panels * TILE_PITCH + i % tile->panels * PANEL_ROW;
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
        int64_t at = i / tile->panels * TILE_PITCH + i % tile->panels * PANEL_ROW;
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

/* --- sums over rows
 * ------------------------------------------------------------------------------ */

static void emit_tn_steps(Emit *e, const TileTn *tile, TileState *s, int steps)
{
    Val a = *pointer_of(s, STATE_A), b = *pointer_of(s, STATE_B);
    int distance = TN_PREFETCH / s->count;
    for (int step = 0; step < steps; step++) {
        Val rows[TILE_PANELS];
        for (int p = 0; p < tile->panels; p++)
            rows[p] = ll_load(e, e->t_vec,
                              ll_at_const(e, b, step * tile->pitch_b + p * PANEL_ROW), 4);
        /* A is walked down its columns, one line a row, which no hardware prefetcher follows
         * past a page. */
        ll_prefetch(e, ll_at_const(e, a, (step + distance) * tile->pitch_a), 3);
        if (tile->rows % LANES && tile->pitch_a > PANEL_ROW)
            ll_prefetch(
                e, ll_at_const(e, a, (step + distance) * tile->pitch_a + 4 * tile->rows - 4),
                3);
        if (tile->pitch_b > TILE_PITCH)
            for (int p = 0; p < tile->panels; p++)
                ll_prefetch(
                    e, ll_at_const(e, b, (step + distance) * tile->pitch_b + p * PANEL_ROW), 3);
        for (int i = 0; i < tile->rows; i++) {
            Val x = ll_splat(
                e, ll_load(e, e->t_f32, ll_at_const(e, a, step * tile->pitch_a + 4 * i), 4));
            for (int p = 0; p < tile->panels; p++) {
                Val *sum = &s->v[i * tile->panels + p];
                *sum = ll_fma(e, x, rows[p], *sum);
            }
        }
    }
    *pointer_of(s, STATE_A) = ll_at_const(e, a, steps * tile->pitch_a);
    *pointer_of(s, STATE_B) = ll_at_const(e, b, steps * tile->pitch_b);
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
    Val steps = emit_param(e, 2), many = ll_i64(e, unroll(e));
    emit_tn_loop(e, tile, &s, ll_div(e, steps, many), unroll(e));
    if (unroll(e) > 1)
        emit_tn_loop(e, tile, &s, ll_rem(e, steps, many), 1);
    for (int i = 0; i < s.count; i++)
        ll_store(e, s.v[i], ll_at_const(e, emit_param(e, 3), i * PANEL_ROW), 64);
    emit_return(e);
    emit_restore(e, state);
    return function;
}
