/* shape.c - see shape.h, shape_rules.h. */
#include "ir/shape_rules.h"

#include <string.h>

static bool do_not_broadcast(Shape *s, Type a, Type b)
{
    const char *text = STR(a);
    return no(s, arena_format(s->arena, "shapes %s and %s do not broadcast", text, STR(b)));
}

static bool same_shape(Type a, Type b)
{
    b.dtype = a.dtype;
    return type_equal(a, b);
}

static bool axis_of(Shape *s, int *axis)
{
    int64_t a = s->attrs->axis < 0 ? s->attrs->axis + IN(0).rank : s->attrs->axis;
    if (a < 0 || a >= IN(0).rank)
        return no(s, arena_format(s->arena, "there is no axis %lld in %s",
                                  (long long)s->attrs->axis, STR(IN(0))));
    *axis = (int)a;
    return true;
}

/* The dims attribute as the shape of the result. */
static bool given_dims(Shape *s)
{
    if (s->attrs->dims.count < 0 || s->attrs->dims.count > MAX_RANK)
        return no(s, "too many axes");
    OUT = type_of(IN(0).dtype, s->attrs->dims.count, s->attrs->dims.at);
    return true;
}

/* --- leaves and element-wise --- */

static SHAPE(given)
{
    return no(s, "a leaf's type is given, not inferred");
}

static SHAPE(same)
{
    OUT = IN(0);
    return OUT.dtype != DT_BOOL || no(s, "a truth value is not a number");
}

static SHAPE(real)
{
    OUT = IN(0);
    return is_real(s, 0);
}

static SHAPE(site)
{
    OUT = IN(0);
    const char *name = s->attrs->name;
    if (name && (!strcmp(name, "keys") || !strcmp(name, "values")))
        for (int i = 0; i < OUT.rank; i++)
            if (OUT.dim[i] == DIM_T)
                OUT.dim[i] = DIM_S;
    return true;
}

static SHAPE(to_f32)
{
    OUT = IN(0);
    OUT.dtype = DT_F32;
    return true;
}

static SHAPE(to_i32)
{
    OUT = IN(0);
    OUT.dtype = DT_I32;
    return is_real(s, 0);
}

static SHAPE(broadcast)
{
    if (!type_broadcast(IN(0), IN(1), &OUT))
        return do_not_broadcast(s, IN(0), IN(1));
    if (IN(0).dtype == DT_BOOL || IN(1).dtype == DT_BOOL)
        return no(s, "a truth value is not a number; use where(condition, a, b)");
    OUT.dtype = IN(0).dtype == DT_F32 || IN(1).dtype == DT_F32 ? DT_F32 : DT_I32;
    return true;
}

static SHAPE(compare)
{
    if (!shape_broadcast(s))
        return false;
    OUT.dtype = DT_BOOL;
    return true;
}

static SHAPE(logic)
{
    for (int i = 0; i < s->count; i++)
        if (IN(i).dtype != DT_BOOL)
            return no(s,
                      arena_format(s->arena, "operands are truth values, got %s", STR(IN(i))));
    OUT = IN(0);
    return s->count == 1 || type_broadcast(IN(0), IN(1), &OUT) ||
           do_not_broadcast(s, IN(0), IN(1));
}

static SHAPE(where)
{
    Type both;
    if (IN(0).dtype != DT_BOOL)
        return no(s,
                  arena_format(s->arena, "the condition is a truth value, got %s", STR(IN(0))));
    if ((IN(1).dtype == DT_BOOL) != (IN(2).dtype == DT_BOOL))
        return no(s, "one choice is a truth value, the other a number");
    if (!type_broadcast(IN(1), IN(2), &both))
        return do_not_broadcast(s, IN(1), IN(2));
    if (!type_broadcast(IN(0), both, &OUT))
        return do_not_broadcast(s, IN(0), both);
    OUT.dtype = IN(1).dtype == IN(2).dtype ? IN(1).dtype : DT_F32;
    return true;
}

