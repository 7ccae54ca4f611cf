/* emit_panel.c - see emit_panel.h. */
#include "backend/emit_panel.h"

#include "backend/emit_tile.h"

bool panel_as_stored(const PanelSource *source)
{
    return !source->transposed && source->store == LRT_STORE_F32;
}

int64_t panel_block_rows(int store)
{
    return store == LRT_STORE_Q8_0 ? PANEL_Q8_ROWS : store == LRT_STORE_BF16 ? 2 : 1;
}

int64_t panel_block_bytes(int store)
{
    return store == LRT_STORE_Q8_0 ? PANEL_Q8_BYTES : PANEL_ROW;
}

int64_t panel_bytes(int store, int64_t rows)
{
    int64_t block = panel_block_rows(store);
    return (rows + block - 1) / block * panel_block_bytes(store);
}

static Val bit_cast(Emit *e, Val value, LLVMTypeRef type)
{
    return LLVMBuildBitCast(e->builder, value, type, "");
}

/* The same integer arithmetic on every tier: exact for all finite f16, subnormal ones too. */
Val panel_scale(Emit *e, int store, Val block)
{
    if (store != LRT_STORE_Q8_0)
        return NULL;
    Val half = ll_load(e, LLVMVectorType(e->t_i16, LANES), block, 2);
    Val bits = LLVMBuildZExt(e->builder, half, e->t_ivec, "");
    Val sign = LLVMBuildShl(e->builder, LLVMBuildAnd(e->builder, bits, ll_ivec(e, 0x8000), ""),
                            ll_ivec(e, 16), "");
    Val rest = LLVMBuildShl(e->builder, LLVMBuildAnd(e->builder, bits, ll_ivec(e, 0x7fff), ""),
                            ll_ivec(e, 13), "");
    Val small = bit_cast(e, LLVMBuildOr(e->builder, sign, rest, ""), e->t_vec);
    return ll_fmul(e, small, ll_vec(e, 0x1p112));
}

Val panel_row(Emit *e, int store, Val block, Val scale, int64_t row)
{
    if (store == LRT_STORE_F32)
        return ll_load(e, e->t_vec, ll_at_const(e, block, row * PANEL_ROW), 4);
    if (store == LRT_STORE_BF16) {
        Val pair = ll_load(e, e->t_ivec, ll_at_const(e, block, row / 2 * PANEL_ROW), 4);
        Val bits = row % 2 ? LLVMBuildAnd(e->builder, pair, ll_ivec(e, -65536), "")
                           : LLVMBuildShl(e->builder, pair, ll_ivec(e, 16), "");
        return bit_cast(e, bits, e->t_vec);
    }
    LLVMTypeRef bytes = LLVMVectorType(e->t_i8, LANES);
    Val q = ll_load(e, bytes, ll_at_const(e, block, PANEL_Q8_SCALES + row * LANES), 1);
    Val wide = LLVMBuildSExt(e->builder, q, e->t_ivec, "");
    return ll_fmul(e, LLVMBuildSIToFP(e->builder, wide, e->t_vec, ""), scale);
}

/* Element (row, lane) of a panel, before it is scaled. */
static Val panel_element(Emit *e, int store, Val panel, Val row, Val lane)
{
    if (store == LRT_STORE_F32) {
        Val at = ll_at(e, panel, ll_mul(e, row, ll_i64(e, PANEL_ROW)));
        return ll_load(e, e->t_f32, ll_at(e, at, ll_mul(e, lane, ll_i64(e, 4))), 4);
    }
    if (store == LRT_STORE_BF16) {
        Val at = ll_at(e, panel, ll_mul(e, ll_div(e, row, ll_i64(e, 2)), ll_i64(e, PANEL_ROW)));
        at = ll_at(e, at, ll_mul(e, ll_rem(e, row, ll_i64(e, 2)), ll_i64(e, 2)));
        Val bits = ll_load(e, e->t_i16, ll_at(e, at, ll_mul(e, lane, ll_i64(e, 4))), 2);
        bits = LLVMBuildShl(e->builder, LLVMBuildZExt(e->builder, bits, e->t_i32, ""), ll_i32(e, 16), "");
        return bit_cast(e, bits, e->t_f32);
    }
    Val block = ll_div(e, row, ll_i64(e, PANEL_Q8_ROWS)), within = ll_rem(e, row, ll_i64(e, PANEL_Q8_ROWS));
    Val at = ll_at(e, panel, ll_mul(e, block, ll_i64(e, PANEL_Q8_BYTES)));
    at = ll_at(e, ll_at_const(e, at, PANEL_Q8_SCALES), ll_add(e, ll_mul(e, within, ll_i64(e, LANES)), lane));
    return LLVMBuildSIToFP(e->builder, ll_load(e, e->t_i8, at, 1), e->t_f32, "");
}

