/* pack.c - see pack.h.
 *
 * Everything goes through blocks: 16 columns of the stored matrix (a panel) by some rows of K.
 * A block is gathered from the file's rows in either orientation, then written in the form of
 * the element type. */
#include "runtime/pack.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { LANES = 16, BLOCK_ROWS = 32 };

static int64_t round_up(int64_t value, int64_t to)
{
    return (value + to - 1) / to * to;
}

static int64_t element_bytes(int store)
{
    return store == LRT_STORE_BF16 ? 2 : 4;
}

/* Bytes of a panel with `rows` rows. */
static int64_t panel_bytes(int store, int64_t rows)
{
    if (store == LRT_STORE_Q8_0)
        return round_up(rows, LRT_Q8_ROWS) / LRT_Q8_ROWS * LRT_Q8_BYTES;
    return (store == LRT_STORE_BF16 ? round_up(rows, 2) : rows) * LANES * element_bytes(store);
}

int64_t lrt_param_bytes(int layout, int store, int64_t rows, int64_t cols, int64_t pitch)
{
    int64_t bytes = round_up(cols, LANES) * element_bytes(store);
    if (layout == LRT_LAYOUT_ROWS)
        bytes = rows * pitch;
    else if (layout == LRT_LAYOUT_PANELS)
        bytes = (cols + LANES - 1) / LANES * panel_bytes(store, rows);
    return round_up(bytes, 64);
}

int64_t lrt_file_rows(const LrtParam *p)
{
    return p->transposed ? p->cols : p->rows;
}

int64_t lrt_file_cols(const LrtParam *p)
{
    return p->transposed ? p->rows : p->cols;
}

/* --- numbers ------------------------------------------------------------------------------ */

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t lrt_to_bf16(float value)
{
    uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t half)
{
    return float_of((uint32_t)half << 16);
}

uint16_t lrt_to_f16(float value)
{
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000) /* rounds to 65520 or more */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* below 2^-14: units of 2^-24; adding 0.5 leaves just those
                                     bits, rounded */
        float shifted = float_of(magnitude) + 0.5f;
        return (uint16_t)(sign | (bits_of(shifted) - 0x3f000000));
    }
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - 0x38000000) >> 13);
}

float lrt_from_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = (uint32_t)(half & 0x7fff) << 13;
    if (rest >= 0x0f800000)
        return float_of(sign | 0x7f800000 | (rest & 0x7fffff));
    return float_of(sign | bits_of(float_of(rest) * 0x1p112f));
}

/* --- blocks of panels --------------------------------------------------------------------- */

/* A rectangle of a stored matrix: k rows from row `k0`, n columns from column `n0`, inside one
 * panel. */
typedef struct Block {
    int64_t k0, n0;
    int k, n;
} Block;

static char *block_at(const LrtParam *p, const char *stored, int64_t k, int64_t n)
{
    /* One function for reading and writing: the callers know whether `stored` may change. */
    char *panel = (char *)(uintptr_t)stored + n / LANES * panel_bytes(p->store, p->rows);
    if (p->store == LRT_STORE_Q8_0)
        return panel + k / LRT_Q8_ROWS * LRT_Q8_BYTES;
    if (p->store == LRT_STORE_BF16)
        return panel + k / 2 * LANES * 4;
    return panel + k * LANES * 4;
}

/* values[k][n] as the file has them: from(k, n) = values[k * step_k + n * step_n]. */
typedef struct Steps {
    int64_t k, n;
} Steps;

static void write_f32(float *to, const float *values, Steps step, Block b)
{
    if (step.n == 1) {
        for (int k = 0; k < b.k; k++, to += LANES, values += step.k)
            for (int n = 0; n < b.n; n++)
                to[n] = values[n];
        return;
    }
    for (int k = 0; k < b.k; k++, to += LANES)
        for (int n = 0; n < b.n; n++)
            to[n] = values[k * step.k + n * step.n];
}

static void write_bf16(uint16_t *to, const float *values, Steps step, Block b)
{
    for (int k = 0; k < b.k; k++)
        for (int n = 0; n < b.n; n++) {
            int row = (int)(b.k0 % 2) + k;
            to[(row / 2 * LANES + n) * 2 + row % 2] =
                lrt_to_bf16(values[k * step.k + n * step.n]);
        }
}

