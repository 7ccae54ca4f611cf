/* emit_block.c - see emit_block.h. */
#include "backend/emit_block.h"

#include <assert.h>
#include <stdio.h>

#include "backend/emit_blas.h"
#include "backend/emit_panel.h"

enum {
    ROWS_MAX = 16,
    VECTORS_MAX = 4,
    STRIP_VECTORS = 2, /* of B, for all rows in turn, where a tile has fewer: half of the first-level cache at 128 steps */
};

/* Rows and vectors of a register tile: accumulators, vectors of B and one broadcast fit the tier's registers. */
static int tile_vectors(Emit *e, const Block *block)
{
    int most = e->target->width == LANES ? VECTORS_MAX : 1;
    while (block->vectors % most != 0)
        most--;
    return most;
}

static int tile_rows(Emit *e, int vectors)
{
    int per_vector = LANES / e->target->width;
    int rows = (e->target->registers - 2) / (vectors * per_vector) - 1;
    return rows < 1 ? 1 : rows > ROWS_MAX ? ROWS_MAX : rows;
}

static Val load_a(Emit *e, const Block *block, Val a, int row)
{
    int64_t offset = block->transposed ? 4 * row : block->a_pitch * row;
    return ll_splat(e, ll_load(e, e->t_f32, ll_at_const(e, a, offset), 4));
}

/* void (a, b, c, k, b_pitch): one register tile. */
static Val emit_tile_function(Emit *e, const Block *block, int rows, int vectors)
{
    char name[160];
    snprintf(name, sizeof name, "block.%lld.%lld.%lld.%lld.%d.%d.%dx%d", (long long)block->a_pitch,
             (long long)block->b_pitch, (long long)block->b_vector, (long long)block->c_pitch, block->transposed,
             block->accumulate, rows, vectors);
    Val function = emit_find(e, name);
    if (function)
        return function;
    EmitState state = emit_save(e);
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr, e->t_ptr, e->t_i64, e->t_i64};
    function = emit_function(e, name, e->t_void, params, 5, true);
    Val values[ROWS_MAX * VECTORS_MAX + 2], next[ROWS_MAX * VECTORS_MAX + 2];
    int count = rows * vectors;
    for (int i = 0; i < count; i++)
        values[i] = ll_vec(e, 0);
    values[count] = emit_param(e, 0);
    values[count + 1] = emit_param(e, 1);
    Loop loop = loop_begin(e, ll_i64(e, 0), emit_param(e, 3), ll_i64(e, 1), values, count + 2, false);
    Val a = loop.carried[count], b = loop.carried[count + 1], columns[VECTORS_MAX];
    for (int v = 0; v < vectors; v++)
        columns[v] = ll_load(e, e->t_vec, ll_at_const(e, b, v * block->b_vector), 4);
    for (int r = 0; r < rows; r++) {
        Val broadcast = load_a(e, block, a, r);
        for (int v = 0; v < vectors; v++)
            next[r * vectors + v] = ll_fma(e, broadcast, columns[v], loop.carried[r * vectors + v]);
    }
    next[count] = ll_at_const(e, a, block->transposed ? block->a_pitch : 4);
    next[count + 1] = block->b_pitch ? ll_at_const(e, b, block->b_pitch) : ll_at(e, b, emit_param(e, 4));
    loop_end(e, &loop, next, values);
    for (int i = 0; i < count; i++) {
        Val at = ll_at_const(e, emit_param(e, 2), i / vectors * block->c_pitch + i % vectors * LANES * 4);
        ll_store(e, block->accumulate ? ll_fadd(e, ll_load(e, e->t_vec, at, 4), values[i]) : values[i], at, 4);
    }
    emit_return(e);
    emit_restore(e, state);
    return function;
}

static void call_tile(Emit *e, Val function, Val a, Val b, Val c, Val k, Val b_pitch)
{
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr, e->t_ptr, e->t_i64, e->t_i64};
    LLVMTypeRef type = LLVMFunctionType(e->t_void, params, 5, 0);
    LLVMBuildCall2(e->builder, type, function, (Val[]){a, b, c, k, b_pitch}, 5, "");
}

static void call_openblas(Emit *e, const Block *block, Val a, Val b, Val c, Val rows, Val k, Val b_pitch)
{
    assert(block->b_vector == LANES * 4);
    Sgemm product = {
        .m = rows,
        .n = ll_i64(e, block->vectors * LANES),
        .k = k,
        .a = a,
        .a_pitch = ll_i64(e, block->a_pitch),
        .a_transposed = block->transposed,
        .b = b,
        .b_pitch = b_pitch,
        .c = c,
        .c_pitch = ll_i64(e, block->c_pitch),
        .accumulate = block->accumulate,
    };
    blas_sgemm(e, &product);
}

typedef struct Tiles {
    const Block *block;
    Val a, b, c, k, b_pitch;
    int vectors, strip; /* of a tile, of a strip */
} Tiles;

/* A strip's tiles of `rows` rows from `row` on. */
static void row_of_tiles(Emit *e, void *user, Val row, int rows)
{
    const Tiles *tiles = user;
    const Block *block = tiles->block;
    Val function = emit_tile_function(e, block, rows, tiles->vectors);
    Val a = ll_at(e, tiles->a, ll_mul(e, row, ll_i64(e, block->transposed ? 4 : block->a_pitch)));
    Val c = ll_at(e, tiles->c, ll_mul(e, row, ll_i64(e, block->c_pitch)));
    for (int v = 0; v < tiles->strip; v += tiles->vectors)
        call_tile(e, function, a, ll_at_const(e, tiles->b, v * block->b_vector), ll_at_const(e, c, v * LANES * 4), tiles->k,
                  tiles->b_pitch);
}

