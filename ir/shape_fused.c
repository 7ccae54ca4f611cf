/* shape_fused.c - the shapes of rotation, attention and losses, whose operands have to fit together. */
#include "ir/shape_rules.h"

SHAPE(rope)
{
    int64_t heads = s->attrs->heads, width = 0;
    if (IN(0).rank == 3)
        width = IN(0).dim[2];
    else if (IN(0).rank == 2 && heads >= 1 && dim_is_fixed(IN(0).dim[1]) &&
             IN(0).dim[1] % heads == 0)
        width = IN(0).dim[1] / heads;
    if (IN(2).rank != 1 || IN(2).dim[0] < 1 || width / 2 < IN(2).dim[0])
        return no(s, arena_format(s->arena,
                                  "heads of %lld elements cannot be rotated by %s frequencies",
                                  (long long)width, STR(IN(2))));
    if (!is_index(IN(1)) || !same_extent(IN(1).dim[0], IN(0).dim[IN(0).rank - 2]))
        return no(
            s, arena_format(s->arena, "expected a position for each row, got %s", STR(IN(1))));
    OUT = IN(0);
    return is_real(s, 0) && is_real(s, 2);
}

/* Operand i is a matrix of f32 with that many columns. */
static bool is_matrix(Shape *s, int i, int64_t columns)
{
    return IN(i).dtype == DT_F32 && IN(i).rank == 2 && IN(i).dim[1] == columns;
}

/* q, k and v, whose heads are side by side in a row */
static bool check_heads(Shape *s)
{
    enum { MAX_HEADS = 1 << 20, MAX_HEAD_DIM = 1 << 20 };
    int64_t heads = s->attrs->heads, kv_heads = s->attrs->kv_heads, size = s->attrs->head_dim;
    if (heads < 1 || kv_heads < 1 || heads > MAX_HEADS || heads % kv_heads != 0 || size < 1 ||
        size > MAX_HEAD_DIM || s->attrs->window < 0)
        return no(s, arena_format(s->arena,
                                  "there is no attention of %lld heads of %lld over %lld",
                                  (long long)heads, (long long)size, (long long)kv_heads));
    for (int i = 0; i < 3; i++)
        if (!is_matrix(s, i, (i ? kv_heads : heads) * size))
            return no(s, arena_format(s->arena, "attention got %s for %lld heads of %lld",
                                      STR(IN(i)), (long long)(i ? kv_heads : heads),
                                      (long long)size));
    return same_extent(IN(1).dim[0], IN(2).dim[0]) ||
           differ(s, "numbers of keys and values", IN(1).dim[0], IN(2).dim[0]);
}

/* Behind the other operands: `where` and `bias` of all scores [heads, T, S], or neither. */
static bool check_scores(Shape *s)
{
    int first = op_attention_inputs(s->op);
    if (s->count == first)
        return true;
    int64_t dims[] = {s->attrs->heads, IN(0).dim[0], IN(1).dim[0]};
    for (int i = 0; s->count == first + 2 && i < 2; i++) {
        Type scores = type_of(i ? DT_F32 : DT_BOOL, 3, dims), both;
        if (IN(first + i).dtype != scores.dtype || !type_broadcast(IN(first + i), scores, &both) || !type_equal(both, scores))
            return no(s, arena_format(s->arena, "%s does not fit the scores %s", STR(IN(first + i)), STR(scores)));
    }
    return s->count == first + 2 || no(s, arena_format(s->arena, "expected %d operands, or two more", first));
}

/* o and lse */
static bool give_results(Shape *s)
{
    s->results[0] = IN(0);
    s->results[1] = type_of(DT_F32, 2, (int64_t[]){IN(0).dim[0], s->attrs->heads});
    s->result_count = 2;
    return check_scores(s);
}

SHAPE(attention)
{
    if (s->count < 3)
        return no(s, "expected q, k and v");
    return check_heads(s) && give_results(s);
}

