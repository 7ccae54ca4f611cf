/* emit_gemm.h - matrix products on packed right operands.
 *
 * Three layers: a panel source (as stored | transposed | widened | dequantised into scratch), a tile kernel
 * C[mr x nv] (+)= A rows * panel, and a driver (blocks, panels, threads).  Only the tile kernel depends on the tier.
 * Every element is one chain of fused multiply-adds over k in ascending order, on every tier, for any split of rows, columns or threads.
 *
 * Tile results go to a small scratch tile (first-level cache); the epilogue reads it 16 columns of a row at a time. */
#pragma once
#include "backend/ll.h"

/* Receives 16 finished columns of a row: `acc` <16 x float>, `row` (i64, index of the row), `column` (i64, multiple of 16).
 * Columns past the product's width are padding: buffers have room for them, their values do not matter.
 * The epilogue stores what it wants stored. */
typedef void TileEpilogue(Emit *e, void *user, Val acc, Val row, Val column);

/* C = A W (+ U L): A [M, K], W [K, N] stored as panels; second term optional: U [M, r], L [r, N] panels. */
typedef struct GemmSpec {
    const char *name;
    int64_t row_dim;     /* what the rows of A and C are: ll_rows */
    int64_t max_rows;    /* capacity: bounds scratch, not results */
    int64_t k, n;        /* of this product: C is [M, n] */
    Operand a;           /* f32 rows, pitch */
    Operand w;           /* panels of W */
    bool transposed;     /* the product is A W' : W' is [k, n] where the stored W is [n, k] */
    int store;           /* enum LrtStore of W */
    int64_t rank;        /* r; 0: no second term */
    Operand u, l;        /* second term; L is f32 panels of [r, n] (or stored [n, r] with l_transposed) */
    bool l_transposed;
    TileEpilogue *epilogue;
    void *user;
} GemmSpec;

/* Emits the kernel for e->target and returns it. */
Val emit_gemm(Emit *e, const GemmSpec *spec);
/* In the caller of the kernel: how many tasks it has, given the number of rows (i64). */
Val emit_gemm_tasks(Emit *e, const GemmSpec *spec, Val rows);
int64_t gemm_scratch_bytes(const GemmSpec *spec); /* a thread's scratch; the most over all tiers */

/* G[k, n] += A' B: sums over rows (tokens) of A [M, k] and B [M, n]; G is f32 panels [ceil(n/16)][k][16].
 * The sum over rows is over fixed chunks of 256 rows and a binary tree over them, by the global row index. */
typedef struct GemmTnSpec {
    const char *name;
    int64_t row_dim;     /* what is summed over */
    int64_t max_rows;
    int64_t k, n;
    Operand a, b;        /* f32 rows */
    Operand g;           /* panels, added to */
} GemmTnSpec;
Val emit_gemm_tn(Emit *e, const GemmTnSpec *spec);
Val emit_gemm_tn_tasks(Emit *e, const GemmTnSpec *spec, Val rows);
int64_t gemm_tn_scratch_bytes(const GemmTnSpec *spec);
