/* eval.c - see eval.h: the walk over a graph, and the rules of leaves, element-wise ops,
 * reductions, views, lookups and products.  Scalar meanings are in eval_map.c, fused and
 * composite ops in eval_fused.c.
 *
 * Sums go in index order in double precision: what a kernel gives in f32 may differ from it by
 * rounding only. */
#include "ir/eval.h"

#include <math.h>
#include <string.h>

#include "ir/diag.h"
#include "ir/dropout.h"
#include "ir/eval_rules.h"

#define EVAL(rule) static void eval_##rule(Eval *e)

struct Evaluation {
    int node_count;
    Value **values; /* by id, then result */
};

int64_t eval_extent(const Value *value, int from, int to)
{
    int64_t extent = 1;
    for (int i = from; i < to; i++)
        extent *= value->type.dim[i];
    return extent;
}

int eval_axis(const Eval *e)
{
    int64_t axis = e->node->attrs.axis;
    return (int)(axis < 0 ? axis + e->in[0]->type.rank : axis);
}

int64_t eval_position(const Eval *e, int64_t dim, int64_t row)
{
    if (dim_is_fixed(dim))
        return row;
    if (dim == DIM_R)
        row = e->input->rows[row];
    return e->input->first_position + row;
}

/* --- walking several operands that broadcast --- */

enum { WALK_OPERANDS = 3 };

/* All elements of a shape in order; for each operand the offset of the element that stands
 * there. */
typedef struct Walk {
    int rank, count;
    int64_t dim[MAX_RANK], at[MAX_RANK], stride[WALK_OPERANDS][MAX_RANK], offset[WALK_OPERANDS];
} Walk;

/* Axes are aligned at the last one; along an extent of 1 an operand stands still. */
static Walk walk_new(Type shape, int count, const Value *const *operands)
{
    Walk w = {.rank = shape.rank, .count = count};
    memcpy(w.dim, shape.dim, sizeof w.dim);
    for (int k = 0; k < count; k++) {
        const Type *type = &operands[k]->type;
        int64_t stride = 1;
        for (int i = type->rank - 1, j = shape.rank - 1; i >= 0; i--, j--) {
            w.stride[k][j] = type->dim[i] == 1 ? 0 : stride;
            stride *= type->dim[i];
        }
    }
    return w;
}

static void walk_next(Walk *w)
{
    for (int i = w->rank - 1; i >= 0; i--) {
        bool carry = ++w->at[i] == w->dim[i];
        for (int k = 0; k < w->count; k++)
            w->offset[k] += carry ? -w->stride[k][i] * (w->dim[i] - 1) : w->stride[k][i];
        if (!carry)
            return;
        w->at[i] = 0;
    }
}

/* --- leaves --- */

EVAL(input)
{
    if (e->input->leaf)
        e->input->leaf(e->input->user, e->node, e->out);
}

EVAL(param)
{
    eval_input(e);
}

EVAL(const)
{
    e->out->data[0] = e->node->attrs.value;
}

EVAL(table)
{
    memcpy(e->out->data, e->node->data, sizeof *e->node->data * (size_t)e->out->count);
}

EVAL(row)
{
    for (int64_t i = 0; i < e->out->count; i++)
        e->out->data[i] = (double)eval_position(e, e->node->type.dim[0], i);
}

EVAL(positions)
{
    eval_row(e);
}

EVAL(col)
{
    for (int64_t i = 0; i < e->out->count; i++)
        e->out->data[i] = (double)i;
}

/* --- element-wise --- */

/* A row of x is what stands at one token; its features are counted in the order of the
 * remaining axes. */