/* Behind those of the forward node o, lse and do; the gradients of `count` operands. */
static bool check_grad(Shape *s, int first, int count)
{
    if (!type_equal(IN(first), IN(0)) || !type_equal(IN(first + 2), IN(0)) || !is_matrix(s, first + 1, s->attrs->heads))
        return no(s, "o, lse and do are not those of this attention");
    for (int i = 0; i < count; i++)
        s->results[i] = IN(i);
    s->result_count = count;
    return check_scores(s);
}

SHAPE(attention_grad)
{
    if (s->count < 6)
        return no(s, "expected q, k, v, o, lse and do");
    return check_heads(s) && check_grad(s, 3, 3);
}

/* q, k, v, tables [buckets, heads * size] for queries and keys, and the bucket of each distance. */
static bool check_relative(Shape *s)
{
    int64_t width = s->attrs->heads * s->attrs->head_dim;
    if (s->count < op_attention_inputs(s->op))
        return no(s, "expected q, k, v, two tables and the buckets");
    if (!check_heads(s))
        return false;
    if (s->attrs->heads != s->attrs->kv_heads || !is_matrix(s, 3, width) || !is_matrix(s, 4, width) ||
        IN(3).dim[0] != IN(4).dim[0] || !dim_is_fixed(IN(3).dim[0]) || IN(5).rank != 1 || IN(5).dim[0] % 2 != 1)
        return no(s, "the tables of relative positions do not fit the heads");
    return is_real(s, 5) && (s->attrs->index >= 1 && s->attrs->index <= 3 ? true : no(s, "there is no such relative term"));
}

SHAPE(relative_attention)
{
    return check_relative(s) && give_results(s);
}

SHAPE(relative_attention_grad)
{
    return check_relative(s) && check_grad(s, 6, 5);
}

/* One target for each row of x. */
static bool check_targets(Shape *s, Type x, Type targets)
{
    if (x.dtype == DT_F32 && x.rank == 2 && is_index(targets) &&
        same_extent(x.dim[0], targets.dim[0]))
        return true;
    const char *text = STR(x);
    return no(s, arena_format(s->arena, "expected f32[T, n] and targets i32[T], got %s and %s",
                              text, STR(targets)));
}

SHAPE(linear_cross_entropy)
{
    if (s->count < 3 || s->count > 4)
        return no(s, "expected x, W, targets and, if there is one, a bias");
    if (!check_targets(s, IN(0), IN(2)) || !is_real(s, 1))
        return false;
    int64_t k = IN(1).dim[s->attrs->tb ? 1 : 0];
    if (IN(1).rank != 2 || IN(0).dim[1] != k)
        return differ(s, "inner dimensions", IN(0).dim[1], k);
    int64_t vocabulary = IN(1).dim[s->attrs->tb ? 0 : 1];
    if (s->count == 4 && !type_equal(IN(3), type_of(DT_F32, 1, &vocabulary)))
        return no(s, arena_format(s->arena, "expected a bias f32[%lld], got %s", (long long)vocabulary, STR(IN(3))));
    s->results[0] = type_of(DT_F32, 2, (int64_t[]){IN(0).dim[0], 1});
    s->results[1] = IN(0);
    s->result_count = 2;
    return true;
}

SHAPE(cross_entropy)
{
    if (!check_targets(s, IN(0), IN(1)))
        return false;
    OUT = type_of(DT_F32, 2, (int64_t[]){IN(0).dim[0], 1});
    return true;
}

SHAPE(cross_entropy_grad)
{
    if (!check_targets(s, IN(0), IN(1)))
        return false;
    OUT = IN(0);
    return (is_matrix(s, 2, 1) && same_extent(IN(2).dim[0], OUT.dim[0])) ||
           no(s, arena_format(s->arena, "expected the gradient of a loss f32[T, 1], got %s",
                              STR(IN(2))));
}
