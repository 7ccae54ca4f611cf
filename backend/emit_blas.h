/* emit_blas.h - products by OpenBLAS instead of our tiles: what `loracc --gemm openblas` emits.
 *
 * Weights stay as they are packed; a task copies its part of them to a dense matrix in its scratch and hands it to
 * cblas_sgemm.  OpenBLAS is told to use one thread: the tasks are ours.  Its order of summation is its own. */
#pragma once
#include "backend/emit_gemm.h"

/* C[m, n] (+)= A[m, k] B[k, n] in f32.  Pitches are bytes from row to row as stored; all are i64. */
typedef struct Sgemm {
    Val m, n, k;
    Val a, a_pitch;
    Val b, b_pitch;
    Val c, c_pitch;
    bool a_transposed, b_transposed; /* stored [k, m], [n, k] */
    bool accumulate;
} Sgemm;
void blas_sgemm(Emit *e, const Sgemm *product);

/* To be called before any product, on the thread that runs the others. */
void blas_start(Emit *e);
/* What OpenBLAS allocates for itself, a thread, about: packed blocks of both operands. */
enum { BLAS_OWN_BYTES = 1 << 20 };

/* In place of emit_gemm and its companions. */
Val blas_gemm(Emit *e, const GemmSpec *spec);
Val blas_gemm_tasks(Emit *e, const GemmSpec *spec, Val rows);
int64_t blas_gemm_scratch_bytes(const GemmSpec *spec);

Val blas_gemm_tn(Emit *e, const GemmTnSpec *spec);
Val blas_gemm_tn_tasks(Emit *e, const GemmTnSpec *spec, Val rows);
int64_t blas_gemm_tn_scratch_bytes(const GemmTnSpec *spec);