Val panel_column(Emit *e, int store, int64_t rows, Val panel, Val lane, Val first)
{
    Val value = LLVMGetPoison(e->t_vec);
    for (int i = 0; i < LANES; i++) {
        Val row = ll_min(e, ll_add(e, first, ll_i64(e, i)), ll_i64(e, rows - 1));
        Val element = panel_element(e, store, panel, row, lane);
        value = LLVMBuildInsertElement(e->builder, value, element, ll_i32(e, i), "");
    }
    if (store != LRT_STORE_Q8_0)
        return value;
    Val block = ll_mul(e, ll_div(e, first, ll_i64(e, PANEL_Q8_ROWS)), ll_i64(e, PANEL_Q8_BYTES));
    Val scales = panel_scale(e, store, ll_at(e, panel, block));
    Val scale = LLVMBuildExtractElement(e->builder, scales, lane, "");
    return ll_fmul(e, value, ll_splat(e, scale));
}

/* --- transposing -------------------------------------------------------------------------- */

/* One butterfly of pairs `distance` apart swaps that bit of row and lane numbers; four of them
 * transpose. */
void emit_transpose(Emit *e, Val rows[LANES])
{
    for (int distance = 1; distance < LANES; distance *= 2) {
        int low[LANES], high[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            low[lane] = lane & distance ? LANES + lane - distance : lane;
            high[lane] = lane & distance ? LANES + lane : lane + distance;
        }
        for (int i = 0; i < LANES; i++) {
            if (i & distance)
                continue;
            Val a = rows[i], b = rows[i + distance];
            rows[i] = ll_shuffle(e, a, b, low);
            rows[i + distance] = ll_shuffle(e, a, b, high);
        }
    }
}

/* --- producers ---------------------------------------------------------------------------- */

static int64_t pitch_of(const PanelSource *source)
{
    return source->pitch ? source->pitch : PANEL_ROW;
}

/* Rows of the stored panels become columns: 16 stored rows are one panel, `valid` of them
 * exist. */
static void emit_transposed_panel(Emit *e, const PanelSource *source, Val stored, Val first_row,
                                  int valid, Val to)
{
    int64_t block_rows = panel_block_rows(source->store),
            block_bytes = panel_block_bytes(source->store);
    int64_t stride = panel_bytes(source->store, source->n);
    int64_t full = source->k / LANES, rest = source->k % LANES;
    Val block = ll_div(e, first_row, ll_i64(e, block_rows));
    Val within = ll_mul(e, ll_rem(e, first_row, ll_i64(e, block_rows)),
                        ll_i64(e, LANES)); /* Q8_0 only */
    Val from = ll_at(e, stored, ll_mul(e, block, ll_i64(e, block_bytes)));
    for (int part = 0; part < 2; part++) {
        int64_t count = part ? rest : LANES;
        if (!count || (!part && !full))
            continue;
        Loop loop = loop_begin(e, ll_i64(e, part ? full : 0), ll_i64(e, part ? full + 1 : full),
                               ll_i64(e, 1), NULL, 0, true);
        Val at = ll_at(e, from, ll_mul(e, loop.index, ll_i64(e, stride)));
        Val scale = panel_scale(e, source->store, at);
        if (source->store == LRT_STORE_Q8_0)
            at = ll_at(e, at, within);
        Val rows[LANES];
        for (int i = 0; i < LANES; i++) {
            Val row_block =
                source->store == LRT_STORE_BF16 ? ll_at_const(e, at, i / 2 * PANEL_ROW) : at;
            int64_t row = source->store == LRT_STORE_BF16 ? i % 2 : i;
            rows[i] =
                i < valid ? panel_row(e, source->store, row_block, scale, row) : ll_vec(e, 0);
        }
        emit_transpose(e, rows);
        int64_t pitch = pitch_of(source);
        Val out = ll_at(e, to, ll_mul(e, loop.index, ll_i64(e, LANES * pitch)));
        for (int i = 0; i < count; i++)
            ll_store(e, rows[i], ll_at_const(e, out, i * pitch), 64);
        loop_end(e, &loop, NULL, NULL);
    }
}