static void draw_dropout(Eval *e)
{
    const Attrs *attrs = &e->node->attrs;
    const Value *x = e->in[0];
    int axis = 0;
    while (axis < x->type.rank && dim_is_fixed(e->node->type.dim[axis]))
        axis++;
    if (axis == x->type.rank)
        ice("dropout of a value without tokens");
    uint64_t site = dropout_site(attrs->name ? attrs->name : "");
    int64_t outer = eval_extent(x, 0, axis), rows = x->type.dim[axis],
            inner = eval_extent(x, axis + 1, x->type.rank);
    for (int64_t r = 0; r < rows; r++) {
        int64_t position = eval_position(e, e->node->type.dim[axis], r);
        uint64_t key = dropout_key(e->input->dropout_seed, 0, 0, site, position);
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = 0; i < inner; i++) {
                int64_t at = (o * rows + r) * inner + i;
                bool keep = dropout_keep_at(key, o * inner + i, attrs->rate);
                e->out->data[at] = keep ? x->data[at] / (1 - attrs->rate) : 0;
            }
    }
}

static void eval_elements(Eval *e)
{
    int count = e->node->input_count;
    if ((op_info[e->node->op].attrs & A_RATE) && e->input->training) {
        draw_dropout(e);
        return;
    }
    Walk w = walk_new(e->out->type, count, e->in);
    for (int64_t i = 0; i < e->out->count; i++, walk_next(&w)) {
        double in[WALK_OPERANDS];
        for (int k = 0; k < count; k++)
            in[k] = e->in[k]->data[w.offset[k]];
        double result = eval_map(e->node->op, in);
        e->out->data[i] = e->node->type.dtype != DT_I32 ? result : isfinite(result) ? trunc(result) : 0; /* by zero: 0 */
    }
}

/* --- reductions --- */

/* One value for each line along the axis. */
static void reduce(Eval *e, double start, double (*step)(double, double))
{
    const Value *x = e->in[0];
    int axis = eval_axis(e);
    int64_t outer = eval_extent(x, 0, axis), extent = x->type.dim[axis];
    int64_t inner = eval_extent(x, axis + 1, x->type.rank);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            double result = start;
            for (int64_t a = 0; a < extent; a++)
                result = step(result, x->data[(o * extent + a) * inner + i]);
            e->out->data[o * inner + i] = result;
        }
}

