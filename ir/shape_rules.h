/* shape_rules.h - what the rules of shape inference see, inside ir/.  One rule for each name in the shape column of ops.def.
 *
 * A rule may be asked about anything that IR text can spell, so it checks before it computes;
 * what is common to all (number of operands, extents that fit) is checked once, in shape_infer.
 */
#pragma once
#include "ir/shape.h"

typedef struct Shape {
    Arena *arena;
    Op op;
    const Attrs *attrs;
    int count;
    Node *const *in;
    Type *results; /* room for OP_MAX_RESULTS */
    int result_count;
    const char *reason;
} Shape;

#define SHAPE(rule) bool shape_##rule(Shape *s)
#define IN(i)       (s->in[i]->type)
#define OUT         (s->results[0])
#define STR(type)   type_str(s->arena, (type))

/* Says why there is no such value. */
static inline bool no(Shape *s, const char *reason)
{
    s->reason = reason;
    return false;
}

static inline bool differ(Shape *s, const char *what, int64_t a, int64_t b)
{
    const char *text = dim_str(s->arena, a);
    return no(s,
              arena_format(s->arena, "%s differ: %s and %s", what, text, dim_str(s->arena, b)));
}

/* T and S are the same extent except in a decoding step. */
static inline bool same_extent(int64_t a, int64_t b)
{
    return a == b || ((a == DIM_T || a == DIM_S) && (b == DIM_T || b == DIM_S));
}

static inline bool is_index(Type type)
{
    return type.dtype == DT_I32 && type.rank == 1;
}

static inline bool is_real(Shape *s, int i)
{
    return IN(i).dtype == DT_F32 ||
           no(s, arena_format(s->arena, "expected f32, got %s; to_f32 converts", STR(IN(i))));
}

/* --- shape_fused.c --- */

SHAPE(rope);
SHAPE(attention);
SHAPE(attention_grad);
SHAPE(relative_attention);
SHAPE(relative_attention_grad);
SHAPE(linear_cross_entropy);
SHAPE(cross_entropy);
SHAPE(cross_entropy_grad);
