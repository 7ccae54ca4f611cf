/* test_gradients.c - the gradient of every op against differences of the reference evaluator. */
#define _POSIX_C_SOURCE 200809L /* open_memstream */
#include "tests/unit/pass_run.h"
#include "tests/unit/run_suite.h"

static Graph *read_body(const char *body)
{
    Diag diag = diag_new(stderr);
    const char *text = arena_format(arena, "graph @g {\n%s}\n", body);
    Graph *graph =
        graph_read(arena, source_from_memory(arena, "t.ir", text, (int)strlen(text)), &diag);
    ck_assert_ptr_nonnull(graph);
    return graph;
}

/* --- gradients --- */

/* x and z: [T, 6], every element a trained one of its own; p and r: the same, positive. */
#define ROWS(value, name)                                                                      \
    "%" value "w = param \"" name "\" {trained=1} : f32[7, 6]\n%" value                        \
    "i = input {name=\"pick\"} : i32[T]\n%" value " = gather %" value "w, %" value             \
    "i : f32[T, 6]\n"
#define X ROWS("x", "x")
#define Z ROWS("z", "z")
#define P ROWS("p", "+p")
#define R ROWS("r", "+r")
#define WEIGHT(value, shape) "%" value " = param \"" value "\" {trained=1} : f32" shape "\n"
#define U WEIGHT("u", "[6]")
#define PU "%u = param \"+u\" {trained=1} : f32[6]\n"
#define MAP1(id, from, x, text) {OP_##id, from "%y = " text " %" x " : f32[T, 6]\n"},
/* Of one shape; a row beside rows; rows beside a row; a column; one number. */
#define MAP2(id, text, from, z, row)                                                           \
    {OP_##id, X from "%y = " text " %x, %" z " : f32[T, 6]\n"},                                \
        {OP_##id, X row "%y = " text " %x, %u : f32[T, 6]\n"},                                 \
        {OP_##id, from U "%y = " text " %u, %" z " : f32[T, 6]\n"},                            \
        {OP_##id, X from "%k = slice %" z " {start=2, stop=3} : f32[T, 1]\n%y = " text         \
                         " %x, %k : f32[T, 6]\n"},                                             \
        {OP_##id, from WEIGHT("c", "") "%y = " text " %c, %" z " : f32[T, 6]\n"},
#define PRODUCT(a, b, fields, shape)                                                           \
    {OP_MATMUL, WEIGHT("a", a) WEIGHT("b", b) "%y = matmul %a, %b" fields " : f32" shape "\n"},
#define ANGLES "%at = positions : i32[T]\n%f = table {name=\"f\"} (1, 0.25) : f32[2]\n"
#define MASK(op)                                                                               \
    "%a = row : i32[T, 1]\n%b = col : i32[6]\n%m = " op " %b, %a : bool[T, 6]\n"
#define TARGETS "%t = input {name=\"targets\"} : i32[T]\n"
#define BIASED_HEAD                                                                            \
    X TARGETS "%w = param \"w\" : f32[6, 7]\n%b = param \"b\" : f32[7]\n"                       \
              "%l = linear_cross_entropy %x, %w, %t, %b : (f32[T, 1], f32[T, 6])\n"           \
              "%y = result %l : f32[T, 1]\n"
#define HEAD(shape, fields)                                                                    \
    X TARGETS "%w = param \"w\" : f32" shape                                                   \
              "\n%l = linear_cross_entropy %x, %w, %t" fields                                  \
              " : (f32[T, 1], f32[T, 6])\n%y = result %l : f32[T, 1]\n"
/* q from two blocks of rows side by side, k and v; heads of 3 elements. */
#define ATTENTION(heads, width, kv_width, fields)                                              \
    {OP_ATTENTION,                                                                             \
     ROWS("a", "qa") ROWS("b", "qb") ROWS("k", "k")                                            \
         ROWS("v", "v") "%l = pad %a {stop=12} : f32[T, 12]\n"                                 \
                        "%r = pad %b {start=6, stop=12} : f32[T, 12]\n"                        \
                        "%lr = add %l, %r : f32[T, 12]\n"                                      \
                        "%q = slice %lr {stop=" width "} : f32[T, " width "]\n"                \
                        "%ks = slice %k {stop=" kv_width "} : f32[T, " kv_width "]\n"          \
                        "%vs = slice %v {stop=" kv_width "} : f32[T, " kv_width "]\n"          \
                        "%o = attention %q, %ks, %vs {heads=" heads ", head_dim=3, " fields    \
                        "} : (f32[T, " width "], f32[T, " heads "])\n"                         \
                        "%y = result %o : f32[T, " width "]\n"},
/* Scores of one head that count but where row = 2 col, and a bias of each head. */
#define GIVEN                                                                                                           \
    "%row = row : i32[T, 1]\n%col = col : i32[T]\n%two = add %col, %col : i32[T]\n%same = eq %row, %two : bool[T, T]\n"     \
    "%where = not %same : bool[T, T]\n%h = table {name=\"h\"} (1, 0.25) : f32[2]\n%hs = reshape %h {dims=[2, 1, 1]} : "    \
    "f32[2, 1, 1]\n%bias = mul %hs, %col : f32[2, 1, T]\n"
/* The same with terms of relative positions: buckets for the distances -2 .. 2, farther ones have those of the ends. */
#define RELATIVE(terms, tables, pair)                                                                                      \
    {OP_RELATIVE_ATTENTION,                                                                                                \
     ROWS("q", "q") ROWS("k", "k") ROWS("v", "v") tables                                                                    \
     "%b = table {name=\"b\"} (0, 1, 1, 2, 3) : f32[5]\n%o = relative_attention %q, %k, %v, " pair ", %b {index=" terms \
     ", heads=2, kv_heads=2, head_dim=3, scale=0.5} : (f32[T, 6], f32[T, 2])\n%y = result %o : f32[T, 6]\n"},

/* Each defines %y from what is trained. */
static const struct {
    Op op;
    const char *body;
} grad_cases[] = {
    MAP1(NEG, X, "x", "neg") MAP1(EXP, X, "x", "exp") MAP1(TANH, X, "x", "tanh")
    MAP1(ERF, X, "x", "erf") MAP1(SIGMOID, X, "x", "sigmoid") MAP1(ABS, X, "x", "abs")
    MAP1(LOG, P, "p", "log") MAP1(SQRT, P, "p", "sqrt") MAP1(RSQRT, P, "p", "rsqrt")
    MAP2(ADD, "add", Z, "z", U) MAP2(SUB, "sub", Z, "z", U) MAP2(MUL, "mul", Z, "z", U)
    MAP2(DIV, "div", R, "r", PU) MAP2(MAX2, "maximum", Z, "z", U)
    MAP2(MIN2, "minimum", Z, "z", U)
    {OP_MUL, X "%y = mul %x, %x : f32[T, 6]\n"},
    {OP_DIV, P "%d = mul %p, %p : f32[T, 6]\n%y = div %p, %d : f32[T, 6]\n"},
    {OP_WHERE, X Z "%m = lt %x, %z : bool[T, 6]\n%y = where %m, %x, %z : f32[T, 6]\n"},
    {OP_WHERE, X U MASK("le") "%y = where %m, %u, %x : f32[T, 6]\n"},
    {OP_WHERE, WEIGHT("c", "") MASK("le") "%o = const {value=2} : f32\n"
                                          "%y = where %m, %o, %c : f32[T, 6]\n"},
    {OP_DROPOUT, X "%y = dropout %x {rate=0.3, name=\"h.0\"} : f32[T, 6]\n"},
    {OP_SUM, X "%y = sum %x : f32[T, 1]\n"},
    {OP_SUM, X "%y = sum %x {axis=0} : f32[1, 6]\n"},
    {OP_RESHAPE, X "%y = reshape %x {dims=[3, T, 2]} : f32[3, T, 2]\n"},
    {OP_RESHAPE, X "%y = reshape %x {dims=[T, 2, 3]} : f32[T, 2, 3]\n"},
    {OP_PERMUTE, X "%y = permute %x {dims=[1, 0]} : f32[6, T]\n"},
    {OP_PERMUTE, X "%h = reshape %x {dims=[T, 2, 3]} : f32[T, 2, 3]\n"
                   "%y = permute %h {dims=[1, 2, 0]} : f32[2, 3, T]\n"},
    {OP_BROADCAST, U "%y = broadcast %u {dims=[3, T, 6]} : f32[3, T, 6]\n"},
    {OP_BROADCAST, X "%s = slice %x {start=1, stop=2} : f32[T, 1]\n"
                     "%y = broadcast %s {dims=[2, T, 4]} : f32[2, T, 4]\n"},
    {OP_SLICE, X "%y = slice %x {start=1, stop=4} : f32[T, 3]\n"},
    {OP_SLICE, WEIGHT("w", "[7, 3]") "%y = slice %w {axis=0, start=2, stop=7} : f32[5, 3]\n"},
    {OP_PAD, X "%y = pad %x {start=2, stop=11} : f32[T, 11]\n"},
    {OP_PAD, WEIGHT("w", "[3, 2]") "%y = pad %w {axis=0, start=1, stop=5} : f32[5, 2]\n"},
    {OP_SPLIT_HEADS, X "%y = split_heads %x {heads=3} : f32[3, T, 2]\n"},
    {OP_MERGE_HEADS, X "%h = split_heads %x {heads=3} : f32[3, T, 2]\n"
                       "%m = mul %h, %h : f32[3, T, 2]\n%y = merge_heads %m : f32[T, 6]\n"},
    {OP_REPEAT_HEADS, X "%h = split_heads %x {heads=3} : f32[3, T, 2]\n"
                        "%y = repeat_heads %h {heads=9} : f32[9, T, 2]\n"},
    {OP_SITE, X "%y = at %x {name=\"block_in\"} : f32[T, 6]\n"},
    {OP_TOKEN_ROW, X "%y = token_row %x : f32[Q, 6]\n"},
    {OP_TOKEN_ROW, X "%y = token_row %x {index=-1} : f32[Q, 6]\n"},
    {OP_SHIFT, X "%y = shift %x {index=2} : f32[T, 6]\n"},
    {OP_SHIFT, X "%y = shift %x {index=-1} : f32[T, 6]\n"},
    {OP_HEAD_SLICE, X "%y = head_slice %x {start=1, stop=3, heads=2} : f32[T, 4]\n"},
    {OP_HEAD_PAD, X "%y = head_pad %x {start=1, stop=4, heads=3} : f32[T, 12]\n"},
    {OP_CLAMP, X U Z "%y = clamp %x, %u, %z : f32[T, 6]\n"},
    {OP_CUMSUM, X "%y = cumsum %x : f32[T, 6]\n"},
    {OP_CUMSUM, X "%y = cumsum %x {inverse=1} : f32[T, 6]\n"},
    {OP_CONCAT, X Z "%y = concat %x, %z : f32[T, 12]\n"},
    {OP_CONCAT, WEIGHT("a", "[3, 2]") WEIGHT("b", "[3, 4]") "%y = concat %a, %b : f32[3, 6]\n"},
    {OP_HEAD_SUM, X "%y = head_sum %x {heads=3} : f32[T, 3]\n"},
    {OP_HEAD_SPREAD, X "%y = head_spread %x {stop=2} : f32[T, 12]\n"},
    {OP_HEAD_TILE, X WEIGHT("u", "[3]") "%r = head_tile %u {heads=2} : f32[6]\n%y = mul %x, %r : f32[T, 6]\n"},
    {OP_HEAD_TILE, WEIGHT("u", "[3]") "%y = head_tile %u {heads=2} : f32[6]\n"},
    {OP_STOP_GRADIENT, X "%s = stop_gradient %x : f32[T, 6]\n%d = sub %s, %s : f32[T, 6]\n"
                       "%y = add %x, %d : f32[T, 6]\n"},
    {OP_GATHER, WEIGHT("w", "[3, 5]") "%i = input {name=\"twice\"} : i32[T]\n"
                                      "%y = gather %w, %i : f32[T, 5]\n"},
    {OP_GATHER, WEIGHT("w", "[3]") "%i = input {name=\"twice\"} : i32[T]\n"
                                   "%y = gather %w, %i : f32[T]\n"},
    PRODUCT("[3, 5]", "[5, 7]", "", "[3, 7]")
    PRODUCT("[5, 3]", "[5, 7]", " {ta=1}", "[3, 7]")
    PRODUCT("[3, 5]", "[7, 5]", " {tb=1}", "[3, 7]")
    PRODUCT("[5, 3]", "[7, 5]", " {ta=1, tb=1}", "[3, 7]")
    PRODUCT("[2, 3, 5]", "[2, 5, 4]", "", "[2, 3, 4]")
    PRODUCT("[2, 5, 3]", "[2, 4, 5]", " {ta=1, tb=1}", "[2, 3, 4]")
    PRODUCT("[2, 3, 5]", "[5, 4]", "", "[2, 3, 4]")
    PRODUCT("[2, 3, 5]", "[4, 5]", " {tb=1}", "[2, 3, 4]")
    PRODUCT("[5, 3]", "[2, 5, 4]", " {ta=1}", "[2, 3, 4]")
    PRODUCT("[1, 3, 5]", "[2, 5, 4]", "", "[2, 3, 4]")
    {OP_MATMUL, X WEIGHT("b", "[6, 3]") "%y = matmul %x, %b : f32[T, 3]\n"},
    {OP_MATMUL, X Z "%y = matmul %x, %z {ta=1} : f32[6, 6]\n"},
    {OP_MATMUL, X Z "%y = matmul %x, %z {tb=1} : f32[T, T]\n"},
    {OP_MATMUL, X "%y = matmul %x, %x {tb=1} : f32[T, T]\n"},
    {OP_ROPE, X ANGLES "%y = rope %x, %at, %f : f32[T, 6]\n"},
    {OP_ROPE, X ANGLES "%y = rope %x, %at, %f {inverse=1} : f32[T, 6]\n"},
    {OP_ROPE, X ANGLES "%y = rope %x, %at, %f {interleaved=1} : f32[T, 6]\n"},
    {OP_ROPE, X ANGLES "%k = pad %x {start=4, stop=12} : f32[T, 12]\n"
                       "%y = rope %k, %at, %f {heads=2} : f32[T, 12]\n"},
    {OP_ROPE, X "%at = positions : i32[T]\n%f = table {name=\"f\"} (0.5) : f32[1]\n"
                "%h = split_heads %x {heads=2} : f32[2, T, 3]\n"
                "%y = rope %h, %at, %f : f32[2, T, 3]\n"},
    ATTENTION("2", "6", "6", "kv_heads=2, scale=0.5")
    ATTENTION("2", "6", "6", "kv_heads=2, scale=0.5, causal=1")
    ATTENTION("3", "9", "3", "kv_heads=1, scale=0.8, causal=1, window=2")
    ATTENTION("4", "12", "6", "kv_heads=2, scale=0.8, window=3")
    ATTENTION("4", "12", "6", "kv_heads=2, causal=1")
    ATTENTION("2", "6", "6", "kv_heads=2, scale=0.8, cap=0.5, causal=1")
    {OP_ATTENTION, GIVEN ROWS("q", "q") ROWS("k", "k") ROWS("v", "v")
                   "%o = attention %q, %k, %v, %where, %bias {heads=2, kv_heads=2, head_dim=3, scale=0.8, cap=3} : (f32[T, 6], f32[T, 2])\n"
                   "%y = result %o : f32[T, 6]\n"},
    {OP_RELATIVE_ATTENTION, GIVEN ROWS("q", "q") ROWS("k", "k") ROWS("v", "v") WEIGHT("kr", "[4, 6]")
                            "%b = table {name=\"b\"} (0, 1, 1, 2, 3) : f32[5]\n"
                            "%o = relative_attention %q, %k, %v, %kr, %kr, %b, %where, %bias "
                            "{index=1, heads=2, kv_heads=2, head_dim=3, scale=0.5} : (f32[T, 6], f32[T, 2])\n%y = result %o : f32[T, 6]\n"},
    RELATIVE("1", WEIGHT("kr", "[4, 6]"), "%kr, %kr") RELATIVE("2", WEIGHT("qr", "[4, 6]"), "%qr, %qr")
    RELATIVE("3", WEIGHT("kr", "[4, 6]") WEIGHT("qr", "[4, 6]"), "%kr, %qr")
    {OP_RESULT, HEAD("[6, 7]", "")},
    {OP_LINEAR_CROSS_ENTROPY, HEAD("[6, 7]", "")},
    {OP_LINEAR_CROSS_ENTROPY, HEAD("[7, 6]", " {tb=1}")},
    {OP_LINEAR_CROSS_ENTROPY, BIASED_HEAD},
    {OP_CROSS_ENTROPY, X TARGETS "%y = cross_entropy %x, %t : f32[T, 1]\n"},
    {OP_MEAN, X "%y = mean %x : f32[T, 1]\n"},
    {OP_MEAN, X "%h = reshape %x {dims=[T, 2, 3]} : f32[T, 2, 3]\n"
                "%y = mean %h {axis=1} : f32[T, 1, 3]\n"},
    {OP_SOFTMAX, X MASK("le") "%y = softmax %x, %m : f32[T, 6]\n"},
    {OP_SOFTMAX, X MASK("lt") "%y = softmax %x, %m : f32[T, 6]\n"}, /* one row sees nothing */
    MAP1(LAYERNORM, X, "x", "layernorm") MAP1(RMSNORM, X, "x", "rmsnorm")
    MAP1(GELU, X, "x", "gelu") MAP1(GELU_TANH, X, "x", "gelu_tanh")
    MAP1(QUICK_GELU, X, "x", "quick_gelu") MAP1(SILU, X, "x", "silu") MAP1(RELU, X, "x", "relu")
    {OP_LAYERNORM, X "%y = layernorm %x {eps=0.25} : f32[T, 6]\n"},
    {OP_RMSNORM, X "%y = rmsnorm %x {eps=0.25} : f32[T, 6]\n"},
};
enum { GRAD_CASES = sizeof grad_cases / sizeof *grad_cases };

/* %y times numbers of its own, summed to one, spread over rows with a number each: [T, 1]. */
static void add_loss(Graph *g)
{
    Node *y = g->outputs[0].node;
    Node *sum = b_mul(g, y, b_input(g, "dy", y->type));
    for (int axis = 0; axis < y->type.rank; axis++)
        sum = b_sum(g, sum, axis);
    Type column = type_of(DT_F32, 2, (int64_t[]){DIM_T, 1});
    g->output_count = 0;
    graph_output(g, "loss",
                 b_mul(g, b_reshape(g, sum, 0, NULL), b_input(g, "row weights", column)));
}

static bool has_op(const Graph *graph, Op op)
{
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->op == op)
            return true;
    return false;
}

START_TEST(gradients_equal_differences)
{
    const char *body = grad_cases[_i].body;
    Graph *graph = read_body(arena_format(arena, "%soutput \"y\" %%y\n", body));
    ck_assert_msg(has_op(graph, grad_cases[_i].op), "a case without its op: %s", body);
    add_loss(graph);
    Graph *forward = graph_clone(graph, arena);
    static const char *const after[] = {"expand_rest", "resimplify", "cse", "dce"};
    Run run;
    run_begin(&run, true, NULL);
    run_pass(&run, graph, "expand");
    run_pass(&run, graph, "autodiff");
    ck_assert_int_eq(check_gradients(forward, graph, 1, body), trained_count(forward));
    for (int i = 0; i < 4; i++)
        run_pass(&run, graph, after[i]);
    check_gradients(forward, graph, 3, body);
    run_end(&run, NULL);
}
END_TEST

START_TEST(every_op_with_a_gradient_has_a_case)
{
    for (int op = 0; op < OP_COUNT; op++) {
        bool expanded = op_info[op].class == OC_EXPAND && !(op_info[op].traits & TRAIT_INTERNAL);
        bool wanted = grad_rules[op] || expanded, found = false;
        for (int i = 0; i < GRAD_CASES; i++)
            found = found || grad_cases[i].op == (Op)op;
        ck_assert_msg(found == wanted, "'%s' has %s", op_info[op].text,
                      wanted ? "a gradient and no case" : "a case and no gradient");
    }
}
END_TEST

START_TEST(what_cannot_be_trained_is_an_error)
{
    static const struct {
        const char *body, *message;
    } cases[] = {
        {WEIGHT("w", "[3, 4]") "%y = max %w : f32[3, 1]\noutput \"loss\" %y\n",
         "'max' has no gradient"},
        {WEIGHT("w", "[3, 1]") "output \"logits\" %w\n", "model 'g' has no loss"},
        {"%w = param \"w\" : f32[3, 1]\noutput \"loss\" %w\n", "nothing that is trained"},
    };
    Run run;
    run_begin(&run, true, NULL);
    ck_assert(!pass_run_one(read_body(cases[_i].body), &run.context, "autodiff"));
    run_end(&run, cases[_i].message);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gradients");
    TCase *tc = tcase_create("gradients");
    tcase_add_checked_fixture(tc, open_arena, close_arena);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, gradients_equal_differences, 0, GRAD_CASES);
    tcase_add_test(tc, every_op_with_a_gradient_has_a_case);
    tcase_add_loop_test(tc, what_cannot_be_trained_is_an_error, 0, 3);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