static double add(double a, double b)
{
    return a + b;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

EVAL(sum)
{
    reduce(e, 0, add);
}

EVAL(max)
{
    reduce(e, -INFINITY, larger);
}

EVAL(sum_to)
{
    Walk w = walk_new(e->in[0]->type, 1, (const Value *[]){e->out});
    for (int64_t i = 0; i < e->in[0]->count; i++, walk_next(&w))
        e->out->data[w.offset[0]] += e->in[0]->data[i];
}

/* --- views --- */

EVAL(reshape)
{
    memcpy(e->out->data, e->in[0]->data, sizeof *e->out->data * (size_t)e->out->count);
}

EVAL(broadcast)
{
    Walk w = walk_new(e->out->type, 1, e->in);
    for (int64_t i = 0; i < e->out->count; i++, walk_next(&w))
        e->out->data[i] = e->in[0]->data[w.offset[0]];
}

EVAL(permute)
{
    const Value *x = e->in[0];
    Walk w = {.rank = x->type.rank, .count = 1};
    memcpy(w.dim, e->out->type.dim, sizeof w.dim);
    for (int i = 0; i < w.rank; i++)
        w.stride[0][i] = eval_extent(x, (int)e->node->attrs.dims.at[i] + 1, x->type.rank);
    for (int64_t i = 0; i < e->out->count; i++, walk_next(&w))
        e->out->data[i] = x->data[w.offset[0]];
}

/* The part [start, start + extent of part) of an axis of `whole`, copied to or from `part`. */
static void copy_part(Eval *e, const Value *whole, const Value *part, bool to_part)
{
    int axis = eval_axis(e);
    int64_t outer = eval_extent(whole, 0, axis),
            inner = eval_extent(whole, axis + 1, whole->type.rank);
    int64_t extent = whole->type.dim[axis], width = part->type.dim[axis];
    for (int64_t o = 0; o < outer; o++) {
        double *large = whole->data + (o * extent + e->node->attrs.start) * inner;
        double *small = part->data + o * width * inner;
        memcpy(to_part ? small : large, to_part ? large : small,
               sizeof *large * (size_t)(width * inner));
    }
}

EVAL(slice)
{
    copy_part(e, e->in[0], e->out, true);
}

EVAL(pad)
{
    copy_part(e, e->out, e->in[0], false);
}

/* [T, heads * size] against [heads, T, size] */
static void move_heads(const Value *rows, const Value *heads, bool to_heads)
{
    int64_t h = heads->type.dim[0], t = heads->type.dim[1], size = heads->type.dim[2];
    for (int64_t i = 0; i < h; i++)
        for (int64_t k = 0; k < t; k++) {
            double *a = rows->data + (k * h + i) * size, *b = heads->data + (i * t + k) * size;
            memcpy(to_heads ? b : a, to_heads ? a : b, sizeof *a * (size_t)size);
        }
}

EVAL(split_heads)
{
    move_heads(e->in[0], e->out, true);
}

EVAL(merge_heads)
{
    move_heads(e->out, e->in[0], false);
}

EVAL(repeat_heads)
{
    int64_t group = e->out->type.dim[0] / e->in[0]->type.dim[0],
            size = eval_extent(e->out, 1, 3);
    for (int64_t h = 0; h < e->out->type.dim[0]; h++)
        memcpy(e->out->data + h * size, e->in[0]->data + h / group * size,
               sizeof *e->out->data * (size_t)size);
}

/* The value itself.  Where it becomes keys and there are more of these than tokens, `leaf`
 * tells the earlier ones. */
EVAL(site)
{
    const Value *x = e->in[0];
    int axis = 0;
    while (axis < x->type.rank && x->type.dim[axis] == e->out->type.dim[axis])
        axis++;
    if (axis == x->type.rank) {
        eval_reshape(e);
        return;
    }
    eval_input(e);
    int64_t outer = eval_extent(x, 0, axis), rows = x->type.dim[axis],
            keys = e->out->type.dim[axis];
    int64_t inner = eval_extent(x, axis + 1, x->type.rank), first = e->input->first_position;
    if (first < 0 || first + rows > keys)
        ice("%lld keys for tokens from position %lld", (long long)keys, (long long)first);
    for (int64_t o = 0; o < outer; o++)
        memcpy(e->out->data + (o * keys + first) * inner, x->data + o * rows * inner,
               sizeof *x->data * (size_t)(rows * inner));
}

EVAL(result)
{
    const Value *tuple =
        e->in[0] + e->node->attrs.index; /* in[0] is the first of the tuple's results */
    memcpy(e->out->data, tuple->data, sizeof *tuple->data * (size_t)tuple->count);
}

/* --- lookups and products --- */

/* Rows that the table lacks are nan, so that nobody mistakes them for numbers. */
EVAL(gather)
{
    const Value *table = e->in[0], *index = e->in[1];
    int64_t width = eval_extent(table, 1, table->type.rank);
    for (int64_t t = 0; t < index->count; t++) {
        double row = index->data[t];
        bool known = row >= 0 && row < (double)table->type.dim[0];
        for (int64_t i = 0; i < width; i++)
            e->out->data[t * width + i] = known ? table->data[(int64_t)row * width + i] : NAN;
    }
}

EVAL(scatter)
{
    const Value *rows = e->in[0], *index = e->in[1];
    int64_t width = eval_extent(rows, 1, rows->type.rank);
    for (int64_t t = 0; t < index->count; t++) {
        double row = index->data[t];
        if (row >= 0 && row < (double)e->out->type.dim[0])
            for (int64_t i = 0; i < width; i++)
                e->out->data[(int64_t)row * width + i] += rows->data[t * width + i];
    }
}

EVAL(select_rows)
{
    int64_t width = eval_extent(e->in[0], 1, e->in[0]->type.rank);
    for (int64_t r = 0; r < e->input->row_count; r++)
        memcpy(e->out->data + r * width, e->in[0]->data + e->input->rows[r] * width,
               sizeof *e->out->data * (size_t)width);
}

EVAL(shift)
{
    int64_t width = eval_extent(e->in[0], 1, e->in[0]->type.rank), rows = e->in[0]->type.dim[0];
    for (int64_t t = 0; t < rows; t++) {
        int64_t from = t - e->node->attrs.index;
        if (from >= 0 && from < rows)
            memcpy(e->out->data + t * width, e->in[0]->data + from * width, sizeof *e->out->data * (size_t)width);
    }
}

/* Sums of the rows up to a token, or with `inverse` from it on. */
EVAL(cumsum)
{
    int64_t width = eval_extent(e->in[0], 1, e->in[0]->type.rank), rows = e->in[0]->type.dim[0];
    bool inverse = e->node->attrs.inverse;
    for (int64_t i = 0; i < rows; i++) {
        int64_t t = inverse ? rows - 1 - i : i, before = inverse ? t + 1 : t - 1;
        for (int64_t c = 0; c < width; c++)
            e->out->data[t * width + c] = e->in[0]->data[t * width + c] + (i ? e->out->data[before * width + c] : 0);
    }
}

/* Copies each head's columns: from column `skip` of the wider side on. */
static void copy_heads(const Eval *e, bool narrower)
{
    const Value *x = e->in[0];
    int64_t heads = e->node->attrs.heads, start = e->node->attrs.start, rows = x->type.dim[0];
    int64_t in = x->type.dim[1] / heads, out = e->out->type.dim[1] / heads, count = narrower ? out : in;
    for (int64_t i = 0; i < rows * heads; i++)
        memcpy(e->out->data + i * out + (narrower ? 0 : start), x->data + i * in + (narrower ? start : 0),
               sizeof *x->data * (size_t)count);
}

EVAL(head_slice)
{
    copy_heads(e, true);
}

EVAL(head_pad)
{
    copy_heads(e, false);
}

/* Column i of `heads` heads side by side belongs to head i / size, and is its element i % size. */
EVAL(head_sum)
{
    int64_t size = e->in[0]->count / e->out->count;
    for (int64_t i = 0; i < e->in[0]->count; i++)
        e->out->data[i / size] += e->in[0]->data[i];
}

EVAL(head_spread)
{
    for (int64_t i = 0; i < e->out->count; i++)
        e->out->data[i] = e->in[0]->data[i / e->node->attrs.stop];
}

EVAL(head_tile)
{
    for (int64_t i = 0; i < e->out->count; i++)
        e->out->data[i] = e->in[0]->data[i % e->in[0]->count];
}

EVAL(head_fold)
{
    int64_t width = e->in[0]->type.dim[1], size = e->out->type.dim[1];
    for (int64_t i = 0; i < e->in[0]->count; i++)
        e->out->data[i / width * size + i % width % size] += e->in[0]->data[i];
}

EVAL(take)
{
    const Value *x = e->in[0], *index = e->in[1];
    int64_t rows = index->type.dim[0], columns = index->type.dim[1], n = x->type.dim[x->type.rank - 1];
    for (int64_t i = 0; i < e->out->count; i++) {
        int64_t row = i / columns, at = (int64_t)index->data[row % rows * columns + i % columns];
        e->out->data[i] = at >= 0 && at < n ? x->data[row * n + at] : NAN;
    }
}

static int64_t token_of(const Eval *e)
{
    return e->node->attrs.index ? e->input->tokens - 1 : 0;
}

EVAL(token_row)
{
    int64_t width = eval_extent(e->in[0], 1, e->in[0]->type.rank);
    memcpy(e->out->data, e->in[0]->data + token_of(e) * width, sizeof *e->out->data * (size_t)width);
}

EVAL(token_row_grad)
{
    int64_t width = eval_extent(e->in[0], 1, e->in[0]->type.rank);
    memcpy(e->out->data + token_of(e) * width, e->in[0]->data, sizeof *e->out->data * (size_t)width);
}

/* c[m, n] = sum over k of a[m, k] b[k, n], each operand as it lies in memory */
static void multiply(const Eval *e, const double *a, const double *b, double *c)
{
    const Value *out = e->out, *left = e->in[0], *right = e->in[1];
    bool ta = e->node->attrs.ta, tb = e->node->attrs.tb;
    int64_t m = out->type.dim[out->type.rank - 2], n = out->type.dim[out->type.rank - 1];
    int64_t k = left->type.dim[left->type.rank - (ta ? 2 : 1)];
    if (k != right->type.dim[right->type.rank - (tb ? 1 : 2)])
        ice("a product over T and S of different extents");
    for (int64_t i = 0; i < m; i++)
        for (int64_t p = 0; p < k; p++) {
            double x = ta ? a[p * m + i] : a[i * k + p];
            for (int64_t j = 0; j < n; j++)
                c[i * n + j] += x * (tb ? b[j * k + p] : b[p * n + j]);
        }
}

EVAL(matmul)
{
    Type lead = e->out->type;
    Value a = *e->in[0], b = *e->in[1];
    int64_t a_size = eval_extent(&a, a.type.rank - 2, a.type.rank);
    int64_t b_size = eval_extent(&b, b.type.rank - 2, b.type.rank);
    int64_t c_size = eval_extent(e->out, lead.rank - 2, lead.rank);
    lead.rank -= 2, a.type.rank -= 2, b.type.rank -= 2;
    Walk w = walk_new(lead, 2, (const Value *[]){&a, &b});
    int64_t count = eval_extent(e->out, 0, lead.rank);
    for (int64_t i = 0; i < count; i++, walk_next(&w))
        multiply(e, a.data + w.offset[0] * a_size, b.data + w.offset[1] * b_size,
                 e->out->data + i * c_size);
}

/* --- the walk --- */

#define ROW_LEAF(rule)   eval_##rule
#define ROW_MAP(rule)    eval_elements
#define ROW_REDUCE(rule) eval_##rule
#define ROW_VIEW(rule)   eval_##rule
#define ROW_GATHER(rule) eval_##rule
#define ROW_GEMM(rule)   eval_##rule
#define ROW_FUSED(rule)  eval_##rule
#define ROW_EXPAND(rule) eval_##rule

static void (*const rules[OP_COUNT])(Eval *) = {
#define OP(id, text, in, attrs, traits, shape, grad, class, emit, mix)                         \
    [OP_##id] = ROW_##class(emit),
#include "ir/ops.def"
};

static Value new_value(Type type, const EvalInput *input, Arena *arena)
{
    for (int i = 0; i < type.rank; i++)
        if (type.dim[i] == DIM_T)
            type.dim[i] = input->tokens;
        else if (type.dim[i] == DIM_S)
            type.dim[i] = input->keys > 0 ? input->keys : input->tokens;
        else if (type.dim[i] == DIM_R)
            type.dim[i] = input->row_count;
        else if (type.dim[i] == DIM_Q)
            type.dim[i] = 1;
    Value value = {.type = type, .count = type_elements(type, NULL)};
    value.data = ARENA_ARRAY(arena, double, value.count);
    return value;
}

Evaluation *eval_graph(const Graph *graph, const EvalInput *input, Arena *arena)
{
    Evaluation *evaluation = ARENA_NEW(arena, Evaluation);
    evaluation->node_count = graph->node_count;
    evaluation->values = ARENA_ARRAY(arena, Value *, graph->node_count);
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        Eval e = {.input = input, .node = node, .arena = arena};
        if (node->input_count > OP_MAX_INPUTS)
            ice("'%s' has %d operands", op_info[node->op].text, node->input_count);
        for (int k = 0; k < node->input_count; k++)
            e.in[k] = evaluation->values[node->inputs[k]->id];
        e.out = evaluation->values[i] = ARENA_ARRAY(arena, Value, node->result_count);
        for (int k = 0; k < node->result_count; k++)
            e.out[k] = new_value(node->results ? node->results[k] : node->type, input, arena);
        rules[node->op](&e);
    }
    return evaluation;
}

const Value *eval_value(const Evaluation *evaluation, const Node *node, int result)
{
    if (node->id < 0 || node->id >= evaluation->node_count || result < 0 ||
        result >= node->result_count)
        ice("there is no value of '%s'", op_info[node->op].text);
    return &evaluation->values[node->id][result];
}
