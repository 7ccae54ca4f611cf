/* emit_block.h - small products on blocks in scratch memory, for attention and the loss over the vocabulary.
 *
 * Every element is one chain of fused multiply-adds over k in ascending order from zero, added at its end to what C holds.  So a long
 * sum is made of short ones: tens of thousands of small terms on one large sum would be lost in its rounding. */
#pragma once
#include "backend/ll.h"

/* C[m, 16 vectors] (+)= A[m, k] B[k, 16 vectors]. */
typedef struct Block {
    int64_t a_pitch;    /* bytes from row to row of A (transposed: from k to k) */
    int64_t b_pitch;    /* bytes from k to k of B; 0: given when the product is made */
    int64_t b_vector;   /* bytes from 16 columns to the next 16 of B */
    int64_t c_pitch;    /* bytes from row to row of C */
    int vectors;        /* width of C in vectors of 16 */
    bool transposed;    /* A holds [k, m] */
    bool accumulate;
    bool openblas;      /* needs b_vector to be 16 floats: then B's rows are dense */
} Block;

/* Emits C (+)= A B for `rows` rows and `k` steps (run-time numbers, k may be 0).  `b_pitch` as in the block when NULL. */
void emit_block(Emit *e, const Block *block, Val a, Val b, Val c, Val rows, Val k, Val b_pitch);

/* to[i][j] = from[j][i] for `rows` x 16 * `vectors` blocks: from has `rows` (a multiple of 16) rows of from_pitch bytes. */
void emit_block_transpose(Emit *e, Val from, int64_t from_pitch, int64_t rows, int vectors, Val to, int64_t to_pitch);

/* Copies `columns` floats of each of `rows` rows to aligned scratch, scaled; the rest of the row's vectors becomes zero, as do
 * rows up to `all_rows`.  `from_pitch` in bytes. */
void emit_block_load(Emit *e, Val from, int64_t from_pitch, Val rows, int64_t all_rows, int64_t columns, Val to,
                     int64_t to_pitch, double scale);
/* Zeros at `to`: `bytes` (i64, not 0), in whole vectors. */
void emit_block_clear(Emit *e, Val to, Val bytes);
/* The first `columns` lanes of 16 at `at` (fewer than 16: masked). */
void emit_store_lanes(Emit *e, Val value, Val at, int64_t columns);
Val emit_load_lanes(Emit *e, Val at, int64_t columns);