static SHAPE(clamp)
{
    Type bounds;
    if (!type_broadcast(IN(1), IN(2), &bounds))
        return do_not_broadcast(s, IN(1), IN(2));
    if (!type_broadcast(IN(0), bounds, &OUT))
        return do_not_broadcast(s, IN(0), bounds);
    bool real = false;
    for (int i = 0; i < 3; i++) {
        if (IN(i).dtype == DT_BOOL)
            return no(s, "truth values have no order");
        real = real || IN(i).dtype == DT_F32;
    }
    OUT.dtype = real ? DT_F32 : DT_I32;
    return true;
}

/* --- reductions --- */

static SHAPE(reduce)
{
    int axis;
    if (!axis_of(s, &axis) || !shape_same(s))
        return false;
    OUT.dim[axis] = 1;
    return true;
}

static SHAPE(mean)
{
    int axis;
    if (!axis_of(s, &axis))
        return false;
    if (!dim_is_fixed(IN(0).dim[axis]))
        return no(s,
                  arena_format(s->arena, "there is no mean over %s, which is as long as the data are", dim_str(s->arena, IN(0).dim[axis])));
    return is_real(s, 0) && shape_reduce(s);
}

/* broadcast and its inverse sum_to: the smaller shape broadcasts to exactly the larger one. */
static SHAPE(dims)
{
    if (!given_dims(s))
        return false;
    Type all;
    const Type *small = s->op == OP_SUM_TO ? &OUT : &IN(0),
               *large = s->op == OP_SUM_TO ? &IN(0) : &OUT;
    if (type_broadcast(*small, *large, &all) && same_shape(all, *large))
        return true;
    const char *text = STR(*small);
    return no(s, arena_format(s->arena, "%s does not broadcast to %s", text, STR(*large)));
}

/* --- views --- */

static int count_dim(Type type, int64_t dim)
{
    int count = 0;
    for (int i = 0; i < type.rank; i++)
        count += type.dim[i] == dim;
    return count;
}

static SHAPE(reshape)
{
    if (!given_dims(s))
        return false;
    bool equal = type_elements(IN(0), NULL) == type_elements(OUT, NULL);
    for (int64_t dim = -DIM_SYMBOLS; dim <= DIM_T; dim++)
        equal = equal && count_dim(IN(0), dim) == count_dim(OUT, dim);
    if (equal)
        return true;
    const char *text = STR(IN(0));
    return no(
        s, arena_format(s->arena, "%s has another number of elements than %s", text, STR(OUT)));
}

static SHAPE(permute)
{
    bool seen[MAX_RANK] = {false};
    if (s->attrs->dims.count != IN(0).rank)
        return no(s, "the order names another number of axes than there are");
    OUT = IN(0);
    for (int i = 0; i < OUT.rank; i++) {
        int64_t from = s->attrs->dims.at[i];
        if (from < 0 || from >= OUT.rank || seen[from])
            return no(s, "the order is not a permutation of the axes");
        seen[from] = true;
        OUT.dim[i] = IN(0).dim[from];
    }
    return true;
}

static SHAPE(slice)
{
    int axis;
    if (!axis_of(s, &axis))
        return false;
    OUT = IN(0);
    int64_t start = s->attrs->start, stop = s->attrs->stop, extent = OUT.dim[axis];
    if (!dim_is_fixed(extent) || start < 0 || stop <= start || stop > extent)
        return no(s,
                  arena_format(s->arena, "[%lld:%lld] is not inside an axis of %s",
                               (long long)start, (long long)stop, dim_str(s->arena, extent)));
    OUT.dim[axis] = stop - start;
    return true;
}

static SHAPE(concat)
{
    int axis;
    if (!axis_of(s, &axis))
        return false;
    Type other = IN(1);
    OUT = IN(0);
    if (other.rank != OUT.rank || !dim_is_fixed(OUT.dim[axis]) || !dim_is_fixed(other.dim[axis]))
        return no(s, "only axes of known extent can be put one behind the other");
    int64_t extent = OUT.dim[axis] + other.dim[axis];
    other.dim[axis] = OUT.dim[axis];
    if (!type_equal(OUT, other) || extent > DIM_MAX)
        return no(s, "the other axes have to be equal");
    OUT.dim[axis] = extent;
    return is_real(s, 0);
}