void emit_block(Emit *e, const Block *block, Val a, Val b, Val c, Val rows, Val k, Val b_pitch)
{
    int vectors = tile_vectors(e, block), most = tile_rows(e, vectors);
    if (!b_pitch)
        b_pitch = ll_i64(e, block->b_pitch);
    if (block->openblas) {
        call_openblas(e, block, a, b, c, rows, k, b_pitch);
        return;
    }
    int strip = vectors < STRIP_VECTORS && block->vectors % STRIP_VECTORS == 0 ? STRIP_VECTORS : vectors;
    Loop strips = loop_begin(e, ll_i64(e, 0), ll_i64(e, block->vectors / strip), ll_i64(e, 1), NULL, 0, true);
    b = ll_at(e, b, ll_mul(e, strips.index, ll_i64(e, strip * block->b_vector)));
    c = ll_at(e, c, ll_mul(e, strips.index, ll_i64(e, strip * LANES * 4)));
    Tiles tiles = {block, a, b, c, k, b_pitch, vectors, strip};
    Val whole = ll_mul(e, ll_div(e, rows, ll_i64(e, most)), ll_i64(e, most));
    Loop loop = loop_begin(e, ll_i64(e, 0), whole, ll_i64(e, most), NULL, 0, false);
    row_of_tiles(e, &tiles, loop.index, most);
    loop_end(e, &loop, NULL, NULL);
    emit_rest(e, whole, rows, most, row_of_tiles, &tiles);
    loop_end(e, &strips, NULL, NULL);
}

void emit_block_transpose(Emit *e, Val from, int64_t from_pitch, int64_t rows, int vectors, Val to, int64_t to_pitch)
{
    Loop loop = loop_begin(e, ll_i64(e, 0), ll_i64(e, rows), ll_i64(e, LANES), NULL, 0, true);
    Val source = ll_at(e, from, ll_mul(e, loop.index, ll_i64(e, from_pitch)));
    Val target = ll_at(e, to, ll_mul(e, loop.index, ll_i64(e, 4)));
    for (int v = 0; v < vectors; v++) {
        Val lines[LANES];
        for (int i = 0; i < LANES; i++)
            lines[i] = ll_load(e, e->t_vec, ll_at_const(e, source, i * from_pitch + v * LANES * 4), 4);
        emit_transpose(e, lines);
        for (int i = 0; i < LANES; i++)
            ll_store(e, lines[i], ll_at_const(e, target, (v * LANES + i) * to_pitch), 4);
    }
    loop_end(e, &loop, NULL, NULL);
}

static Val lane_mask(Emit *e, int64_t columns)
{
    return LLVMBuildICmp(e->builder, LLVMIntSLT, ll_lanes(e), ll_ivec(e, columns), "");
}

void emit_store_lanes(Emit *e, Val value, Val at, int64_t columns)
{
    if (columns >= LANES) {
        ll_store(e, value, at, 4);
        return;
    }
    LLVMTypeRef overloads[] = {e->t_vec, e->t_ptr};
    ll_intrinsic(e, "llvm.masked.store", overloads, 2, (Val[]){value, at, ll_i32(e, 4), lane_mask(e, columns)}, 4);
}

Val emit_load_lanes(Emit *e, Val at, int64_t columns)
{
    if (columns >= LANES)
        return ll_load(e, e->t_vec, at, 4);
    LLVMTypeRef overloads[] = {e->t_vec, e->t_ptr};
    return ll_intrinsic(e, "llvm.masked.load", overloads, 2,
                        (Val[]){at, ll_i32(e, 4), lane_mask(e, columns), ll_vec(e, 0)}, 4);
}

void emit_block_load(Emit *e, Val from, int64_t from_pitch, Val rows, int64_t all_rows, int64_t columns, Val to,
                     int64_t to_pitch, double scale)
{
    Loop loop = loop_begin(e, ll_i64(e, 0), rows, ll_i64(e, 1), NULL, 0, false);
    Val source = ll_at(e, from, ll_mul(e, loop.index, ll_i64(e, from_pitch)));
    Val target = ll_at(e, to, ll_mul(e, loop.index, ll_i64(e, to_pitch)));
    for (int64_t c = 0; c < columns; c += LANES) {
        Val value = emit_load_lanes(e, ll_at_const(e, source, c * 4), columns - c);
        if (scale < 1 || scale > 1)
            value = ll_fmul(e, value, ll_vec(e, scale));
        ll_store(e, value, ll_at_const(e, target, c * 4), 4);
    }
    loop_end(e, &loop, NULL, NULL);
    Loop rest = loop_begin(e, rows, ll_i64(e, all_rows), ll_i64(e, 1), NULL, 0, false);
    Val empty = ll_at(e, to, ll_mul(e, rest.index, ll_i64(e, to_pitch)));
    for (int64_t c = 0; c < columns; c += LANES)
        ll_store(e, ll_vec(e, 0), ll_at_const(e, empty, c * 4), 4);
    loop_end(e, &rest, NULL, NULL);
}

void emit_block_clear(Emit *e, Val to, Val bytes)
{
    Loop loop = loop_begin(e, ll_i64(e, 0), bytes, ll_i64(e, LANES * 4), NULL, 0, true);
    ll_store(e, ll_vec(e, 0), ll_at(e, to, loop.index), 4);
    loop_end(e, &loop, NULL, NULL);
}
