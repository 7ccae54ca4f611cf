/* eval_rules.h - what the rules of the reference evaluator see, inside ir/. */
#pragma once
#include "ir/eval.h"

/* One node being evaluated.  Results are allocated and zero. */
typedef struct Eval {
    const EvalInput *input;
    const Node *node;
    Arena *arena;
    const Value *in[OP_MAX_INPUTS];
    Value *out; /* result_count of them */
} Eval;

/* Product of the extents of axes [from, to). */
int64_t eval_extent(const Value *value, int from, int to);
/* The axis attribute, counted from the front. */
int eval_axis(const Eval *e);
/* Position in its sequence of row `row` of an axis over `dim` (DIM_T or DIM_R); of a fixed axis the row itself. */
int64_t eval_position(const Eval *e, int64_t dim, int64_t row);

/* A rule for each emit name of these classes in ops.def. */
#define ROW_LEAF(rule)
#define ROW_MAP(rule)
#define ROW_REDUCE(rule)
#define ROW_VIEW(rule)
#define ROW_GATHER(rule)
#define ROW_GEMM(rule)
#define ROW_FUSED(rule) void eval_##rule(Eval *e);
#define ROW_EXPAND(rule) void eval_##rule(Eval *e);
#define OP(id, text, in, attrs, traits, shape, grad, class, emit, mix) ROW_##class(emit)
#include "ir/ops.def"
#undef ROW_LEAF
#undef ROW_MAP
#undef ROW_REDUCE
#undef ROW_VIEW
#undef ROW_GATHER
#undef ROW_GEMM
#undef ROW_FUSED
#undef ROW_EXPAND
