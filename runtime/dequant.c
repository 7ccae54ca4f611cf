/* dequant.c - elements of any stored type as f32, exactly as ggml's reference computes them. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/checkpoint.h"

static uint16_t load16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* IEEE half precision. */
static float from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 31)
        return from_bits(sign | 0x7f800000 | mantissa << 13);
    if (exponent == 0)
        return (sign ? -1.0f : 1.0f) * (float)mantissa * 0x1p-24f;
    return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* Blocks of 32: a scale d, for the _1 types an offset m, and the numbers; low nibbles first, then high ones. */
static void block_q4(const uint8_t *b, bool offset, float *out)
{
    float d = from_f16(load16(b)), m = offset ? from_f16(load16(b + 2)) : 0;
    const uint8_t *q = b + (offset ? 4 : 2);
    for (int i = 0; i < 16; i++) {
        int low = q[i] & 15, high = q[i] >> 4;
        out[i] = offset ? (float)low * d + m : (float)(low - 8) * d;
        out[i + 16] = offset ? (float)high * d + m : (float)(high - 8) * d;
    }
}

static void block_q5(const uint8_t *b, bool offset, float *out)
{
    float d = from_f16(load16(b)), m = offset ? from_f16(load16(b + 2)) : 0;
    const uint8_t *h = b + (offset ? 4 : 2), *q = h + 4;
    uint32_t fifth = (uint32_t)h[0] | (uint32_t)h[1] << 8 | (uint32_t)h[2] << 16 | (uint32_t)h[3] << 24;
    for (int i = 0; i < 16; i++) {
        int low = (q[i] & 15) | (int)(fifth >> i & 1) << 4, high = q[i] >> 4 | (int)(fifth >> (i + 16) & 1) << 4;
        out[i] = offset ? (float)low * d + m : (float)(low - 16) * d;
        out[i + 16] = offset ? (float)high * d + m : (float)(high - 16) * d;
    }
}

static void block_q8_0(const uint8_t *b, float *out)
{
    float d = from_f16(load16(b));
    for (int i = 0; i < 32; i++)
        out[i] = (float)(int8_t)b[2 + i] * d;
}

static float plain_element(LrtDtype dtype, const uint8_t *p)
{
    double real;
    int64_t i64;
    int32_t i32;
    float single;
    switch (dtype) {
    case LRT_F32: memcpy(&single, p, 4); return single;
    case LRT_F16: return from_f16(load16(p));
    case LRT_BF16: return from_bits((uint32_t)load16(p) << 16);
    case LRT_F64: memcpy(&real, p, 8); return (float)real;
    case LRT_I64: memcpy(&i64, p, 8); return (float)i64;
    case LRT_I32: memcpy(&i32, p, 4); return (float)i32;
    default: return (float)*p;
    }
}

static const struct {
    int block, bytes;
} blocks[LRT_DTYPE_COUNT] = {
#define DTYPE(id, name, block, bytes) [LRT_##id] = {block, bytes},
#include "runtime/dtypes.def"
};

static void read_elements(const LrtTensor *tensor, int64_t first, int64_t count, float *out)
{
    const uint8_t *p = tensor->data + first / blocks[tensor->dtype].block * blocks[tensor->dtype].bytes;
    if (tensor->dtype == LRT_F32) {
        memcpy(out, p, (size_t)count * 4);
        return;
    }
    for (int64_t i = 0; i < count; i += blocks[tensor->dtype].block, p += blocks[tensor->dtype].bytes)
        switch (tensor->dtype) {
        case LRT_Q4_0: block_q4(p, false, out + i); break;
        case LRT_Q4_1: block_q4(p, true, out + i); break;
        case LRT_Q5_0: block_q5(p, false, out + i); break;
        case LRT_Q5_1: block_q5(p, true, out + i); break;
        case LRT_Q8_0: block_q8_0(p, out + i); break;
        default: out[i] = plain_element(tensor->dtype, p);
        }
}

/* Where row `row` of Hugging Face's order lies in a file whose rotary pairs are adjacent. */
static int64_t file_row(const LrtTensor *tensor, int64_t row)
{
    if (!tensor->rotary_heads)
        return row;
    int64_t size = tensor->shape[0] / tensor->rotary_heads, head = row / size, i = row % size;
    return head * size + (i < size / 2 ? 2 * i : 2 * (i - size / 2) + 1);
}

/* The file has [columns][rows]: whole file rows are read and one column taken from each. */
static bool read_flipped(const LrtTensor *tensor, int64_t first, int64_t count, float *out, LrtError *error)
{
    int64_t rows = tensor->shape[0], columns = tensor->shape[1];
    float *line = malloc(sizeof *line * (size_t)rows);
    if (!line)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    for (int64_t c = 0; c < columns; c++) {
        read_elements(tensor, c * rows, rows, line);
        for (int64_t r = 0; r < count; r++)
            out[r * columns + c] = line[first + r];
    }
    free(line);
    return true;
}

/* Blocks may span rows of one element, so that all are read before they are put in order. */
static bool read_rotary_bias(const LrtTensor *tensor, float *out, LrtError *error)
{
    float *line = malloc(sizeof *line * (size_t)tensor->shape[0]);
    if (!line)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    read_elements(tensor, 0, tensor->shape[0], line);
    for (int64_t i = 0; i < tensor->shape[0]; i++)
        out[i] = line[file_row(tensor, i)];
    free(line);
    return true;
}

bool lrt_tensor_read_rows(const LrtTensor *tensor, int64_t first, int64_t count, float *out, LrtError *error)
{
    int64_t rows = lrt_tensor_rows(tensor), width = lrt_tensor_width(tensor);
    if (first < 0 || count < 0 || count > rows - first)
        return lrt_fail(error, LRT_INVALID, "tensor '%s' has no rows %lld to %lld", tensor->name, (long long)first,
                        (long long)(first + count));
    if (tensor->flipped)
        return read_flipped(tensor, first, count, out, error);
    if (tensor->rotary_heads && tensor->rank == 1)
        return read_rotary_bias(tensor, out, error);
    if (!tensor->rotary_heads) {
        read_elements(tensor, first * width, count * width, out);
        return true;
    }
    for (int64_t r = 0; r < count; r++)
        read_elements(tensor, file_row(tensor, first + r) * width, width, out + r * width);
    return true;
}

bool lrt_tensor_read_integers(const LrtTensor *tensor, int64_t *out, LrtError *error)
{
    int64_t count = lrt_tensor_elements(tensor);
    for (int64_t i = 0; i < count; i++) {
        int32_t i32;
        switch (tensor->dtype) {
        case LRT_I64: memcpy(&out[i], tensor->data + 8 * i, 8); break;
        case LRT_I32: memcpy(&i32, tensor->data + 4 * i, 4); out[i] = i32; break;
        case LRT_U8:
        case LRT_BOOL: out[i] = tensor->data[i]; break;
        default:
            return lrt_fail(error, LRT_INVALID, "tensor '%s' is %s; expected I32 or I64", tensor->name,
                            lrt_dtype_name(tensor->dtype));
        }
    }
    return true;
}

void lrt_tensor_forget(const LrtTensor *tensor)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)tensor->data / page * page;
    uintptr_t end = ((uintptr_t)tensor->data + tensor->bytes) / page * page;
    if (end > start)
        madvise((void *)start, end - start, MADV_DONTNEED);
}
