/* test_eval.c - the reference evaluator: against numbers worked out by hand, against formulas
 * in other words, and gradients against finite differences. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/build.h"
#include "ir/dropout.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/unit/ir_samples.h"
#include "tests/unit/run_suite.h"

static Arena *arena;

static void open_arena(void)
{
    arena = arena_new();
}

static void close_arena(void)
{
    arena_free(arena);
}

/* Leaves by name: numbers given for it, else some that depend on its name and place. */
typedef struct Given {
    const char *name;
    const double *data;
} Given;

static double some_number(const char *name, int64_t i)
{
    uint32_t x = (uint32_t)dropout_site(name) + 2654435761u * (uint32_t)(i + 1);
    x = (x ^ (x >> 16)) * 0x21f0aaadu;
    x = (x ^ (x >> 15)) * 0x735a2d97u;
    return ((double)(x ^ (x >> 15)) / 4294967296.0 - 0.5) * 3;
}

static void fill_leaf(void *user, const Node *node, Value *value)
{
    for (const Given *given = user; given && given->name; given++)
        if (!strcmp(given->name, node->attrs.name)) {
            memcpy(value->data, given->data, sizeof *value->data * (size_t)value->count);
            return;
        }
    for (int64_t i = 0; i < value->count; i++)
        value->data[i] =
            value->type.dtype == DT_F32 ? some_number(node->attrs.name, i) : (double)(i % 4);
}

static Graph *read_body(const char *body)
{
    Diag diag = diag_new(stderr);
    const char *text = arena_format(arena, "graph @g {\n%s}\n", body);
    Graph *graph =
        graph_read(arena, source_from_memory(arena, "t.ir", text, (int)strlen(text)), &diag);
    ck_assert_ptr_nonnull(graph);
    return graph;
}

static const Value *eval_with(const char *body, EvalInput input, const Given *given)
{
    const Graph *graph = read_body(body);
    input.leaf = fill_leaf;
    input.user = (void *)given;
    return eval_value(eval_graph(graph, &input, arena), graph->outputs[0].node, 0);
}

static const Value *eval_body(const char *body, int64_t tokens, const Given *given)
{
    static const int64_t rows[] = {1, 0};
    return eval_with(body, (EvalInput){.tokens = tokens, .rows = rows, .row_count = 2}, given);
}

static void expect(const Value *got, int64_t count, const double *want)
{
    ck_assert_int_eq(got->count, count);
    for (int64_t i = 0; i < count; i++)
        if (!(got->data[i] == want[i]) &&
            !(fabs(got->data[i] - want[i]) <= 1e-12 * (1 + fabs(want[i]))))
            ck_abort_msg("element %lld is %.17g, not %.17g", (long long)i, got->data[i],
                         want[i]);
}

#define EXPECT(value, ...)                                                                     \
    expect((value), sizeof((double[]){__VA_ARGS__}) / sizeof(double), (double[]){__VA_ARGS__})

/* Two texts mean the same. */
static void expect_same(const char *a, const char *b, EvalInput input, const Given *given)
{
    const Value *want = eval_with(b, input, given);
    expect(eval_with(a, input, given), want->count, want->data);
}

#define X "%x = input {name=\"x\"} : f32[T, 4]\n"

START_TEST(every_sample_evaluates)
{
    const Value *value = eval_body(samples[_i].text, 3, NULL);
    ck_assert_int_gt(value->count, 0);
    for (int i = 0; i < value->type.rank; i++)
        ck_assert_int_gt(value->type.dim[i], 0);
}
END_TEST

