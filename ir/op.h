/* op.h - the table of operators, as data. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef enum Op {
#define OP(id, text, in, attrs, traits, shape, grad, class, emit, mix) OP_##id,
#include "ir/ops.def"
    OP_COUNT
} Op;

typedef enum OpClass { OC_LEAF, OC_MAP, OC_REDUCE, OC_VIEW, OC_GATHER, OC_GEMM, OC_FUSED, OC_EXPAND } OpClass;
typedef enum OpMix { MIX_NONE, MIX_KEYS, MIX_ALL } OpMix;

enum OpTrait { TRAIT_COMM = 1, TRAIT_LEAF = 2, TRAIT_TUPLE = 4, TRAIT_INTERNAL = 8, TRAIT_MOVES = 16 };

typedef enum AttrId {
#define ATTR(id, field, kind, def) ATTR_##id,
#include "ir/attrs.def"
    ATTR_COUNT
} AttrId;

enum AttrBit {
#define ATTR(id, field, kind, def) A_##id = 1 << ATTR_##id,
#include "ir/attrs.def"
    A_ATTENTION = A_SCALE | A_CAP | A_HEADS | A_KV_HEADS | A_HEAD_DIM | A_WINDOW | A_CACHE | A_CAUSAL
};

typedef enum AttrKind { ATTR_KIND_f64, ATTR_KIND_int, ATTR_KIND_bool, ATTR_KIND_dims, ATTR_KIND_text } AttrKind;

typedef struct Dims {
    int count;
    int64_t at[6];
} Dims;

typedef double AttrType_f64;
typedef int64_t AttrType_int;
typedef bool AttrType_bool;
typedef Dims AttrType_dims;
typedef const char *AttrType_text; /* interned or arena text; NULL: none */

/* All attributes as typed fields; which of them count is said by the op's `attrs`. */
typedef struct Attrs {
#define ATTR(id, field, kind, def) AttrType_##kind field;
#include "ir/attrs.def"
} Attrs;

typedef struct OpInfo {
    const char *text;
    int inputs; /* -1: one or more */
    unsigned attrs, traits;
    OpClass class;
    OpMix mix;
} OpInfo;

/* No op has more. */
enum { OP_MAX_INPUTS = 11, OP_MAX_RESULTS = 5 };

extern const OpInfo op_info[OP_COUNT];

/* Attention may have two operands behind those it always has, `where` and `bias` (ir/IR.md): how many it always has; 0: another op. */
int op_attention_inputs(Op op);
/* OP_COUNT when there is none of that name. */
Op op_find(const char *text);
/* All attributes at their defaults. */
Attrs attrs_default(void);
/* Equal in the attributes that `op` carries. */
bool attrs_equal(Op op, const Attrs *a, const Attrs *b);
uint64_t attrs_hash(Op op, const Attrs *attrs);
