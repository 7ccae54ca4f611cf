/* type.h - the type of a value: element type and shape, or a tuple of these.
 *
 * A model describes one sequence.  Its extents that are only known at run time have names:
 *   T  tokens of the sequence (after the backend packs sequences: tokens in flight)
 *   S  keys: what attention looks at (in training the sequence itself, S = T; with a cache more)
 *   R  rows asked for: the tokens whose logits somebody wants
 *   Q  one for the sequence as a whole (after packing: sequences in flight)
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "ir/arena.h"

typedef enum DType {
#define DTYPE(id, text, bytes) DT_##id,
#include "ir/dtypes.def"
    DT_COUNT
} DType;

enum { MAX_RANK = 6 };
enum { DIM_T = -1, DIM_S = -2, DIM_R = -3, DIM_Q = -4, DIM_SYMBOLS = 4 };
#define DIM_MAX ((int64_t)1 << 40)

typedef struct Type {
    DType dtype;
    int rank;
    int64_t dim[MAX_RANK]; /* slowest first; negative: DIM_T, DIM_S, DIM_R, DIM_Q */
} Type;

const char *dtype_text(DType dtype);
int dtype_bytes(DType dtype);
bool dtype_parse(const char *text, DType *dtype);

Type type_scalar(DType dtype);
Type type_of(DType dtype, int rank, const int64_t *dims);
bool type_equal(Type a, Type b);
bool dim_is_fixed(int64_t dim);
/* Extents are 1 to DIM_MAX or symbolic, and the fixed ones multiply to at most DIM_MAX. */
bool type_is_valid(Type type);
/* Product of the fixed extents, at most INT64_MAX; `symbolic` receives the number of others (may be NULL). */
int64_t type_elements(Type type, int *symbolic);
/* "f32[T, 768]" */
const char *type_str(Arena *arena, Type type);
const char *dim_str(Arena *arena, int64_t dim);
/* Numpy's rule: aligned at the last axis, extents equal or 1. */
bool type_broadcast(Type a, Type b, Type *result);