/* The inverse of slice: `start` zeros, the input, zeros up to `stop` elements. */
static SHAPE(pad)
{
    int axis;
    if (!axis_of(s, &axis))
        return false;
    OUT = IN(0);
    int64_t start = s->attrs->start, stop = s->attrs->stop, extent = OUT.dim[axis];
    if (!dim_is_fixed(extent) || start < 0 || stop < start || stop - start < extent)
        return no(s,
                  arena_format(s->arena, "%s elements do not fit into [%lld:%lld]",
                               dim_str(s->arena, extent), (long long)start, (long long)stop));
    OUT.dim[axis] = stop;
    return true;
}

static SHAPE(split_heads)
{
    int64_t heads = s->attrs->heads;
    if (IN(0).rank != 2 || heads < 1 || !dim_is_fixed(IN(0).dim[1]) ||
        IN(0).dim[1] % heads != 0)
        return no(s, arena_format(s->arena, "%s cannot be split into %lld heads", STR(IN(0)),
                                  (long long)heads));
    OUT = type_of(IN(0).dtype, 3, (int64_t[]){heads, IN(0).dim[0], IN(0).dim[1] / heads});
    return true;
}

static SHAPE(merge_heads)
{
    Type in = IN(0);
    if (in.rank != 3 || !dim_is_fixed(in.dim[0]) || !dim_is_fixed(in.dim[2]))
        return no(s, arena_format(s->arena, "expected [heads, T, size], got %s", STR(in)));
    int64_t width =
        type_elements(type_of(in.dtype, 2, (int64_t[]){in.dim[0], in.dim[2]}), NULL);
    OUT = type_of(in.dtype, 2, (int64_t[]){in.dim[1], width});
    return true;
}

static SHAPE(repeat_heads)
{
    int64_t heads = s->attrs->heads;
    if (IN(0).rank != 3 || IN(0).dim[0] < 1 || heads < 1 || heads % IN(0).dim[0] != 0)
        return no(s, arena_format(s->arena, "the heads of %s cannot be repeated to %lld",
                                  STR(IN(0)), (long long)heads));
    OUT = IN(0);
    OUT.dim[0] = heads;
    return true;
}

static SHAPE(result)
{
    const Node *tuple = s->in[0];
    if (!(op_info[tuple->op].traits & TRAIT_TUPLE) || !tuple->results || s->attrs->index < 0 ||
        s->attrs->index >= tuple->result_count)
        return no(s, "there is no such result");
    OUT = tuple->results[s->attrs->index];
    return true;
}

/* --- lookups and products --- */

static SHAPE(gather)
{
    if (IN(0).rank < 1 || IN(0).rank > 2 || !is_index(IN(1))) {
        const char *text = STR(IN(0));
        return no(s, arena_format(s->arena,
                                  "a lookup needs a table and i32 indices [T], got %s and %s",
                                  text, STR(IN(1))));
    }
    OUT = IN(0);
    OUT.dim[0] = IN(1).dim[0];
    return true;
}

static SHAPE(scatter)
{
    if (!given_dims(s))
        return false;
    Type rows = OUT;
    if (rows.rank >= 1 && IN(1).rank >= 1)
        rows.dim[0] = IN(1).dim[0];
    if (rows.rank >= 1 && is_index(IN(1)) && same_shape(rows, IN(0)))
        return true;
    const char *text = STR(IN(0)), *indices = STR(IN(1));
    return no(
        s, arena_format(s->arena, "%s cannot be added at %s into %s", text, indices, STR(OUT)));
}

static SHAPE(select_rows)
{
    OUT = IN(0);
    if (OUT.rank < 1 || OUT.dim[0] != DIM_T)
        return no(s, "rows are selected from values over T");
    OUT.dim[0] = DIM_R;
    return true;
}