START_TEST(element_wise_ops_mean_what_they_say)
{
    static const struct {
        const char *op;
        double x, y, want;
    } cases[] = {{"neg", 2, 0, -2},
                 {"exp", 1, 0, 2.718281828459045},
                 {"log", 8, 0, 2.0794415416798357},
                 {"sqrt", 9, 0, 3},
                 {"rsqrt", 4, 0, 0.5},
                 {"tanh", 1, 0, 0.7615941559557649},
                 {"erf", 1, 0, 0.8427007929497149},
                 {"sigmoid", 1, 0, 0.7310585786300049},
                 {"abs", -3, 0, 3},
                 {"add", 2, 3, 5},
                 {"sub", 2, 3, -1},
                 {"mul", 2, 3, 6},
                 {"div", 3, 2, 1.5},
                 {"floor", -1.5, 0, -2},
                 {"ceil", -1.5, 0, -1},
                 {"to_f32", 1, 0, 1},
                 {"maximum", 2, 3, 3},
                 {"minimum", 2, 3, 2},
                 {"lt", 2, 3, 1},
                 {"lt", 3, 3, 0},
                 {"le", 3, 3, 1},
                 {"eq", 3, 3, 1},
                 {"and", 1, 0, 0},
                 {"or", 1, 0, 1},
                 {"not", 0, 0, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Op op = op_find(cases[i].op);
        ck_assert(eval_is_map(op));
        double got = eval_map(op, (double[]){cases[i].x, cases[i].y});
        ck_assert_msg(fabs(got - cases[i].want) < 1e-15, "%s gives %.17g", cases[i].op, got);
    }
    ck_assert(!eval_is_map(OP_MATMUL));
}
END_TEST

START_TEST(activations_match_published_numbers)
{
    static const double x[] = {-1, 0, 1, 2};
    const Given given[] = {{"x", x}, {NULL, NULL}};
    EXPECT(eval_body(X "%y = gelu %x : f32[T, 4]\noutput \"y\" %y\n", 1, given),
           -0.15865525393145707, 0, 0.8413447460685429, 1.9544997361036416);
    EXPECT(eval_body(X "%y = gelu_tanh %x : f32[T, 4]\noutput \"y\" %y\n", 1, given),
           -0.15880800939172324, 0, 0.8411919906082768, 1.954597694087775);
    EXPECT(eval_body(X "%y = silu %x : f32[T, 4]\noutput \"y\" %y\n", 1, given),
           -0.2689414213699951, 0, 0.7310585786300049, 1.7615941559557649);
    EXPECT(eval_body(X "%y = quick_gelu %x : f32[T, 4]\noutput \"y\" %y\n", 1, given),
           -1 / (1 + exp(1.702)), 0, 1 / (1 + exp(-1.702)), 2 / (1 + exp(-3.404)));
    EXPECT(eval_body(X "%y = relu %x : f32[T, 4]\noutput \"y\" %y\n", 1, given), 0, 0, 1, 2);
    EXPECT(eval_body(X "%y = layernorm %x {eps=0.75} : f32[T, 4]\noutput \"y\" %y\n", 1, given),
           -1.5 / sqrt(2), -0.5 / sqrt(2), 0.5 / sqrt(2), 1.5 / sqrt(2));
    EXPECT(eval_body(X "%y = rmsnorm %x {eps=2.5} : f32[T, 4]\noutput \"y\" %y\n", 1, given),
           -0.5, 0, 0.5, 1);
}
END_TEST

START_TEST(integers_are_cut_numbers)
{
    const Given given[] = {{"x", (double[]){1.9, -1.9, 0.5, 3}}, {NULL, NULL}};
    EXPECT(eval_body(X "%y = to_i32 %x : i32[T, 4]\noutput \"y\" %y\n", 1, given), 1, -1, 0, 3);
}
END_TEST

START_TEST(integer_division_cuts)
{
    static const double x[] = {7, -7, 8, -1};
    const Given given[] = {{"n", x}, {NULL, NULL}};
    EXPECT(eval_body("%n = input {name=\"n\"} : i32[T]\n%2 = const {value=2} : i32\n%y = div "
                     "%n, %2 : i32[T]\n"
                     "output \"y\" %y\n",
                     4, given),
           3, -3, 4, 0);
}
END_TEST

START_TEST(views_move_elements)
{
    static const double x[] = {1, 2, 3, 4, 5, 6, 7, 8};
    const Given given[] = {{"x", x}, {NULL, NULL}};
    EXPECT(
        eval_body(X "%y = permute %x {dims=[1, 0]} : f32[4, T]\noutput \"y\" %y\n", 2, given),
        1, 5, 2, 6, 3, 7, 4, 8);
    EXPECT(eval_body(X "%y = split_heads %x {heads=2} : f32[2, T, 2]\noutput \"y\" %y\n", 2,
                     given),
           1, 2, 5, 6, 3, 4, 7, 8);
    EXPECT(eval_body(X "%s = split_heads %x {heads=2} : f32[2, T, 2]\n%r = repeat_heads %s "
                       "{heads=4} : f32[4, T, 2]\n"
                       "%y = merge_heads %r : f32[T, 8]\noutput \"y\" %y\n",
                     2, given),
           1, 2, 1, 2, 3, 4, 3, 4, 5, 6, 5, 6, 7, 8, 7, 8);
    EXPECT(eval_body(X "%s = slice %x {start=1, stop=3} : f32[T, 2]\n%y = pad %s {start=2, "
                       "stop=5} : f32[T, 5]\n"
                       "output \"y\" %y\n",
                     2, given),
           0, 0, 2, 3, 0, 0, 0, 6, 7, 0);
    EXPECT(eval_body(X "%y = select_rows %x : f32[R, 4]\noutput \"y\" %y\n", 2, given), 5, 6, 7,
           8, 1, 2, 3, 4);
    EXPECT(eval_body(X "%y = sum_to %x {dims=[4]} : f32[4]\noutput \"y\" %y\n", 2, given), 6, 8,
           10, 12);
    EXPECT(eval_body(X "%y = sum_to %x {dims=[T, 1]} : f32[T, 1]\noutput \"y\" %y\n", 2, given),
           10, 26);
    EXPECT(eval_body(X "%y = sum %x {axis=0} : f32[1, 4]\noutput \"y\" %y\n", 2, given), 6, 8,
           10, 12);
    EXPECT(eval_body(X "%p = permute %x {dims=[1, 0]} : f32[4, T]\n%y = mean %p {axis=0} : f32[1, T]\noutput \"y\" %y\n", 2, given),
           2.5, 6.5);
    EXPECT(eval_body(X "%y = max %x : f32[T, 1]\noutput \"y\" %y\n", 2, given), 4, 8);
    EXPECT(eval_body(X "%s = sum %x : f32[T, 1]\n%y = broadcast %s {dims=[2, T, 2]} : f32[2, "
                       "T, 2]\noutput \"y\" %y\n",
                     2, given),
           10, 10, 26, 26, 10, 10, 26, 26);
}
END_TEST

START_TEST(shifts_and_parts_of_heads)
{
    const Given given[] = {{"x", (double[]){1, 2, 3, 4, 5, 6, 7, 8}}, {NULL, NULL}};
    EXPECT(eval_body(X "%y = shift %x {index=1} : f32[T, 4]\noutput \"y\" %y\n", 2, given), 0, 0, 0, 0, 1, 2, 3, 4);
    EXPECT(eval_body(X "%y = shift %x {index=-1} : f32[T, 4]\noutput \"y\" %y\n", 2, given), 5, 6, 7, 8, 0, 0, 0, 0);
    EXPECT(eval_body(X "%y = cumsum %x : f32[T, 4]\noutput \"y\" %y\n", 2, given), 1, 2, 3, 4, 6, 8, 10, 12);
    EXPECT(eval_body(X "%y = cumsum %x {inverse=1} : f32[T, 4]\noutput \"y\" %y\n", 2, given), 6, 8, 10, 12, 5, 6, 7, 8);
    EXPECT(eval_body(X "%s = slice %x {start=1, stop=2} : f32[T, 1]\n%y = concat %s, %x : f32[T, 5]\noutput \"y\" %y\n", 2, given), 2, 1,
           2, 3, 4, 6, 5, 6, 7, 8);
    EXPECT(eval_body(X "%l = const {value=2.5} : f32\n%h = const {value=6} : f32\n%y = clamp %x, %l, %h : f32[T, 4]\noutput \"y\" %y\n", 2,
                     given), 2.5, 2.5, 3, 4, 5, 6, 6, 6);
    EXPECT(eval_body(X "%y = head_slice %x {start=1, stop=2, heads=2} : f32[T, 2]\noutput \"y\" %y\n", 2, given), 2, 4, 6, 8);
    EXPECT(eval_body(X "%y = head_pad %x {start=1, stop=3, heads=4} : f32[T, 12]\noutput \"y\" %y\n", 1, given), 0, 1, 0, 0, 2, 0,
           0, 3, 0, 0, 4, 0);
    EXPECT(eval_body(X "%y = head_sum %x {heads=2} : f32[T, 2]\noutput \"y\" %y\n", 2, given), 3, 7, 11, 15);
    EXPECT(eval_body(X "%y = head_spread %x {stop=3} : f32[T, 12]\noutput \"y\" %y\n", 1, given), 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4);
    EXPECT(eval_body(X "%y = head_fold %x {heads=2} : f32[T, 2]\noutput \"y\" %y\n", 2, given), 4, 6, 12, 14);
    EXPECT(eval_body(X "%s = sum_to %x {dims=[4]} : f32[4]\n%y = head_tile %s {heads=2} : f32[8]\noutput \"y\" %y\n", 2, given), 6, 8,
           10, 12, 6, 8, 10, 12);
}
END_TEST

START_TEST(elements_are_taken_by_row_and_column)
{
    const Given given[] = {{"x", (double[]){1, 2, 3, 4, 5, 6, 7, 8}}, {NULL, NULL}};
    EXPECT(eval_body(X "%r = row : i32[T, 1]\n%c = col : i32[S]\n%i = add %r, %c : i32[T, S]\n"
                       "%y = take %x, %i : f32[T, S]\noutput \"y\" %y\n",
                     2, given),
           1, 2, 6, 7);
}
END_TEST

START_TEST(lookups_and_their_adjoint)
{
    static const double table[] = {1, 2, 3, 4, 5, 6}, index[] = {2, 0, 2};
    const Given given[] = {{"w", table}, {"tokens", index}, {NULL, NULL}};
    EXPECT(eval_body("%w = param \"w\" : f32[3, 2]\n%i = input {name=\"tokens\"} : i32[T]\n"
                     "%y = gather %w, %i : f32[T, 2]\noutput \"y\" %y\n",
                     3, given),
           5, 6, 1, 2, 5, 6);
    EXPECT(eval_body(
               "%w = param \"w\" : f32[3, 2]\n%i = input {name=\"tokens\"} : i32[T]\n"
               "%g = gather %w, %i : f32[T, 2]\n%y = scatter %g, %i {dims=[3, 2]} : f32[3, 2]\n"
               "output \"y\" %y\n",
               3, given),
           1, 2, 0, 0, 10, 12);
}
END_TEST

START_TEST(products_in_all_four_forms)
{
    static const double a[] = {1, 2, 3, 4, 5, 6}, b[] = {1, 0, 2, 1, 0, 3};
    const Given given[] = {{"a", a},
                           {"b", b},
                           {"at", (double[]){1, 4, 2, 5, 3, 6}},
                           {"bt", (double[]){1, 2, 0, 0, 1, 3}},
                           {NULL, NULL}};
    static const char *const bodies[] = {
        "%a = param \"a\" : f32[2, 3]\n%b = param \"b\" : f32[3, 2]\n%y = matmul %a, %b : "
        "f32[2, 2]\n",
        "%a = param \"at\" : f32[3, 2]\n%b = param \"b\" : f32[3, 2]\n%y = matmul %a, %b "
        "{ta=1} : f32[2, 2]\n",
        "%a = param \"a\" : f32[2, 3]\n%b = param \"bt\" : f32[2, 3]\n%y = matmul %a, %b "
        "{tb=1} : f32[2, 2]\n",
        "%a = param \"at\" : f32[3, 2]\n%b = param \"bt\" : f32[2, 3]\n%y = matmul %a, %b "
        "{ta=1, tb=1} : f32[2, 2]\n"};
    for (int i = 0; i < 4; i++)
        EXPECT(eval_body(arena_format(arena, "%soutput \"y\" %%y\n", bodies[i]), 1, given), 5,
               11, 14, 23);
    EXPECT(eval_body("%a = param \"a\" : f32[2, 1, 3]\n%b = param \"b\" : f32[3, 2]\n%y = "
                     "matmul %a, %b : f32[2, 1, 2]\n"
                     "output \"y\" %y\n",
                     1, given),
           5, 11, 14, 23);
    EXPECT(eval_body("%a = param \"a\" : f32[1, 2, 1]\n%b = param \"b\" : f32[3, 1, 2]\n"
                     "%y = matmul %a, %b : f32[3, 2, 2]\noutput \"y\" %y\n",
                     1, given),
           1, 0, 2, 0, 2, 1, 4, 2, 0, 3, 0, 6);
}
END_TEST

/* --- positions and attention --- */

START_TEST(index_values_follow_the_first_position)
{
    const EvalInput input = {.tokens = 2, .keys = 5, .first_position = 3};
    EXPECT(eval_with("%y = row : i32[T, 1]\noutput \"y\" %y\n", input, NULL), 3, 4);
    EXPECT(eval_with("%y = positions : i32[T]\noutput \"y\" %y\n", input, NULL), 3, 4);
    EXPECT(eval_with("%y = col : i32[S]\noutput \"y\" %y\n", input, NULL), 0, 1, 2, 3, 4);
    EXPECT(eval_with("%r = row : i32[T, 1]\n%c = col : i32[S]\n%y = le %c, %r : bool[T, "
                     "S]\noutput \"y\" %y\n",
                     input, NULL),
           1, 1, 1, 1, 0, 1, 1, 1, 1, 1);
}
END_TEST

START_TEST(cached_keys_stand_before_the_new_ones)
{
    const Given given[] = {{"x", (double[]){1, 2, 3, 4}},
                           {"keys", (double[]){9, 9, 9, 9, 8, 8, 8, 8, 0, 0, 0, 0}},
                           {NULL, NULL}};
    const EvalInput input = {.tokens = 1, .keys = 3, .first_position = 2};
    EXPECT(
        eval_with(X "%y = at %x {name=\"keys\"} : f32[S, 4]\noutput \"y\" %y\n", input, given),
        9, 9, 9, 9, 8, 8, 8, 8, 1, 2, 3, 4);
}
END_TEST

#define ROPE                                                                                   \
    "%x = input {name=\"x\"} : f32[T, 12]\n%p = positions : i32[T]\n"                          \
    "%f = table {name=\"f\"} (1, 0.25) : f32[2]\n"

START_TEST(rotation_turns_pairs_and_leaves_the_rest)
{
    const EvalInput input = {.tokens = 1, .first_position = 3};
    const Given given[] = {{"x", (double[]){1, 2, 3, 4, 5, 6, 1, 0, 0, 1, 0, 7}}, {NULL, NULL}};
    double c = cos(3), s = sin(3), c4 = cos(0.75), s4 = sin(0.75);
    EXPECT(eval_with(ROPE "%y = rope %x, %p, %f {heads=2} : f32[T, 12]\noutput \"y\" %y\n",
                     input, given),
           c - 3 * s, 2 * c4 - 4 * s4, 3 * c + s, 4 * c4 + 2 * s4, 5, 6, c, -s4, s, c4, 0, 7);
    EXPECT(eval_with(ROPE "%y = rope %x, %p, %f {heads=2, interleaved=1} : f32[T, 12]\noutput \"y\" %y\n", input, given),
           c - 2 * s, 2 * c + s, 3 * c4 - 4 * s4, 4 * c4 + 3 * s4, 5, 6, c, s, -s4, c4, 0, 7);
}
END_TEST

START_TEST(rotation_by_heads_and_back)
{
    const EvalInput input = {.tokens = 5, .first_position = 2};
    expect_same(
        ROPE "%y = rope %x, %p, %f {heads=2} : f32[T, 12]\noutput \"y\" %y\n",
        ROPE
        "%h = split_heads %x {heads=2} : f32[2, T, 6]\n%r = rope %h, %p, %f : f32[2, T, 6]\n"
        "%y = merge_heads %r : f32[T, 12]\noutput \"y\" %y\n",
        input, NULL);
    expect_same(ROPE
                "%r = rope %x, %p, %f {heads=2} : f32[T, 12]\n"
                "%y = rope %r, %p, %f {heads=2, inverse=1} : f32[T, 12]\noutput \"y\" %y\n",
                ROPE "output \"y\" %x\n", input, NULL);
}
END_TEST

#define QKV                                                                                    \
    "%q = input {name=\"q\"} : f32[T, 12]\n%k = input {name=\"k\"} : f32[S, 6]\n"              \
    "%v = input {name=\"v\"} : f32[S, 6]\n"
#define ATTENTION "{scale=0.5, heads=4, kv_heads=2, head_dim=3, window=3, causal=1}"

START_TEST(attention_is_softmax_of_products)
{
    static const EvalInput inputs[] = {{.tokens = 7},
                                       {.tokens = 3, .keys = 8, .first_position = 5}};
    expect_same(QKV "%a = attention %q, %k, %v " ATTENTION " : (f32[T, 12], f32[T, 4])\n"
                    "%y = result %a : f32[T, 12]\noutput \"y\" %y\n",
                QKV "%qh = split_heads %q {heads=4} : f32[4, T, 3]\n%kh = split_heads %k "
                    "{heads=2} : f32[2, S, 3]\n"
                    "%vh = split_heads %v {heads=2} : f32[2, S, 3]\n%kr = repeat_heads %kh "
                    "{heads=4} : f32[4, S, 3]\n"
                    "%vr = repeat_heads %vh {heads=4} : f32[4, S, 3]\n%s = matmul %qh, %kr "
                    "{tb=1} : f32[4, T, S]\n"
                    "%half = const {value=0.5} : f32\n%s2 = mul %s, %half : f32[4, T, S]\n"
                    "%r = row : i32[T, 1]\n%c = col : i32[S]\n%m1 = le %c, %r : bool[T, S]\n"
                    "%3 = const {value=3} : i32\n%r3 = sub %r, %3 : i32[T, 1]\n%m2 = lt %r3, "
                    "%c : bool[T, S]\n"
                    "%m = and %m1, %m2 : bool[T, S]\n%p = softmax %s2, %m : f32[4, T, S]\n"
                    "%o = matmul %p, %vr : f32[4, T, 3]\n%y = merge_heads %o : f32[T, "
                    "12]\noutput \"y\" %y\n",
                inputs[_i], NULL);
}
END_TEST

/* s[h, i, j] = q[i] k[j] + q[i] Kr[c(i - j)] + k[j] Qr[c(i - j)] for c(d) = min(max(d + 2, 0), 3); tables [4, heads * size]. */
START_TEST(relative_attention_is_softmax_of_three_terms)
{
#define THREE                                                                                                                     \
    "%q = input {name=\"q\"} : f32[T, 6]\n%k = input {name=\"k\"} : f32[S, 6]\n%v = input {name=\"v\"} : f32[S, 6]\n"               \
    "%kr = param \"kr\" : f32[4, 6]\n%qr = param \"qr\" : f32[4, 6]\n"
    expect_same(THREE "%b = table {name=\"b\"} (0, 0, 1, 2, 3, 3, 3) : f32[7]\n"
                      "%a = relative_attention %q, %k, %v, %kr, %qr, %b {index=3, heads=2, kv_heads=2, head_dim=3, scale=0.5} : "
                      "(f32[T, 6], f32[T, 2])\n%y = result %a : f32[T, 6]\noutput \"y\" %y\n",
                THREE "%qh = split_heads %q {heads=2} : f32[2, T, 3]\n%kh = split_heads %k {heads=2} : f32[2, S, 3]\n"
                      "%vh = split_heads %v {heads=2} : f32[2, S, 3]\n%krt = permute %kr {dims=[1, 0]} : f32[6, 4]\n"
                      "%qrt = permute %qr {dims=[1, 0]} : f32[6, 4]\n%krh = reshape %krt {dims=[2, 3, 4]} : f32[2, 3, 4]\n"
                      "%qrh = reshape %qrt {dims=[2, 3, 4]} : f32[2, 3, 4]\n%s0 = matmul %qh, %kh {tb=1} : f32[2, T, S]\n"
                      "%r = row : i32[T, 1]\n%col = col : i32[S]\n%d = sub %r, %col : i32[T, S]\n%two = const {value=2} : i32\n"
                      "%zero = const {value=0} : i32\n%three = const {value=3} : i32\n%d2 = add %d, %two : i32[T, S]\n"
                      "%lo = maximum %d2, %zero : i32[T, S]\n%c = minimum %lo, %three : i32[T, S]\n"
                      "%ct = permute %c {dims=[1, 0]} : i32[S, T]\n%p1 = matmul %qh, %krh : f32[2, T, 4]\n"
                      "%s1 = take %p1, %c : f32[2, T, S]\n%p2 = matmul %kh, %qrh : f32[2, S, 4]\n"
                      "%s2t = take %p2, %ct : f32[2, S, T]\n%s2 = permute %s2t {dims=[0, 2, 1]} : f32[2, T, S]\n"
                      "%s01 = add %s0, %s1 : f32[2, T, S]\n%s012 = add %s01, %s2 : f32[2, T, S]\n%half = const {value=0.5} : f32\n"
                      "%s = mul %s012, %half : f32[2, T, S]\n%m = le %zero, %r : bool[T, 1]\n%p = softmax %s, %m : f32[2, T, S]\n"
                      "%o = matmul %p, %vh : f32[2, T, 3]\n%y = merge_heads %o : f32[T, 6]\noutput \"y\" %y\n",
                (EvalInput){.tokens = 5}, NULL);
#undef THREE
}
END_TEST

START_TEST(a_row_that_sees_nothing_is_zero)
{
    const EvalInput input = {.tokens = 2, .keys = 2, .first_position = 9};
    const Value *y =
        eval_with(QKV "%a = attention %q, %k, %v " ATTENTION " : (f32[T, 12], f32[T, 4])\n"
                      "%y = result %a : f32[T, 12]\noutput \"y\" %y\n",
                  input, NULL);
    for (int64_t i = 0; i < y->count; i++)
        ck_assert_double_eq(y->data[i], 0);
    EXPECT(eval_body("%r = row : i32[T, 1]\n%m = lt %r, %r : bool[T, 1]\n" X
                     "%y = softmax %x, %m : f32[T, 4]\n"
                     "output \"y\" %y\n",
                     1, NULL),
           0, 0, 0, 0);
}
END_TEST

/* --- gradients: d(sum of y * dy) / dx by central differences --- */

/* `forward` gives y; `backward` gives dx from the input "dy"; both use leaf `name` with `count`
 * elements. */
static void expect_gradient(const char *forward, const char *backward, const char *name,
                            int64_t count, int64_t tokens)
{
    double *x = ARENA_ARRAY(arena, double, count);
    Given given[] = {{name, x}, {NULL, NULL}};
    for (int64_t i = 0; i < count; i++)
        x[i] = some_number(name, i);
    const Value *dx = eval_body(backward, tokens, given);
    ck_assert_int_eq(dx->count, count);
    for (int64_t i = 0; i < count; i++) {
        double keep = x[i], sum[2] = {0, 0}, h = 1e-5;
        for (int side = 0; side < 2; side++) {
            x[i] = keep + (side ? h : -h);
            const Value *y = eval_body(forward, tokens, given);
            for (int64_t k = 0; k < y->count; k++)
                sum[side] += y->data[k] * some_number("dy", k);
        }
        x[i] = keep;
        double want = (sum[1] - sum[0]) / (2 * h);
        ck_assert_msg(fabs(dx->data[i] - want) < 1e-8 * (1 + fabs(want)),
                      "d %s[%lld] is %g, differences give %g", name, (long long)i, dx->data[i],
                      want);
    }
}

START_TEST(attention_has_the_right_gradient)
{
    static const char *const names[] = {"q", "k", "v"};
    static const int64_t counts[] = {5 * 12, 5 * 6, 5 * 6};
    const char *forward =
        QKV "%a = attention %q, %k, %v " ATTENTION " : (f32[T, 12], f32[T, 4])\n"
            "%y = result %a : f32[T, 12]\noutput \"y\" %y\n";
    const char *backward =
        arena_format(arena,
                     "%s%%a = attention %%q, %%k, %%v %s : (f32[T, 12], f32[T, 4])\n"
                     "%%o = result %%a : f32[T, 12]\n%%lse = result %%a {index=1} : f32[T, 4]\n"
                     "%%dy = input {name=\"dy\"} : f32[T, 12]\n"
                     "%%g = attention_grad %%q, %%k, %%v, %%o, %%lse, %%dy %s : (f32[T, 12], "
                     "f32[S, 6], f32[S, 6])\n"
                     "%%y = result %%g {index=%d} : f32[%s]\noutput \"y\" %%y\n",
                     QKV, ATTENTION, ATTENTION, _i, _i ? "S, 6" : "T, 12");
    expect_gradient(forward, backward, names[_i], counts[_i], 5);
}
END_TEST

#define LOGITS "%x = input {name=\"x\"} : f32[T, 6]\n%t = input {name=\"tokens\"} : i32[T]\n"

START_TEST(cross_entropy_has_the_right_gradient)
{
    expect_gradient(LOGITS "%y = cross_entropy %x, %t : f32[T, 1]\noutput \"y\" %y\n",
                    LOGITS "%dy = input {name=\"dy\"} : f32[T, 1]\n%y = cross_entropy_grad %x, "
                           "%t, %dy : f32[T, 6]\n"
                           "output \"y\" %y\n",
                    "x", 3 * 6, 3);
}
END_TEST

START_TEST(a_loss_over_the_vocabulary_is_that_of_its_logits)
{
    const Given given[] = {{"tokens", (double[]){3, -100, 0, 7}}, {NULL, NULL}};
    const EvalInput input = {.tokens = 4};
    for (int way = 0; way < 4; way++) {
        bool tb = way % 2, biased = way / 2;
        const char *head = arena_format(
            arena, "%s%%w = param \"w\" : f32[%s]\n%%b = param \"b\" : f32[8]\n%%t = input {name=\"tokens\"} : i32[T]\n", X,
            tb ? "8, 4" : "4, 8");
        const char *fused = arena_format(
            arena, "%s%%l = linear_cross_entropy %%x, %%w, %%t%s%s : (f32[T, 1], f32[T, 4])\n",
            head, biased ? ", %b" : "", tb ? " {tb=1}" : "");
        const char *plain = arena_format(arena, "%s%%p = matmul %%x, %%w%s : f32[T, 8]\n%%z = %s : f32[T, 8]\n", head,
                                         tb ? " {tb=1}" : "", biased ? "add %p, %b" : "reshape %p {dims=[T, 8]}");
        expect_same(
            arena_format(arena, "%s%%y = result %%l : f32[T, 1]\noutput \"y\" %%y\n", fused),
            arena_format(
                arena, "%s%%y = cross_entropy %%z, %%t : f32[T, 1]\noutput \"y\" %%y\n", plain),
            input, given);
        expect_same(arena_format(arena,
                                 "%s%%y = result %%l {index=1} : f32[T, 4]\noutput \"y\" %%y\n",
                                 fused),
                    arena_format(arena,
                                 "%s%%one = const {value=1} : f32\n%%d = broadcast %%one "
                                 "{dims=[T, 1]} : f32[T, 1]\n"
                                 "%%g = cross_entropy_grad %%z, %%t, %%d : f32[T, 8]\n"
                                 "%%y = matmul %%g, %%w%s : f32[T, 4]\noutput \"y\" %%y\n",
                                 plain, tb ? "" : " {tb=1}"),
                    input, given);
    }
}
END_TEST

START_TEST(a_row_without_a_target_has_no_loss)
{
    const Given given[] = {{"tokens", (double[]){-100, 5}}, {NULL, NULL}};
    const Value *loss =
        eval_body(LOGITS "%y = cross_entropy %x, %t : f32[T, 1]\noutput \"y\" %y\n", 2, given);
    ck_assert_double_eq(loss->data[0], 0);
    ck_assert_double_gt(loss->data[1], 0);
    const Value *dx =
        eval_body(LOGITS "%dy = input {name=\"dy\"} : f32[T, 1]\n"
                         "%y = cross_entropy_grad %x, %t, %dy : f32[T, 6]\noutput \"y\" %y\n",
                  2, given);
    double sum = 0;
    for (int i = 0; i < 6; i++) {
        ck_assert_double_eq(dx->data[i], 0);
        sum += dx->data[6 + i];
    }
    ck_assert_double_lt(fabs(sum), 1e-12);
}
END_TEST

/* --- dropout --- */

#define DROP X "%y = dropout %x {rate=0.25, name=\"h.0\"} : f32[T, 4]\noutput \"y\" %y\n"

START_TEST(dropout_is_off_outside_training)
{
    expect_same(DROP, X "output \"y\" %x\n", (EvalInput){.tokens = 8, .dropout_seed = 1}, NULL);
}
END_TEST

START_TEST(dropout_follows_its_function)
{
    const EvalInput input = {
        .tokens = 50, .first_position = 7, .dropout_seed = 42, .training = true};
    const Value *y = eval_with(DROP, input, NULL);
    for (int64_t t = 0; t < 50; t++)
        for (int64_t i = 0; i < 4; i++) {
            bool keep = dropout_keep(42, 0, 0, dropout_site("h.0"), t + 7, i, 0.25);
            double x = some_number("x", t * 4 + i);
            ck_assert_double_eq(y->data[t * 4 + i], keep ? x / 0.75 : 0);
        }
}
END_TEST

START_TEST(dropout_drops_as_much_as_it_says_and_depends_on_everything)
{
    enum { FEATURES = 20000 };
    static const double rates[] = {0, 0.05, 0.5, 0.9};
    for (int r = 0; r < 4; r++) {
        int dropped = 0, differ[5] = {0};
        for (int64_t i = 0; i < FEATURES; i++) {
            bool keep = dropout_keep(1, 2, 3, 4, 5, i, rates[r]);
            dropped += !keep;
            differ[0] += keep != dropout_keep(2, 2, 3, 4, 5, i, rates[r]);
            differ[1] += keep != dropout_keep(1, 3, 3, 4, 5, i, rates[r]);
            differ[2] += keep != dropout_keep(1, 2, 4, 4, 5, i, rates[r]);
            differ[3] += keep != dropout_keep(1, 2, 3, 5, 5, i, rates[r]);
            differ[4] += keep != dropout_keep(1, 2, 3, 4, 6, i, rates[r]);
        }
        double deviation = sqrt(FEATURES * rates[r] * (1 - rates[r])),
               twice = 2 * rates[r] * (1 - rates[r]);
        ck_assert_double_le(fabs(dropped - FEATURES * rates[r]), 4 * deviation);
        for (int k = 0; k < 5;
             k++) /* two independent draws differ in 2 p (1 - p) of the places */
            ck_assert_double_le(fabs(differ[k] - FEATURES * twice),
                                4 * sqrt(FEATURES * twice * (1 - twice)));
    }
}
END_TEST

/* These numbers are part of the promise that a run can be repeated: they never change. */
START_TEST(dropout_draws_the_same_forever)
{
    ck_assert_uint_eq(dropout_site("h.0"), UINT64_C(0x343be61930b14111));
    uint64_t mask = 0;
    for (int64_t i = 0; i < 64; i++)
        mask |= (uint64_t)dropout_keep(1, 2, 3, dropout_site("h.0"), 4, i, 0.5) << i;
    ck_assert_uint_eq(mask, UINT64_C(0x158a048c06073f90));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("eval");
    TCase *tc = tcase_create("eval");
    tcase_add_checked_fixture(tc, open_arena, close_arena);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, every_sample_evaluates, 0, SAMPLE_COUNT);
    tcase_add_test(tc, element_wise_ops_mean_what_they_say);
    tcase_add_test(tc, activations_match_published_numbers);
    tcase_add_test(tc, integers_are_cut_numbers);
    tcase_add_test(tc, integer_division_cuts);
    tcase_add_test(tc, views_move_elements);
    tcase_add_test(tc, shifts_and_parts_of_heads);
    tcase_add_test(tc, elements_are_taken_by_row_and_column);
    tcase_add_test(tc, lookups_and_their_adjoint);
    tcase_add_test(tc, products_in_all_four_forms);
    tcase_add_test(tc, index_values_follow_the_first_position);
    tcase_add_test(tc, cached_keys_stand_before_the_new_ones);
    tcase_add_test(tc, rotation_turns_pairs_and_leaves_the_rest);
    tcase_add_test(tc, rotation_by_heads_and_back);
    tcase_add_loop_test(tc, attention_is_softmax_of_products, 0, 2);
    tcase_add_test(tc, relative_attention_is_softmax_of_three_terms);
    tcase_add_test(tc, a_row_that_sees_nothing_is_zero);
    tcase_add_loop_test(tc, attention_has_the_right_gradient, 0, 3);
    tcase_add_test(tc, cross_entropy_has_the_right_gradient);
    tcase_add_test(tc, a_loss_over_the_vocabulary_is_that_of_its_logits);
    tcase_add_test(tc, a_row_without_a_target_has_no_loss);
    tcase_add_test(tc, dropout_is_off_outside_training);
    tcase_add_test(tc, dropout_follows_its_function);
    tcase_add_test(tc, dropout_drops_as_much_as_it_says_and_depends_on_everything);
    tcase_add_test(tc, dropout_draws_the_same_forever);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
