/* pack.h - parameters in the forms that generated code reads, from rows of the file and back.
 *
 *   layout    store     form of a stored matrix [K][N]; N is padded with zeros to 16s
 *   VECTOR    F32 BF16  [N]
 *   ROWS      F32 BF16  [K][pitch bytes]
 *   PANELS    F32       [N/16][K][16]
 *             BF16      [N/16][K/2][16][2]: pairs of rows; an odd K has a zero row more
 *             Q8_0      [N/16][K/32] blocks of LRT_Q8_BYTES: 16 f16 scales, then 32 rows of
 *                       16 int8.  A value is scale * int8; the 32 values along K in one
 *                       column share their scale.
 *
 * The file's part of a parameter (file_start .. file_stop) is the stored matrix or, when
 * `transposed`, its transpose; a "file row" is a row of that part, so a column of the stored
 * matrix when transposed.  Packing all file rows writes every byte of the form, padding
 * included.  Calls on disjoint ranges of file rows may run at the same time. */
#pragma once
#include <stdint.h>

#include "runtime/lrt_abi.h"

enum { LRT_Q8_ROWS = 32, LRT_Q8_SCALES = 32, LRT_Q8_BYTES = LRT_Q8_SCALES + LRT_Q8_ROWS * 16 };

/* Bytes of a stored parameter, rounded up to 64s; `pitch`: LRT_LAYOUT_ROWS only. */
int64_t lrt_param_bytes(int layout, int store, int64_t rows, int64_t cols, int64_t pitch);

/* Rows of the file's part, and values in each. */
int64_t lrt_file_rows(const LrtParam *p);
int64_t lrt_file_cols(const LrtParam *p);

/* Packs file rows first .. first + count - 1; row i is at values + i * stride.  Fastest with
 * 16 rows at a time.  Q8_0 that is not transposed needs whole blocks: `first` a multiple of
 * 32, and `count` too unless it reaches the end. */
void lrt_pack_rows(const LrtParam *p, char *stored, int64_t first, int64_t count,
                   const float *values, int64_t stride);
/* The reverse.  BF16 and Q8_0 give the numbers that the program computes with. */
void lrt_unpack_rows(const LrtParam *p, const char *stored, int64_t first, int64_t count,
                     float *values, int64_t stride);

/* To the nearest, ties to even; NaN stays NaN. */
uint16_t lrt_to_bf16(float value);
uint16_t lrt_to_f16(float value);
float lrt_from_f16(uint16_t half);