/* One row for the sequence. */
static SHAPE(token_row)
{
    OUT = IN(0);
    if (OUT.rank < 1 || OUT.dim[0] != DIM_T)
        return no(s, "a token is taken from values over T");
    OUT.dim[0] = DIM_Q;
    return is_real(s, 0) &&
           (s->attrs->index == 0 || s->attrs->index == -1 || no(s, "only token 0, the first, and -1, the last, can be taken"));
}

static SHAPE(token_row_grad)
{
    OUT = IN(0);
    if (OUT.rank < 1 || OUT.dim[0] != DIM_Q)
        return no(s, "expected a gradient over Q");
    OUT.dim[0] = DIM_T;
    return is_real(s, 0);
}

/* What is over the tokens, from other tokens of the sequence. */
static SHAPE(shift)
{
    OUT = IN(0);
    if (OUT.rank < 1 || OUT.dim[0] != DIM_T)
        return no(s, "this is for values over T, the tokens");
    return is_real(s, 0);
}

/* Columns start .. stop - 1 of each head's. */
static SHAPE(head_slice)
{
    int64_t heads = s->attrs->heads, start = s->attrs->start, stop = s->attrs->stop;
    OUT = IN(0);
    if (OUT.rank != 2 || heads < 1 || !dim_is_fixed(OUT.dim[1]) || OUT.dim[1] % heads != 0 || start < 0 || stop <= start ||
        stop > OUT.dim[1] / heads)
        return no(s, arena_format(s->arena, "%s has no columns %lld to %lld in each of %lld heads", STR(IN(0)), (long long)start,
                                  (long long)stop, (long long)heads));
    OUT.dim[1] = heads * (stop - start);
    return is_real(s, 0);
}

/* Its inverse: `start` zeros before each head's columns, zeros behind them up to `stop`. */
static SHAPE(head_pad)
{
    int64_t heads = s->attrs->heads, start = s->attrs->start, stop = s->attrs->stop;
    OUT = IN(0);
    if (OUT.rank != 2 || heads < 1 || !dim_is_fixed(OUT.dim[1]) || OUT.dim[1] % heads != 0 || start < 0 ||
        stop < start || stop > DIM_MAX / heads || stop - start < OUT.dim[1] / heads)
        return no(s, arena_format(s->arena, "the columns of %s do not fit into [%lld:%lld] of each of %lld heads", STR(IN(0)),
                                  (long long)start, (long long)stop, (long long)heads));
    OUT.dim[1] = heads * stop;
    return is_real(s, 0);
}

/* A number for each head, or for each column of one. */
static bool over_heads(Shape *s, bool each)
{
    int64_t heads = s->attrs->heads;
    OUT = IN(0);
    if (OUT.rank != 2 || heads < 1 || OUT.dim[1] < heads || OUT.dim[1] % heads != 0)
        return no(s, arena_format(s->arena, "%s does not consist of %lld heads", STR(IN(0)), (long long)heads));
    OUT.dim[1] = each ? heads : OUT.dim[1] / heads;
    return is_real(s, 0);
}

static SHAPE(head_sum) { return over_heads(s, true); }
static SHAPE(head_fold) { return over_heads(s, false); }

/* [T, heads] -> [T, heads * stop] */
static SHAPE(head_spread)
{
    OUT = IN(0);
    if (OUT.rank != 2 || OUT.dim[1] < 1 || s->attrs->stop < 1 || s->attrs->stop > DIM_MAX / OUT.dim[1])
        return no(s, arena_format(s->arena, "expected f32[T, heads], got %s", STR(IN(0))));
    OUT.dim[1] *= s->attrs->stop;
    return is_real(s, 0);
}