/* To the nearest for |x| < 2^22, ties to even: the sum has no room for a fraction. */
static float nearest(float x)
{
    return x + 0x1.8p23f - 0x1.8p23f;
}

/* `column`: which of the block's 16 columns the first one is.  In rows of 16, which compilers
 * turn into vectors. */
static void write_q8(char *to, int column, const float *values, Steps step, Block b)
{
    float block[LRT_Q8_ROWS][LANES] = {0}, largest[LANES] = {0}, inverse[LANES];
    write_f32(block[0], values, step, b);
    for (int k = 0; k < LRT_Q8_ROWS; k++)
        for (int n = 0; n < LANES; n++)
            largest[n] = fabsf(block[k][n]) > largest[n] ? fabsf(block[k][n]) : largest[n];
    for (int n = 0; n < LANES; n++) {
        uint16_t half = lrt_to_f16(largest[n] / 127.0f);
        float scale = lrt_from_f16(half);
        inverse[n] = scale > 0 ? 1.0f / scale : 0;
        if (n < b.n)
            memcpy(to + 2 * (column + n), &half, 2);
    }
    for (int k = 0; k < LRT_Q8_ROWS; k++) {
        signed char row[LANES];
        for (int n = 0; n < LANES; n++) {
            float q = nearest(block[k][n] * inverse[n]);
            q = q > -127 ? q : -127; /* NaN, too */
            row[n] = (signed char)(q < 127 ? q : 127);
        }
        memcpy(to + LRT_Q8_SCALES + k * LANES + column, row, (size_t)b.n);
    }
}

static void write_block(const LrtParam *p, char *stored, const float *values, Steps step,
                        Block b)
{
    char *to = block_at(p, stored, b.k0, b.n0);
    int column = (int)(b.n0 % LANES);
    if (p->store == LRT_STORE_Q8_0)
        write_q8(to, column, values, step, b);
    else if (p->store == LRT_STORE_BF16)
        write_bf16((uint16_t *)(void *)to + 2 * column, values, step, b);
    else
        write_f32((float *)(void *)to + column, values, step, b);
}

static float read_value(const LrtParam *p, const char *stored, int64_t k, int64_t n)
{
    const char *from = block_at(p, stored, k, n);
    int64_t column = n % LANES;
    if (p->store == LRT_STORE_F32)
        return ((const float *)(const void *)from)[column];
    if (p->store == LRT_STORE_BF16)
        return from_bf16(((const uint16_t *)(const void *)from)[2 * column + k % 2]);
    uint16_t half;
    memcpy(&half, from + 2 * column, 2);
    return lrt_from_f16(half) *
           (float)(signed char)from[LRT_Q8_SCALES + k % LRT_Q8_ROWS * LANES + column];
}

static void read_block(const LrtParam *p, const char *stored, float *values, Steps step,
                       Block b)
{
    for (int k = 0; k < b.k; k++)
        for (int n = 0; n < b.n; n++)
            values[k * step.k + n * step.n] = read_value(p, stored, b.k0 + k, b.n0 + n);
}

/* Zeros in the columns past the last one and, for pairs of rows, in the row past the last one.
 */
static void write_padding(const LrtParam *p, char *stored, Block b)
{
    static const float zeros[BLOCK_ROWS * LANES];
    Steps step = {LANES, 1};
    int used = (int)(p->cols % LANES);
    bool last_column = b.n0 + b.n == p->cols, last_row = b.k0 + b.k == p->rows;
    if (used && last_column)
        write_block(p, stored, zeros, step, (Block){b.k0, p->cols, b.k, LANES - used});
    if (last_row && p->store == LRT_STORE_BF16 && p->rows % 2) {
        int n = used && last_column ? b.n + LANES - used : b.n;
        write_block(p, stored, zeros, step, (Block){p->rows, b.n0, 1, n});
    }
}

/* Walks the blocks that file rows first .. first + count - 1 touch; the inner loop follows the
 * file's rows, so that both sides of a transposition are read and written in runs. */
typedef void BlockFunction(const LrtParam *p, char *stored, float *values, Steps step, Block b);

