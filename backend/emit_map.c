/* emit_map.c - the element-wise ops on 16 lanes: one short function an op, found through ops.def. */
#include "backend/emit_expr.h"
#include "backend/emit_math.h"
#include "ir/diag.h"
#include "ir/dropout.h"

typedef struct Map {
    Emit *e;
    Expr *x;
    const Node *node;
    Val *in;
    Val column;
} Map;

#define MAP(rule) static Val map_##rule(Map *m)
#define E (m->e)
#define A (m->in[0])
#define B (m->in[1])

static bool is_float(Val value)
{
    return LLVMGetTypeKind(LLVMGetElementType(LLVMTypeOf(value))) == LLVMFloatTypeKind;
}

/* Integers meet floats as floats. */
static void unify(Map *m)
{
    int count = m->node->input_count;
    bool real = false;
    for (int i = 0; i < count; i++)
        real = real || is_float(m->in[i]);
    for (int i = 0; i < count && real; i++)
        if (!is_float(m->in[i]))
            m->in[i] = LLVMBuildSIToFP(E->builder, m->in[i], E->t_vec, "");
}

MAP(neg) { return LLVMBuildFNeg(E->builder, A, ""); }
MAP(exp) { return math_exp(E, A); }
MAP(log) { return math_log(E, A); }
MAP(sqrt) { return math_sqrt(E, A); }
MAP(rsqrt) { return math_rsqrt(E, A); }
MAP(tanh) { return math_tanh(E, A); }
MAP(erf) { return math_erf(E, A); }
MAP(sigmoid) { return math_sigmoid(E, A); }
MAP(abs) { return ll_intrinsic(E, "llvm.fabs", &E->t_vec, 1, &A, 1); }
MAP(not) { return LLVMBuildNot(E->builder, A, ""); }

MAP(to_f32)
{
    if (is_float(A))
        return A;
    bool is_bool = LLVMTypeOf(A) == E->t_mask;
    return is_bool ? LLVMBuildUIToFP(E->builder, A, E->t_vec, "") : LLVMBuildSIToFP(E->builder, A, E->t_vec, "");
}

MAP(to_i32) { return LLVMBuildFPToSI(E->builder, A, E->t_ivec, ""); }
MAP(floor) { return ll_intrinsic(E, "llvm.floor", &E->t_vec, 1, &A, 1); }
MAP(ceil) { return ll_intrinsic(E, "llvm.ceil", &E->t_vec, 1, &A, 1); }

MAP(add)
{
    unify(m);
    return is_float(A) ? ll_fadd(E, A, B) : ll_add(E, A, B);
}

MAP(sub)
{
    unify(m);
    return is_float(A) ? ll_fsub(E, A, B) : ll_sub(E, A, B);
}

MAP(mul)
{
    unify(m);
    return is_float(A) ? ll_fmul(E, A, B) : ll_mul(E, A, B);
}

MAP(div)
{
    unify(m);
    if (is_float(A))
        return ll_fdiv(E, A, B);
    /* What the machine traps on: by zero, which gives 0, and -2^31 by -1, which gives itself. */
    Val zero = LLVMBuildICmp(E->builder, LLVMIntEQ, B, ll_ivec(E, 0), "");
    Val least = LLVMBuildAnd(E->builder, LLVMBuildICmp(E->builder, LLVMIntEQ, A, ll_ivec(E, INT32_MIN), ""),
                             LLVMBuildICmp(E->builder, LLVMIntEQ, B, ll_ivec(E, -1), ""), "");
    Val divisor = ll_select(E, LLVMBuildOr(E->builder, zero, least, ""), ll_ivec(E, 1), B);
    return ll_select(E, zero, ll_ivec(E, 0), ll_div(E, A, divisor));
}

MAP(maximum)
{
    unify(m);
    return is_float(A) ? ll_fmax(E, A, B) : ll_max(E, A, B);
}

MAP(minimum)
{
    unify(m);
    return is_float(A) ? ll_fmin(E, A, B) : ll_min(E, A, B);
}

MAP(clamp)
{
    unify(m);
    Val high = m->in[2];
    return is_float(A) ? ll_fmin(E, ll_fmax(E, A, B), high) : ll_min(E, ll_max(E, A, B), high);
}

static Val compare(Map *m, LLVMRealPredicate real, LLVMIntPredicate integer)
{
    unify(m);
    if (is_float(A))
        return LLVMBuildFCmp(E->builder, real, A, B, "");
    return LLVMBuildICmp(E->builder, integer, A, B, "");
}

MAP(lt) { return compare(m, LLVMRealOLT, LLVMIntSLT); }
MAP(le) { return compare(m, LLVMRealOLE, LLVMIntSLE); }
MAP(eq) { return compare(m, LLVMRealOEQ, LLVMIntEQ); }
MAP(and) { return LLVMBuildAnd(E->builder, A, B, ""); }
MAP(or) { return LLVMBuildOr(E->builder, A, B, ""); }
MAP(where) { return ll_select(E, A, B, m->in[2]); }

MAP(dropout)
{
    return emit_dropout(m->x, m->node, A, m->column);
}

/* Rows of class MAP select their rule; all others have none. */
#define ROW_LEAF(rule) NULL
#define ROW_MAP(rule) map_##rule
#define ROW_REDUCE(rule) NULL
#define ROW_VIEW(rule) NULL
#define ROW_GATHER(rule) NULL
#define ROW_GEMM(rule) NULL
#define ROW_FUSED(rule) NULL
#define ROW_EXPAND(rule) NULL

static Val (*const rules[OP_COUNT])(Map *) = {
#define OP(id, text, in, attrs, traits, shape, grad, class, emit, mix) [OP_##id] = ROW_##class(emit),
#include "ir/ops.def"
};

Val emit_map(Expr *x, const Node *node, Val *inputs, Val column)
{
    if (!rules[node->op])
        ice("'%s' is not an element-wise op", op_info[node->op].text);
    Map map = {x->e, x, node, inputs, column};
    return rules[node->op](&map);
}