/* [size] -> [heads * size] */
static SHAPE(head_tile)
{
    OUT = IN(0);
    if (OUT.rank != 1 || OUT.dim[0] < 1 || s->attrs->heads < 1 || s->attrs->heads > DIM_MAX / OUT.dim[0])
        return no(s, arena_format(s->arena, "expected f32[n], got %s", STR(IN(0))));
    OUT.dim[0] *= s->attrs->heads;
    return is_real(s, 0);
}

/* x [..., T, U] at i [T, S], the same in all leading axes. */
static SHAPE(take)
{
    Type x = IN(0), i = IN(1);
    if (x.rank < 2 || i.rank != 2 || i.dtype != DT_I32 || !dim_is_fixed(x.dim[x.rank - 1]) ||
        !same_extent(x.dim[x.rank - 2], i.dim[0])) {
        const char *text = STR(x);
        return no(s, arena_format(s->arena, "expected f32[..., T, n] and i32[T, S], got %s and %s", text, STR(i)));
    }
    OUT = x;
    OUT.dim[OUT.rank - 1] = i.dim[1];
    return is_real(s, 0);
}

static SHAPE(matmul)
{
    if (IN(0).rank < 2 || IN(1).rank < 2) {
        const char *text = STR(IN(0));
        return no(s, arena_format(s->arena, "a product needs matrices, got %s and %s", text,
                                  STR(IN(1))));
    }
    if (!is_real(s, 0) || !is_real(s, 1))
        return false;
    Type a = IN(0), b = IN(1);
    int64_t m = a.dim[a.rank - (s->attrs->ta ? 1 : 2)],
            k = a.dim[a.rank - (s->attrs->ta ? 2 : 1)];
    int64_t k2 = b.dim[b.rank - (s->attrs->tb ? 1 : 2)],
            n = b.dim[b.rank - (s->attrs->tb ? 2 : 1)];
    if (!same_extent(k, k2))
        return differ(s, "inner dimensions", k, k2);
    a.rank -= 2, b.rank -= 2;
    if (!type_broadcast(a, b, &OUT))
        return no(s, "leading dimensions do not broadcast");
    OUT.dim[OUT.rank++] = m;
    OUT.dim[OUT.rank++] = n;
    return true;
}

/* --- masked --- */

static SHAPE(softmax)
{
    Type all;
    OUT = IN(0);
    if (IN(1).dtype == DT_BOOL && OUT.rank >= 1 && type_broadcast(IN(1), OUT, &all) &&
        same_shape(all, OUT))
        return is_real(s, 0);
    const char *text = STR(IN(1));
    return no(
        s, arena_format(s->arena, "the mask %s does not fit the scores %s", text, STR(IN(0))));
}

static bool (*const rules[OP_COUNT])(Shape *) = {
#define OP(id, text, in, attrs, traits, shape, grad, class, emit, mix)                         \
    [OP_##id] = shape_##shape,
#include "ir/ops.def"
};

bool shape_infer(Arena *arena, Op op, const Attrs *attrs, int input_count, Node *const *inputs,
                 Type *type, Type **results, int *result_count, const char **reason)
{
    Type types[OP_MAX_RESULTS];
    Attrs defaults = attrs_default();
    memset(types, 0, sizeof types);
    Shape s = {arena, op, attrs ? attrs : &defaults, input_count, inputs, types, 1, NULL};
    int expected = op_info[op].inputs;
    if (expected >= 0 ? expected != input_count : input_count < 1) {
        *reason = expected < 0 ? "expected operands, got none"
                               : arena_format(arena, "expected %d operand%s, got %d", expected,
                                              expected == 1 ? "" : "s", input_count);
        return false;
    }
    if (!rules[op](&s)) {
        *reason = s.reason;
        return false;
    }
    for (int i = 0; i < s.result_count; i++)
        if (!type_is_valid(types[i])) {
            *reason = arena_format(arena, "%s is no possible type", type_str(arena, types[i]));
            return false;
        }
    *type = types[0];
    *result_count = s.result_count;
    *results = NULL;
    if (op_info[op].traits & TRAIT_TUPLE)
        *results = arena_copy(arena, types, sizeof *types * (size_t)s.result_count);
    return true;
}