static void each_block(const LrtParam *p, char *stored, int64_t first, int64_t count,
                       float *values, int64_t stride, BlockFunction *function)
{
    int64_t k_from = p->transposed ? 0 : first, k_to = p->transposed ? p->rows : first + count;
    int64_t n_from = p->transposed ? first : 0, n_to = p->transposed ? first + count : p->cols;
    Steps step = p->transposed ? (Steps){1, stride} : (Steps){stride, 1};
    for (int64_t k_outer = k_from; k_outer < k_to; k_outer += BLOCK_ROWS - k_outer % BLOCK_ROWS)
        for (int64_t n = n_from; n < n_to; n += LANES - n % LANES) {
            int64_t k_left = k_to - k_outer, k_room = BLOCK_ROWS - k_outer % BLOCK_ROWS;
            int64_t n_left = n_to - n, n_room = LANES - n % LANES;
            Block b = {k_outer, n, (int)(k_left < k_room ? k_left : k_room),
                       (int)(n_left < n_room ? n_left : n_room)};
            float *from = values + (k_outer - k_from) * step.k + (n - n_from) * step.n;
            function(p, stored, from, step, b);
        }
}

static void pack_block(const LrtParam *p, char *stored, float *values, Steps step, Block b)
{
    write_block(p, stored, values, step, b);
    write_padding(p, stored, b);
}

static void unpack_block(const LrtParam *p, char *stored, float *values, Steps step, Block b)
{
    read_block(p, stored, values, step, b);
}

/* --- rows and vectors --------------------------------------------------------------------- */

static void put(int store, char *row, int64_t column, float value)
{
    if (store == LRT_STORE_BF16)
        ((uint16_t *)(void *)row)[column] = lrt_to_bf16(value);
    else
        ((float *)(void *)row)[column] = value;
}

static float get(int store, const char *row, int64_t column)
{
    if (store == LRT_STORE_BF16)
        return from_bf16(((const uint16_t *)(const void *)row)[column]);
    return ((const float *)(const void *)row)[column];
}

static int64_t row_bytes(const LrtParam *p)
{
    return p->layout == LRT_LAYOUT_ROWS ? p->pitch
                                        : lrt_param_bytes(p->layout, p->store, 1, p->cols, 0);
}

/* Zeros past the last column of a row. */
static void pad_row(const LrtParam *p, char *row)
{
    int64_t used = p->cols * element_bytes(p->store);
    memset(row + used, 0, (size_t)(row_bytes(p) - used));
}

static void pack_plain(const LrtParam *p, char *stored, int64_t first, int64_t count,
                       const float *values, int64_t stride)
{
    int64_t width = lrt_file_cols(p), bytes = row_bytes(p);
    for (int64_t i = 0; i < count; i++, values += stride)
        for (int64_t j = 0; j < width; j++) {
            int64_t k = p->transposed ? j : first + i, n = p->transposed ? first + i : j;
            put(p->store, stored + k * bytes, n, values[j]);
            if (n == p->cols - 1)
                pad_row(p, stored + k * bytes);
        }
}

void lrt_pack_rows(const LrtParam *p, char *stored, int64_t first, int64_t count,
                   const float *values, int64_t stride)
{
    if (p->layout != LRT_LAYOUT_PANELS) {
        pack_plain(p, stored, first, count, values, stride);
        return;
    }
    assert(p->store != LRT_STORE_Q8_0 || p->transposed || first % LRT_Q8_ROWS == 0);
    each_block(p, stored, first, count, (float *)(uintptr_t)values, stride, pack_block);
}

void lrt_unpack_rows(const LrtParam *p, const char *stored, int64_t first, int64_t count,
                     float *values, int64_t stride)
{
    if (p->layout == LRT_LAYOUT_PANELS) {
        each_block(p, (char *)(uintptr_t)stored, first, count, values, stride, unpack_block);
        return;
    }
    int64_t width = lrt_file_cols(p), bytes = row_bytes(p);
    for (int64_t i = 0; i < count; i++, values += stride)
        for (int64_t j = 0; j < width; j++) {
            int64_t k = p->transposed ? j : first + i, n = p->transposed ? first + i : j;
            values[j] = get(p->store, stored + k * bytes, n);
        }
}