static void emit_transposed(Emit *e, const PanelSource *source, Val stored, Val panel, Val to)
{
    Val first_row = ll_mul(e, panel, ll_i64(e, LANES));
    int rest = (int)(source->n % LANES);
    Val full = LLVMBuildICmp(e->builder, LLVMIntSLT, panel, ll_i64(e, source->n / LANES), "");
    if (source->n >= LANES) {
        If branch = if_begin(e, full);
        emit_transposed_panel(e, source, stored, first_row, LANES, to);
        if_end(e, &branch);
    }
    if (rest) {
        If branch = if_begin(e, LLVMBuildNot(e->builder, full, ""));
        emit_transposed_panel(e, source, stored, first_row, rest, to);
        if_end(e, &branch);
    }
}

static void emit_unpacked_rows(Emit *e, const PanelSource *source, Val at, Val scale, Val out,
                               int64_t rows)
{
    for (int64_t row = 0; row < rows; row++)
        ll_store(e, panel_row(e, source->store, at, scale, row),
                 ll_at_const(e, out, row * pitch_of(source)), 64);
}

/* Widens or dequantises, block by block. */
static void emit_unpacked(Emit *e, const PanelSource *source, Val stored, Val panel, Val to)
{
    int64_t block_rows = panel_block_rows(source->store),
            block_bytes = panel_block_bytes(source->store);
    int64_t blocks = source->k / block_rows;
    int64_t stride = source->stride ? source->stride : panel_bytes(source->store, source->k);
    Val from = ll_at(e, stored, ll_mul(e, panel, ll_i64(e, stride)));
    Loop loop = loop_begin(e, ll_i64(e, 0), ll_i64(e, blocks), ll_i64(e, 1), NULL, 0, false);
    Val at = ll_at(e, from, ll_mul(e, loop.index, ll_i64(e, block_bytes)));
    Val out = ll_at(e, to, ll_mul(e, loop.index, ll_i64(e, block_rows * pitch_of(source))));
    emit_unpacked_rows(e, source, at, panel_scale(e, source->store, at), out, block_rows);
    loop_end(e, &loop, NULL, NULL);
    if (source->k % block_rows == 0)
        return;
    at = ll_at_const(e, from, blocks * block_bytes);
    out = ll_at_const(e, to, blocks * block_rows * pitch_of(source));
    emit_unpacked_rows(e, source, at, panel_scale(e, source->store, at), out,
                       source->k % block_rows);
}

Val emit_panel(Emit *e, const PanelSource *source)
{
    const char *name =
        arena_format(e->arena, "panel%d.%lld.%lld%s", source->store, (long long)source->k,
                     (long long)source->n, source->transposed ? ".transposed" : "");
    if (source->stride)
        name = arena_format(e->arena, "%s.of%lld", name, (long long)source->stride);
    if (source->pitch)
        name = arena_format(e->arena, "%s.%lld", name, (long long)source->pitch);
    Val function = emit_find(e, name);
    if (function)
        return function;
    EmitState state = emit_save(e);
    LLVMTypeRef params[] = {e->t_ptr, e->t_i64, e->t_ptr};
    function = emit_function(e, name, e->t_void, params, 3, true);
    if (source->transposed)
        emit_transposed(e, source, emit_param(e, 0), emit_param(e, 1), emit_param(e, 2));
    else
        emit_unpacked(e, source, emit_param(e, 0), emit_param(e, 1), emit_param(e, 2));
    emit_return(e);
    emit_restore(e, state);
    return function;
}

void emit_panel_call(Emit *e, Val function, Val stored, Val panel, Val to)
{
    LLVMTypeRef params[] = {e->t_ptr, e->t_i64, e->t_ptr};
    LLVMTypeRef type = LLVMFunctionType(e->t_void, params, 3, 0);
    Val args[] = {stored, panel, to};
    LLVMBuildCall2(e->builder, type, function, args, 3, "");
}
